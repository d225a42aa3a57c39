# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The mean predictor along the learning trajectory."""

import functools
import time
from typing import Any, Optional

import numpy as np

from nt_ndk._src.base.arrays import of_kind
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.volterra import Journal
from nt_ndk._src.dynamics.volterra import VolterraSolver
from nt_ndk._src.predictors.problem import FEW
from nt_ndk._src.predictors.problem import MAX_FITS
from nt_ndk._src.predictors.problem import Problem

# What training inputs, and test inputs that are unlike these, make of errors of
# kernels, which are known at some times only.
_ON_TRAINING, _ON_TEST = 10, 30


class Trajectory:
  """Mean predictor, solved when and as far as needed."""

  def __init__(self, problem: Problem) -> None:
    self._problem = problem
    self._solver: Optional[VolterraSolver] = None
    self._fits = self._fitted = 0

  def mean(self, tau: np.ndarray, x_test: PyTree, **kwargs: Any) -> np.ndarray:
    """Mean predictions `tau.shape + [m, k]` at diffusion times."""
    problem = self._problem
    problem.include(problem.ndk, x_test, kwargs)
    solver = self._solve(np.max(tau, initial=0.),
                         _ON_TRAINING if x_test is None else _ON_TEST)

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

  def _solve(self, tau: float, amplified: float) -> VolterraSolver:
    problem = self._problem
    while True:
      solver = self._prepare()
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
      ended = not solver.settled and tau > solver.ends[-1]
      response = self._response(solver)
      missed = max(3 * response * problem.ndk.family.error,
                   response * problem.ndk.test_error,
                   solver.limit_error if ended else 0.) / problem.rtol
      if missed <= 3 or self._fitted == MAX_FITS or problem.ndk.exact:
        break
      # The kernels were not accurate enough for this problem.
      self._fitted += 1
      problem.timed('compression', lambda: problem.ndk.tighten(1 / missed))

    # At the end of time the trajectory is known.
    error = max(max(solver.errors, default=0.) +
                response * (amplified * problem.ndk.error +
                            problem.ndk.rounding),
                solver.limit_error if solver.settled or ended else 0.)
    problem.warn(error)
    problem.stats.update(
        rank=problem.ndk.family.rank, panels=solver.stats['panels'],
        kernel_evaluations=problem.evaluator.evaluations,
        estimated_error=float(error))
    return solver

  def _response(self, solver: VolterraSolver) -> float:
    """Relative error of the mean for one of the kernels.

    All that the residuals have done since the start enters, whatever its sign.
    The error of all kernels is taken to be the largest found; those of many
    samples are independent. `benchmarks/random_problems.py` calibrates this.
    """
    problem = self._problem
    family = problem.ndk.family
    size = lambda tau: family.size(tau) / family.size(0.)
    # The first kernel is that of the beginning.
    factors = of_kind(problem.factors(problem.ndk))
    largest = float(to_host(factors.diagonal().max()))
    total = solver.total(size) * np.max(size(solver.ends)) * largest
    total *= np.sqrt(min(1., FEW / len(problem.y)))
    return 1 + total / problem.y_scale
