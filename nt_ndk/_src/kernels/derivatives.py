# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Derivatives of a network's NDK on its data, all compressed together in time.

In whatever they are taken, derivatives at all pairs of times lie in nearly the
same few dimensions as the kernel itself:

.. math::
  \partial_d \mathrm{NDK}(\tau, \tau') \approx
  \sum_m \varphi^d_m(\tau, \tau')\, B_m,

where :math:`B_m` are the matrices of the compressed kernel and a few
derivatives at chosen pairs of times. So products with vectors are shared.
"""

from typing import Any, cast, NamedTuple, Optional, Sequence

import jax
import numpy as np

from nt_ndk._src.base.devices import in_one_thread
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.measure import Measure
from nt_ndk._src.kernels import defect
from nt_ndk._src.kernels import family as kernel_family
from nt_ndk._src.kernels import sample as sample_lib
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.sample import Training
from nt_ndk._src.kernels.sample import Weights

# Error on any pair of samples, that of interpolation in time relative to it,
# and that of a candidate below which none is needed: as of kernels.
_ON_PAIRS, _IN_TIME, _IN_TIME_OF_IMAGES, _CANDIDATES = .03, 1e-3, .1, 1e-3
# Largest of the errors of interpolation, of a fit with a lower tolerance.
_LOOSEST = .1
# Pairs of times that are candidates, and times at which sizes are found.
_SOME_TIMES, _SIZES = 1000, 32
_MAX_RANK = 160
# Pairs of samples that are kept at most, out of how many, by derivatives and
# kernels at how many times in all; of vectors, and of images.
_PAIRS, _FEW_PAIRS = (192, 384, 384), (64, 96, 128)
# Training outputs of images up to which products with weights are worth their
# cost.
_FEW_WEIGHTS = 256
_EPS = float(np.finfo(float).eps)


class _Training(Training):
  """A kernel with its derivatives, and a few of the training samples."""

  def __init__(self, evaluator: KernelEvaluator,
               derivatives: Sequence[KernelEvaluator]) -> None:
    super().__init__(evaluator, 'ndk', 0.)
    self.derivatives = derivatives

  def members(self, pairs: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Derivatives, then the kernel, `[Q * (D + 1), P]`."""
    out = [d.sample(pairs, tau) for d in self.derivatives]
    return np.stack(out + [self.pairs(pairs, tau)], 1).reshape(
        (-1, len(pairs)))

  def joined(self, x_test: PyTree, arrays: dict[str, Any]) -> '_Training':
    out = _Training(self.evaluator.joined(x_test, arrays),
                    [d.joined(x_test, arrays) for d in self.derivatives])
    self._continued(out, x_test, arrays)
    return out


class _Sample(sample_lib.Sample):
  """Derivatives and the kernel on a sample, `[Q, (D + 1) * columns]`."""
  _sizes = _PAIRS, _FEW_PAIRS

  def __init__(self, training: _Training, tests: list[tuple[PyTree, Any]],
               weights: Weights, scales: kernel_family.TimeScales,
               tol: float) -> None:
    self._functions = len(training.derivatives) + 1
    vectors = training.evaluator.vectors
    few = training.n * training.locations <= _FEW_WEIGHTS
    super().__init__(training, tests, weights if vectors or few else None,
                     scales, vectors, np.random.RandomState(0), self._functions,
                     tol)

  def values(self, tau: np.ndarray) -> np.ndarray:
    return super().values(tau).reshape((len(tau), -1))

  def relevance(self, tau: np.ndarray) -> np.ndarray:
    return np.tile(super().relevance(tau), (1, self._functions))

  @property
  def in_time(self) -> np.ndarray:
    return np.tile(super().in_time, self._functions)


class _Member(NamedTuple):
  """Derivatives at pairs of times, of one direction.

  Attributes:
    direction: number of it.
    tau: `[Q, 2]`.
  """
  direction: int
  tau: np.ndarray


class CompressedDerivatives:
  r"""Derivatives of the NDK, :math:`\sum_m \varphi^d_m(\tau, \tau') B_m`.

  Attributes:
    family: functions of time, those of all matrices for the first direction
      before those for the next one.
    rank: number of matrices.
    exact: whether another fit has nothing to gain.
  """

  def __init__(self, family: kernel_family.KernelFamily,
               scales: kernel_family.TimeScales, evaluator: KernelEvaluator,
               derivatives: Sequence[KernelEvaluator], rtol: float,
               weights: Weights,
               tests: Sequence[tuple[PyTree, Any]]) -> None:
    """Fits functions of time.

    Args:
      family: of the kernel.
      scales: time scales of the kernel.
      evaluator: of the kernel on the training data.
      derivatives: of derivatives, in units in which they are as large.
      rtol: tolerance of predictions.
      weights: what predictions multiply derivatives with.
      tests: test inputs, and keyword arguments that belong to them.
    """
    self._derivatives, self._known = derivatives, family
    self._training = _Training(evaluator, derivatives)
    seen = [self._training.seen(*test) for test in tests]
    self._scales, self._tol = scales, _ON_PAIRS * rtol
    self._tests, self._weights = [test for test in seen if test], weights
    self._tabulate()
    self._choose()

  @in_one_thread
  def _tabulate(self) -> None:
    """Takes a sample, and finds its functions at many times."""
    self._sample = _Sample(self._training, self._tests, self._weights,
                           self._scales, _CANDIDATES * self._tol)
    self._in_time = self._tol * (_IN_TIME if self._training.evaluator.vectors
                                 else _IN_TIME_OF_IMAGES)
    self._table = kernel_family.tabulate(
        self._sample, self._scales, 2 * self._scales.slow, self._in_time,
        _EPS**.5 * self._sample.amplified, self._known.tau)

  def refine(self, factor: float) -> None:
    """Fits again, with the tolerance times a factor."""
    self._tol *= factor
    if self._in_time > _LOOSEST * self._tol:
      self._tabulate()
    self._choose()

  @in_one_thread
  def _choose(self) -> None:
    """Chooses pairs of times, and fits functions between them."""
    tol = self._tol
    table, known = self._table, len(self._known.tau)
    count = len(self._derivatives)
    values = table.values.reshape((len(table.tau), count + 1, -1))
    columns = values.shape[-1]
    rng = np.random.RandomState(0)
    some = known + rng.permutation(len(table.tau) - known)[:_SOME_TIMES]
    flat = lambda a: a.reshape((-1, columns))
    relevance = self._sample.relevance(table.tau).reshape(values.shape)
    # All that derivatives are combined of, the kernel's own first.
    rows = np.concatenate([values[:known, -1], flat(values[some, :-1])])
    order, left = kernel_family.greedy(
        rows, tol, _MAX_RANK, known,
        np.concatenate([relevance[:known, -1], flat(relevance[some, :-1])]))
    self.exact = left[-1] > tol
    q, d = np.divmod(order[known:] - known, count)
    members = [_Member(i, table.tau[some[q[d == i]]]) for i in range(count)]
    size = [table.size[:known]] + [table.size[some[q[d == i]]]
                                   for i in range(count)]
    basis = np.concatenate([rows[:known]] + [
        values[some[q[d == i]], i] for i in range(count)])
    self._members = [m for m in members if len(m.tau)]
    phi = kernel_family.fit(
        np.concatenate([basis, flat(values[:, :-1])]),
        np.arange(len(basis)))[len(basis):] / np.concatenate(size)
    self.rank = len(basis)
    tau = np.concatenate([self._known.tau] + [m.tau for m in members])
    self.family = table.interpolated(tau, phi.reshape((len(values), -1)))

  def factors(self, x_test: PyTree = None, **kwargs: Any) -> list[jax.Array]:
    """Matrices beside those of the kernel, of each direction `[m, Q * n]`.

    Args:
      x_test: test inputs; `None` means training inputs.
      **kwargs: of test inputs.
    """
    of = lambda derivative, tau: (
        derivative.train_train('ndk', tau) if x_test is None else
        derivative.test_train(x_test, 'ndk', tau, **kwargs))
    return [of(self._derivatives[d], tau) for d, tau in self._members]

  def defect(self, mixture: KernelEvaluator, signs: np.ndarray,
             integrals: Sequence[tuple[float, Measure]],
             test: Optional[tuple[PyTree, Any]]) -> float:
    """What errors of derivatives make of integrals over time and data.

    Args:
      mixture: of a combination of all derivatives.
      signs: `[D]`, their factors in it.
      integrals: with the combination, up to which time each is, over what
        measure.
      test: test inputs, and keyword arguments that belong to them; `None` means
        training inputs.

    Returns:
      The largest error of these integrals, of some inputs.
    """
    training = _Training(self._training.evaluator,
                         [*self._derivatives, mixture])
    seen = None if test is None else training.seen(*test)
    some, rows = training.some_rows(seen, np.random.RandomState(4),
                                    training.many)
    kernel = cast(_Training, some)
    of = lambda evaluator, times: evaluator.sample(
        kernel.entries(rows), times).reshape((len(times), len(rows), -1))
    members = np.concatenate([of(kernel.evaluator, self._known.tau)] + [
        of(kernel.derivatives[d], times) for d, times in self._members])

    def errors(tau):
      phi = self.family.phi(*tau.T).reshape((len(tau), len(signs), -1))
      return of(kernel.derivatives[-1], tau) - np.tensordot(
          np.einsum('d,qdm->qm', signs, phi), members, 1)

    return defect.largest(integrals, errors)


def size(evaluator: KernelEvaluator, derivative: KernelEvaluator,
         scales: kernel_family.TimeScales) -> float:
  """The largest of a derivative, relative to kernels at equal times."""
  training, rng = Training(evaluator, 'ndk', 0.), np.random.RandomState(6)
  pairs = training.row(training.training_pairs(1, rng))
  tau = kernel_family.some_times(2 * scales.slow, _SIZES, rng)
  first, second = (evaluator.sample(np.stack([i, i], 1), np.stack([t, t], 1))
                   for i, t in zip(pairs.T, tau.T))
  return float(np.max(np.abs(derivative.sample(pairs, tau)) /
                      np.sqrt(first * second)))
