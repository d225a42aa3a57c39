# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The mean predictor along the learning trajectory."""

import functools
import time
from typing import Any, Callable, cast, Optional

import numpy as np

from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.volterra import Journal
from nt_ndk._src.dynamics.volterra import VolterraSolver
from nt_ndk._src.predictors.problem import Problem

# Error of the mean because of kernels that is worth another fit, in `rtol`, and
# number of fits.
_WORTH, _MAX_FITS = 15., 3
# Largest error of all inputs and times for that of a few.
_SAFETY = 5.
# Times at which errors are measured.
_CHECKS = 3


class Trajectory:
  """Mean predictor, solved when and as far as needed.

  It is linear in the targets. Many columns of these are turned to their
  principal components, which are solved for in groups, so that what a solution
  keeps fits in memory; components that are zero are left out.
  """

  def __init__(self, problem: Problem) -> None:
    self._problem, y = problem, problem.y
    together = problem.columns_together
    if y.shape[1] <= together:
      self._groups = [_Group(problem, y, problem.y_scale)]
      return
    u, size, mix = np.linalg.svd(y, full_matrices=False)
    size = size[size >= max(y.shape) * np.finfo(y.dtype).eps * size[0]]
    # As large as the columns, if there were as many.
    scale = problem.y_scale * (y.shape[1] / len(size))**.5
    groups = np.array_split(np.arange(len(size)), -(-len(size) // together))
    self._groups = [_Group(problem, u[:, some] * size[some], scale, mix[some])
                    for some in groups]

  def mean(self, tau: np.ndarray, x_test: PyTree, **kwargs: Any) -> np.ndarray:
    """Mean predictions `tau.shape + [m, k]` at diffusion times."""
    problem, groups = self._problem, self._groups
    problem.include(problem.ndk, x_test, kwargs)
    flat, out = tau.ravel(), cast(Any, 0.)
    late = functools.cache(lambda: problem.equilibrium(x_test, **kwargs)[0])
    known = None
    for group in groups:
      out += group.mean(flat, x_test, kwargs, late, known)
      known = group.solver
      if len(groups) > 1:
        known.release()
    error = max(group.error for group in groups)
    problem.warn(error)
    problem.stats.update(
        rank=problem.ndk.family.rank, fits=problem.ndk.fits,
        panels=max(group.solver.stats['panels'] for group in groups),
        kernel_evaluations=problem.evaluator.evaluations,
        estimated_error=error)
    return out.reshape(tau.shape + out.shape[1:])


class _Group:
  """Mean predictor of some components of the targets.

  Attributes:
    solver: of the equation on the training data, when it has been solved.
    error: estimated error of the latest predictions, relative to their size.
  """

  def __init__(self, problem: Problem, y: np.ndarray, scale: float,
               mix: Optional[np.ndarray] = None) -> None:
    """Solves nothing yet.

    Args:
      problem: what there is to learn.
      y: `[n, c]`, components of targets.
      scale: their size.
      mix: `[c, k]`, orthogonal rows, what the columns have of each component;
        `None` if these are the columns.
    """
    self._problem, self._y, self._scale, self._mix = problem, y, scale, mix
    self.solver: Any = None
    self.error, self._fits = 0., 0

  def _components(self, predictions: np.ndarray) -> np.ndarray:
    """Of predictions `[..., k]`."""
    return predictions if self._mix is None else predictions @ self._mix.T

  def mean(self, tau: np.ndarray, x_test: PyTree, kwargs: dict[str, Any],
           late: Callable[[], np.ndarray],
           known: Optional[VolterraSolver]) -> np.ndarray:
    """What the components make of the mean predictions, `[t, m, k]`.

    Args:
      tau: `[t]`, diffusion times.
      x_test: test inputs.
      kwargs: of test inputs.
      late: returns predictions at late times, `[m, k]`, of all components.
      known: solver of other components.
    """
    problem = self._problem
    solver = self._solve(tau, x_test, kwargs, known)

    # What is later than the trajectory, which ends where it has settled.
    end = solver.ends[-1]
    inside = tau <= end * (1 + 1e-6)
    tau = np.minimum(tau, end)
    out = np.empty((tau.size, problem.rows(x_test), self._y.shape[1]))
    if np.any(inside):
      out[inside] = (
          self._y - solver.solution(tau[inside]) if x_test is None else
          problem.timed('test', lambda: solver.integral(
              problem.ndk.test_factors(x_test, **kwargs), tau[inside])))
    if not np.all(inside):
      out[~inside] = self._components(late())
    return out if self._mix is None else out @ self._mix

  def _limit(self) -> np.ndarray:
    """What is not learned of the targets at late times."""
    return self._y - self._components(self._problem.equilibrium(None)[0])

  def _prepare(self, known: Optional[VolterraSolver]) -> VolterraSolver:
    """The solver of the kernels as they are now."""
    problem = self._problem
    if self._fits != problem.ndk.fits:
      self.solver = None  # And its kernels, before others take their place.
    factors = problem.factors(problem.ndk)
    if self.solver is None:
      slow = problem.ndk.scales.slow
      self.solver = VolterraSolver(
          problem.ndk.family, factors, self._y, 1 / problem.temperature,
          problem.rtol, limit=functools.cache(
              lambda: (self._limit(), problem.prior_kernel)),
          limit_from=.2 * slow, max_step=2 * slow / np.log(1e2 / problem.rtol),
          journal=self._journal(), scale=self._scale, like=known)
      self._fits = problem.ndk.fits
    return self.solver

  def _journal(self) -> Optional[Journal]:
    """Panels that are kept of this trajectory."""
    problem = self._problem
    if problem.store is None:
      return None
    return problem.store.journal((
        problem.evaluator.identity('ndk'), problem.ndk.family, self._y,
        problem.temperature, problem.rtol))

  def _solve(self, tau: np.ndarray, x_test: PyTree, kwargs: dict[str, Any],
             known: Optional[VolterraSolver]) -> VolterraSolver:
    problem, latest = self._problem, np.max(tau, initial=0.)
    for fits in range(_MAX_FITS):
      solver = self._prepare(known)
      self._extend(solver, latest)
      kernels = problem.timed('check', lambda: self._kernel_error(
          solver, latest, x_test, kwargs))
      if (kernels <= _WORTH * problem.rtol or problem.ndk.exact or
          fits == _MAX_FITS - 1):
        break
      # The kernels were not accurate enough for this problem.
      problem.timed('compression', lambda: problem.ndk.tighten(
          problem.rtol / kernels))

    self.error = float(max(
        kernels + self._time_error(solver, tau) + solver.tolerance,
        solver.floor, self._limit_error(solver, latest)))
    return solver

  def _extend(self, solver: VolterraSolver, tau: float) -> None:
    problem = self._problem
    bar = problem.bar('Learning', 1.)
    first = []

    def report(reached):
      first.append(reached)
      bar.to(np.log(reached / first[0]) / max(np.log(tau / first[0]), 1e-9))

    begin = time.perf_counter()
    solver.extend(tau, report)
    bar.to(1.)
    problem.stats['seconds']['solver'] += time.perf_counter() - begin
    bar.close()

  def _kernel_error(self, solver: VolterraSolver, tau: float, x_test: PyTree,
                    kwargs: dict[str, Any]) -> float:
    """What errors of kernels make of the mean, measured on a few inputs."""
    problem = self._problem
    last = np.searchsorted(solver.ends, min(tau, solver.ends[-1]))
    if not last:
      return 0.
    # Kernels of images are expensive.
    checks = _CHECKS if problem.evaluator.vectors else 1
    checked = np.unique(np.linspace(0, last, checks + 1).astype(int))[1:]
    earlier, vectors = zip(*map(solver.moments, checked))
    starts = np.cumsum([0] + [len(t) for t in earlier[:-1]])
    later = np.repeat(solver.ends[checked], [len(t) for t in earlier])
    pairs = np.stack([later, np.concatenate(earlier)], 1)
    error = max(float(np.max(np.abs(problem.defect(
        pairs, np.concatenate(vectors), starts, x, kwargs))))
                for x in (None, x_test)[:1 + (x_test is not None)])
    return _SAFETY * error / self._scale

  def _limit_error(self, solver: VolterraSolver, tau: float) -> float:
    """Distance of the trajectory from its limit, where that is known."""
    if solver.settled:
      return solver.limit_error
    end = solver.ends[-1:]
    if tau <= end[0]:
      return 0.
    # At the end of time.
    return float(np.max(np.abs(solver.solution(end)[0] - self._limit()))) / (
        self._scale)

  def _time_error(self, solver: VolterraSolver, tau: np.ndarray) -> float:
    """Error of interpolation in time, at most that of the worst panel.

    What is left of the equations between the points of panels is closer to it,
    but for rounding errors, which equations amplify.
    """
    inside = np.sort(tau[(tau > 0) & (tau <= solver.ends[-1])])
    if not inside.size:
      return 0.
    some = inside[np.linspace(0, len(inside) - 1, 2 * _CHECKS).astype(int)]
    defect = np.max(np.abs(solver.defect(some))) / self._scale
    return float(np.minimum(defect, np.max(solver.errors)))
