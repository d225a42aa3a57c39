# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""A network's two-time kernel on its data, compressed in time when needed."""

import functools
from typing import Any, Callable, Optional
import warnings

import jax
import numpy as np

from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels import family as kernel_family
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.evaluation import length

# Pairs of samples on which kernels are compressed, by angle.
_SAMPLE_PAIRS = 18
_POOL_SIZE = 1000
_DUPLICATE = 1e-5  # Smallest angle of inputs that differ.
_MAX_FITS = 3
# Error that fits can have, in rounding errors.
_ROUNDING = 200

# Columns of a kernel.
_Samples = dict[bytes, dict[tuple[int, ...], np.ndarray]]


def _features(x: PyTree) -> np.ndarray:
  """Inputs as one vector for each sample."""
  return np.concatenate([np.asarray(a, float).reshape((len(a), -1))
                         for a in jax.tree_util.tree_leaves(x)], 1)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Between rows of `a` and of `b`, `[n, m]`."""
  norms = (np.linalg.norm(v, axis=1) for v in (a, b))
  cosine = a @ b.T / np.maximum(np.outer(*norms), 1e-300)
  return np.arccos(np.clip(cosine, -1, 1)).astype(np.float32)


def _choose_pairs(angle: np.ndarray, in_order: np.ndarray, norm_a: np.ndarray,
                  norm_b: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
  """Pairs of vectors at all angles and with extreme norms.

  Args:
    angle: `[n, m]`.
    in_order: `[n * m]`, the same from small to large.
    norm_a: `[n]`.
    norm_b: `[m]`.
    rng: draws pairs.

  Returns:
    `[P, 2]`, indices of vectors.
  """
  size, (n, m) = _SAMPLE_PAIRS, angle.shape
  if n * m <= 2 * size:
    return np.stack(np.meshgrid(np.arange(n), np.arange(m), indexing='ij'),
                    -1).reshape((-1, 2))

  # Exact duplicates are like a point with itself.
  high = in_order[-1]
  low = in_order[min(np.searchsorted(in_order, _DUPLICATE, 'right'),
                     n * m - 1)]
  levels = low + (high - low) * np.append([0., 1.], rng.uniform(size=size))
  above = np.clip(np.searchsorted(in_order, levels), 1, n * m - 1)
  neighbors = in_order[[above - 1, above]]
  nearest = np.where(levels - neighbors[0] < neighbors[1] - levels, *neighbors)
  extreme_a, extreme_b = ([np.argmin(v), np.argmax(v)]
                          for v in (norm_a, norm_b))
  return np.unique(
      [np.unravel_index(np.argmax(angle == a), angle.shape) for a in nearest] +
      list(zip(rng.randint(n, size=size // 2),
               rng.randint(m, size=size // 2))) +
      [(i, j) for i in extreme_a for j in extreme_b], axis=0)


def _training_pairs(x: PyTree, count: int,
                    rng: np.random.RandomState) -> list[np.ndarray]:
  """Lists of pairs of training samples, each of all kinds, `count` times."""
  pool = rng.permutation(length(x))[:_POOL_SIZE]
  features = _features(_take(x, pool))
  angle, norm = _angles(features, features), np.linalg.norm(features, axis=1)
  in_order = np.sort(angle, axis=None)
  out = []
  for k in range(count):
    # Kernels at different times are not symmetric: pairs in random order, the
    # nearest samples in both.
    other = rng.permutation(len(pool))
    i, j = _choose_pairs(angle[:, other], in_order, norm, norm[other], rng).T
    pairs = np.stack([pool[i], pool[other[j]]], 1)[:, ::-1 if k % 2 else 1]
    itself = rng.permutation(np.unique(pairs))[:_SAMPLE_PAIRS // 2]
    out.append(np.concatenate([pairs, np.stack([itself, itself], 1)]))
  return out


def compress_at(evaluator: KernelEvaluator, get: str, tau: np.ndarray,
                tol: float) -> tuple[np.ndarray, list[jax.Array]]:
  """Compresses a kernel at given pairs of times.

  Args:
    evaluator: of the kernel on the training data.
    get: `"ndk"` or `"nngp"`.
    tau: `[Q, 2]`, pairs of times.
    tol: tolerance, relative to the largest kernels.

  Returns:
    Functions of time `[Q, R]`, and `R` matrices on the training data.
  """
  rng = np.random.RandomState(0)
  pairs = np.concatenate(_training_pairs(evaluator.x_train, 2, rng))
  pairs = pairs * evaluator.locations + rng.randint(evaluator.locations,
                                                    size=pairs.shape)
  values = evaluator.sample(pairs, tau, get)
  chosen, phi = kernel_family.compress(values / np.max(np.abs(values)), tol)
  return phi, [evaluator.train_train(get, tau[[r]]) for r in chosen]


def _take(tree: PyTree, i: np.ndarray) -> PyTree:
  return jax.tree_util.tree_map(lambda a: np.asarray(a)[i], tree)


class CompressedKernel:
  r"""NDK or covariance, :math:`\sum_r \varphi_r(\tau, \tau') K_r`.

  The functions of time are fitted on pairs of training samples, when they are
  first needed. Test samples that are unlike these make it necessary to fit
  again.

  Attributes:
    get: `"ndk"` or `"nngp"`.
    fits: number of fits so far; results of earlier ones are not valid.
    family: :math:`\varphi_r`, a `KernelFamily`.
    scales: time scales of the kernel.
    test_error: error between the latest test and training samples, relative to
      the kernels at equal times.
  """

  def __init__(self, evaluator: KernelEvaluator, get: str, rtol: float,
               eps: float, start: float = 0.,
               scales: Optional[kernel_family.TimeScales] = None) -> None:
    """Fits nothing yet.

    Args:
      evaluator: of the kernel on the training data.
      get: `"ndk"` or `"nngp"`.
      rtol: tolerance of predictions; that of the kernel is a tenth of it.
      eps: rounding error of kernels.
      start: time that is called 0.
      scales: time scales, if known.
    """
    self._evaluator, self.get, self._start = evaluator, get, start
    self._rtol, self._eps = rtol, eps
    self._tightening = 1.
    # Test samples on which the kernel has to be right too.
    self._extra: list[tuple[Any, np.ndarray]] = []
    # By times, then by pairs of samples.
    self._sampled: _Samples = {}
    self.fits = 0
    self.test_error = 0.
    self._scales = scales
    self._family: Optional[kernel_family.KernelFamily] = None
    self._factors: Optional[jax.Array] = None
    self._latest: Optional[tuple[Any, np.ndarray]] = None

  @property
  def family(self) -> kernel_family.KernelFamily:
    return self._fit() if self._family is None else self._family

  @property
  def error(self) -> float:
    """Largest error found so far, relative to the kernels at equal times."""
    return max(self.family.error, self.test_error)

  @property
  def exact(self) -> bool:
    """Whether rounding errors leave nothing to gain from another fit."""
    return min(self._tightening * self._tolerance,
               self.error) <= _ROUNDING * self._eps

  @property
  def _tolerance(self) -> float:
    """Largest allowed error."""
    return max(.1 * self._rtol, _ROUNDING * self._eps)

  @property
  def scales(self) -> kernel_family.TimeScales:
    """Time scales, found on three samples."""
    if self._scales is None:
      self._scales = kernel_family.time_scales(
          self._sampler(self._evaluator), self._three_samples(),
          1e-2 * self._rtol)
    return self._scales

  @functools.cached_property
  def rounding(self) -> float:
    """Relative rounding error of the kernel of (nearly) equal inputs.

    What a change of time by (ten times) rounding does to it at equal times:
    little, unless there is a cusp, as for ReLU, or the inputs are large.
    """
    shift = self._eps * self.scales.slow
    samples = self._three_samples()
    still, moved = self._sampler(self._evaluator)(
        np.stack([samples, samples], 1), np.array([[0., 0.], [shift, 0.]]))
    return self._eps + float(np.max(np.abs(moved / still - 1)))

  def _three_samples(self) -> np.ndarray:
    samples = np.random.RandomState(0).permutation(
        length(self._evaluator.x_train))[:3]
    return samples * self._evaluator.locations

  def factors(self,
              report: Callable[[float], None] = lambda _: None) -> jax.Array:
    """`[n, R * n]`, the matrices :math:`K_r` on the training data.

    Args:
      report: called with the number of matrices computed so far.
    """
    if self._factors is None:
      self._factors = self._evaluator.train_train(
          self.get, self.family.tau + self._start, report)
    return self._factors

  @property
  def computed(self) -> bool:
    """Whether `factors` are known already."""
    return self._factors is not None

  @functools.cached_property
  def initial(self) -> jax.Array:
    """`[n, n]`, the kernel at the first times."""
    return self._evaluator.train_train(self.get,
                                       np.full((1, 2), self._start))

  def test_factors(self, x_test: PyTree, swap: bool = False,
                   **kwargs: Any) -> jax.Array:
    """`[m, R * n]`, the same between test and training data.

    Args:
      x_test: test inputs.
      swap: whether the earlier time is that of the test inputs.
      **kwargs: of test inputs.
    """
    order = slice(None, None, -1 if swap else None)
    return self._evaluator.test_train(
        x_test, self.get, self.family.tau[:, order] + self._start, **kwargs)

  def tighten(self, factor: float) -> None:
    """Fits again, with an error smaller than now by a factor."""
    if self._latest is not None and self.test_error > self.family.error:
      self._extra.append(self._latest)
    self._tightening = min(.3 * self._tightening,
                           factor * self.error / (.1 * self._rtol))
    self._fit()

  def _sampler(self, evaluator: KernelEvaluator) -> kernel_family.SampleKernel:
    """The kernel on samples, which is not computed twice."""
    train = length(self._evaluator.x_train) * self._evaluator.locations
    # Samples after the training data are this evaluator's own.
    own: _Samples = {}

    def sampler(pairs, tau):
      known, others = (values.setdefault(tau.tobytes(), {})
                       for values in (self._sampled, own))
      keys = [tuple(pair) for pair in pairs]
      new = list(dict.fromkeys(
          k for k in keys if k not in known and k not in others))
      if new:
        columns = evaluator.sample(np.array(new), tau + self._start,
                                   self.get).T
        for k, column in zip(new, columns):
          (known if max(k) < train else others)[k] = column
      return np.stack([known[k] if k in known else others[k] for k in keys], 1)

    return sampler

  def _fit(self) -> kernel_family.KernelFamily:
    """Fits the functions of time."""
    rng = np.random.RandomState(0)
    evaluator, locations = self._evaluator, self._evaluator.locations
    pairs, *others = _training_pairs(evaluator.x_train, 4, rng)
    held_out = np.concatenate(others)
    for test, test_train in self._extra:
      pairs = np.concatenate([pairs, test_train +
                              [length(evaluator.x_train), 0]])
      evaluator = evaluator.joined(*test)
    spread = lambda p: p * locations + rng.randint(locations, size=p.shape)
    pairs, held_out = spread(pairs), spread(held_out)
    kernel = self._sampler(evaluator)
    tol = self._tolerance
    aim = max(tol * self._tightening, _ROUNDING * self._eps)
    self._family = family = kernel_family.fit(
        kernel, pairs, held_out, self.scales, 2 * self.scales.slow, tol, rng,
        aim, self._eps**.5)  # The root of rounding errors, at a cusp.
    self._factors = None
    self.fits += 1
    if self._latest is not None:
      self.test_error = self._error_on(*self._latest)
    return family

  def _error_on(self, extra: PyTree, pairs: np.ndarray) -> float:
    """Largest error on pairs of test samples and training samples."""
    joined = pairs + [length(self._evaluator.x_train), 0]
    return float(np.max(kernel_family.check(
        self._sampler(self._evaluator.joined(*extra)), self.family,
        joined * self._evaluator.locations, np.random.RandomState(2))))

  def include(self, x_test: PyTree, arrays: dict[str, Any]) -> None:
    """Makes sure that the kernel is right between test and training data.

    Args:
      x_test: test inputs.
      arrays: keyword arguments that have a part for test inputs, that part.
    """
    rng = np.random.RandomState(1)
    evaluator = self._evaluator
    test, train = (x_test, arrays), (evaluator.x_train, evaluator.arrays)
    pools = [rng.permutation(length(x))[:_POOL_SIZE] for x, _ in (test, train)]
    features = [_features(_take(x, pool))
                for pool, (x, _) in zip(pools, (test, train))]
    angle = _angles(*features)
    in_order = np.sort(angle, axis=None)
    norms = [np.linalg.norm(f, axis=1) for f in features]

    def choose():
      """Test samples of some pairs, and pairs of these and training samples."""
      i, j = _choose_pairs(angle, in_order, norms[0], norms[1], rng).T
      return (_take(test, pools[0][i]),
              np.stack([np.arange(len(i)), pools[1][j]], 1))

    if self._family is None:
      self._extra.append(choose())
      self._fit()
    for attempt in range(_MAX_FITS):
      extra, pairs = self._latest = choose()
      self.test_error = self._error_on(extra, pairs)
      if self.test_error <= self._rtol:
        return
      if attempt < _MAX_FITS - 1:
        self._extra.append((extra, pairs))
        self._fit()
    warnings.warn(
        'Kernels between test and training data have a relative error of '
        f'{self.test_error:.1e}; predictions may be less accurate than '
        '`rtol`.')
