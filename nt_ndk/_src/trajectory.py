# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The mean predictor along the learning trajectory."""

import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.problem import Problem
from nt_ndk._src.volterra import VolterraSolver


class Trajectory:
  """Mean predictor at one temperature, solved when and as far as needed."""

  def __init__(self, problem: Problem, temperature: float):
    self._problem, self._temperature = problem, temperature
    self._solver, self._fits, self._tightened = None, 0, False

  def mean(self, tau: np.ndarray, x_test, **kwargs) -> jax.Array:
    """Mean predictions `tau.shape + [m, k]` at diffusion times."""
    problem = self._problem
    problem.include(problem.ndk, x_test, kwargs)
    solver = self._solve(np.max(tau, initial=0.))

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
      out[~inside], _ = problem.equilibrium(self._temperature, x_test, **kwargs)
    return jnp.asarray(out, problem.dtype).reshape(tau.shape + out.shape[1:])

  def _prepare(self) -> VolterraSolver:
    """The solver of the kernels as they are now."""
    problem = self._problem
    factors = problem.factors(problem.ndk)
    if self._fits != problem.ndk.fits:
      slow = problem.ndk.scales.slow
      limit = lambda: (problem.y - problem.equilibrium(
          self._temperature, None)[0], problem.prior_kernel)
      self._solver = VolterraSolver(
          problem.ndk.family, factors, problem.y, 1 / self._temperature,
          problem.rtol, limit=limit, limit_from=.2 * slow,
          max_step=slow / np.log(1e2 / problem.rtol))
      self._fits = problem.ndk.fits
    return self._solver

  def _solve(self, tau: float) -> VolterraSolver:
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
      stuck = not solver.settled and tau > solver.ends[-1]
      if not stuck or solver.limit_error <= problem.rtol:
        break
      # At the end of time the trajectory is known. If it is missed, the kernels
      # were not accurate enough for this problem.
      if self._tightened:
        warnings.warn(
            f'The trajectory ends {solver.limit_error:.1e} away from the '
            f'posterior (relative to `y_train`; `rtol` is {problem.rtol:.1e}). '
            'Predictions at late times may be as far off. The kernel may be '
            'too ill-conditioned for this temperature.')
        break
      self._tightened = True
      problem.ndk.tighten(.01)

    errors = [.3 * max(solver.errors, default=0.) +
              10 * problem.ndk.family.error + problem.ndk.test_error]
    if np.isfinite(solver.limit_error):
      errors.append(solver.limit_error)
    problem.stats.update(
        rank=problem.ndk.family.rank, panels=solver.stats['panels'],
        kernel_evaluations=problem.evaluator.evaluations,
        estimated_error=float(max(errors)))
    return solver
