# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The implementation, one floor a folder.

Imports run one way, from the top to the ground (`lint-imports` checks it):

    nt_ndk.*            public modules, which hand on names
    predictors, finite  what infinitely wide, and finite, networks do
    kernels             two-time kernels of a data set
    dynamics, layers    equations in time; layers at two times
    base                what all stand on
"""
