# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Tests run in float64, and without the command line of absl."""

from absl import flags
import jax

jax.config.update('jax_enable_x64', True)
flags.FLAGS.mark_as_parsed()
