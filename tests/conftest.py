# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""All tests run in float64."""

import jax

jax.config.update('jax_enable_x64', True)
