# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of learning, one call each.

1) :func:`learning_curve`: error on test data along learning, beside what the
   NTK and the NNGP predict.

2) :func:`two_time_kernel`: a kernel over its two times.

3) :func:`trajectories`: outputs of single networks along learning.

4) :func:`calibration`: how often targets lie where they are predicted.

Each draws into `ax`, or into a new figure, and returns the axes. Needs
Matplotlib, `pip install nt_ndk[plot]`, when it is called.
"""

from nt_ndk._src.predictors.pictures import calibration
from nt_ndk._src.predictors.pictures import learning_curve
from nt_ndk._src.predictors.pictures import trajectories
from nt_ndk._src.predictors.pictures import two_time_kernel

# In this order in the docs.
__all__ = ['learning_curve', 'two_time_kernel', 'trajectories', 'calibration']
