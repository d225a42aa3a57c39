# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Covariance of predictions over networks, from rows of the resolvent."""

import functools
from typing import Any, Callable, Iterator, Optional

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base import arrays
from nt_ndk._src.base import pipeline
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics import resolvent
from nt_ndk._src.dynamics.probes import Grid
from nt_ndk._src.dynamics.probes import Predictions
from nt_ndk._src.dynamics.probes import Probes
from nt_ndk._src.dynamics.resolvent import EndTime
from nt_ndk._src.dynamics.resolvent import LowRankKernel
from nt_ndk._src.dynamics.resolvent import Resolvent
from nt_ndk._src.kernels.compressed import CompressedKernel
from nt_ndk._src.predictors.problem import Problem

# Tolerance and number of modes from which on their matrices are in single
# precision, which halves the time of products with them.
_SINGLE_FROM = 1e-5, 256
# Correlation of modes at equal times that the coarse grid can do with, in
# `rtol`.
_COUPLED = 1000.
# Largest error of all pairs of samples for that of a few.
_SAFETY = 5
# Times that are solved for in threads of their own.
_AT_ONCE = 2


def project(covariance: np.ndarray) -> np.ndarray:
  """The nearest positive semi-definite matrix.

  Covariances are; what a finite tolerance leaves of negative eigenvalues is an
  error, and without it the matrix is closer to the true one.
  """
  evals, evecs = np.linalg.eigh(covariance)
  if evals[0] >= 0:
    return covariance
  root = evecs * np.sqrt(np.maximum(evals, 0.))
  return root @ root.T


def standard_deviations(variances: np.ndarray) -> np.ndarray:
  """What predictions are measured in; any unit will do for those always 0."""
  return np.where(variances > 0, np.sqrt(np.maximum(variances, 0.)), 1.)


class Fluctuations:
  """Rows of the resolvent, for any time and input.

  Attributes:
    ndk, nngp: compressed kernels.
    error: estimated error of the latest covariances, relative to those without
      data.
  """

  def __init__(self, problem: Problem, ndk: Optional[CompressedKernel] = None,
               nngp: Optional[CompressedKernel] = None) -> None:
    """Takes the kernels of `problem`, or others on the same data."""
    self._problem = problem
    self.ndk, self.nngp = ndk or problem.ndk, nngp or problem.nngp
    self._basis: Optional[resolvent.Basis] = None
    self._fits = (0, 0)
    self.error = 0.

  @property
  def end(self) -> float:
    """Diffusion time from which on predictions are those of equilibrium."""
    return max(self.ndk.scales.slow, self.nngp.scales.slow)

  def include(self, x_test, kwargs):
    """Makes sure that kernels are right between test and training data."""
    for kernel in (self.ndk, self.nngp):
      self._problem.include(kernel, x_test, kwargs)

  def _end_time(self, tau: float) -> EndTime:
    """What resolvents that end at `tau` share; its basis may be the last."""
    problem = self._problem
    ndk, nngp = (LowRankKernel(kernel.family, problem.factors(kernel))
                 for kernel in (self.ndk, self.nngp))
    fits = self.ndk.fits, self.nngp.fits
    basis = self._basis
    if basis is None or self._fits != fits or (
        resolvent.coupling(basis, ndk, tau, problem.temperature) >
        _COUPLED * problem.rtol):
      rtol, modes = _SINGLE_FROM
      single = problem.rtol >= rtol and len(problem.y) >= modes
      dtype = jnp.float32 if single else problem.dtype
      self._basis = basis = resolvent.make_basis(ndk, nngp, tau, dtype)
      self._fits = fits
    scales = self.ndk.scales
    return EndTime(tau, problem.temperature, ndk, nngp, basis, problem.rtol,
                   scales.lag, .1 * scales.slow)

  def predictions(self, tau: np.ndarray, x_test: PyTree,
                  compute_cov: ComputeCov,
                  **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of predictions at diffusion times.

    Args:
      tau: `[T]`, between 0 and `end`.
      x_test: test inputs, or `None`.
      compute_cov: `True`, or `"diag"` to compute variances only.
      **kwargs: of test inputs.

    Returns:
      `[T, m, k]`, and `[T, m, m]` or variances `[T, m]`.
    """
    problem, diagonal = self._problem, compute_cov == 'diag'
    unique, inverse = np.unique(tau, return_inverse=True)
    factors = self.factors(x_test, kwargs)
    x = problem.x_train if x_test is None else x_test
    variances = problem.evaluator.variances(x, unique, **kwargs)
    bar = problem.bar('Covariance', len(unique))
    y = to_host(problem.y)
    means = np.zeros(variances.shape + y.shape[1:])
    covariances = list(variances) if diagonal else [
        np.asarray(to_host(problem.evaluator.test_test(
            x, 'nngp', t, t, **kwargs)), float) for t in unique]
    self.error = 0.

    def at(prior: np.ndarray, end: EndTime, predictions: Predictions,
           receive: Callable[[], Grid],
           hand_on: Callable[[Grid], None]) -> tuple[Any, ...]:
      """Mean, covariance and estimated error at one time."""
      probes = self._probes(end, predictions)
      solved = probes.choose(receive())
      hand_on(probes.grid)
      rows = probes.needed(solved)
      kappa, cross = predictions.kernels(end.tau, rows.times)
      mean, covariance, error = rows.predictions(kappa, cross, prior,
                                                 predictions.scale, y)
      return mean, covariance, error + 2 * probes.error

    def tasks() -> Iterator[pipeline.Task]:
      basis, rotated = None, []
      for i in learned:
        end = self._end_time(unique[i])
        if end.basis is not basis:
          basis = end.basis
          rotated = [basis.rotate(factor) for factor in factors]
        yield functools.partial(at, covariances[i], end, self._predictions(
            rotated, standard_deviations(variances[i])))

    learned = np.flatnonzero((unique > 0) & np.any(variances > 0, 1))
    # No JAX in threads, which do not know its settings.
    threads = _AT_ONCE if arrays.on_host(problem.factors(self.ndk)) else 1
    # What is run comes first, so that it also ends first.
    for (mean, covariance, error), i in zip(
        pipeline.run(tasks(), Grid(), threads), map(int, learned)):
      error += _SAFETY * self.nngp.error
      self.error = max(self.error, error)
      means[i] = mean
      covariances[i] = (np.maximum(covariance, 0.) if diagonal else
                        project(covariance))
      bar.to(i + 1)
    bar.close()
    return means[inverse], np.stack(covariances)[inverse]

  def factors(self, x_test: PyTree, kwargs: dict[str, Any]) -> list[np.ndarray]:
    """Matrices of both kernels between predictions and training data."""
    return [self._probe_factors(kernel, x_test, kwargs)
            for kernel in (self.ndk, self.nngp)]

  def _probe_factors(self, kernel: CompressedKernel, x_test: PyTree,
                     kwargs: dict[str, Any]) -> np.ndarray:
    """Kernel matrices of predictions and training data, `[n, R, m]`."""
    if x_test is None:
      out = self._problem.factors(kernel)
    else:
      out = self._problem.timed(
          'test', lambda: kernel.test_factors(x_test, **kwargs))
    return self._to_vectors(out)

  def _to_vectors(self, out: jax.Array) -> np.ndarray:
    """`[m, R * n]` to `[n, R, m]`."""
    rows = to_host(out).reshape((len(out), -1, len(self._problem.y)))
    return np.ascontiguousarray(np.transpose(rows), float)

  def _predictions(self, rotated: list[np.ndarray],
                   scale: np.ndarray) -> Predictions:
    """Predictions with `factors` in a basis of modes."""
    return Predictions((self.ndk.family, self.nngp.family), rotated, scale)

  def _probes(self, end: EndTime, predictions: Predictions) -> Probes:
    return Probes(end, predictions, self.ndk.scales.lag, self._problem.rtol)

  def solved(self, tau: float, factors: list[np.ndarray], scale: np.ndarray
             ) -> tuple[Resolvent, list[np.ndarray], float]:
    """Resolvent on a grid that is fine enough for predictions.

    Args:
      tau: time.
      factors: from `factors`.
      scale: `[m]`, standard deviations without data.

    Returns:
      The resolvent; NDK and covariance of the predictions and training outputs
      at its times, `[n, C, m]`, in its basis; and an estimated error of
      variances, relative to those without data.
    """
    end = self._end_time(tau)
    predictions = self._predictions([end.basis.rotate(f) for f in factors],
                                    scale)
    probes = self._probes(end, predictions)
    rows = probes.choose(Grid()).on
    return rows, predictions.kernels(tau, rows.times), probes.error

  def two_time_covariance(self, tau1: float, tau2: float, x_test: PyTree,
                          diagonal: bool, **kwargs: Any) -> np.ndarray:
    """Covariance of predictions at two diffusion times.

    Args:
      tau1: of the first predictions.
      tau2: of the second ones, not later.
      x_test: test inputs, or `None`.
      diagonal: whether to pair each input with itself only.
      **kwargs: of test inputs.

    Returns:
      `[m, m]`, or `[m]`.
    """
    problem = self._problem
    evaluator = problem.evaluator
    # From `end` on the process is stationary, and forgets within `end`.
    shift = max(tau2 - self.end, 0.)
    tau1, tau2 = min(tau1 - shift, 2 * self.end), tau2 - shift
    x = problem.x_train if x_test is None else x_test
    rows = np.arange(problem.rows(x_test))
    prior = (evaluator.test_sample(x, np.stack([rows, rows], 1), np.array(
        [[tau1, tau2]]), **kwargs)[0] if diagonal else
             np.asarray(to_host(evaluator.test_test(
                 x, 'nngp', tau1, tau2, **kwargs)), float))
    if tau1 == 0:
      return prior
    scale = standard_deviations(evaluator.variances(
        x, np.array([tau1, tau2]), **kwargs))
    factors = self.factors(x_test, kwargs)

    def solve(tau, scale):
      rows, (kappa, _), _ = self.solved(tau, factors, scale)
      return rows, rows.rows(kappa, scale)

    first, first_rows = solve(tau1, scale[0])
    second = second_rows = cross = None
    if tau2 > 0:
      second, second_rows = solve(tau2, scale[1])
      cross = self.nngp.family.phi(
          tau1, second.times) @ second.basis.rotate(factors[1])
    swapped = self.nngp.test_factors(x, swap=True, **kwargs)
    return first.two_time_covariance(
        first_rows, tau2, second, second_rows, prior, self._to_vectors(swapped),
        factors[1], cross)
