# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Covariance of predictions over networks, from rows of the resolvent."""

from typing import Any, NamedTuple, Optional

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src import resolvent
from nt_ndk._src.compressed_kernel import CompressedKernel
from nt_ndk._src.devices import to_host
from nt_ndk._src.problem import Problem
from nt_ndk._src.resolvent import LowRankKernel
from nt_ndk._src.resolvent import Resolvent
from nt_ndk._src.typing import ComputeCov
from nt_ndk._src.typing import PyTree

_MAX_SIZE = 96
# Tolerance and number of modes from which on their matrices are in single
# precision, which halves the time of products with them.
_SINGLE_FROM = 1e-5, 256
# Correlation of modes at equal times that the coarse grid can do with, in
# `rtol`.
_COUPLED = 1000.
# Predictions for which grids are chosen, half of them those with the most data
# nearby, and mixtures of all.
_PROBES, _MIXTURES = 8, 4


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


class Grid(NamedTuple):
  """Coarse grid of ages.

  Attributes:
    size: number of points.
    width: age above which any scale is resolved, in time scales of the kernel.
  """
  size: int = 8
  width: float = 4.

  def coarser(self) -> int:
    """Number of points of polynomials whose degree is lower by a fifth."""
    return 4 * self.size // 5

  def finer(self, missed: float, tol: float) -> 'Grid':
    """More points, closer to age 0; the same if there is no finer grid.

    Args:
      missed: error here, relative to `tol`; it decays geometrically.
      tol: tolerance.
    """
    # To a third of it, since the decay is slower at first.
    enough = self.size * np.log(tol / 3) / np.log(min(missed * tol, .5))
    grid = self
    while grid.size < _MAX_SIZE and (grid is self or grid.size < enough):
      size = min(4 * int(np.ceil(1.25 * grid.size / 4)), _MAX_SIZE)
      grid = Grid(size, grid.width / 2)
    return grid


class Fluctuations:
  """Rows of the resolvent, for any time and input.

  Attributes:
    ndk, nngp: compressed kernels.
    error: estimated error of the latest covariances, relative to those without
      data.
    mean_difference: between means computed here and those expected, relative to
      targets; 0 where the errors of the covariance explain it.
  """

  def __init__(self, problem: Problem, ndk: Optional[CompressedKernel] = None,
               nngp: Optional[CompressedKernel] = None) -> None:
    """Takes the kernels of `problem`, or others on the same data."""
    self._problem = problem
    self.ndk, self.nngp = ndk or problem.ndk, nngp or problem.nngp
    self._basis: Optional[resolvent.Basis] = None
    self._shared: Optional[resolvent.EndTime] = None
    self._fits = (0, 0)
    self._latest: tuple[Any, Any, list[np.ndarray]] = None, None, []
    self.error = self.mean_difference = 0.

  @property
  def end(self) -> float:
    """Diffusion time from which on predictions are those of equilibrium."""
    return max(self.ndk.scales.slow, self.nngp.scales.slow)

  def include(self, x_test, kwargs):
    """Makes sure that kernels are right between test and training data."""
    for kernel in (self.ndk, self.nngp):
      self._problem.include(kernel, x_test, kwargs)

  def resolvent(self, tau: float, grid: Grid) -> Resolvent:
    """Rows that end at `tau`, on a coarse grid."""
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
    scales, shared = self.ndk.scales, self._shared
    if shared is None or shared.tau != tau or shared.basis is not basis:
      self._shared = shared = resolvent.EndTime(
          tau, problem.temperature, ndk, nngp, basis, problem.rtol, scales.lag,
          .1 * scales.slow)
    return Resolvent(shared, grid.size, grid.width * scales.lag)

  def predictions(self, tau: np.ndarray, x_test: PyTree,
                  compute_cov: ComputeCov,
                  expected: Optional[jax.Array] = None,
                  **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of predictions at diffusion times.

    Args:
      tau: `[T]`, between 0 and `end`.
      x_test: test inputs, or `None`.
      compute_cov: `True`, or `"diag"` to compute variances only.
      expected: `[T, m, k]`, mean predictions, to compare with.
      **kwargs: of test inputs.

    Returns:
      `[T, m, k]`, and `[T, m, m]` or variances `[T, m]`.
    """
    problem, diagonal = self._problem, compute_cov == 'diag'
    unique, first, inverse = np.unique(tau, return_index=True,
                                       return_inverse=True)
    factors = self.factors(x_test, kwargs)
    x = problem.x_train if x_test is None else x_test
    variances = problem.evaluator.variances(x, unique, **kwargs)
    bar = problem.bar('Covariance', len(unique))
    means, covariances = [], []
    self.error = self.mean_difference = 0.
    grid = Grid()
    for i, tau_ in enumerate(unique):
      mean = np.zeros((len(variances[i]), problem.y.shape[1]))
      covariance = variances[i]
      if not diagonal:
        covariance = np.asarray(to_host(problem.evaluator.test_test(
            x, 'nngp', tau_, tau_, **kwargs)), float)
      if tau_ > 0:
        rows, grid, change = self.solved(tau_, factors, np.sqrt(variances[i]),
                                         grid, needed_only=True)
        kappa, cross = self.kernels(rows, factors, rows.times)
        mean, covariance, error = rows.predictions(
            kappa, cross, covariance, np.sqrt(variances[i]), problem.y)
        error += 2 * change + 10 * self.nngp.error
        self.error = max(self.error, error)
        if expected is not None:
          difference = np.abs(mean - np.asarray(expected[first[i]]))
          size = np.sqrt(variances[i])[:, None] + problem.y_scale
          if np.max(difference / size) > error:
            self.mean_difference = max(
                self.mean_difference,
                float(np.max(difference)) / problem.y_scale)
      means.append(mean)
      covariances.append(np.maximum(covariance, 0.) if diagonal else
                         project(covariance))
      bar.to(i + 1)
    bar.close()
    return np.stack(means)[inverse], np.stack(covariances)[inverse]

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

  def kernels(self, rows: Resolvent, factors: list[np.ndarray],
              times: np.ndarray,
              mix: Optional[np.ndarray] = None) -> list[np.ndarray]:
    """NDK and covariance of predictions and past training outputs.

    Args:
      rows: resolvent that ends at the time of the predictions.
      factors: from `factors`.
      times: `[C]`, of the training outputs.
      mix: `[predictions, m]`, mixtures of predictions to take instead.

    Returns:
      Two arrays `[n, C, m]`, in the basis of `rows`.
    """
    return [kernel.family.phi(rows.tau, times) @
            (factor if mix is None else factor @ mix) for kernel, factor in
            zip((self.ndk, self.nngp), self._rotated(rows, factors))]

  def _rotated(self, rows: Resolvent,
               factors: list[np.ndarray]) -> list[np.ndarray]:
    """Factors in the basis of `rows`; those of the latest are kept."""
    basis, latest, rotated = self._latest
    if basis is not rows.basis or latest is not factors:
      rotated = [rows.basis.rotate(factor) for factor in factors]
      self._latest = rows.basis, factors, rotated
    return rotated

  def solved(self, tau: float, factors: list[np.ndarray], scale: np.ndarray,
             grid: Grid = Grid(),
             needed_only: bool = False) -> tuple[Resolvent, Grid, float]:
    """Resolvent on a grid that is fine enough for predictions.

    Args:
      tau: time.
      factors: from `factors`.
      scale: `[m]`, standard deviations without data.
      grid: to begin with.
      needed_only: whether to keep only those points of the grid that these
        predictions need, which are too few for kernels with other times.

    Returns:
      The resolvent; its grid, to begin with at later times; and the change of
      variances between polynomials of lower degree and those of the grid,
      relative to variances without data.
    """
    m, rtol = len(scale), self._problem.rtol
    rows = self.resolvent(tau, grid)
    now, _ = self.kernels(rows, factors, rows.times[:1])
    half = _PROBES // 2
    probes = np.unique(np.append(np.linspace(0, m - 1, half).astype(int),
                                 rows.hardest(now, scale)[-half:]))
    # And mixtures of all, so that none is overlooked.
    mixtures = np.random.RandomState(0).normal(size=(m, _MIXTURES)) / m**.5
    mix = np.concatenate([np.eye(m)[:, probes], mixtures], 1) / scale[:, None]
    unit = np.ones(mix.shape[1])

    def on(rows, guess=None):
      kappa, cross = self.kernels(rows, factors, rows.times, mix)
      solved = rows.rows(kappa, unit, guess)
      variance = rows.covariance(solved, unit, cross)
      return solved, cross, variance[:len(probes)]

    def guess_on(other):
      """What is known, on another grid."""
      return rows.grid.lagrange(other.grid.ages) @ solved.h

    def change(other):
      """Of variances on another grid."""
      *_, changed = on(other, guess_on(other))
      return float(np.max(np.abs(changed - variance)))

    solved, cross, variance = on(rows)
    while True:
      error = change(rows.truncated(grid.coarser()))
      missed = max(error, solved.tail / 20) / rtol
      if missed <= 1 or grid.size == _MAX_SIZE:
        break
      grid = grid.finer(missed, rtol)
      finer = self.resolvent(tau, grid)
      rows, (solved, cross, variance) = finer, on(finer, guess_on(finer))
    if not needed_only:
      return rows, grid, error
    # In norm over all of these predictions; rarely that is not enough.
    for tol in (len(unit)**.5 * rtol, rtol):
      few = rows.reduced(solved, cross, unit, tol)
      missed = change(few)
      if missed <= .3 * rtol:
        break
    return few, grid, max(error, missed)

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
    scale = np.sqrt(evaluator.variances(x, np.array([tau1, tau2]), **kwargs))
    factors = self.factors(x_test, kwargs)

    def solve(tau, scale):
      rows, *_ = self.solved(tau, factors, scale)
      kappa, _ = self.kernels(rows, factors, rows.times)
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
