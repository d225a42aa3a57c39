# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels of one finite network, from its parameters at two times."""

from nt_ndk._src.finite.empirical import two_time_kernel_fn
