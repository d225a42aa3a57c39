# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Tests run in float64, and without the command line of absl."""

from absl import flags
import jax

jax.config.update('jax_enable_x64', True)
flags.FLAGS.mark_as_parsed()


def pytest_configure(config):
  """Compiles what tests have in common once, also in several processes."""
  folder = config.rootpath / '.pytest_cache' / 'jax'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
