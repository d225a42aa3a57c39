# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Covariance of predictions over networks, from rows of the resolvent."""

import functools
from typing import Any, Callable, Iterator, Optional, Sequence, Union

import jax
import numpy as np

from nt_ndk._src.base import arrays
from nt_ndk._src.base import pipeline
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.impulse import Impulse
from nt_ndk._src.dynamics.probes import Grid
from nt_ndk._src.dynamics.probes import Predictions
from nt_ndk._src.dynamics.probes import Probes
from nt_ndk._src.dynamics.probes import Solved
from nt_ndk._src.dynamics.resolvent import EndTime
from nt_ndk._src.dynamics.resolvent import Resolvent
from nt_ndk._src.kernels.compressed import CompressedKernel
from nt_ndk._src.predictors.problem import Lesson
from nt_ndk._src.predictors.problem import Problem
from nt_ndk._src.predictors.spans import earlier_terms
from nt_ndk._src.predictors.spans import Learned
from nt_ndk._src.predictors.spans import Span
from nt_ndk._src.predictors.spans import Terms

# Largest error of all pairs of samples for that of a few.
_SAFETY = 5
# Times that are solved for in threads of their own.
_AT_ONCE = 2
# Error of functions of time, in `rtol`.
IN_TIME = 1e-2


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


class Flow:
  """A stretch without noise, of which no diffusion time passes.

  Attributes:
    lesson: what is learned.
    start: diffusion time.
    extent: time of gradient flow.
  """

  def __init__(self, problem: Problem, ndk: CompressedKernel,
               nngp: CompressedKernel, lesson: Lesson, start: float,
               extent: float) -> None:
    self._problem, self._kernels = problem, (ndk, nngp)
    self.lesson, self.start, self.extent = lesson, start, extent

  def complete(self) -> tuple[np.ndarray, np.ndarray]:
    """Gain of all of it, and covariance."""
    return self.gain(self.extent), self.covariance()

  def gain(self, time: float) -> np.ndarray:
    """What a time of gradient flow makes of residuals, `[n, n]`."""
    ndk = self._kernels[0]
    return Impulse(ndk.family, self._problem.factors(ndk), self.lesson.weights,
                   self.start, self.extent, np.zeros((len(self.lesson.y), 0))
                   ).gain(time)

  def covariance(self) -> np.ndarray:
    """Of the training outputs without data, `[n, n]`."""
    nngp = self._kernels[1]
    factors = np.asarray(to_host(self._problem.factors(nngp)), float)
    n = len(factors)
    return np.einsum('nrm,r->nm', factors.reshape((n, -1, n)),
                     nngp.family.phi(self.start, self.start))


class Fluctuations:
  """Rows of the resolvent, for any time and input.

  Learning is a sequence of stages. A time is the number of its stage, and the
  diffusion time since its beginning, or the time of gradient flow if there is
  no noise.

  Attributes:
    ndk, nngp: compressed kernels.
    error: estimated error of the latest covariances, relative to those without
      data.
  """

  def __init__(self, problem: Problem, lessons: Sequence[Lesson],
               extents: Sequence[float] = (np.inf,),
               ndk: Optional[CompressedKernel] = None,
               nngp: Optional[CompressedKernel] = None,
               flow: bool = False) -> None:
    """Takes the kernels of `problem`, or others on the same data.

    Args:
      problem: data and kernels.
      lessons: what is learned in each stage.
      extents: how long each lasts.
      ndk: another NDK.
      nngp: another covariance.
      flow: whether a stage without noise is gradient flow, not the limit of
        little noise and much time.
    """
    self._problem = problem
    self.ndk, self.nngp = ndk or problem.ndk, nngp or problem.nngp
    self._lessons, self._extents, self._flow = lessons, extents, flow
    self._completed: dict[int, Any] = {}
    self.error = 0.

  @functools.cached_property
  def stages(self) -> list[Union[Span, Flow]]:
    """Those of learning, none longer than equilibrium takes."""
    return self._stages([2 * self.end] * len(self._lessons))

  def _stages(self, longest: Sequence[float]) -> list[Union[Span, Flow]]:
    """Stages with noise that do not take more diffusion time than given."""
    out: list[Union[Span, Flow]] = []
    start = 0.
    for lesson, extent, most in zip(self._lessons, self._extents, longest):
      flow = self._flow and not lesson.temperature
      extent = extent if flow else min(extent, most)
      stage: Any = Flow if flow else Span
      out.append(stage(self._problem, self.ndk, self.nngp, lesson, start,
                       extent))
      start += 0. if flow else extent
    return out

  def compressed(self, numbers: np.ndarray, since: np.ndarray
                 ) -> tuple[list[Union[Span, Flow]], np.ndarray]:
    """Stages and times in which nothing is different, and nothing waits.

    Equilibrium takes the time `end`, and so does forgetting.

    Args:
      numbers: `[T]`, numbers of stages.
      since: `[T]`, times since their beginnings, in order.

    Returns:
      Stages, and times since their beginnings, `[T]`.
    """
    longest, shorter = [2 * self.end] * len(self.stages), since.copy()
    for p, stage in enumerate(self.stages):
      inside = np.flatnonzero(numbers == p)
      if isinstance(stage, Span) and inside.size:
        gaps = np.diff(since[inside], prepend=0.)
        shorter[inside] = np.cumsum(np.minimum(gaps, self.end))
        longest[p] = max(longest[p], shorter[inside[-1]] + self.end)
    if max(longest) == 2 * self.end and np.all(shorter == since):
      return self.stages, since
    return self._stages(longest), shorter

  @property
  def end(self) -> float:
    """Diffusion time from which on predictions are those of equilibrium."""
    return max(self.ndk.scales.slow, self.nngp.scales.slow)

  def late(self, numbers: np.ndarray, since: np.ndarray) -> np.ndarray:
    """Which times are those of an equilibrium."""
    return np.array([isinstance(self.stages[p], Span) and s >= self.end
                     for p, s in zip(numbers, since)], bool)

  def _tau(self, numbers: np.ndarray, since: np.ndarray) -> np.ndarray:
    """Diffusion times."""
    return np.array([
        stage.start + (s if isinstance(stage, Span) else 0.)
        for stage, s in zip(map(self.stages.__getitem__, numbers), since)])

  def include(self, x_test, kwargs):
    """Makes sure that kernels are right between test and training data."""
    for kernel in (self.ndk, self.nngp):
      self._problem.include(kernel, x_test, kwargs)

  def _end_time(self, tau: float, number: int = 0) -> EndTime:
    stage = self.stages[number]
    assert isinstance(stage, Span)
    return stage.end_time(tau)

  def predictions(self, numbers: np.ndarray, since: np.ndarray, x_test: PyTree,
                  compute_cov: ComputeCov,
                  **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of predictions.

    Args:
      numbers: `[T]`, numbers of stages.
      since: `[T]`, times since their beginnings, before `end`.
      x_test: test inputs, or `None`.
      compute_cov: `True`, or `"diag"` to compute variances only.
      **kwargs: of test inputs.

    Returns:
      `[T, m, k]`, and `[T, m, m]` or variances `[T, m]`.
    """
    problem, diagonal = self._problem, compute_cov == 'diag'
    times, inverse = np.unique(np.stack([numbers, since], 1), axis=0,
                               return_inverse=True)
    inverse = inverse.ravel()
    numbers, since = times[:, 0].astype(int), times[:, 1]
    tau = self._tau(numbers, since)
    factors = self.factors(x_test, kwargs)
    x = problem.x_train if x_test is None else x_test
    variances = problem.evaluator.variances(x, tau, **kwargs)
    bar = problem.bar('Covariance', len(tau))
    means = np.zeros(variances.shape + problem.y.shape[1:])
    covariances = list(variances) if diagonal else [
        np.asarray(to_host(problem.evaluator.test_test(
            x, 'nngp', t, t, **kwargs)), float) for t in tau]
    self.error = 0.
    matrices = self.matrices()

    def at(i: int, end: Optional[EndTime], predictions: Predictions,
           flowing: Optional[tuple[np.ndarray, np.ndarray]],
           receive: Callable[[], Grid],
           hand_on: Callable[[Grid], None]) -> tuple[Any, ...]:
      """Mean, covariance and estimated error at one time."""
      stage, prior = self.stages[numbers[i]], covariances[i]
      scale = standard_deviations(variances[i])
      terms = [Terms(function, f)
               for function, f in zip(self.functions(tau[i]), factors)]
      if end is None:
        hand_on(receive())
        mean, covariance, learned = self.flowed(
            stage, flowing, terms, prior)
        error = 0.
      else:
        probes = self._probes(end, predictions)
        solved = probes.choose(receive())
        hand_on(probes.grid)
        mean, covariance, error, learned = self._learned(
            stage, probes, solved, predictions, prior, numbers[i] > 0)
      for p in range(numbers[i] - 1, -1, -1):
        if tau[i] - self.stages[p + 1].start >= self.end:
          break  # Forgotten.
        stage = self.stages[p]
        terms = self._earlier(matrices, terms, learned,
                              self.stages[p + 1].start)
        if isinstance(stage, Flow):
          more, covariance, learned = self.flowed(
              stage, self.complete(p), terms, covariance)
        else:
          end = self.complete(p)
          predictions = self._rotated(stage, end, terms, scale)
          probes = self._probes(end, predictions)
          more, covariance, left, learned = self._learned(
              stage, probes, probes.choose(Grid()), predictions, covariance,
              p > 0)
          error += left
        mean = mean + more
      return mean, covariance, error

    def tasks() -> Iterator[pipeline.Task]:
      bases: dict[int, tuple[Any, list[np.ndarray]]] = {}
      for i in learned:
        stage = self.stages[numbers[i]]
        for p in range(numbers[i]):
          self.complete(p)
        scale = standard_deviations(variances[i])
        if isinstance(stage, Flow):
          yield functools.partial(at, i, None, Predictions((), [], scale), (
              stage.gain(since[i]), stage.covariance()))
          continue
        end = stage.end_time(since[i])
        basis, rotated = bases.get(numbers[i], (None, []))
        if end.basis is not basis:
          basis = end.basis
          rotated = [basis.rotate(stage.weighted(factor)) for factor in factors]
          bases[numbers[i]] = basis, rotated
        yield functools.partial(at, i, end, Predictions(
            [stage.since(f) for f in self.functions(tau[i])], rotated, scale),
                                None)

    learned: Any = np.flatnonzero(((numbers > 0) | (since > 0)) &
                             np.any(variances > 0, 1))
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

  # Stages.

  def functions(self, tau: float) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Of both kernels between predictions at one time and earlier ones."""
    return [functools.partial(kernel.family.phi, tau)
            for kernel in (self.ndk, self.nngp)]

  def matrices(self) -> list[np.ndarray]:
    """Of both kernels, if there is more than one stage."""
    if len(self.stages) == 1:
      return []
    return [np.asarray(to_host(self._problem.factors(kernel)), float)
            for kernel in (self.ndk, self.nngp)]

  def complete(self, number: int) -> Any:
    """What resolvents share that end when a stage does."""
    fits = self.ndk.fits, self.nngp.fits
    known = self._completed.get(number)
    if known is None or known[0] != fits:
      stage = self.stages[number]
      known = fits, (stage.end_time(stage.extent) if isinstance(stage, Span)
                     else stage.complete())
      self._completed[number] = known
    return known[1]

  def _rotated(self, span: Span, end: EndTime, terms: Sequence[Terms],
               scale: np.ndarray) -> Predictions:
    """Predictions in the modes of a span."""
    return Predictions(
        [span.since(t.function) for t in terms],
        [end.basis.rotate(span.weighted(t.factors)) for t in terms], scale)

  def _learned(self, span: Any, probes: Probes, solved: Solved,
               predictions: Predictions, prior: np.ndarray, keep: bool
               ) -> tuple[np.ndarray, np.ndarray, float, Learned]:
    """Mean and covariance because of a span, their error, and what is owed."""
    # All of the grid for kernels with outputs before the span.
    rows = solved.on if keep else probes.needed(solved)
    kappa, cross = predictions.kernels(rows.times)
    y = span.weighted(to_host(span.lesson.y))
    mean, covariance, error, moments = rows.predictions(
        kappa, cross, prior, predictions.scale, y, keep)
    return (mean, covariance, error + 2 * probes.error,
            self.owed(span, rows, moments))

  def owed(self, span: Span, rows: Resolvent, moments: np.ndarray,
            some: slice = slice(None)) -> Learned:
    """Moments `[n, C, m]` of modes as those of training outputs."""
    vectors = rows.basis.evecs @ moments.reshape((len(moments), -1))
    return Learned(span.start + rows.times,
                   span.weighted(vectors.reshape(moments.shape)), some)

  def flowed(self, flow: Any, how: Any, terms: Sequence[Terms],
             prior: np.ndarray) -> tuple[np.ndarray, np.ndarray, Learned]:
    """The same for gradient flow, with its gain and a covariance."""
    gain, without = how
    kappa, cross = (t.at(flow.start) for t in terms)
    weights = gain @ kappa
    product = without @ weights
    if prior.ndim == 1:
      covariance = prior + np.sum(weights * (product - 2 * cross), 0)
    else:
      mixed = weights.T @ cross
      covariance = prior + weights.T @ product - mixed - mixed.T
    return (weights.T @ flow.lesson.y, covariance,
            Learned(np.full(1, flow.start), weights[:, None], slice(None)))

  def _earlier(self, matrices: Sequence[np.ndarray], terms: Sequence[Terms],
               learned: Learned, until: float) -> list[Terms]:
    """Kernels of predictions with training outputs up to a time."""
    count = terms[0].factors.shape[2]
    return [earlier_terms(kernel, matrix, [(t, slice(None))], [learned], until,
                          count, IN_TIME * self._problem.rtol)
            for kernel, matrix, t in zip((self.ndk, self.nngp), matrices,
                                         terms)]

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
    return self.to_vectors(out)

  def to_vectors(self, out: jax.Array) -> np.ndarray:
    """`[m, R * n]` to `[n, R, m]`."""
    rows = to_host(out).reshape((len(out), -1, len(self._problem.y)))
    return np.ascontiguousarray(np.transpose(rows), float)

  def _probes(self, end: EndTime, predictions: Predictions) -> Probes:
    return Probes(end, predictions, self.ndk.scales.lag, self._problem.rtol)

  def solved(self, tau: float, factors: list[np.ndarray], scale: np.ndarray
             ) -> tuple[Resolvent, list[np.ndarray], float]:
    """Resolvent on a grid that is fine enough for predictions.

    Args:
      tau: time, in the first stage.
      factors: from `factors`.
      scale: `[m]`, standard deviations without data.

    Returns:
      The resolvent; NDK and covariance of the predictions and training outputs
      at its times, `[n, C, m]`, in its basis; and an estimated error of
      variances, relative to those without data.
    """
    span, end = self.stages[0], self._end_time(tau)
    assert isinstance(span, Span)
    predictions = Predictions(self.functions(tau), [
        end.basis.rotate(span.weighted(f)) for f in factors], scale)
    probes = self._probes(end, predictions)
    rows = probes.choose(Grid()).on
    return rows, predictions.kernels(rows.times), probes.error

  def grids(self, factors: list[np.ndarray], scale: np.ndarray
            ) -> tuple[list[tuple[Any, Optional[Resolvent]]], float]:
    """Grids that are fine enough for predictions at the end of all stages.

    Args:
      factors: from `factors`.
      scale: `[m]`, standard deviations without data.

    Returns:
      Of each stage, the last one first, it and a resolvent if it has noise; and
      an estimated error of variances, relative to those without data.
    """
    last, matrices = self.stages[-1], self.matrices()
    tau = last.start + (last.extent if isinstance(last, Span) else 0.)
    terms = [Terms(function, f)
             for function, f in zip(self.functions(tau), factors)]
    out: list[tuple[Any, Optional[Resolvent]]] = []
    error = 0.
    for p in range(len(self.stages) - 1, -1, -1):
      stage = self.stages[p]
      if isinstance(stage, Flow):
        _, _, learned = self.flowed(stage, self.complete(p), terms, scale**2)
        out.append((stage, None))
      else:
        end = self.complete(p)
        probes = self._probes(end, self._rotated(stage, end, terms, scale))
        on = probes.choose(Grid()).on
        error = max(error, probes.error)
        out.append((stage, on))
        if p:
          kappa, _ = self._rotated(stage, end, terms, scale).kernels(on.times)
          learned = self.owed(stage, on, on.rows(kappa, scale).moments)
      if p:
        terms = self._earlier(matrices, terms, learned, stage.start)
    return out, error
