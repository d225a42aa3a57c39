# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Gradient flow without noise: what Neural Tangents predicts."""

import functools
from typing import Any, Callable, Optional

import jax
import jax.numpy as jnp
from neural_tangents import predict as nt_predict
import numpy as np

from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels.evaluation import is_pair
from nt_ndk._src.kernels.evaluation import length
from nt_ndk._src.predictors.problem import Problem

# Test inputs whose joint covariance is computed if only variances are wanted.
_BLOCK = 64


def predict_fn(problem: Problem,
               learning_rate: float = 1.) -> Callable[..., Any]:
  """The predictor of Neural Tangents, made when it is first called.

  It is not told of training inputs that are zero, from which nothing is
  learned, but whose NTK it would invert.
  """
  def in_order(*args: Any, **kwargs: Any) -> Any:
    # With times, axes of pixels are those of the inputs.
    return problem.kernel_fn(*args, diffusion_time=(0., 0.), **kwargs)

  @functools.cache
  def on() -> Callable[..., Any]:
    seen, n = problem.ndk.samples, len(problem.y_train)
    take = lambda tree: jax.tree_util.tree_map(lambda a: a[seen], tree)
    kwargs = {k: take(v) if is_pair(v) else v
              for k, v in problem.kwargs.items()}
    # Time is in units of the number of samples.
    return nt_predict.gradient_descent_mse_ensemble(
        problem.kernel_fn if problem.evaluator.locations == 1 else in_order,
        take(problem.x_train), take(problem.y_train),
        learning_rate * len(seen) / n, trace_axes=problem.trace_axes, **kwargs)

  def on_all(x_test: PyTree = None, **kwargs: Any) -> Any:
    if x_test is None and len(problem.ndk.samples) < len(problem.y_train):
      x_test = problem.x_train
      kwargs = {**{k: v for k, v in problem.kwargs.items() if is_pair(v)},
                **kwargs}
    return on()(x_test=x_test, **kwargs)

  return on_all


def predictions(predict_fn: Callable[..., Any], t: Optional[np.ndarray],
                x_test: PyTree, get: str, compute_cov: ComputeCov,
                problem: Problem, **kwargs: Any) -> Any:
  """What Neural Tangents knows, and its variance in blocks of test inputs."""
  if t is None and get == 'ntk' and not compute_cov:
    # Neural Tangents keeps what it finds for infinite time, and would miss the
    # NNGP if it is later asked for the covariance.
    return _finite(predict_fn(t=t, x_test=x_test, get=('nngp', 'ntk'),
                              **kwargs).ntk)
  if compute_cov != 'diag':
    return _finite(predict_fn(t=t, x_test=x_test, get=get,
                              compute_cov=compute_cov, **kwargs))
  x = problem.x_train if x_test is None else x_test

  def part(start: int) -> Any:
    take = lambda tree: jax.tree_util.tree_map(
        lambda a: a[start:start + _BLOCK], tree)
    here = {k: take(v) if isinstance(v, tuple) else v
            for k, v in kwargs.items()}
    return predict_fn(t=t, x_test=take(x), get=get, compute_cov=True, **here)

  parts = [part(start) for start in range(0, length(x), _BLOCK)]
  t_shape = np.shape(t) if t is not None else ()
  diagonal = [_diagonal(part.covariance, len(t_shape)) for part in parts]
  axis = len(t_shape)
  return _finite(nt_predict.Gaussian(
      jnp.concatenate([part.mean for part in parts], axis),
      jnp.concatenate(diagonal, axis)))


def _finite(prediction: PyTree) -> PyTree:
  """Raises if there are NaNs."""
  if not all(bool(jnp.all(jnp.isfinite(a)))
             for a in jax.tree_util.tree_leaves(prediction)):
    raise ArithmeticError(
        'Gradient flow without noise gives no finite prediction: the kernel of '
        'the training inputs is singular. Leave out duplicated inputs, take a '
        'finite time, or use `get="ndk"` with a temperature.')
  return prediction


def _diagonal(covariance: jax.Array, start: int) -> jax.Array:
  """`[..., n, n, a, a, ...]` to `[..., n, a, ...]`."""
  while covariance.ndim > start:
    covariance = jnp.diagonal(covariance, axis1=start, axis2=start + 1)
    covariance = jnp.moveaxis(covariance, -1, start)
    start += 1
  return covariance
