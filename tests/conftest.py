# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Tests run in float64, without the command line of absl, on one core each."""

import os

if 'PYTEST_XDIST_WORKER' in os.environ:
  # Before NumPy and JAX are loaded: there is a process for every core.
  for library in ('OMP', 'OPENBLAS', 'MKL'):
    os.environ.setdefault(f'{library}_NUM_THREADS', '1')
  os.environ['XLA_FLAGS'] = (os.environ.get('XLA_FLAGS', '') +
                             ' --xla_cpu_multi_thread_eigen=false')

# pylint: disable=g-import-not-at-top,wrong-import-position
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
