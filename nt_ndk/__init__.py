# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Neural Tangents during and after learning, with weight decay and noise.

`nt_ndk` replaces `neural_tangents` in an import: every public name of Neural
Tangents is here, and networks built with :mod:`nt_ndk.stax` know their Neural
Dynamical Kernel, from which :mod:`nt_ndk.predict` computes the whole learning
trajectory (Avidan, Li and Sompolinsky, arXiv:2309.04522).
"""

from nt_ndk._src.base import compat as _compat

_compat.install()

# pylint: disable=g-import-not-at-top
from neural_tangents import batch
from neural_tangents import empirical_kernel_fn
from neural_tangents import empirical_nngp_fn
from neural_tangents import empirical_ntk_fn
from neural_tangents import empirical_ntk_vp_fn
from neural_tangents import experimental
from neural_tangents import Kernel
from neural_tangents import linearize
from neural_tangents import monte_carlo_kernel_fn
from neural_tangents import NtkImplementation
from neural_tangents import taylor_expand

from nt_ndk import empirical
from nt_ndk import langevin
from nt_ndk import linen
from nt_ndk import monte_carlo
from nt_ndk import nnx
from nt_ndk import plot
from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.base.version import __version__
