# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Finite networks that learn by Markov proximal (Langevin) dynamics.

What :mod:`nt_ndk.predict` says of infinitely wide networks,
:func:`markov_proximal_ensemble` measures on an ensemble of finite ones, made
with :mod:`nt_ndk.stax` or Flax. :func:`compare`, :func:`width_scan` and
:func:`plot` lay one over the other.
"""

from nt_ndk._src.finite.comparison import compare
from nt_ndk._src.finite.comparison import Comparison
from nt_ndk._src.finite.comparison import plot
from nt_ndk._src.finite.comparison import width_scan
from nt_ndk._src.finite.comparison import WidthScan
from nt_ndk._src.finite.langevin import Ensemble
from nt_ndk._src.finite.langevin import markov_proximal_ensemble

# In this order in the docs.
__all__ = ['markov_proximal_ensemble', 'Ensemble', 'compare', 'Comparison',
           'plot', 'width_scan', 'WidthScan']
