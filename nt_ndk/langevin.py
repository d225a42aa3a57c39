# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Finite networks that learn by Markov proximal (Langevin) dynamics.

What :mod:`nt_ndk.predict` says of infinitely wide networks,
:func:`markov_proximal_ensemble` measures on an ensemble of finite ones, made
with :mod:`nt_ndk.stax` or Flax.
"""

from nt_ndk._src.langevin import Ensemble
from nt_ndk._src.langevin import markov_proximal_ensemble
