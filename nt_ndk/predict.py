# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Predictions during and after learning.

Every public name of :mod:`neural_tangents.predict`, and
:func:`markov_proximal_mse_ensemble`: the whole learning trajectory, from the
neural tangent kernel to the neural network Gaussian process, of infinitely wide
networks with weight decay and noise.
"""

from neural_tangents.predict import Gaussian
from neural_tangents.predict import gp_inference
from neural_tangents.predict import gradient_descent
from neural_tangents.predict import gradient_descent_mse
from neural_tangents.predict import gradient_descent_mse_ensemble
from neural_tangents.predict import max_learning_rate
from neural_tangents.predict import ODEState

from nt_ndk._src.predict import diffusive_limit_mse_ensemble
from nt_ndk._src.predict import markov_proximal_mse_ensemble
from nt_ndk._src.predict import representational_drift_mse_ensemble
