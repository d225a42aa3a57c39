# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Covariance of predictions at many times, from one solution for each.

A prediction is a linear functional of the network without data,

.. math::
  F = g(x, \tau) - \int_0^\tau b(s)\, g(X, s)\, ds + \ldots

Its covariance with :math:`g(X, s')`, at all :math:`s'` and not those of another
prediction alone, is known to the solution for :math:`F`. So the covariance of
two predictions is one more integral, of that and the :math:`b` of the earlier
one. From the last stage of learning to the first one, each adds its own part of
:math:`b`, and what is left is a sum over these.
"""

from typing import Any, NamedTuple, Optional, Sequence

import numpy as np

from nt_ndk._src.base import memory
from nt_ndk._src.base.devices import in_one_thread
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.probes import Grid
from nt_ndk._src.dynamics.probes import Predictions
from nt_ndk._src.dynamics.probes import Probes
from nt_ndk._src.dynamics.resolvent import Resolvent
from nt_ndk._src.dynamics.resolvent import Rows
from nt_ndk._src.predictors.fluctuations import Flow
from nt_ndk._src.predictors.fluctuations import Fluctuations
from nt_ndk._src.predictors.fluctuations import IN_TIME
from nt_ndk._src.predictors.fluctuations import standard_deviations
from nt_ndk._src.predictors.problem import Problem
from nt_ndk._src.predictors.spans import earlier_terms
from nt_ndk._src.predictors.spans import Learned
from nt_ndk._src.predictors.spans import Span
from nt_ndk._src.predictors.spans import Terms

# Copies of the result that are made on the way, and numbers that are kept for
# each prediction at a time and training output.
_COPIES, _ROWS = 4, 150


class _Group(NamedTuple):
  """Predictions at some times, which learn in a stage up to one time of it.

  Attributes:
    times: numbers of their times, one after the other.
    since: when they stop learning.
    terms: their kernels with training outputs, `[n, J, times * m]`.
  """
  times: np.ndarray
  since: float
  terms: list[Terms]


class _Solved(NamedTuple):
  """Rows of the resolvent for a group.

  Attributes:
    group: the group.
    span: what they learn in, or the last part of it.
    on: the resolvent.
    rows: of `times * m` predictions.
  """
  group: _Group
  span: Span
  on: Resolvent
  rows: Rows


class Joint:
  """Covariance of predictions of the same inputs at several times."""

  def __init__(self, problem: Problem, fluctuations: Fluctuations,
               x_test: PyTree, diagonal: bool, kwargs: dict[str, Any]) -> None:
    """Takes the inputs.

    Args:
      problem: data and kernels.
      fluctuations: stages of learning.
      x_test: test inputs, or `None`.
      diagonal: whether to pair each input with itself only.
      kwargs: of test inputs.
    """
    self._problem, self._fluctuations = problem, fluctuations
    self._diagonal, self._kwargs = diagonal, kwargs
    self._x = problem.x_train if x_test is None else x_test
    self._m = problem.rows(x_test)
    self._factors = fluctuations.factors(x_test, kwargs)
    self._swapped = fluctuations.to_vectors(fluctuations.nngp.test_factors(
        self._x, swap=True, **kwargs))

  @in_one_thread
  def covariance(self, numbers: np.ndarray, since: np.ndarray) -> np.ndarray:
    """Covariance of all pairs.

    Args:
      numbers: `[T]`, numbers of stages.
      since: `[T]`, times since their beginnings; they are in order.

    Returns:
      `[T, T, m, m]`, or `[T, T, m]`.
    """
    count, m = len(numbers), self._m
    if not count:
      return np.zeros((0, 0, m) if self._diagonal else (0, 0, m, m))
    memory.require(
        8 * (_COPIES * (count * m)**2 // (m if self._diagonal else 1) +
             _ROWS * count * m * self._factors[0].shape[0]),
        f'Covariances of {m} predictions at {count} times',
        'Ask for fewer times at once, or for fewer test inputs.')
    self._stages, self._since = self._fluctuations.compressed(numbers, since)
    self._numbers = numbers
    self._tau = np.array([
        self._stages[p].start +
        (s if isinstance(self._stages[p], Span) else 0.)
        for p, s in zip(numbers, self._since)])
    self._out = self._prior()
    self._variances = self._problem.evaluator.variances(
        self._x, self._tau, **self._kwargs)
    matrices = [np.asarray(to_host(self._problem.factors(kernel)), float)
                for kernel in self._kernels]
    terms: Optional[list[Terms]] = None
    for p in range(int(np.max(numbers)), -1, -1):
      stage = self._stages[p]
      inside = np.flatnonzero(numbers == p)
      crossing = np.flatnonzero(numbers > p)
      # The latest first.
      groups = [] if terms is None else [_Group(crossing, stage.extent, terms)]
      groups += [_Group(np.array([i]), self._since[i], self._own_terms(i))
                 for i in inside[::-1]]
      learned = (self._flow(stage, groups) if isinstance(stage, Flow) else
                 self._learn(stage, groups))
      earlier = np.flatnonzero(numbers < p)
      if earlier.size or p:
        self._owe(learned, groups, earlier)
      if p:
        first = groups[-1].times[0]
        place = lambda group, first=first: slice(
            (group.times[0] - first) * self._m,
            (group.times[-1] + 1 - first) * self._m)
        before = [(group.terms, place(group)) for group in groups]
        owed = [part._replace(some=place(group))
                for part, group in zip(learned, groups) if part is not None]
        terms = [earlier_terms(
            kernel, matrix, [(t[i], some) for t, some in before], owed,
            stage.start, (len(numbers) - first) * self._m,
            IN_TIME * self._problem.rtol)
                 for i, (kernel, matrix) in enumerate(zip(self._kernels,
                                                          matrices))]
    lower = np.tril_indices(len(numbers), -1)
    block = self._out[lower]
    self._out[lower[::-1]] = block if self._diagonal else np.swapaxes(block, 1,
                                                                      2)
    return self._out

  @property
  def _kernels(self):
    return self._fluctuations.ndk, self._fluctuations.nngp

  def _prior(self) -> np.ndarray:
    """Covariance without data, of pairs of times with the later one first."""
    evaluator, count = self._problem.evaluator, len(self._tau)
    i, j = np.tril_indices(count)
    pairs = np.stack([self._tau[i], self._tau[j]], 1)
    if self._diagonal:
      rows = np.arange(self._m)
      values = evaluator.test_sample(self._x, np.stack([rows, rows], 1), pairs,
                                     **self._kwargs)
      out = np.zeros((count, count, self._m))
    else:
      joint = lambda tau: np.asarray(to_host(evaluator.test_test(
          self._x, 'nngp', *tau, **self._kwargs)), float)
      family = self._fluctuations.nngp.family
      if len(pairs) > family.rank:
        matrices = np.stack([joint(tau) for tau in family.tau])
        values = np.tensordot(family.phi(*pairs.T), matrices, 1)
      else:
        values = np.stack([joint(tau) for tau in pairs])
      out = np.zeros((count, count, self._m, self._m))
    out[i, j] = values
    return out

  def _own_terms(self, i: int) -> list[Terms]:
    """Kernels of predictions that have learned nothing yet in their stage."""
    return [Terms(function, factors) for function, factors in zip(
        self._fluctuations.functions(self._tau[i]), self._factors)]

  def _dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products of `[n, A, times * m]`, `[times, times', m(, m)]`."""
    m = self._m
    times, others = a.shape[2] // m, b.shape[2] // m
    if self._diagonal:
      return np.einsum('naim,najm->ijm', a.reshape(a.shape[:2] + (times, m)),
                       b.reshape(b.shape[:2] + (others, m)), optimize=True)
    out = np.tensordot(a, b, ((0, 1), (0, 1)))
    return out.reshape((times, m, others, m)).swapaxes(1, 2)

  def _add(self, first: _Group, second: _Group, block: np.ndarray) -> None:
    self._out[np.ix_(first.times, second.times)] += block

  def _transposed(self, block: np.ndarray) -> np.ndarray:
    out = np.swapaxes(block, 0, 1)
    return out if self._diagonal else np.swapaxes(out, 2, 3)

  # A stage without noise.

  def _flow(self, flow: Flow,
            groups: Sequence[_Group]) -> list[Optional[Learned]]:
    """Adds what gradient flow does to covariances."""
    without, found = flow.covariance(), []
    for group in groups:
      kappa, cross = (t.at(flow.start) for t in group.terms)
      weights = flow.gain(group.since) @ kappa
      found.append((weights[:, None], cross[:, None]))
    for i, (first, (weights, cross)) in enumerate(zip(groups, found)):
      product = np.einsum('nm,mci->nci', without, weights) - cross
      for second, (other_weights, other_cross) in zip(groups[i:], found[i:]):
        self._add(first, second, self._dot(product, other_weights) -
                  self._dot(weights, other_cross))
    return [Learned(np.full(1, flow.start), weights, slice(None))
            for weights, _ in found]

  # A stage with noise.

  def _solve(self, span: Span, group: _Group, grid: Grid
             ) -> tuple[_Solved, Grid]:
    """Rows of a group, and the grid for the next one."""
    problem, fluctuations = self._problem, self._fluctuations
    span, since = span.recent(group.since, 2 * fluctuations.end)
    end = span.end_time(since)
    scale = standard_deviations(self._variances[group.times]).ravel()
    predictions = Predictions(
        [span.since(t.function) for t in group.terms],
        [end.basis.rotate(span.weighted(t.factors)) for t in group.terms],
        scale)
    probes = Probes(end, predictions, fluctuations.ndk.scales.lag, problem.rtol)
    on = probes.choose(grid).on
    kappa, cross = predictions.kernels(on.times)
    rows = on.rows(kappa, scale)
    fluctuations.error = max(fluctuations.error, .1 * rows.tail + probes.error)
    # Predictions with themselves.
    dot = self._dot
    mixed = dot(rows.moments, cross)
    self._add(group, group, dot(rows.h, on.integral(rows)) +
              dot(rows.moments, rows.coupled) - mixed - self._transposed(mixed))
    return _Solved(group, span, on, rows), probes.grid

  def _learn(self, span: Span,
             groups: Sequence[_Group]) -> list[Optional[Learned]]:
    """Adds what learning in a stage does to covariances."""
    grid, solved = Grid(), []
    for group in reversed(groups):
      if group.since > 0:
        one, grid = self._solve(span, group, grid)
        solved.append(one)
    for i, later in enumerate(solved):
      for earlier in solved[:i]:
        self._pair(later, earlier)
      for group in groups:
        if group.since == 0:  # At the beginning, without having learned.
          self._add(later.group, group, -self._with_free(later, group))
    owed = {id(one.group): self._fluctuations.owed(
        one.span, one.on, one.rows.moments) for one in solved}
    return [owed.get(id(group)) for group in groups]

  def _with_free(self, later: _Solved, group: _Group) -> np.ndarray:
    """Integral of `b` and the covariance with predictions without data."""
    rotate = lambda a: later.on.basis.rotate(later.span.weighted(a))
    age = later.span.start + later.on.tau - self._tau[group.times[0]]
    return self._dot(*later.on.with_prediction(
        later.rows, age, rotate(self._swapped), rotate(self._factors[1])))

  def _pair(self, later: _Solved, earlier: _Solved) -> None:
    """Covariance of predictions that stop learning at different times."""
    block = self._with_free(later, earlier.group)
    # What the later ones have in common with what the earlier ones learned of.
    span, on = earlier.span, earlier.on
    times = span.start + on.tau - on.mesh.ages
    ages = later.span.start + later.on.tau - times
    cross, basis = later.group.terms[1], later.on.basis
    values = np.einsum('fj,njm->nfm', cross.function(times),
                       on.basis.rotate(span.weighted(cross.factors)),
                       optimize=True)
    owed = later.on.with_outputs(later.rows, np.minimum(ages, later.on.tau))
    if basis is not on.basis:
      owed = on.basis.rotate((basis.evecs @ owed.reshape(
          (len(owed), -1))).reshape(owed.shape))
    block = block + self._dot(values - owed, on.response(earlier.rows))
    self._add(later.group, earlier.group, -block)

  def _owe(self, learned: Sequence[Optional[Learned]],
           groups: Sequence[_Group], earlier: np.ndarray) -> None:
    """The same of predictions in earlier stages, which are free in this one."""
    family = self._fluctuations.nngp.family
    for part, group in zip(learned, groups):
      if part is None:
        continue
      for i in earlier:
        phi = family.phi(part.times, self._tau[i])
        vectors = np.einsum('cr,ncm->nrm', phi, part.moments, optimize=True)
        self._out[group.times, i] -= self._dot(vectors, self._swapped)[:, 0]
