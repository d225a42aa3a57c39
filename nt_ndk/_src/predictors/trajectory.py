# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The mean predictor along the learning trajectory."""

import functools
import time
from typing import Any, Optional

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
  """Mean predictor, solved when and as far as needed."""

  def __init__(self, problem: Problem) -> None:
    self._problem = problem
    self._solver: Optional[VolterraSolver] = None
    self._fits = 0

  def mean(self, tau: np.ndarray, x_test: PyTree, **kwargs: Any) -> np.ndarray:
    """Mean predictions `tau.shape + [m, k]` at diffusion times."""
    problem = self._problem
    problem.include(problem.ndk, x_test, kwargs)
    solver = self._solve(tau.ravel(), x_test, kwargs)

    # What is later than the trajectory, which ends where it has settled.
    flat, end = tau.ravel(), solver.ends[-1]
    inside = flat <= end * (1 + 1e-6)
    flat = np.minimum(flat, end)
    out = np.empty((flat.size, problem.rows(x_test), problem.y.shape[1]))
    if np.any(inside):
      out[inside] = (
          problem.y - solver.solution(flat[inside]) if x_test is None else
          problem.timed('test', lambda: solver.integral(
              problem.ndk.test_factors(x_test, **kwargs), flat[inside])))
    if not np.all(inside):
      out[~inside], _ = problem.equilibrium(x_test, **kwargs)
    return out.reshape(tau.shape + out.shape[1:])

  def _prepare(self) -> VolterraSolver:
    """The solver of the kernels as they are now."""
    problem = self._problem
    if self._fits != problem.ndk.fits:
      self._solver = None  # And its kernels, before others take their place.
    factors = problem.factors(problem.ndk)
    if self._solver is None:
      slow = problem.ndk.scales.slow
      limit = functools.cache(lambda: (
          problem.y - problem.equilibrium(None)[0], problem.prior_kernel))
      self._solver = VolterraSolver(
          problem.ndk.family, factors, problem.y, 1 / problem.temperature,
          problem.rtol, limit=limit, limit_from=.2 * slow,
          max_step=2 * slow / np.log(1e2 / problem.rtol),
          journal=self._journal())
      self._fits = problem.ndk.fits
    return self._solver

  def _journal(self) -> Optional[Journal]:
    """Panels that are kept of this trajectory."""
    problem = self._problem
    if problem.store is None:
      return None
    return problem.store.journal((
        problem.evaluator.identity('ndk'), problem.ndk.family, problem.y,
        problem.temperature, problem.rtol))

  def _solve(self, tau: np.ndarray, x_test: PyTree,
             kwargs: dict[str, Any]) -> VolterraSolver:
    problem, latest = self._problem, np.max(tau, initial=0.)
    for fits in range(_MAX_FITS):
      solver = self._prepare()
      self._extend(solver, latest)
      kernels = problem.timed('check', lambda: self._kernel_error(
          solver, latest, x_test, kwargs))
      if (kernels <= _WORTH * problem.rtol or problem.ndk.exact or
          fits == _MAX_FITS - 1):
        break
      # The kernels were not accurate enough for this problem.
      problem.timed('compression', lambda: problem.ndk.tighten(
          problem.rtol / kernels))

    error = max(kernels + self._time_error(solver, tau) + solver.tolerance,
                solver.floor, self._limit_error(solver, latest))
    problem.warn(error)
    problem.stats.update(
        rank=problem.ndk.family.rank, panels=solver.stats['panels'],
        fits=problem.ndk.fits,
        kernel_evaluations=problem.evaluator.evaluations,
        estimated_error=float(error))
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
    return _SAFETY * error / problem.y_scale

  def _limit_error(self, solver: VolterraSolver, tau: float) -> float:
    """Distance of the trajectory from its limit, where that is known."""
    if solver.settled:
      return solver.limit_error
    problem, end = self._problem, solver.ends[-1:]
    if tau <= end[0]:
      return 0.
    # At the end of time.
    limit = problem.y - problem.equilibrium(None)[0]
    return float(np.max(np.abs(solver.solution(end)[0] - limit))) / (
        problem.y_scale)

  def _time_error(self, solver: VolterraSolver, tau: np.ndarray) -> float:
    """Error of interpolation in time, at most that of the worst panel.

    What is left of the equations between the points of panels is closer to it,
    but for rounding errors, which equations amplify.
    """
    inside = np.sort(tau[(tau > 0) & (tau <= solver.ends[-1])])
    if not inside.size:
      return 0.
    some = inside[np.linspace(0, len(inside) - 1, 2 * _CHECKS).astype(int)]
    defect = np.max(np.abs(solver.defect(some))) / self._problem.y_scale
    return float(np.minimum(defect, np.max(solver.errors)))
