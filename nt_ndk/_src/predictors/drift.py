# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Predictions after the readout is frozen while hidden weights go on."""

from typing import Any, cast, Sequence

import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels import compressed as compressed_kernel
from nt_ndk._src.kernels.compressed import CompressedKernel
from nt_ndk._src.predictors.fluctuations import Fluctuations
from nt_ndk._src.predictors.fluctuations import IN_TIME
from nt_ndk._src.predictors.fluctuations import standard_deviations
from nt_ndk._src.predictors.problem import Lesson
from nt_ndk._src.predictors.problem import Problem
from nt_ndk._src.predictors.spans import earlier_terms
from nt_ndk._src.predictors.spans import Learned
from nt_ndk._src.predictors.spans import Span
from nt_ndk._src.predictors.spans import Terms


class Drift:
  r"""A network whose last layer of weights stops at diffusion time `freeze`.

  Until then nothing differs. After it, with :math:`C'` and
  :math:`\mathrm{NDK}'` the kernels whose readout has its clock stopped,

  .. math::
    f(x, t) = g'(x, t) + \frac1T \int_0^t \mathrm{NDK}'(x, t; X, s)
    \big(Y - f(X, s)\big)\, ds

  in which the integral ends at `freeze` unless the hidden weights keep
  learning. The rows of the resolvent are then solved from `t` back to `freeze`,
  and from there to 0.

  Attributes:
    error: estimated error of the latest predictions, relative to their standard
      deviation without data.
    kernel_error: what the error of the kernels makes of the mean, relative to
      targets.
  """

  def __init__(self, problem: Problem, lessons: Sequence[Lesson],
               extents: Sequence[float], hidden_learning: bool) -> None:
    """Takes what is learned.

    Args:
      problem: data and kernels.
      lessons: of all stages until the readout stops; the last one goes on.
      extents: how long each lasts, the last one until the readout stops.
      hidden_learning: whether hidden weights keep learning.
    """
    self._problem, self._hidden_learning = problem, hidden_learning
    self._before = Fluctuations(problem, lessons, extents, flow=True)
    last = self._before.stages[-1]
    self._freeze = freeze = last.start + (last.extent if lessons[-1].temperature
                                          else 0.)
    self._evaluator = problem.evaluator.with_keywords(readout_freeze=freeze)
    # Weights that froze at a time do not respond at any later one.
    eps = float(jnp.finfo(problem.dtype).eps)
    self._start = freeze * (1 + 8 * eps) + 1e-30
    kernels = []
    for base in (problem.ndk, problem.nngp):
      kernels.append(CompressedKernel(self._evaluator, base.get, problem.rtol,
                                      eps, self._start, base.scales))
    self._after = Fluctuations(problem, lessons[-1:], ndk=kernels[0],
                               nngp=kernels[1])
    self.error = self.kernel_error = 0.

  def predictions(self, lag: np.ndarray, x_test: PyTree,
                  compute_cov: ComputeCov,
                  **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance at times after `freeze`.

    Args:
      lag: `[T]`, diffusion times since `freeze`.
      x_test: test inputs, or `None`.
      compute_cov: `True`, or `"diag"` to compute variances only.
      **kwargs: of test inputs.

    Returns:
      `[T, m, k]`, and `[T, m, m]` or variances `[T, m]`.
    """
    problem, before = self._problem, self._before
    self.error = self.kernel_error = 0.
    x = problem.x_train if x_test is None else x_test
    if self._hidden_learning:
      # What does not learn any more has settled, and stays.
      lag = np.minimum(lag, self._after.end)
      self._after.include(x_test, kwargs)
    times = self._freeze + lag
    variances = self._evaluator.variances(x, times, **kwargs)
    priors = variances if compute_cov == 'diag' else [
        np.asarray(to_host(self._evaluator.test_test(
            x, 'nngp', t, t, **kwargs)), float) for t in times]
    stages: list[Any] = []
    if before.stages[-1].extent > 0:
      before.include(x_test, kwargs)
      self.kernel_error = problem.kernel_error()
      now = problem.evaluator.variances(x, np.array([self._freeze]), **kwargs)
      stages, self.error = before.grids(before.factors(x_test, kwargs),
                                        standard_deviations(now[0]))
    out = [self._at(t, d, stages, x_test, prior, scale, kwargs)
           for t, d, prior, scale in zip(times, lag, priors,
                                         standard_deviations(variances))]
    means, covariances = zip(*out)
    return np.stack(means), np.stack(covariances)

  def _past_kernels(self, time: float, earlier: np.ndarray, x: PyTree,
                    kwargs: dict[str, Any]) -> list[np.ndarray]:
    """Kernels of predictions at `time` and earlier training outputs."""
    out = []
    for get in ('ndk', 'nngp'):
      values = np.asarray(to_host(self._evaluator.test_train(
          x, get, np.stack([np.full_like(earlier, time), earlier], 1),
          **kwargs)), float)
      values = values.reshape((len(values), len(earlier), -1))
      out.append(np.ascontiguousarray(values.T))
    return out

  def _at(self, time, lag, stages, x_test, prior, scale, kwargs):
    """Mean and covariance at one time."""
    problem, before = self._problem, self._before
    x = problem.x_train if x_test is None else x_test
    mean = np.zeros((len(scale), problem.y.shape[1]))
    late = None
    if self._hidden_learning and lag > 0:
      after, span = self._after, cast(Span, self._after.stages[0])
      resolvent, (late_kappa, late_cross), change = after.solved(
          lag, after.factors(x_test, kwargs), scale)
      rows = resolvent.rows(late_kappa, scale)
      mean += resolvent.mean(rows, span.weighted(span.lesson.y))
      self.error = max(self.error, .1 * rows.tail + change)
      prior = resolvent.covariance(rows, prior, late_cross)
      late = after.owed(span, resolvent, rows.moments)
    learned: list[Learned] = []
    for p, (stage, on) in enumerate(stages):
      times = stage.start + (np.zeros(1) if on is None else on.times)
      values = self._past_kernels(time, times, x, kwargs)
      if late is not None:
        values = [a - b for a, b in zip(values, self._across(late, times))]
      if learned:
        for i, (kernel, matrix) in enumerate(zip((before.ndk, before.nngp),
                                                 before.matrices())):
          terms = earlier_terms(kernel, matrix, [], learned,
                                stages[p - 1][0].start, len(scale),
                                IN_TIME * problem.rtol)
          values[i] = values[i] + terms.function(times) @ terms.factors
      if on is None:
        more, prior, owed = before.flowed(
            stage, stage.complete(),
            [Terms(lambda tau: np.ones((len(tau), 1)), a) for a in values],
            prior)
      else:
        more, prior, error, moments = on.predictions(
            *(on.basis.rotate(stage.weighted(a)) for a in values), prior, scale,
            stage.weighted(stage.lesson.y), keep=len(stages) > 1)
        self.error = max(self.error, error)
        owed = before.owed(stage, on, moments)
      mean += more
      learned.append(owed)
    return mean, prior

  def _across(self, late: Learned, times: np.ndarray) -> list[np.ndarray]:
    """What late rows make of kernels with training outputs before."""
    i, j = np.meshgrid(np.arange(len(late.times)), np.arange(len(times)),
                       indexing='ij')
    tau = np.stack([self._start + late.times[i], times[j]], -1)
    n, _, m = late.moments.shape
    out = []
    for get in ('ndk', 'nngp'):
      phi, matrices = compressed_kernel.compress_at(
          self._evaluator, get, tau.reshape((-1, 2)), .1 * self._problem.rtol)
      phi = phi.reshape(i.shape + (-1,))
      total = np.zeros((n, len(times) * m))
      for r, matrix in enumerate(matrices):
        vectors = np.einsum('cd,ncm->ndm', phi[..., r], late.moments)
        total += np.asarray(to_host(matrix), float).T @ vectors.reshape((n, -1))
      out.append(total.reshape((n, -1, m)))
    return out


def check_readout(problem: Problem) -> None:
  """Raises unless the network has hidden weights and a last layer of them."""
  network = getattr(problem.kernel_fn, 'two_time_kernel_fn', None)
  if network is None:
    raise ValueError(
        '`kernel_fn` must be that of a network of `nt_ndk.stax`, whose last '
        'layer of weights can be frozen; got one of unknown structure.')
  if network.readout != 'known':
    raise ValueError(
        'The network must end in one layer of weights, the readout, but '
        'several of its branches do. Join them, then end the network in a layer'
        ' such as `Dense`.')
  hidden = problem.evaluator.with_keywords(readout_freeze=1.)
  if not np.any(hidden.nonzero('ndk', problem.late)):
    raise ValueError('Representational drift needs weights before the readout '
                     'that move, but the network has none. Add a hidden layer, '
                     'or let one learn, with `trainable=True`.')
