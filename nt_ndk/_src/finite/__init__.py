# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Finite networks: learning, sampling, and comparison with theory.

Here belongs what has parameters: Langevin dynamics, kernels of one network or
of many, layers of Flax. Here must not be anything of predictors: what is
compared with them is passed in.
"""
