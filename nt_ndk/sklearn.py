# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Estimators for scikit-learn's tools.

Infinitely wide networks that learn under noise and weight decay
(:func:`nt_ndk.predict.markov_proximal_mse_ensemble`) as a regressor and a
classifier, for pipelines, cross-validation and `GridSearchCV`. The time at
which learning stops and the temperature are hyperparameters.

Needs scikit-learn, `pip install nt_ndk[sklearn]`, and is not imported by
`nt_ndk` itself: `from nt_ndk import sklearn as nt_sklearn`.
"""

from nt_ndk._src.predictors.estimators import MarkovProximalClassifier
from nt_ndk._src.predictors.estimators import MarkovProximalRegressor
