# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""When to stop learning."""

from typing import Any, Callable, NamedTuple, Optional, Protocol, Union

import jax
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.typing import PredictFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.predictors import classification

_TIMES = 40
_REFINED = 7
# Relative gain below which stopping before equilibrium is not worth its name.
_NO_GAIN = 1e-4


class Phases(NamedTuple):
  """Times of learning, in the units of a predictor.

  Attributes:
    start: before it, nothing has been learned.
    diffusive: at which the NDK has changed by a tenth. Before it learning is
      driven by the gradient, in the NTK; after it weights diffuse.
    equilibrium: from which on nothing changes.
  """
  start: float
  diffusive: float
  equilibrium: float


class LearningPredictFn(PredictFn, Protocol):
  """A predictor of the whole learning trajectory.

  Attributes:
    two_time_covariance: covariance of predictions at two times.
    sample: draws of networks along learning.
    with_schedule: the same network, data and kernels with other phases.
    phases: times of learning; `None` without noise.
  """
  two_time_covariance: Callable[..., jax.Array]
  sample: Callable[..., jax.Array]
  with_schedule: Callable[..., 'LearningPredictFn']
  phases: Optional[Callable[[], Phases]]


class OptimalStopping(NamedTuple):
  """Expected errors along the learning trajectory, and their minimum.

  Attributes:
    t: `[T]`, times, the last one infinite (equilibrium).
    expected_squared_error: `[T]`, `bias_squared + variance`.
    bias_squared: `[T]`, mean over test inputs and outputs of the squared
      difference of mean predictor and target.
    variance: `[T]`, mean over test inputs of the variance over networks.
    classification_error: `[T]`, probability that a network misclassifies a test
      input; `None` unless there are classes.
    t_optimal: time of the smallest expected squared error; infinite if that is
      equilibrium.
    minimum: the smallest expected squared error.
    phase: "gradient-driven", "diffusive" (the NDK has changed by a tenth) or
      "equilibrium".
    gain_over_ntk: by how much the expected squared error is larger if learning
      stops at the NTK predictor, the end of gradient flow without noise, which
      is better if this is negative; NaN if the NTK is singular.
    gain_over_nngp: by how much it is larger at equilibrium, the NNGP posterior.
    negative_log_likelihood: `[T]`, of the classes of test inputs, minus the
      logarithm of the probability that a network finds them; `None` unless
      there are classes.
  """
  t: np.ndarray
  expected_squared_error: np.ndarray
  bias_squared: np.ndarray
  variance: np.ndarray
  classification_error: Optional[np.ndarray]
  t_optimal: float
  minimum: float
  phase: str
  gain_over_ntk: float
  gain_over_nngp: float
  negative_log_likelihood: Optional[np.ndarray]


def optimal_stopping(predict_fn: LearningPredictFn, x_test: PyTree,
                     y_test: Union[np.ndarray, jax.Array], t: Times = None,
                     **kernel_fn_test_test_kwargs: Any) -> OptimalStopping:
  r"""Finds the time at which the expected test error is smallest.

  The error of one network drawn from the ensemble is, in expectation,

  .. math::
    \big\langle (f(x, t) - y)^2 \big\rangle =
    \big(\langle f(x, t) \rangle - y\big)^2 + \mathrm{Var} f(x, t).

  The best time may lie in the gradient-driven phase, in the diffusive phase, or
  at equilibrium (Avidan, Li and Sompolinsky, arXiv:2309.04522, on the mean
  predictor; the variance goes past the paper).

  Args:
    predict_fn:
      predictor made by :func:`markov_proximal_mse_ensemble` at a positive
      temperature.

    x_test:
      test inputs.

    y_test:
      test targets, of shape `(n_test, ..., k)`. Classes are those of the sign
      of the output, if there is one output and two different targets (about
      their middle), or of the largest output, if there are two outputs, or more
      and two different targets, the larger one for one output of each sample
      ("one-hot"). Then the classification error and the likelihood are
      computed, to rounding: outputs are independent Gaussians.

    t:
      1D array of times to choose from, in the units of `predict_fn`. `None`
      covers all of learning, and refines the times about the minimum.
      Equilibrium is always added.

    **kernel_fn_test_test_kwargs:
      keyword arguments passed to `predict_fn`.

  Returns:
    :class:`OptimalStopping`.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512, W_init_std=2.), stax.Erf(), stax.Dense(1))
    >>> x_train, x_test = random.normal(random.PRNGKey(0), (2, 20, 10))
    >>> y_train, y_test = jnp.sign(x_train[:, :1]), jnp.sign(x_test[:, :1])
    >>> #
    >>> predict_fn = predict.markov_proximal_mse_ensemble(
    >>>     kernel_fn, x_train, y_train, temperature=1e-2)
    >>> best = predict.optimal_stopping(predict_fn, x_test, y_test)
    >>> best.t_optimal, best.phase, best.gain_over_nngp
  """
  phases_fn = getattr(predict_fn, 'phases', None)
  if phases_fn is None:
    raise ValueError(
        '`predict_fn` must be made by `nt_ndk.predict.'
        'markov_proximal_mse_ensemble` with a positive temperature, got '
        f'{predict_fn!r}. Without noise there is only the gradient-driven '
        'phase: compare predictions of `get="ntk"` over time.')
  y_test = np.asarray(arguments.to_floats('y_test', y_test), float)
  arguments.check_finite('y_test', y_test)
  classes = classification.of_targets(y_test)
  phases: Phases = phases_fn()
  if t is None:
    times = np.geomspace(phases.start, phases.equilibrium, _TIMES)
  else:
    times = arguments.canonicalize_finite_time(t)
    if times.ndim != 1 or not times.size:
      raise ValueError('`t` must be a 1D array of times with at least one '
                       f'value, got shape {times.shape}.')
    times = np.unique(times)

  def errors(t: Optional[np.ndarray], get: str = 'ndk') -> np.ndarray:
    """Rows: bias squared, variance, classification error and likelihood."""
    mean, variance = (np.asarray(a, float) for a in predict_fn(
        t=t, x_test=x_test, get=get, compute_cov='diag',
        **kernel_fn_test_test_kwargs))
    shape = np.shape(t) if t is not None else ()
    if mean.shape != shape + y_test.shape:
      raise ValueError(
          f'`y_test` must have the shape {mean.shape[len(shape):]} of a '
          f'prediction, got {y_test.shape}.')
    average = lambda a: np.mean(a.reshape(shape + (-1,)), -1)
    found = np.full(shape + (1,), np.nan)
    if classes is not None and variance.shape == mean.shape[:-1]:
      found = classification.log_likelihood(mean, variance, classes)
    return np.stack([average((mean - y_test)**2), average(variance),
                     -average(np.expm1(found)), -average(found)])

  table = errors(times)
  if t is None:
    i = int(np.argmin(table[0] + table[1]))
    low, high = times[max(i - 1, 0)], times[min(i + 1, len(times) - 1)]
    finer = np.setdiff1d(np.geomspace(low, high, _REFINED + 2)[1:-1], times)
    times, table = (np.append(times, finer),
                    np.concatenate([table, errors(finer)], 1))
    order = np.argsort(times)
    times, table = times[order], table[:, order]

  late = errors(None)
  try:
    ntk = errors(None, 'ntk')
  except ArithmeticError:  # Duplicated inputs.
    ntk = np.full(len(late), np.nan)
  times = np.append(times, np.inf)
  table = np.concatenate([table, late[:, None]], 1)
  total = table[0] + table[1]
  best = int(np.argmin(total))
  if total[best] >= total[-1] * (1 - _NO_GAIN):
    best = len(times) - 1
    phase = 'equilibrium'
  else:
    phase = ('gradient-driven' if times[best] < phases.diffusive else
             'diffusive')
  return OptimalStopping(
      t=times, expected_squared_error=total, bias_squared=table[0],
      variance=table[1],
      classification_error=None if np.isnan(table[2, -1]) else table[2],
      t_optimal=float(times[best]), minimum=float(total[best]), phase=phase,
      gain_over_ntk=float(ntk[0] + ntk[1] - total[best]),
      gain_over_nngp=float(total[-1] - total[best]),
      negative_log_likelihood=None if np.isnan(table[3, -1]) else table[3])
