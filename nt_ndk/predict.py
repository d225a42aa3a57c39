# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Predictions during and after learning.

Every public name of :mod:`neural_tangents.predict`, and for infinitely wide
networks that learn with weight decay and noise:

1) :func:`markov_proximal_mse_ensemble`: mean and covariance of the predictor
   along the whole learning trajectory, from the neural tangent kernel to the
   neural network Gaussian process, between two times of it, and draws; also
   where what is learned changes, in phases (:class:`Phase`).

2) :func:`diffusive_limit_mse_ensemble`: its slow phase at vanishing
   temperature.

3) :func:`representational_drift_mse_ensemble`: what becomes of it once the
   readout is frozen.

4) :func:`optimal_stopping`: when the expected test error is smallest.

5) :func:`log_marginal_likelihood`: the evidence for a network and a
   temperature, and its derivatives.

6) :func:`differentiable_mean`: the mean along learning, with derivatives in
   temperature, time and all numbers of the network.

7) :func:`markov_proximal_ensemble`: draws of networks that learn with any loss.
"""

from neural_tangents.predict import Gaussian
from neural_tangents.predict import gp_inference
from neural_tangents.predict import gradient_descent
from neural_tangents.predict import gradient_descent_mse
from neural_tangents.predict import gradient_descent_mse_ensemble
from neural_tangents.predict import max_learning_rate
from neural_tangents.predict import ODEState

from nt_ndk._src.base.protocol import Phase
from nt_ndk._src.predictors.any_loss import Draws
from nt_ndk._src.predictors.any_loss import markov_proximal_ensemble
from nt_ndk._src.predictors.derivatives import differentiable_mean
from nt_ndk._src.predictors.derivatives import MeanDerivatives
from nt_ndk._src.predictors.diffusive_limit import diffusive_limit_mse_ensemble
from nt_ndk._src.predictors.evidence import log_marginal_likelihood
from nt_ndk._src.predictors.markov_proximal import markov_proximal_mse_ensemble
from nt_ndk._src.predictors.representational_drift import (
    representational_drift_mse_ensemble,
)
from nt_ndk._src.predictors.stopping import optimal_stopping
from nt_ndk._src.predictors.stopping import OptimalStopping
from nt_ndk._src.predictors.stopping import Phases

# What is new here, then what is Neural Tangents': in this order in the docs.
__all__ = [
    'markov_proximal_mse_ensemble', 'Phase', 'diffusive_limit_mse_ensemble',
    'representational_drift_mse_ensemble', 'optimal_stopping',
    'OptimalStopping', 'Phases', 'log_marginal_likelihood',
    'differentiable_mean', 'MeanDerivatives',
    'markov_proximal_ensemble', 'Draws',
    'Gaussian', 'gp_inference', 'gradient_descent', 'gradient_descent_mse',
    'gradient_descent_mse_ensemble', 'max_learning_rate', 'ODEState',
]
