# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Tests run in float64, without the command line of absl, on one core each."""

import os
import pathlib

if 'PYTEST_XDIST_WORKER' in os.environ:
  # Before NumPy and JAX are loaded: there is a process for every core.
  for library in ('OMP', 'OPENBLAS', 'MKL'):
    os.environ.setdefault(f'{library}_NUM_THREADS', '1')
  os.environ['XLA_FLAGS'] = (os.environ.get('XLA_FLAGS', '') +
                             ' --xla_cpu_multi_thread_eigen=false')

# What tests have in common is compiled once, also in several processes and in
# those that tests start.
os.environ.update(
    JAX_COMPILATION_CACHE_DIR=str(
        pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'jax'),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES='-1')

# pylint: disable=g-import-not-at-top,wrong-import-position
from absl import flags
import jax

jax.config.update('jax_enable_x64', True)
flags.FLAGS.mark_as_parsed()
