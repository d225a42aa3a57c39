# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Layers of Neural Tangents at two times.

Here belongs what a layer does to a `Kernel` whose two inputs are at two
diffusion times. Here must not be anything that knows of training data, targets
or temperatures.
"""
