# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The mean predictor along the learning trajectory."""

import functools
import time
from typing import Any, Callable, cast, Optional, Union

import numpy as np

from nt_ndk._src.base.protocol import Protocol
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.impulse import Impulse
from nt_ndk._src.dynamics.measure import Measure
from nt_ndk._src.dynamics.measure import most
from nt_ndk._src.dynamics.measure import together
from nt_ndk._src.dynamics.volterra import Journal
from nt_ndk._src.dynamics.volterra import Record
from nt_ndk._src.dynamics.volterra import VolterraSolver
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.evaluation import length
from nt_ndk._src.predictors.posterior import Posterior
from nt_ndk._src.predictors.problem import Lesson
from nt_ndk._src.predictors.problem import Problem
from nt_ndk._src.predictors.problem import WORTH

# Number of fits of kernels.
_MAX_FITS = 3
# Largest error of all inputs and times for that of some.
_SAFETY = 4.
# The same for errors of interpolation in time, measured where they are large.
BETWEEN = 2.
# Times at which errors of interpolation are measured.
_TIMES = 6
# Integrals on which those of kernels are measured, of up to so many samples, of
# more, and of images: they may be large for a tenth of the panels.
_INTEGRALS, _FEW, _OF_IMAGES = (16, 10), 256, 4


class Trajectory:
  """Mean predictor, solved when and as far as needed.

  It is linear in the targets. Many columns of these are turned to their
  principal components, which are solved for in groups, so that what a solution
  keeps fits in memory; components that are zero are left out.
  """

  def __init__(self, problem: Problem, protocol: Protocol,
               noise: bool = True) -> None:
    """Takes a protocol.

    Args:
      problem: data and kernels.
      protocol: stages of learning.
      noise: whether there is any, and a posterior to end at.
    """
    self._problem = problem
    lessons = [problem.lesson(stage) for stage in protocol.stages]
    self._posteriors = [Posterior(problem, lesson) for lesson in lessons]
    # What errors are relative to.
    scale = max(1e-300, *(
        float(np.sqrt(np.mean(np.square(lesson.y[lesson.weights > 0]))))
        for lesson in lessons))
    columns, together = problem.y.shape[1], problem.columns_together
    mixes: list[Optional[np.ndarray]] = [None]
    if columns > together:
      y = np.concatenate([lesson.y for lesson in lessons])
      _, size, mix = np.linalg.svd(y, full_matrices=False)
      mix = mix[size >= max(y.shape) * np.finfo(y.dtype).eps * size[0]]
      # As large as the columns, if there were as many.
      scale *= (columns / len(mix))**.5
      mixes = list(np.array_split(mix, -(-len(mix) // together)))
    self._groups = [_Columns(problem, protocol, lessons, self._posteriors,
                             scale, mix, noise) for mix in mixes]

  def equilibrium(self, x_test: PyTree, compute_cov: Any = False,
                  stage: int = -1, **kwargs: Any) -> Any:
    """Mean and covariance at the end of a stage that does not end."""
    return self._posteriors[stage].predictions(x_test, compute_cov, **kwargs)

  @property
  def solutions(self) -> list[tuple[VolterraSolver, np.ndarray,
                                    Optional[np.ndarray]]]:
    """Of a single stage with noise: of each group of columns, as far as known.

    A solution, its targets `[n, c]`, and the columns `[c, k]` that these are
    components of, or `None`.
    """
    return [(cast(VolterraSolver, group._parts[0]), group._lessons[0].y,
             group._mix) for group in self._groups]

  @property
  def scale(self) -> float:
    """What errors are relative to."""
    return self._groups[0]._scale

  def mean(self, t: np.ndarray, x_test: PyTree, **kwargs: Any) -> np.ndarray:
    """Mean predictions `[T, m, k]` at training times `[T]`."""
    problem, groups = self._problem, self._groups
    problem.include(problem.ndk, x_test, kwargs)
    late = functools.cache(
        lambda stage: self.equilibrium(x_test, stage=stage, **kwargs)[0])
    out, known = cast(Any, 0.), None
    for group in groups:
      out = out + group.mean(t, x_test, kwargs, late, known)
      if known is not None:
        known.release()
      known = group
    if len(groups) > 1:
      groups[-1].release()
    error = max(group.error for group in groups)
    problem.warn(error)
    problem.stats.update(
        rank=problem.ndk.family.rank, fits=problem.ndk.fits,
        panels=max(group.panels for group in groups),
        kernel_evaluations=problem.evaluator.evaluations,
        estimated_error=error)
    return out


class _Columns:
  """Mean predictor of some columns of targets, or components of them.

  Each stage of learning has a solution of its own, which begins where the one
  before it ends, or an impulse if there is no noise. Diffusion times within a
  stage are those since its beginning. A stage takes no more of them than it
  takes to equilibrium: nothing changes after that.

  Attributes:
    error: estimated error of the latest predictions, relative to targets.
    panels: number of those of their solution.
  """

  def __init__(self, problem: Problem, protocol: Protocol,
               lessons: list[Lesson], posteriors: list[Posterior],
               scale: float, mix: Optional[np.ndarray], noise: bool) -> None:
    """Solves nothing yet.

    Args:
      problem: what all have in common.
      protocol: stages of learning.
      lessons: of the stages.
      posteriors: of the stages.
      scale: what errors are relative to.
      mix: `[c, k]`, orthonormal, the columns of targets of each component;
        `None` if these are the columns.
      noise: whether there is any.
    """
    self._problem, self._protocol, self._mix = problem, protocol, mix
    self._noise = noise
    self._lessons = [lesson._replace(y=self._components(lesson.y))
                     for lesson in lessons]
    self._posteriors, self._scale = posteriors, scale
    self.error, self.panels = 0., 0
    # Solutions of the first stages, in kernels of a fit.
    self._parts: list[Union[VolterraSolver, Impulse]] = []
    self._fits = 0

  def _components(self, predictions: np.ndarray) -> np.ndarray:
    """Of predictions `[..., k]`."""
    return predictions if self._mix is None else predictions @ self._mix.T

  def release(self) -> None:
    """Forgets what only later times need."""
    for part in self._parts:
      if isinstance(part, VolterraSolver):
        part.release()

  def mean(self, t: np.ndarray, x_test: PyTree, kwargs: dict[str, Any],
           late: Callable[[int], np.ndarray],
           known: Optional['_Columns']) -> np.ndarray:
    """What the columns make of mean predictions, `[T, m, k]`.

    Args:
      t: `[T]`, training times.
      x_test: test inputs.
      kwargs: of test inputs.
      late: takes the number of a stage that does not end to predictions at its
        end, `[m, k]`, of all columns.
      known: other columns that have been solved for.
    """
    problem = self._problem
    numbers, since = self._protocol.locate(t)
    self._solve(numbers, since, x_test, kwargs, known)
    factors = None if x_test is None else problem.timed(
        'test', lambda: problem.ndk.test_factors(x_test, **kwargs))
    out = np.empty((len(t), problem.rows(x_test), self._lessons[0].y.shape[1]))
    for p in np.unique(numbers):
      of_stage = np.flatnonzero(numbers == p)
      out[of_stage] = self._in_stage(int(p), since[of_stage], factors, late)
    return out if self._mix is None else out @ self._mix

  def _in_stage(self, number: int, since: np.ndarray, factors: Any,
                late: Callable[[int], np.ndarray]) -> np.ndarray:
    """Mean predictions at times since the beginning of a stage."""
    lesson, part = self._lessons[number], self._parts[number]
    if isinstance(part, Impulse):
      times, tau = since, np.full(1, part.tau)
      inside = np.ones(len(since), bool)
    else:
      # What is later than the trajectory, which ends where it has settled.
      times, end = part.ends[0] + since, part.ends[-1]
      inside = (times <= end + 1e-6 * (end - part.ends[0])) | (not self._noise)
      times = np.minimum(times, end)
      times = tau = np.append(times[inside], times[~inside][:1])
    if factors is None:
      known = lesson.y - part.solution(times)
    else:
      known, missed = self._problem.timed('test', lambda: (
          part.checked_integral(factors, times)))
      known = known + self._problem.timed('test', lambda: self._past(
          number, tau, factors))
      self.error = max(self.error, BETWEEN * missed / self._scale)
    if np.all(inside):
      return known
    out = np.empty((len(since), *known.shape[1:]))
    out[inside], out[~inside] = known[:-1], self._components(late(number))
    # Test inputs may be further from there than training data are.
    gap = np.max(np.abs(known[-1] - out[~inside][0]))
    self.error = max(self.error, float(gap) / self._scale)
    return out

  def _past(self, number: int, tau: np.ndarray,
            factors: Any = None) -> Any:
    """What is left of earlier stages, `[T, m, k]`, at diffusion times."""
    return sum(part.beyond(tau, factors) for part in self._parts[:number])

  def _start(self, number: int) -> float:
    """Diffusion time at which a stage begins."""
    if not number:
      return 0.
    part = self._parts[number - 1]
    return part.tau if isinstance(part, Impulse) else float(part.ends[-1])

  def _extent(self, number: int) -> float:
    """Diffusion time that a stage takes."""
    stage = self._protocol.stages[number]
    return min(self._protocol.since(number, stage.stop),
               self._problem.ndk.family.tau_max)

  def _limit(self, number: int) -> np.ndarray:
    """What is not learned of the targets at the end of a stage."""
    return self._lessons[number].y - self._components(
        self._posteriors[number].predictions(None)[0])

  def _prepare(self, number: int, known: Optional['_Columns']) -> None:
    """Begins a stage, in the kernels as they are now."""
    problem, lesson = self._problem, self._lessons[number]
    if self._fits != problem.ndk.fits:
      self._parts.clear()  # And their kernels, before others take their place.
    factors = problem.factors(problem.ndk)
    self._fits = problem.ndk.fits
    if len(self._parts) > number:
      return
    start, slow = self._start(number), problem.ndk.scales.slow
    before = functools.partial(self._past, number) if number else None
    family, stage = problem.ndk.family, self._protocol.stages[number]
    weight = lesson.weight
    if not lesson.temperature:
      rho = lesson.y - (before(np.full(1, start))[0] if before else 0.)
      self._parts.append(Impulse(family, factors, lesson.weights, start,
                                 self._protocol.since(number, stage.stop), rho))
      return
    largest = 1. if weight is None else np.max(weight)

    @functools.cache
    def limit():
      kernel = problem.prior_kernel
      return (self._limit(number),
              kernel if weight is None else kernel * (weight / largest))

    last = self._noise and number == len(self._lessons) - 1
    like: Any = None
    if known is not None and known._fits == self._fits:
      like = known._parts[number]
    solver = VolterraSolver(
        family, factors, lesson.y, largest / lesson.temperature, problem.rtol,
        limit=limit if last else None, limit_from=start + .2 * slow,
        max_step=2 * slow / np.log(1e2 / problem.rtol),
        journal=self._journal(number),
        weight=None if weight is None else weight / largest,
        scale=self._scale, start=start, stop=start + self._extent(number),
        before=before, like=like)
    if like is not None:
      solver.take_memory(like)
    self._parts.append(solver)

  def _journal(self, number: int) -> Optional[Journal]:
    """Panels that are kept of a stage."""
    problem = self._problem
    if problem.store is None:
      return None
    first = self._lessons[0]
    key: tuple[Any, ...] = (
        Record._fields, problem.evaluator.identity('ndk'), problem.ndk.family,
        first.y, first.temperature, problem.rtol)
    if len(self._lessons) > 1 or first.weight is not None:
      # All that came before, and what ends when.
      key += (number, [(lesson.temperature, lesson.y, lesson.weights,
                        self._protocol.since(p, self._protocol.stages[p].stop))
                       for p, lesson in enumerate(self._lessons[:number + 1])])
    return problem.store.journal(key)

  def _solve(self, numbers: np.ndarray, since: np.ndarray, x_test: PyTree,
             kwargs: dict[str, Any], known: Optional['_Columns']) -> None:
    """Solves as far as times need."""
    problem = self._problem
    last = int(np.max(numbers, initial=0))
    latest = float(np.max(since[numbers == last], initial=0.))
    for fits in range(_MAX_FITS):
      for p in range(last + 1):
        self._prepare(p, known)
        self._extend(p, latest if p == last else np.inf)
      kernels = problem.timed('check', lambda: self._kernel_error(
          last, latest, x_test, kwargs))
      if (kernels <= WORTH * problem.rtol or problem.ndk.exact or
          fits == _MAX_FITS - 1):
        break
      # The kernels were not accurate enough for this problem.
      if not problem.timed('compression', lambda: problem.ndk.tighten(
          problem.rtol / kernels)):
        break

    solvers = [part for part in self._parts[:last + 1]
               if isinstance(part, VolterraSolver)]
    error = kernels
    for p, part in enumerate(self._parts[:last + 1]):
      if isinstance(part, VolterraSolver):
        error = max(error, kernels + part.tolerance + time_error(
            part, part.ends[0] + since[numbers == p], self._scale), part.floor)
    self.error = float(max(error, self._limit_error(last, latest)))
    self.panels = sum(int(solver.stats['panels']) for solver in solvers)

  def _extend(self, number: int, since: float) -> None:
    """Solves for a stage, up to a time since its beginning."""
    solver, problem = self._parts[number], self._problem
    if not isinstance(solver, VolterraSolver):
      return
    start = solver.ends[0]
    tau = min(since, self._extent(number))
    bar = problem.bar('Learning', 1.)
    first = []

    def report(reached):
      first.append(reached - start)
      bar.to(np.log(first[-1] / first[0]) / max(np.log(tau / first[0]), 1e-9))

    begin = time.perf_counter()
    solver.extend(start + tau, report)
    bar.to(1.)
    problem.stats['seconds']['solver'] += time.perf_counter() - begin
    bar.close()

  def _kernel_error(self, last: int, since: float, x_test: PyTree,
                    kwargs: dict[str, Any]) -> float:
    """What errors of kernels make of the mean, measured on some inputs."""
    past: list[Measure] = []
    found: list[tuple[float, Measure]] = []
    for p, part in enumerate(self._parts[:last + 1]):
      here: list[tuple[float, Measure]]
      if isinstance(part, Impulse):
        here = [(part.tau, part.moments(since if p == last else None))]
      else:
        here = integrals(part, self._problem.evaluator,
                         part.ends[0] + since if p == last else np.inf)
      found += [(tau, together(past + [measure])) for tau, measure in here]
      past += [measure for _, measure in here[-1:]]
    if not found:
      return 0.
    return _SAFETY / self._scale * max(
        self._problem.defect(found, x, kwargs)
        for x in (None, x_test)[:1 + (x_test is not None)])

  def _limit_error(self, number: int, since: float) -> float:
    """Distance of the trajectory from its limit, where that is known."""
    solver = self._parts[number]
    if not isinstance(solver, VolterraSolver):
      return 0.
    if solver.settled:
      return solver.limit_error
    end = solver.ends[-1:]
    if not self._noise or solver.ends[0] + since <= end[0]:
      return 0.
    # At the end of time.
    return float(np.max(np.abs(
        solver.solution(end)[0] - self._limit(number)))) / self._scale


def integrals(solver: VolterraSolver, evaluator: KernelEvaluator,
              stop: float = np.inf) -> list[tuple[float, Measure]]:
  """Integrals up to ends of panels, on which errors of kernels are measured.

  Args:
    solver: what solutions are of.
    evaluator: of the kernel.
    stop: where the last of them ends, or before.
  """
  panels = int(np.searchsorted(solver.ends, min(stop, solver.ends[-1])))
  count = _OF_IMAGES  # Their kernels are expensive.
  if evaluator.vectors:
    count = _INTEGRALS[length(evaluator.x_train) > _FEW]
  some = np.linspace(0, panels, count + 1).astype(int)
  return [(solver.ends[panel], most(solver.moments(panel, 1)))
          for panel in np.unique(some)[1:]]


def time_error(solver: VolterraSolver, tau: np.ndarray, scale: float) -> float:
  """Error of interpolation in time, at most that of the worst panel.

  What is left of the equations between the points of panels is closer to it,
  but for rounding errors, which equations amplify.
  """
  inside = np.sort(tau[(tau > solver.ends[0]) & (tau <= solver.ends[-1])])
  if not inside.size:
    return 0.
  some = inside[np.linspace(0, len(inside) - 1, _TIMES).astype(int)]
  defect = np.max(np.abs(solver.defect(some))) / scale
  return float(np.minimum(defect, np.max(solver.errors)))
