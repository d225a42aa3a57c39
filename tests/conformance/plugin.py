# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Pytest plugin that puts `nt_ndk` in the place of Neural Tangents.

`CONFORMANCE_SUBJECT` tells whose `stax` and `predict` the tests import. Names
that the tests themselves, rather than Neural Tangents (NT), look for in JAX are
supplied to both subjects, so that what differs is the subject alone.
"""

import os
import sys

import jax
import jax.tree_util


def _replace_neural_tangents():
  import nt_ndk  # pylint: disable=g-import-not-at-top
  # isort: split
  import neural_tangents  # pylint: disable=g-import-not-at-top

  for name in ('stax', 'predict'):
    module = getattr(nt_ndk, name)
    setattr(neural_tangents, name, module)
    sys.modules[f'neural_tangents.{name}'] = module


def pytest_configure():
  if not hasattr(jax, 'tree_map'):
    jax.tree_map = jax.tree_util.tree_map
  if os.environ['CONFORMANCE_SUBJECT'] == 'nt_ndk':
    _replace_neural_tangents()
