# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels at two times of any network, by sampling its free weight process.

:func:`two_time_kernel_fn` is for networks that have no closed form, made with
:mod:`nt_ndk.stax`, Flax or anything else with parameters, and an independent
check of those that have one.
"""

from nt_ndk._src.base.moments import Estimate
from nt_ndk._src.finite.monte_carlo import two_time_kernel_fn

# In this order in the docs.
__all__ = ['two_time_kernel_fn', 'Estimate']
