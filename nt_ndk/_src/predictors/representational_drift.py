# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Hidden weights that drift under a frozen readout."""

from typing import Any, cast, Optional, Sequence

import jax
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.devices import in_full_precision
from nt_ndk._src.base.protocol import Phase
from nt_ndk._src.base.protocol import Protocol
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PredictFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.predictors import answers
from nt_ndk._src.predictors.documentation import documented
from nt_ndk._src.predictors.drift import check_readout
from nt_ndk._src.predictors.drift import Drift
from nt_ndk._src.predictors.posterior import Posterior
from nt_ndk._src.predictors.problem import Problem


@in_full_precision
@documented
def representational_drift_mse_ensemble(
    kernel_fn: KernelFn,
    x_train: PyTree,
    y_train: jax.Array,
    temperature: float,
    t_freeze: Optional[float] = None,
    hidden_learning: bool = False,
    learning_rate: float = 1.,
    trace_axes: Axes = (-1,),
    rtol: float = 1e-5,
    progress: bool = False,
    batch_size: int = 0,
    store_dir: Optional[str] = None,
    schedule: Optional[Sequence[Phase]] = None,
    **kernel_fn_train_train_kwargs: Any) -> PredictFn:
  r"""Predicts what a frozen readout makes of hidden weights that drift.

  An infinite ensemble learns as in :func:`markov_proximal_mse_ensemble` up to
  time `t_freeze`. Then its readout, the last layer of weights, is frozen, while
  the hidden weights go on diffusing under noise and regularisation, without (or
  with) the learning signal. For `t >= t_freeze` the mean predictor is

  .. math::
    \langle f(x, t) \rangle = \int_0^{t_{freeze}} \mathrm{NDK}'(x, t; X, s)
    \big(Y - \langle f(X, s) \rangle\big)\, ds,

  with the readout's time in :math:`\mathrm{NDK}'` stopped at `t_freeze`. At
  equilibrium this is

  .. math::
    s^2 K^L(t - t_{freeze}; x, X)\, \big(s^2 K^L(0; X, X) + T\big)^{-1} Y

  with :math:`K^L` the two-time kernel of the last hidden layer (Avidan, Li and
  Sompolinsky, arXiv:2309.04522; the formula for any `t_freeze`, the covariance,
  and learning hidden weights go past the paper). Hidden weights that have come
  to equilibrium and keep learning do not change the distribution of predictions
  at all.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`, with hidden
      weights, and one last layer of weights.

    x_train:
      {x_train}

    y_train:
      {y_train}

    temperature:
      :math:`T > 0`.

    t_freeze:
      time at which the readout is frozen, in the units of
      :func:`neural_tangents.predict.gradient_descent_mse_ensemble`. `None` is
      equilibrium.

    hidden_learning:
      whether the hidden weights keep learning after `t_freeze`.

    learning_rate:
      factor of time.

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

    schedule:
      phases of learning, see :func:`markov_proximal_mse_ensemble`. After
      `t_freeze` the temperature goes on as it says.

    **kernel_fn_train_train_kwargs:
      {kernel_fn_train_train_kwargs}

  Returns:
    A function `predict_fn(t=None, x_test=None, compute_cov=False,
    **kernel_fn_test_test_kwargs)`, `t` being the time since `t_freeze`. Its
    attribute `stats` tells what the last prediction took.

  Raises:
    TypeError: if an argument is of the wrong kind.
    ValueError: if an argument is out of range, or the network has no hidden
      weights or no single last layer of weights.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512), stax.Erf(), stax.Dense(1))
    >>> x_train = random.normal(random.PRNGKey(0), (20, 10))
    >>> y_train = jnp.sign(x_train[:, :1])
    >>> x_test = random.normal(random.PRNGKey(1), (5, 10))
    >>> #
    >>> predict_fn = predict.representational_drift_mse_ensemble(
    >>>     kernel_fn, x_train, y_train, temperature=1e-2)
    >>> # (50, 5, 1) mean predictor, which decays to 0 as `erf` is odd.
    >>> mean = predict_fn(jnp.linspace(0., 1e4, 50), x_test)
  """
  arguments.check_number('temperature', temperature, 0., strict=True)
  arguments.check_number('learning_rate', learning_rate, 0., strict=True)
  if t_freeze is not None:
    arguments.check_number('t_freeze', t_freeze, 0., strict=False)
  problem = Problem(kernel_fn, x_train, y_train, temperature, trace_axes, rtol,
                    progress, batch_size, store_dir,
                    kernel_fn_train_train_kwargs)
  check_readout(problem)
  protocol = Protocol(schedule, problem.y_train, temperature, learning_rate,
                      1 / problem.y_train.size)
  last, since = protocol.locate(np.array(
      [np.inf if t_freeze is None else t_freeze]))
  number, freeze = int(last[0]), float(since[0])
  stage = protocol.stages[number]
  lessons = [problem.lesson(s) for s in protocol.stages[:number + 1]]
  slow = max(problem.ndk.scales.slow, problem.nngp.scales.slow)
  settled = stage.temperature > 0 and freeze >= slow
  if not stage.temperature and np.isinf(freeze) or hidden_learning and (
      number < len(protocol.stages) - 1 or not stage.temperature):
    raise ValueError(
        'The readout must be frozen at a finite time if there is no noise, and '
        'with `hidden_learning` in the last phase, which needs a temperature; '
        f'`t_freeze` {t_freeze} is in phase {number + 1} of '
        f'{len(protocol.stages)}, of temperature {stage.temperature}.')
  extents = [protocol.since(p, s.stop)
             for p, s in enumerate(protocol.stages[:number])] + [freeze]
  if settled:
    # A time at which equilibrium has been reached to rounding.
    freeze = 4 * slow
  frozen = problem.evaluator.with_keywords(readout_freeze=freeze)
  drift = Drift(problem, lessons, extents, hidden_learning)
  posterior = Posterior(problem, lessons[-1])

  @in_full_precision
  @documented
  def predict_fn(t: Times = None, x_test: PyTree = None,
                 compute_cov: ComputeCov = False,
                 **kernel_fn_test_test_kwargs: Any) -> Any:
    """Returns mean (and covariance) of the predictor at times after `t_freeze`.

    Args:
      t:
        a scalar or an array of any shape, times since `t_freeze`. `None` is
        infinity.

      x_test:
        {x_test}

      compute_cov:
        {compute_cov}

      **kernel_fn_test_test_kwargs:
        {kernel_fn_test_test_kwargs}

    Returns:
      The mean, of shape `t.shape + (n_test, ..., k)`; with `compute_cov`, a
      `Gaussian(mean, covariance)`.

    Raises:
      ArithmeticError: if the tolerance is out of reach.
      TypeError: if a keyword argument is unknown.
      ValueError: if an argument is out of range.
    """
    t = arguments.canonicalize_time(t)
    arguments.check_compute_cov(compute_cov)
    x_test, kwargs = problem.question(x_test, kernel_fn_test_test_kwargs, t)
    cov = compute_cov or 'diag'
    shape = () if t is None else t.shape
    lag = protocol.diffusion_lag(
        stage.start if t_freeze is None else t_freeze,
        np.full(1, np.inf) if t is None else t.ravel())
    lag = np.minimum(lag, 4 * slow)  # Nothing changes after that.
    mean, covariance = answers.allocate(problem, len(lag), x_test, cov)
    if not len(lag):
      pass
    elif settled and hidden_learning:
      mean[:], covariance[:] = posterior.predictions(
          x_test, cov, **kwargs)
    elif settled:
      for i, d in enumerate(lag):
        mean[i], covariance[i] = posterior.at(
            frozen, freeze + d, freeze, x_test, cov, **kwargs)
    else:
      mean[:], covariance[:] = problem.timed(
          'covariance', lambda: drift.predictions(lag, x_test, cov, **kwargs))
      problem.stats.update(
          estimated_error=drift.error + drift.kernel_error,
          estimated_covariance_error=drift.error)
    return answers.restore(problem, mean, covariance, shape, compute_cov)

  out = cast(PredictFn, predict_fn)
  out.stats = problem.stats
  return out
