# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Stretches of diffusion time in which the same is learned."""

from typing import Any, Callable, NamedTuple, Optional, Sequence

import jax.numpy as jnp
import numpy as np
import scipy.linalg

from nt_ndk._src.dynamics import resolvent
from nt_ndk._src.dynamics.resolvent import EndTime
from nt_ndk._src.dynamics.resolvent import LowRankKernel
from nt_ndk._src.dynamics.resolvent import Shifted
from nt_ndk._src.kernels.compressed import CompressedKernel
from nt_ndk._src.predictors.problem import Lesson
from nt_ndk._src.predictors.problem import Problem

# Tolerance and number of modes from which on their matrices are in single
# precision, which halves the time of products with them.
_SINGLE_FROM = 1e-5, 256
# Correlation of modes at equal times that the coarse grid can do with, in
# `rtol`.
_COUPLED = 1000.
# Times before the end of a span that show which functions of time matter there,
# at either of its ends, and the smallest one, relative to the time.
_TIMES, _SHORTEST = 60, 1e-7


class Span:
  """A stretch with noise; or the limit of none, in which much time passes.

  Attributes:
    lesson: what is learned.
    start: diffusion time at which it begins.
    extent: diffusion time that it takes.
  """

  def __init__(self, problem: Problem, ndk: CompressedKernel,
               nngp: CompressedKernel, lesson: Lesson, start: float,
               extent: float) -> None:
    self._problem, self._kernels = problem, (ndk, nngp)
    self.lesson, self.start, self.extent = lesson, start, extent
    self._root = None if lesson.weight is None else np.sqrt(lesson.weight)
    self._basis: Optional[resolvent.Basis] = None
    self._fits = (0, 0)

  def _low_rank(self, kernel: CompressedKernel) -> LowRankKernel:
    """In time since the beginning, times roots of the weights of samples."""
    factors: Any = self._problem.factors(kernel)
    if self._root is not None:
      n, root = len(factors), jnp.asarray(self._root, factors.dtype)
      factors = (factors.reshape((n, -1, n)) * root[:, None, None] *
                 root).reshape(factors.shape)
    return LowRankKernel(Shifted(kernel.family, self.start) if self.start else
                         kernel.family, factors)

  def recent(self, tau: float, longest: float) -> tuple['Span', float]:
    """The last part of it up to `tau`, all that is not forgotten.

    Args:
      tau: time since the beginning.
      longest: how much of it is taken at most.

    Returns:
      A span, and the time since its beginning.
    """
    if tau <= longest:
      return self, tau
    start = self.start + tau - longest
    return Span(self._problem, *self._kernels, self.lesson, start,
                longest), longest

  def end_time(self, tau: float) -> EndTime:
    """What resolvents that end at `tau` share; its basis may be the last.

    Args:
      tau: time since the beginning.
    """
    problem, temperature = self._problem, self.lesson.temperature
    ndk, nngp = map(self._low_rank, self._kernels)
    fits = self._kernels[0].fits, self._kernels[1].fits
    basis = self._basis
    if basis is None or self._fits != fits or (
        resolvent.coupling(basis, ndk, tau, temperature) >
        _COUPLED * problem.rtol):
      rtol, modes = _SINGLE_FROM
      single = problem.rtol >= rtol and len(problem.y) >= modes
      dtype = jnp.float32 if single else problem.dtype
      self._basis = basis = resolvent.make_basis(ndk, nngp, tau, dtype)
      self._fits = fits
    scales = self._kernels[0].scales
    return EndTime(tau, temperature, ndk, nngp, basis, problem.rtol,
                   scales.lag, .1 * scales.slow)

  def weighted(self, vectors: np.ndarray) -> np.ndarray:
    """`[n, ...]` times roots of the weights of samples."""
    if self._root is None:
      return vectors
    return vectors * self._root.reshape((-1,) + (1,) * (vectors.ndim - 1))

  def since(self, function: Callable[[np.ndarray], np.ndarray]
            ) -> Callable[[np.ndarray], np.ndarray]:
    """A function of diffusion time as one of time since the beginning."""
    if not self.start:
      return function
    return lambda tau: function(self.start + tau)


class Terms(NamedTuple):
  """Sums of products of functions of the training outputs' time and matrices.

  Attributes:
    function: of diffusion times `[S]`, to `[S, J]`.
    factors: `[n, J, m]`.
  """
  function: Callable[[np.ndarray], np.ndarray]
  factors: np.ndarray

  def at(self, tau: float) -> np.ndarray:
    """`[n, m]`, at one time."""
    values = self.function(np.full(1, tau))[0]
    return np.einsum('j,njm->nm', values, self.factors)


class Learned(NamedTuple):
  """What some predictions owe to the outputs on the training data in a span.

  Attributes:
    times: `[C]`, diffusion times.
    moments: `[n, C, m]`, weights of the outputs at these times.
    some: which of all predictions they are.
  """
  times: np.ndarray
  moments: np.ndarray
  some: slice


def earlier_terms(kernel: CompressedKernel, matrices: np.ndarray,
                  before: Sequence[tuple[Terms, slice]],
                  learned: Sequence[Learned], until: float, count: int,
                  tol: float) -> Terms:
  r"""Kernels with earlier training outputs, of predictions that have learned.

  What they owe to outputs :math:`f(X, u)` at later times takes
  :math:`\int b(u)\, \mathcal{K}(X, u; X, s)\, du` away from their kernels.

  Args:
    kernel: :math:`\mathcal{K}`.
    matrices: `[n, R * n]`, its matrices on the training data.
    before: kernels without what was learned, and of which predictions.
    learned: what was learned.
    until: latest time that is asked for.
    count: number of all predictions.
    tol: relative error of functions of time.
  """
  n, family = len(matrices), kernel.family
  norms = np.linalg.norm(matrices.reshape((n, -1, n)), axis=(0, 2))
  sizes = [np.linalg.norm(terms.factors, axis=(0, 2)) for terms, _ in before]
  sizes += [(np.linalg.norm(part.moments, axis=(0, 2))[:, None] * norms).ravel()
            for part in learned]
  starts = np.cumsum([0] + [len(size) for size in sizes])
  size = np.concatenate(sizes)

  def every(tau: np.ndarray) -> np.ndarray:
    return np.concatenate([terms.function(tau) for terms, _ in before] + [
        family.phi(part.times, tau[:, None]).reshape((len(tau), -1))
        for part in learned], 1)

  short = np.geomspace(_SHORTEST, 1., _TIMES)[:-1]
  table = size * every(until * np.concatenate([[0.], short, 1 - short, [1.]]))

  # A few of the functions stand for all.
  _, triangle, order = scipy.linalg.qr(table, mode='economic', pivoting=True)
  diagonal = np.abs(np.diag(triangle))
  rank = max(1, int(np.sum(diagonal > tol * diagonal[0])))
  mixed = np.empty((rank, table.shape[1]))
  mixed[:, order] = scipy.linalg.solve_triangular(triangle[:rank, :rank],
                                                  triangle[:rank])
  chosen = np.sort(order[:rank])
  mixed = mixed[np.argsort(order[:rank])]
  size = np.where(size > 0, size, 1.)
  mixed *= size[chosen][:, None] / size
  factors = np.zeros((n, rank, count))
  for (terms, some), start in zip(before, starts):
    weights = mixed[:, start:start + terms.factors.shape[1]]
    factors[:, :, some] += np.einsum('kj,njm->nkm', weights, terms.factors,
                                     optimize=True)
  for part, start in zip(learned, starts[len(before):]):
    weights = mixed[:, start:start + len(part.times) * family.rank].reshape(
        (rank, -1, family.rank))
    for r in range(family.rank):
      vectors = np.einsum('kc,ncm->nkm', weights[..., r], part.moments,
                          optimize=True)
      factors[:, :, part.some] -= (
          matrices[:, r * n:(r + 1) * n].T @ vectors.reshape((n, -1))).reshape(
              vectors.shape)
  return Terms(lambda tau: every(tau)[:, chosen], factors)
