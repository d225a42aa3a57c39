# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""A few numbers that stand for a kernel on all data, at any times."""

import functools
from typing import Any, NamedTuple, Optional

import numpy as np
import scipy.linalg

from nt_ndk._src.base.typing import Numbers
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels import family as kernel_family
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.evaluation import length
from nt_ndk._src.kernels.pairs import extremes
from nt_ndk._src.kernels.pairs import take
from nt_ndk._src.kernels.pairs import test_pairs
from nt_ndk._src.kernels.pairs import training_pairs

# Pairs of samples that are kept, out of how many, by their kernels at how many
# times; of vectors, and of images, whose kernels are expensive.
_PAIRS, _FEW_PAIRS = (96, 1000, 256), (32, 64, 40)
# Entries of kernels in products with weights, of vectors and of images, and
# rows that these have at least. Of few training samples they are many: an error
# may be that of a single test input.
_ENTRIES, _FEW_ENTRIES, _FEWEST_ROWS = 800, 40, 2
# Entries of kernels of vectors on which errors are measured, and how many rows
# these have, at least and at most; of few samples half of them, in any number.
_CHECKED, _CHECKED_ROWS = 12000, (8, 24)
# Pairs of times that pairs of samples tell apart, as a part of their number.
_FULL = .75
# Accuracy in time of products relative to that of single kernels.
_SMOOTH = 1e-2
# Random mixtures of rows that stand for all rows.
_MIXTURES = 8


class Training:
  """A kernel, from some time on, and a few of the training samples.

  Attributes:
    evaluator: of the kernel on the training data.
    get: `"ndk"` or `"nngp"`.
    start: time that is called 0.
  """

  def __init__(self, evaluator: KernelEvaluator, get: str,
               start: float) -> None:
    self.evaluator, self.get, self.start = evaluator, get, start
    self.n, self.locations = length(evaluator.x_train), evaluator.locations

  @functools.cached_property
  def _nonzero(self) -> np.ndarray:
    """Outputs that are not always zero, `[samples, locations]`."""
    out = self.evaluator.nonzero(self.get, self.start)
    if not np.any(out):
      raise ValueError(
          'The kernel must not vanish for all training inputs, but does. Give '
          'the first layer a bias, `b_std`, or pass inputs that are not zero.')
    return out

  @functools.cached_property
  def samples(self) -> np.ndarray:
    """Training samples that tell something; those that are zero do not."""
    return np.flatnonzero(np.any(self._nonzero[:self.n], 1))

  def row(self, samples: np.ndarray, which: Numbers = 0) -> np.ndarray:
    """Rows of samples, at one of their locations that are not always zero."""
    nonzero = self._nonzero[samples]
    count = np.maximum(np.sum(nonzero, -1), 1)
    order = np.argsort(~nonzero, axis=-1, kind='stable')
    location = np.take_along_axis(order, (which % count)[..., None], -1)
    return samples * self.locations + location[..., 0]

  def training_pairs(self, count: int,
                     rng: np.random.RandomState) -> np.ndarray:
    """Pairs of training samples of all kinds, `[P, 2]`."""
    evaluator, samples = self.evaluator, self.samples
    x = evaluator.visible(take(evaluator.x_train, samples))
    return samples[np.concatenate(training_pairs(x, count, rng))]

  def test_pairs(self, x_test: PyTree,
                 rng: np.random.RandomState) -> np.ndarray:
    """Pairs of test samples and training samples of all kinds, `[P, 2]`."""
    evaluator, samples = self.evaluator, self.samples
    x_train = take(evaluator.x_train, samples)
    i, j = test_pairs(evaluator.visible(x_test), evaluator.visible(x_train),
                      rng).T
    return np.stack([i, samples[j]], 1)

  def seen(self, x_test: PyTree,
           arrays: dict[str, Any]) -> Optional[tuple[PyTree, Any]]:
    """Test samples that are not always zero, if there are any."""
    if x_test is None:
      return None
    nonzero = self.evaluator.on(x_test, arrays).nonzero(self.get, self.start)
    samples = np.flatnonzero(np.any(nonzero, 1))
    return take((x_test, arrays), samples) if len(samples) else None

  @property
  def count(self) -> int:
    """Number of rows that are a few."""
    entries = _ENTRIES if self.evaluator.vectors else _FEW_ENTRIES
    return max(entries // (self.n * self.locations), _FEWEST_ROWS)

  @property
  def many(self) -> int:
    """Number of rows on which errors are measured."""
    if not self.evaluator.vectors:  # Kernels are expensive.
      return self.count
    rows = _CHECKED // (self.n * self.locations)
    return max(rows // 2, int(np.clip(rows, *_CHECKED_ROWS)))

  def pairs(self, pairs: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Kernel of pairs of rows at pairs of times, `[Q, P]`."""
    return self.evaluator.sample(pairs, tau + self.start, self.get)

  def rows(self, rows: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Rows of the kernel with the training outputs, `[Q, rows, n]`."""
    return self.pairs(self.entries(rows), tau).reshape(
        (len(tau), len(rows), -1))

  def entries(self, rows: np.ndarray,
              columns: Optional[np.ndarray] = None) -> np.ndarray:
    """All pairs of rows and training outputs, or some, `[rows * n, 2]`."""
    if columns is None:
      columns = np.arange(self.n * self.locations)
    return np.stack(np.meshgrid(rows, columns, indexing='ij'), -1).reshape(
        (-1, 2))

  def members(self, pairs: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """All that is to be compressed together, `[rows, P]`, times first."""
    return self.pairs(pairs, tau)

  def joined(self, x_test: PyTree, arrays: dict[str, Any]) -> 'Training':
    """The same, with rows of test samples after those of training samples."""
    return self._continued(Training(
        self.evaluator.joined(x_test, arrays), self.get, self.start), x_test,
                           arrays)

  def _continued(self, out: 'Training', x_test: PyTree,
                 arrays: dict[str, Any]) -> 'Training':
    out.n = self.n
    out._nonzero = np.concatenate([
        self._nonzero,
        self.evaluator.on(x_test, arrays).nonzero(self.get, self.start)])
    return out

  @functools.cached_property
  def _extremes(self) -> np.ndarray:
    """Training samples of which kernels may be least accurate."""
    x = self.evaluator.visible(take(self.evaluator.x_train, self.samples))
    return extremes(x, x)

  def some_rows(self, test: Optional[tuple[PyTree, Any]],
                rng: np.random.RandomState, count: Optional[int] = None
                ) -> tuple['Training', np.ndarray]:
    """Rows of a few training samples, or of test samples if there are any.

    Of all kinds: any, and those of which kernels may be least accurate.
    """
    kernel = self
    if test is None:
      samples, kinds = self.samples, self._extremes
    else:
      visible = self.evaluator.visible
      samples = np.arange(length(test[0]))
      kinds = extremes(visible(test[0]), visible(take(self.evaluator.x_train,
                                                      self.samples)))
    # In turns, each once.
    anyone = rng.permutation(len(samples))[:kinds.shape[1]]
    turns = np.concatenate([anyone[None], kinds]).T.ravel()
    _, first = np.unique(turns, return_index=True)
    some = samples[turns[np.sort(first)][:count or self.count]]
    if test is not None:
      kernel = self.joined(*take(test, some))
      some = self.n + np.arange(len(some))
    return kernel, kernel.row(some, rng.randint(self.locations,
                                                size=len(some)))


class Weights(NamedTuple):
  """Vectors that kernels are multiplied with in predictions.

  Attributes:
    vectors: `[c, n, k]`; products with kernels are of the size of predictions
      relative to targets.
    since: `[c]`, earlier times from which on they matter in full.
    rows: `[n]`, training outputs that they belong to; `None` means all.
  """
  vectors: np.ndarray
  since: np.ndarray
  rows: Optional[np.ndarray] = None

  def relevance(self, tau: np.ndarray,
                scales: kernel_family.TimeScales) -> np.ndarray:
    """How much of them matters at pairs of times, `[Q, c]`."""
    later, earlier = tau.T
    # Of weights, what lies between such times, which memory multiplies.
    near = np.minimum(earlier, .1 * scales.slow)
    near = np.minimum(1., (later - earlier) / np.maximum(near, 1e-300))
    return near[:, None] * np.minimum(1., earlier[:, None] / self.since)


class Sample:
  """Kernels of a few pairs of samples, and their products with weights.

  These products are those of a few rows. They are combinations of the pairs,
  found at some times, so that they cost nothing at others.

  Attributes:
    exhausted: number of pairs of times from which on there are too few pairs of
      samples to choose by.
  """
  _sizes = _PAIRS, _FEW_PAIRS

  def __init__(self, training: Training, tests: list[tuple[PyTree, Any]],
               weights: Optional[Weights], scales: kernel_family.TimeScales,
               many: bool, rng: np.random.RandomState, functions: int = 1,
               tol: float = 0.) -> None:
    """Chooses pairs and rows.

    Args:
      training: a kernel and the training samples.
      tests: test inputs, and keyword arguments that belong to them.
      weights: what products are with.
      scales: time scales of the kernel.
      many: whether to keep as many pairs as of vectors.
      rng: draws pairs and rows.
      functions: number of kernels that are compressed together.
      tol: what may be left of pairs that are not kept, relative to the largest.
    """
    self._scales, self._weights = scales, weights
    n, locations, kernel = training.n, training.locations, training
    count, most, times = self._sizes[0 if many else 1]
    samples = training.samples
    if len(samples)**2 <= most:
      pool = np.stack(np.meshgrid(samples, samples), -1).reshape((-1, 2))
    else:
      pool = training.training_pairs(2, rng)
      more = max(most - len(pool), 0)
      pool = np.concatenate([pool, samples[rng.randint(len(samples),
                                                       size=(more, 2))]])
    spread = lambda a: kernel.row(a, rng.randint(locations, size=a.shape))
    pools, rows, total = [spread(pool)], [], n
    if weights is not None:
      rows.append(training.some_rows(None, rng)[1])
    for x_test, arrays in tests:
      test, train = training.test_pairs(x_test, rng).T
      used, test = np.unique(test, return_inverse=True)
      kernel = kernel.joined(*take((x_test, arrays), used))
      pools.append(spread(np.stack([total + test, train], 1)))
      if weights is not None:
        some = total + rng.permutation(len(used))[:training.count]
        rows.append(kernel.row(some))
      total += len(used)
    if weights is not None:
      entries = training.entries(np.concatenate(rows), weights.rows)
      pools.append(entries)
    pool = np.unique(np.concatenate(pools), axis=0)
    self._kernel = kernel
    tau = kernel_family.some_times(2 * scales.slow, -(-times // functions), rng)
    values = kernel_family.finite(kernel.members(pool, tau))
    # The most different ones.
    triangle, order = scipy.linalg.qr(values, mode='r', pivoting=True)
    left = np.abs(np.diagonal(triangle))[:count]
    chosen = order[:max(np.count_nonzero(left > tol * left[0]), 1)]
    self._pairs = pool[chosen]
    self.exhausted = _FULL * len(chosen)

    # Large inputs have errors in proportion, small ones those of the others.
    points, inverse = np.unique(self._pairs, return_inverse=True)
    self._points = np.stack([points, points], 1)
    size = np.mean(self._equal(np.array([0., 2 * scales.slow])), 0)
    self._mean = np.mean(size)
    self._scale = np.exp(2 * self._mean + np.maximum(np.sum(
        size[inverse.reshape(self._pairs.shape)] - self._mean, 1), 0.))
    self._products = np.zeros((len(chosen), 0))
    if weights is not None:
      known = {tuple(pair): i for i, pair in enumerate(pool)}
      columns = [known[tuple(pair)] for pair in entries]
      products = np.einsum('qin,cnk->qcik', values[:, columns].reshape(
          (len(values), -1, weights.vectors.shape[1])), weights.vectors,
                           optimize=True)
      products = products.reshape(products.shape[:2] + (-1,))
      mix = rng.normal(size=(products.shape[-1], _MIXTURES))
      products = (products @ mix).reshape((len(values), -1))
      self._products, *_ = np.linalg.lstsq(values[:, chosen] / self._scale,
                                           products, rcond=None)

  def _equal(self, tau: np.ndarray) -> np.ndarray:
    """Logarithm of the size of kernels of samples with themselves."""
    return np.log(kernel_family.positive(self._kernel.pairs(
        self._points, np.stack([tau, tau], 1)))) / 2

  def log_size(self, tau: np.ndarray) -> np.ndarray:
    return np.mean(self._equal(tau), 1) - self._mean

  def values(self, tau: np.ndarray) -> np.ndarray:
    pairs = self._kernel.members(self._pairs, tau) / self._scale
    return np.concatenate([pairs, pairs @ self._products], 1)

  def relevance(self, tau: np.ndarray) -> np.ndarray:
    out = np.ones((len(tau), len(self._pairs) + self._products.shape[1]))
    if self._weights is not None:
      out[:, len(self._pairs):] = np.repeat(
          self._weights.relevance(tau, self._scales), _MIXTURES, 1)
    return out

  @property
  def in_time(self) -> np.ndarray:
    # Products need not be smoother than predictions are accurate.
    return np.repeat([1., _SMOOTH], self._products.shape)

  @property
  def amplified(self) -> float:
    """How much larger than of kernels rounding errors of values can be."""
    return max(1., _SMOOTH * float(np.max(np.sum(np.abs(self._products), 0),
                                          initial=0.)))
