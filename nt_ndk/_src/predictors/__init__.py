# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What infinitely wide networks predict along learning.

Here belongs what joins kernels and dynamics to predictions: a training set and
its targets, the mean, the covariance, and one file for each public predictor.
Here must not be a numerical method that another floor could own, nor anything
of finite networks.
"""
