# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Two-time kernels of a data set: evaluated, and compressed in time.

Here belongs how a kernel function is called on many samples and times, and how
few times stand for all. Here must not be anything that knows of targets,
temperatures or what a kernel is used for.
"""
