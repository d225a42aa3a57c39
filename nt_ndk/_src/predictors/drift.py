# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Predictions after the readout is frozen while hidden weights go on."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.resolvent import Resolvent
from nt_ndk._src.kernels import compressed as compressed_kernel
from nt_ndk._src.kernels.compressed import CompressedKernel
from nt_ndk._src.predictors.fluctuations import Fluctuations
from nt_ndk._src.predictors.fluctuations import standard_deviations
from nt_ndk._src.predictors.problem import Lesson
from nt_ndk._src.predictors.problem import Problem


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

  def __init__(self, problem: Problem, lesson: Lesson, freeze: float,
               hidden_learning: bool) -> None:
    self._problem = problem
    self._freeze, self._hidden_learning = freeze, hidden_learning
    self._evaluator = problem.evaluator.with_keywords(readout_freeze=freeze)
    self._before = Fluctuations(problem, [lesson])
    # Weights that froze at a time do not respond at any later one.
    eps = float(jnp.finfo(problem.dtype).eps)
    self._start = freeze * (1 + 8 * eps) + 1e-30
    kernels = []
    for base in (problem.ndk, problem.nngp):
      kernels.append(CompressedKernel(self._evaluator, base.get, problem.rtol,
                                      eps, self._start, base.scales))
    self._after = Fluctuations(problem, [lesson], ndk=kernels[0],
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
    rows = None
    if self._freeze > 0:
      before.include(x_test, kwargs)
      self.kernel_error = problem.kernel_error()
      now = problem.evaluator.variances(x, np.array([self._freeze]), **kwargs)
      rows, _, self.error = before.solved(
          self._freeze, before.factors(x_test, kwargs),
          standard_deviations(now[0]))
    out = [self._at(t, d, rows, x_test, prior, scale, kwargs)
           for t, d, prior, scale in zip(times, lag, priors,
                                         standard_deviations(variances))]
    means, covariances = zip(*out)
    return np.stack(means), np.stack(covariances)

  def _past_kernels(self, time: float, rows: Resolvent, x: PyTree,
                    kwargs: dict[str, Any]) -> list[np.ndarray]:
    """Kernels of predictions at `time` and training outputs at `rows.times`."""
    out = []
    for get in ('ndk', 'nngp'):
      values = np.asarray(to_host(self._evaluator.test_train(
          x, get, np.stack([np.full_like(rows.times, time), rows.times], 1),
          **kwargs)), float)
      values = values.reshape((len(values), len(rows.times), -1))
      out.append(rows.basis.rotate(np.ascontiguousarray(values.T)))
    return out

  def _at(self, time, lag, rows, x_test, prior, scale, kwargs):
    """Mean and covariance at one time."""
    problem = self._problem
    x = problem.x_train if x_test is None else x_test
    mean = np.zeros((len(scale), problem.y.shape[1]))
    kappa = cross = None
    if rows is not None:
      kappa, cross = self._past_kernels(time, rows, x, kwargs)
    if self._hidden_learning and lag > 0:
      after = self._after
      factors = after.factors(x_test, kwargs)
      late, (late_kappa, late_cross), change = after.solved(lag, factors, scale)
      solved = late.rows(late_kappa, scale)
      mean += late.mean(solved, problem.y)
      self.error = max(self.error, .1 * solved.tail + change)
      prior = late.covariance(solved, prior, late_cross)
      if rows is not None:
        response, mixed = self._across(late, solved.moments, rows)
        kappa, cross = kappa - response, cross - mixed
    if rows is not None:
      more, prior, error, _ = rows.predictions(kappa, cross, prior, scale,
                                            problem.y)
      mean += more
      self.error = max(self.error, error)
    return mean, prior

  def _across(self, late: Resolvent, moments: np.ndarray,
              rows: Resolvent) -> list[np.ndarray]:
    """Integrals of late rows and kernels with training outputs before."""
    i, j = np.meshgrid(np.arange(len(late.times)), np.arange(len(rows.times)),
                       indexing='ij')
    tau = np.stack([self._start + late.times[i], rows.times[j]], -1)
    n, _, m = moments.shape
    moments = (late.basis.evecs @ moments.reshape((n, -1))).reshape(
        moments.shape)
    out = []
    for get in ('ndk', 'nngp'):
      phi, matrices = compressed_kernel.compress_at(
          self._evaluator, get, tau.reshape((-1, 2)), .1 * self._problem.rtol)
      phi = phi.reshape(i.shape + (-1,))
      total = np.zeros((n, len(rows.times) * m))
      for r, matrix in enumerate(matrices):
        vectors = np.einsum('cd,ncm->ndm', phi[..., r], moments)
        total += np.asarray(to_host(matrix), float).T @ vectors.reshape((n, -1))
      out.append(rows.basis.rotate(total.reshape((n, -1, m))))
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
