# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Predictions in the shapes that users are given."""

from typing import Any

from neural_tangents import predict as nt_predict
import numpy as np

from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.predictors.problem import Problem


def allocate(problem: Problem, times: int, x_test: PyTree,
             compute_cov: ComputeCov) -> tuple[np.ndarray, np.ndarray]:
  """Room for means `[T, m, k]` and covariances `[T, m, m]` or `[T, m]`."""
  m = problem.rows(x_test)
  return (np.empty((times, m, problem.y.shape[1])),
          np.empty((times, m) if compute_cov == 'diag' else (times, m, m)))


def restore(problem: Problem, mean: Any, covariance: Any,
            t_shape: tuple[int, ...], compute_cov: ComputeCov) -> Any:
  """Predictions in the shapes of users, and a warning if they are not good."""
  problem.warn(problem.stats['estimated_error'])
  mean = problem.restore_mean(np.asarray(mean), t_shape)
  if not compute_cov:
    return mean
  problem.warn_of_covariance(problem.stats['estimated_covariance_error'])
  return nt_predict.Gaussian(mean, problem.restore_covariance(
      np.asarray(covariance), t_shape, compute_cov == 'diag'))
