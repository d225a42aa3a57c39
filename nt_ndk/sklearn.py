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

from typing import Any, Optional

import numpy as np
from sklearn import base
from sklearn.utils import multiclass
from sklearn.utils import validation

from nt_ndk import stax
from nt_ndk._src.base.devices import in_double as _in_double
from nt_ndk._src.base.typing import ComputeCov as _ComputeCov
from nt_ndk._src.base.typing import KernelFn as _KernelFn
from nt_ndk._src.base.typing import PredictFn as _PredictFn
from nt_ndk._src.predictors import classification
from nt_ndk._src.predictors import evidence
from nt_ndk._src.predictors import markov_proximal


def _default_kernel_fn() -> _KernelFn:
  """Two hidden layers of ReLU, with biases."""
  layer = lambda: stax.Dense(512, W_std=2**.5, b_std=.5)
  return stax.serial(layer(), stax.Relu(), layer(), stax.Relu(),
                     stax.Dense(1, b_std=.5))[2]


class _MarkovProximal(base.BaseEstimator):
  """What both have in common."""

  def __init__(self, kernel_fn: Optional[_KernelFn] = None, *,
               temperature: float = 1e-2, time: Optional[float] = None,
               learning_rate: float = 1., rtol: float = 1e-5,
               store_dir: Optional[str] = None) -> None:
    self.kernel_fn = kernel_fn
    self.temperature = temperature
    self.time = time
    self.learning_rate = learning_rate
    self.rtol = rtol
    self.store_dir = store_dir

  def _fit(self, X: Any, y: Any) -> None:
    """Learns targets `[n, k]`."""
    self.X_train_, self.y_train_ = X, y
    self.__dict__.pop('_predict_fn', None)
    self._predictor()

  def _network(self) -> _KernelFn:
    return self.kernel_fn or _default_kernel_fn()

  def _predictor(self) -> _PredictFn:
    """That of the training data, which has learned up to the time."""
    if not hasattr(self, '_predict_fn'):
      with _in_double():
        predict_fn = markov_proximal.markov_proximal_mse_ensemble(
            self._network(), self.X_train_, self.y_train_, self.temperature,
            self.learning_rate, rtol=self.rtol, store_dir=self.store_dir)
        predict_fn(t=self.time, get='ndk')
      self._predict_fn = predict_fn
    return self._predict_fn

  def _mean_and_covariance(self, X: np.ndarray, compute_cov: _ComputeCov
                           ) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[m, k]`, and covariance, empty unless asked for, in float64."""
    predict_fn = self._predictor()
    with _in_double():
      out = predict_fn(t=self.time, x_test=X, get='ndk',
                       compute_cov=compute_cov)
      mean, covariance = out if compute_cov else (out, ())
      return np.asarray(mean), np.asarray(covariance)

  def _validated(self, X: Any) -> np.ndarray:
    """Test inputs, of an estimator that has been fitted."""
    validation.check_is_fitted(self)
    return validation.validate_data(self, X, dtype=float, allow_nd=True,
                                    reset=False)

  def log_marginal_likelihood(self) -> float:
    """The evidence for the training targets, as they are learned.

    That of :func:`nt_ndk.predict.log_marginal_likelihood`, of equilibrium
    whatever the `time`; of normalised targets if these are, and of centred
    codes of classes.

    Returns:
      A number.
    """
    validation.check_is_fitted(self)
    with _in_double():
      return float(evidence.log_marginal_likelihood(
          self._network(), self.X_train_, self.y_train_, self.temperature))

  def __getstate__(self) -> dict[str, Any]:
    # A predictor is made again from the data where it is needed.
    return {k: v for k, v in super().__getstate__().items()
            if k != '_predict_fn'}


class MarkovProximalRegressor(base.RegressorMixin, _MarkovProximal):
  r"""Regression by infinitely wide networks under Markov proximal learning.

  The predictor of :func:`nt_ndk.predict.markov_proximal_mse_ensemble` for the
  tools of scikit-learn: pipelines, cross-validation, `GridSearchCV`. At
  equilibrium, the default, it is Gaussian-process regression with the kernel of
  the network (NNGP) and noise of variance :math:`T`. At a finite `time` it is
  the ensemble of networks that stop there, so that a search over `time` finds
  when to stop. It computes in float64, whatever JAX is set to.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`. `None` is two
      hidden layers of ReLU with biases.

    temperature:
      :math:`T`, the variance of the noise of targets, after normalisation.

    time:
      training time at which learning stops, in the units of
      :func:`nt_ndk.predict.markov_proximal_mse_ensemble`; `None` is
      equilibrium.

    learning_rate:
      factor of time.

    rtol:
      tolerance of predictions.

    store_dir:
      folder in which kernels and the course of learning are kept, where the
      same problem at another `time` finds them, in this process or in another.
      It saves time with thousands of samples. `None` keeps nothing.

    normalize_y:
      whether targets are learned with their mean removed and divided by their
      standard deviation, each output by itself. The prior has mean 0, and a
      variance of order 1 if the network has.

  Attributes:
    X_train_: training inputs.
    y_train_: `[n, k]`, training targets, normalised if they are.
    n_features_in_: number of columns of inputs.

  Example:
    >>> import numpy as np
    >>> from sklearn import model_selection, pipeline, preprocessing
    >>> from nt_ndk import sklearn as nt_sklearn
    >>> #
    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> y = np.sin(X[:, 0]) + .1 * X[:, 1]
    >>> model = pipeline.make_pipeline(
    >>>     preprocessing.StandardScaler(),
    >>>     nt_sklearn.MarkovProximalRegressor(temperature=.1))
    >>> search = model_selection.GridSearchCV(model, {
    >>>     'markovproximalregressor__time': [10., 1e3, None]}, cv=3).fit(X, y)
    >>> # (30,) (30,)
    >>> mean, std = search.best_estimator_.predict(X, return_std=True)
  """

  def __init__(self, kernel_fn: Optional[_KernelFn] = None, *,
               temperature: float = 1e-2, time: Optional[float] = None,
               learning_rate: float = 1., rtol: float = 1e-5,
               store_dir: Optional[str] = None,
               normalize_y: bool = False) -> None:
    """Keeps the arguments, as scikit-learn wants it."""
    super().__init__(kernel_fn, temperature=temperature, time=time,
                     learning_rate=learning_rate, rtol=rtol,
                     store_dir=store_dir)
    self.normalize_y = normalize_y

  def __sklearn_tags__(self) -> Any:
    """Several outputs are learned, too."""
    tags = super().__sklearn_tags__()
    tags.target_tags.multi_output = True
    return tags

  def fit(self, X: Any, y: Any) -> 'MarkovProximalRegressor':
    """Learns.

    Args:
      X: inputs, one row or one image for each sample.
      y: targets, `[n]` or `[n, k]`.

    Returns:
      Itself.
    """
    X, y = validation.validate_data(self, X, y, dtype=float, allow_nd=True,
                                    multi_output=True, y_numeric=True)
    self._shape = y.shape[1:]
    y = np.asarray(y, float).reshape((len(y), -1))
    k = y.shape[1]
    self._offset, self._scale = np.zeros(k), np.ones(k)
    if self.normalize_y:
      self._offset, scale = y.mean(0), y.std(0)
      self._scale = np.where(scale > 0, scale, 1.)
    self._fit(X, (y - self._offset) / self._scale)
    return self

  def predict(self, X: Any, return_std: bool = False,
              return_cov: bool = False) -> Any:
    """Mean of the networks' outputs, and how these deviate from it.

    Args:
      X: inputs.
      return_std: whether to return standard deviations, too: of outputs, to
        which that of the noise of targets comes on top.
      return_cov: whether to return covariances, too.

    Returns:
      Means `[m]` or `[m, k]`; with `return_std`, and standard deviations of the
      same shape; with `return_cov`, and covariances `[m, m]` or `[m, m, k]`.

    Raises:
      ValueError: if both standard deviations and covariances are asked for.
    """
    if return_std and return_cov:
      raise ValueError('At most one of `return_std` and `return_cov` can be '
                       'asked for: the standard deviation is the root of the '
                       'diagonal of the covariance.')
    X = self._validated(X)
    mean, covariance = self._mean_and_covariance(
        X, 'diag' if return_std else return_cov)
    mean = (self._offset + self._scale * mean).reshape((-1,) + self._shape)
    if return_std:
      return mean, np.sqrt(covariance[:, None] * self._scale**2).reshape(
          mean.shape)
    if return_cov:
      return mean, (covariance[..., None] * self._scale**2).reshape(
          covariance.shape + self._shape)
    return mean

  def sample_y(self, X: Any, n_samples: int = 1,
               random_state: Any = 0) -> np.ndarray:
    """Draws outputs of networks.

    Args:
      X: inputs.
      n_samples: number of networks.
      random_state: seed, or generator of NumPy as scikit-learn takes it.

    Returns:
      `[m, n_samples]` or `[m, k, n_samples]`.
    """
    mean, covariance = self.predict(X, return_cov=True)
    rng = validation.check_random_state(random_state)
    draws = [rng.multivariate_normal(m, c, n_samples).T for m, c in zip(
        mean.reshape((len(mean), -1)).T,
        np.moveaxis(covariance.reshape(covariance.shape[:2] + (-1,)), -1, 0))]
    return np.stack(draws, 1).reshape(mean.shape + (n_samples,))


class MarkovProximalClassifier(base.ClassifierMixin, _MarkovProximal):
  r"""Classification by infinitely wide networks under the squared error.

  Each class is an output of the network, whose target is :math:`1 - 1/k` for
  samples of this class and :math:`-1/k` for others; a network finds the class
  whose output is largest. Outputs are learned as by
  :class:`MarkovProximalRegressor`, and are independent Gaussians with a common
  variance, from which follows how many of the networks find each class.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`. `None` is two
      hidden layers of ReLU with biases.

    temperature:
      :math:`T`, the variance of the noise of targets.

    time:
      training time at which learning stops, in the units of
      :func:`nt_ndk.predict.markov_proximal_mse_ensemble`; `None` is
      equilibrium.

    learning_rate:
      factor of time.

    rtol:
      tolerance of outputs.

    store_dir:
      folder in which kernels and the course of learning are kept, where the
      same problem at another `time` finds them, in this process or in another.
      It saves time with thousands of samples. `None` keeps nothing.

  Attributes:
    classes_: names of the classes.
    X_train_: training inputs.
    y_train_: `[n, k]`, targets of all outputs.
    n_features_in_: number of columns of inputs.

  Example:
    >>> import numpy as np
    >>> from nt_ndk import sklearn as nt_sklearn
    >>> #
    >>> X = np.random.default_rng(0).normal(size=(30, 2))
    >>> y = np.where(X[:, 0] > 0, 'right', 'left')
    >>> model = nt_sklearn.MarkovProximalClassifier().fit(X, y)
    >>> # (30, 2)
    >>> probability = model.predict_proba(X)
  """

  def fit(self, X: Any, y: Any) -> 'MarkovProximalClassifier':
    """Learns.

    Args:
      X: inputs, one row or one image for each sample.
      y: `[n]`, names or numbers of classes.

    Returns:
      Itself.
    """
    X, y = validation.validate_data(self, X, y, dtype=float, allow_nd=True)
    multiclass.check_classification_targets(y)
    self.classes_, index = np.unique(y, return_inverse=True)
    k = len(self.classes_)
    self._fit(X, np.eye(k)[index] - 1 / k)
    return self

  def predict(self, X: Any) -> np.ndarray:
    """The class of each input, whose mean output is largest.

    Args:
      X: inputs.

    Returns:
      `[m]`, names of classes.
    """
    mean, _ = self._mean_and_covariance(self._validated(X), False)
    return self.classes_[np.argmax(mean, 1)]

  def predict_proba(self, X: Any) -> np.ndarray:
    """The fraction of networks that find each class.

    Args:
      X: inputs.

    Returns:
      `[m, k]`, probabilities in the order of `classes_`.
    """
    mean, variance = self._mean_and_covariance(self._validated(X), 'diag')
    return np.exp(classification.log_probabilities(mean, variance))
