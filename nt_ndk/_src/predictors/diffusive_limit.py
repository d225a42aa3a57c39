# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The slow phase of learning, at vanishing temperature."""

from typing import Any, cast, Optional

import jax
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.devices import in_full_precision
from nt_ndk._src.base.protocol import Protocol
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PredictFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.predictors import answers
from nt_ndk._src.predictors import gradient_flow
from nt_ndk._src.predictors.documentation import documented
from nt_ndk._src.predictors.fluctuations import Fluctuations
from nt_ndk._src.predictors.posterior import Posterior
from nt_ndk._src.predictors.problem import Problem


@in_full_precision
@documented
def diffusive_limit_mse_ensemble(
    kernel_fn: KernelFn,
    x_train: PyTree,
    y_train: jax.Array,
    trace_axes: Axes = (-1,),
    rtol: float = 1e-5,
    progress: bool = False,
    batch_size: int = 0,
    store_dir: Optional[str] = None,
    **kernel_fn_train_train_kwargs: Any) -> PredictFn:
  r"""Predicts the slow, diffusive phase of learning at vanishing temperature.

  As the temperature :math:`T` goes to 0 at fixed diffusion time
  :math:`\tau = T t`, gradient descent is an impulse at :math:`\tau = 0`, and
  what follows is one curve for all small temperatures:

  .. math::
    \mathrm{NDK}(X, \tau; X, 0)\, Q + \int_0^\tau \mathrm{NDK}(X, \tau; X,
    \tau')\, q(\tau')\, d\tau' &= Y, \\
    \mathrm{NDK}(x, \tau; X, 0)\, Q + \int_0^\tau \mathrm{NDK}(x, \tau; X,
    \tau')\, q(\tau')\, d\tau' &= f(x, \tau).

  It starts at the predictor of the NTK at infinite time, with the training
  targets learned, and ends at the posterior of the NNGP without noise. The
  limit is that of :func:`markov_proximal_mse_ensemble` (Avidan, Li and
  Sompolinsky, arXiv:2309.04522); the equations of the first kind are solved for
  the rows of the resolvent, mean and covariance together. The deviation at a
  small temperature is of first order in :math:`T`.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`.

    x_train:
      training inputs, the batch axis first, no two of them equal.

    y_train:
      {y_train}

    trace_axes:
      {trace_axes}

    rtol:
      {rtol}

    progress:
      {progress}

    batch_size:
      {batch_size}

    store_dir:
      {store_dir}

    **kernel_fn_train_train_kwargs:
      {kernel_fn_train_train_kwargs}

  Returns:
    A function `predict_fn(diffusion_time=None, x_test=None, compute_cov=False,
    **kernel_fn_test_test_kwargs)`. Its attribute `stats` tells what the last
    prediction took.

  Raises:
    TypeError: if an argument is of the wrong kind.
    ValueError: if an argument is out of range.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512, W_init_std=2.), stax.Relu(), stax.Dense(1))
    >>> x_train = random.normal(random.PRNGKey(0), (20, 10))
    >>> y_train = jnp.sign(x_train[:, :1])
    >>> x_test = random.normal(random.PRNGKey(1), (5, 10))
    >>> #
    >>> predict_fn = predict.diffusive_limit_mse_ensemble(
    >>>     kernel_fn, x_train, y_train)
    >>> # (30, 5, 1) mean and (30, 5) variance.
    >>> mean, variance = predict_fn(jnp.linspace(0., 8., 30), x_test, 'diag')
  """
  problem = Problem(kernel_fn, x_train, y_train, 0., trace_axes, rtol, progress,
                    batch_size, store_dir, kernel_fn_train_train_kwargs)
  lesson = problem.lesson(Protocol(None, problem.y_train, 0., 1.).stages[0])
  fluctuations, posterior = Fluctuations(problem, [lesson]), Posterior(problem,
                                                                       lesson)
  gradient_flow_fn = gradient_flow.predict_fn(problem)

  @in_full_precision
  @documented
  def predict_fn(diffusion_time: Times = None, x_test: PyTree = None,
                 compute_cov: ComputeCov = False,
                 **kernel_fn_test_test_kwargs: Any) -> Any:
    """Returns mean (and covariance) of the predictor.

    Args:
      diffusion_time:
        a scalar or an array of any shape, temperature times training time. 0
        means just after gradient descent, `None` is equilibrium.

      x_test:
        {x_test}

      compute_cov:
        {compute_cov}

      **kernel_fn_test_test_kwargs:
        {kernel_fn_test_test_kwargs}

    Returns:
      The mean, of shape `diffusion_time.shape + (n_test, ..., k)`; with
      `compute_cov`, a `Gaussian(mean, covariance)`.

    Raises:
      ArithmeticError: if the tolerance is out of reach, or the kernel singular.
      TypeError: if a keyword argument is unknown.
      ValueError: if an argument is out of range.
    """
    tau = arguments.canonicalize_time(diffusion_time)
    arguments.check_compute_cov(compute_cov)
    x_test, kwargs = problem.question(x_test, kernel_fn_test_test_kwargs, tau)
    problem.check_gradient_flow()
    cov = compute_cov or 'diag'
    shape = () if tau is None else tau.shape
    flat = np.full(1, np.inf) if tau is None else tau.ravel()
    mean, covariance = answers.allocate(problem, len(flat), x_test, cov)
    start, late = flat == 0, flat >= fluctuations.end
    if np.any(start):
      # Gradient flow at infinite time, in shapes of its own.
      first = gradient_flow.predictions(gradient_flow_fn, None, x_test, 'ntk',
                                        cov, problem, **kwargs)
      mean[start] = problem.flatten_mean(first.mean)
      covariance[start] = problem.flatten_covariance(first.covariance,
                                                     cov == 'diag')
    if np.any(late):
      mean[late], covariance[late] = posterior.predictions(
          x_test, cov, **kwargs)
    between = ~(start | late)
    if np.any(between):
      fluctuations.include(x_test, kwargs)
      kernel_error = problem.kernel_error()
      mean[between], covariance[between] = problem.timed(
          'covariance', lambda: fluctuations.predictions(
              np.zeros(np.sum(between), int), flat[between], x_test, cov,
              **kwargs))
      problem.stats.update(
          estimated_error=fluctuations.error + kernel_error,
          estimated_covariance_error=fluctuations.error)
    return answers.restore(problem, mean, covariance, shape, compute_cov)

  out = cast(PredictFn, predict_fn)
  out.stats = problem.stats
  return out
