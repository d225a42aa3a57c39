# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The end of learning: the Bayesian posterior."""

import functools
from typing import Any, Callable, Optional, Union

import jax
import numpy as np
import scipy.linalg

from nt_ndk._src.base.arrays import Matrices
from nt_ndk._src.base.arrays import numpy_of
from nt_ndk._src.base.arrays import of_kind
from nt_ndk._src.base.arrays import on_either
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.spectrum import ALL_MODES
from nt_ndk._src.dynamics.spectrum import Inverse
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.predictors.problem import Lesson
from nt_ndk._src.predictors.problem import Problem

# Cholesky factor `[n, n]` of a covariance, or its inverse.
Factor = Union[Matrices, Inverse]


@on_either
def _factorize(kernel, noise):
  """Cholesky factor of `K + noise`."""
  np_ = numpy_of(kernel)
  return np_.linalg.cholesky(kernel + noise * np_.eye(len(kernel),
                                                      dtype=kernel.dtype))


def _solve_factor(factor, y, trans):
  linalg = scipy.linalg if numpy_of(factor) is np else jax.scipy.linalg
  return linalg.solve_triangular(factor, y, trans=trans, lower=True,
                                 check_finite=False)


@on_either
def _solve_both(factor, y):
  return _solve_factor(factor, _solve_factor(factor, y, 0), 1)


def _weights(factor: Factor, y: Matrices) -> Matrices:
  """`(K + noise)^-1 y`."""
  if isinstance(factor, Inverse):
    return factor(to_host(y))
  return _solve_both(factor, y)


@on_either
def _roots(factor, kernel):
  """`L^-1 k^T`, whose squares are what data tell of predictions."""
  return _solve_factor(factor, kernel.T, 0)


def _explained(factor: Factor, kernel: Matrices,
               diagonal: bool) -> np.ndarray:
  """What data tell of the covariance of predictions, `[m, m]` or `[m]`."""
  if isinstance(factor, Inverse):
    left = to_host(kernel).T
    right = factor(left)
  else:
    left = right = to_host(_roots(factor, kernel))
  return np.sum(left * right, 0) if diagonal else left.T @ right


@on_either
def _not_learned(gain, train, test):
  """What learning adds to the covariance of what frozen weights make.

  Args:
    gain: `[n, m]`, of what is learned of predictions.
    train: covariance of training outputs by frozen weights alone.
    test: the same of predictions and training outputs.

  Returns:
    `[m, m]`.
  """
  mixed = test @ gain
  return gain.T @ train @ gain - mixed - mixed.T


@on_either
def _rounding(kernel, weights):
  """Rounding error of `K w`."""
  np_ = numpy_of(kernel)
  return np_.finfo(kernel.dtype).eps * np_.diagonal(kernel).max() * np_.sqrt(
      len(kernel) * (weights**2).mean())


class Posterior:
  """That under the prior, with the temperature as noise.

  A sample of weight :math:`a` has the noise :math:`T / a`, and one of weight 0
  none of the training set.
  """

  def __init__(self, problem: Problem, lesson: Lesson) -> None:
    self._problem, self._lesson = problem, lesson
    self._seen = np.flatnonzero(lesson.weights > 0)

  def _of_seen(self, kernel: Any, rows: bool = False) -> Any:
    """Columns, or rows and columns, of the samples that are learned."""
    if len(self._seen) == len(self._lesson.y):
      return kernel
    return kernel[np.ix_(self._seen, self._seen)] if rows else (
        kernel[:, self._seen])

  @functools.cached_property
  def _factorized(self) -> tuple[Factor, Matrices, float]:
    """Cholesky factor or so, weights of the outputs, and their error."""
    problem, (temperature, y, _) = self._problem, self._lesson
    kernel = self._of_seen(of_kind(problem.prior_kernel), rows=True)
    error = np.inf
    # Of outputs that are always zero nothing is learned, whatever their noise.
    noise = np.where(to_host(kernel.diagonal()) == 0, 1.,
                     temperature / self._lesson.weights[self._seen])
    # On several devices none has room for all rows of large matrices.
    spread = problem.evaluator.spread.count > 1
    try:
      if spread and len(kernel) > ALL_MODES:
        factor = Inverse(kernel, noise)
      else:
        factor = _factorize(kernel, noise.astype(problem.dtype))
      weights = _weights(factor, y[self._seen])
      error = float(to_host(_rounding(kernel, weights))) / problem.y_scale
    except np.linalg.LinAlgError:
      pass
    if not error < 1:
      raise ArithmeticError(
          'The covariance of the training outputs under the prior plus '
          f'temperature {temperature:.1e} is singular to rounding: the '
          f'mean would have a relative error of {error:.1e}. Leave out '
          'duplicated inputs, use float64, or a larger temperature.')
    problem.warn(error)
    return factor, weights, error

  @property
  def weights(self) -> Matrices:
    """`(C + T)^-1 Y`, of the samples that are learned, `[n, k]`."""
    return self._factorized[1]

  def solve(self, right: Matrices) -> Matrices:
    """`(C + T)^-1` times other columns `[n, c]`."""
    return _weights(self._factorized[0], right)

  def predictions(self, x_test: PyTree, compute_cov: ComputeCov = False,
                  **kwargs: Any) -> tuple[np.ndarray, Optional[np.ndarray]]:
    """Mean and covariance.

    Args:
      x_test: test inputs, or `None`.
      compute_cov: `False`, `True` or `"diag"`.
      **kwargs: of test inputs.

    Returns:
      Mean `[m, k]` and `None`, `[m, m]` or `[m]`.
    """
    problem = self._problem
    return self.at(problem.evaluator, problem.late, problem.late, x_test,
                   compute_cov, **kwargs)

  def at(self, evaluator: KernelEvaluator, tau: float, train_tau: float,
         x_test: PyTree, compute_cov: ComputeCov,
         **kwargs: Any) -> tuple[np.ndarray, Optional[np.ndarray]]:
    """The same for test outputs at one time and training outputs at another."""
    problem = self._problem
    factor, weights, error = self._factorized
    problem.stats['estimated_error'] = max(problem.stats['estimated_error'],
                                           error)
    x = problem.x_train if x_test is None else x_test
    on_training = x_test is None and evaluator is problem.evaluator
    between: Callable[[float], Any] = lambda train_tau: evaluator.test_train(
        x, 'nngp', np.array([[tau, train_tau]]), **kwargs)
    kernel: Matrices = problem.prior_kernel if on_training else between(
        train_tau)
    fixed: Any = problem.fixed_kernel
    if fixed is not None and not on_training:
      fixed = between(train_tau / 2)
      kernel = kernel - fixed
    kernel = self._of_seen(kernel)
    if isinstance(factor, np.ndarray):
      kernel = np.asarray(kernel)
    mean = to_host(kernel @ weights)
    if not compute_cov:
      return mean, None
    diagonal = compute_cov == 'diag'
    prior = evaluator.variances(x, np.array([tau]), **kwargs)[0] if (
        diagonal) else to_host(evaluator.test_test(x, 'nngp', tau, tau,
                                                   **kwargs))
    covariance = prior - _explained(factor, kernel, diagonal)
    if fixed is not None:
      change = _not_learned(*map(of_kind, (
          _weights(factor, kernel.T),
          self._of_seen(problem.fixed_kernel, rows=True),
          self._of_seen(fixed))))
      covariance = covariance + to_host(change.diagonal() if diagonal else
                                        change)
    return mean, np.maximum(covariance, 0.) if diagonal else covariance
