# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""A network's two-time kernel on its data, compressed in time when needed."""

import functools
from typing import Any, Callable, cast, NamedTuple, Optional, Sequence
import warnings

import jax
import numpy as np

from nt_ndk._src.base.arrays import beside
from nt_ndk._src.base.arrays import Matrices
from nt_ndk._src.base.arrays import on_host
from nt_ndk._src.base.devices import in_one_thread
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.measure import Measure
from nt_ndk._src.kernels import defect
from nt_ndk._src.kernels import family as kernel_family
from nt_ndk._src.kernels.crops import crop
from nt_ndk._src.kernels.crops import cropped
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.pairs import take
from nt_ndk._src.kernels.sample import Sample
from nt_ndk._src.kernels.sample import Training
from nt_ndk._src.kernels.sample import Weights

# Error of kernels on any pair of samples, in `rtol`.
_ON_PAIRS = .03
# That of interpolation in time relative to it, of vectors and of images: of
# modes far below the largest one it is to be invisible.
_IN_TIME, _IN_TIME_OF_IMAGES = 1e-3, 1e-1
# Error of a candidate relative to the tolerance below which none is needed.
_CANDIDATES = 1e-3
# Training outputs up to which weights are found before the first fit, and
# before the second one; number of those that stand for more.
_FEW_WEIGHTS, _MANY_WEIGHTS, _SOME_WEIGHTS = 256, 2048, 128
# Pairs of times that are candidates.
_SOME_TIMES = 1500
# Times at which products with weights are tried.
_TRIALS = 64
# Bytes of matrices that a fit takes over from the one before it.
_KEPT_BYTES = 2**30
# Rounding error of kernels of a sample.
_EPS = float(np.finfo(float).eps)
_MAX_FITS = 3
_MAX_RANK = 80
# Error of kernels with test inputs that is worth another fit, in `rtol`.
_UNLIKE = 1.


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
  rng, training = np.random.RandomState(0), Training(evaluator, get, 0.)
  pairs = training.training_pairs(2, rng)
  pairs = training.row(pairs, rng.randint(evaluator.locations,
                                          size=pairs.shape))
  values = evaluator.sample(pairs, tau, get)
  values = values / np.max(np.abs(values))
  chosen, _ = kernel_family.greedy(values, tol)
  phi = kernel_family.fit(values, chosen)
  return phi, [evaluator.train_train(get, tau[[r]]) for r in chosen]


class _Candidates(NamedTuple):
  """Pairs of times to interpolate between.

  Attributes:
    table: functions of the kernel on a grid of times.
    order: indices of pairs of times, the most needed ones first.
    left: `[R]`, the largest value that is left after each of them.
    exhausted: number of them from which on the sample is too small.
  """
  table: kernel_family.Table
  order: np.ndarray
  left: np.ndarray
  exhausted: float


class CompressedKernel:
  r"""NDK or covariance, :math:`\sum_r \varphi_r(\tau, \tau') K_r`.

  The functions of time are fitted on pairs of training samples, when they are
  first needed. Test samples that are unlike these, and errors that matter more
  than was expected, make it necessary to fit again; what is known by then is
  not computed twice.

  Attributes:
    get: `"ndk"` or `"nngp"`.
    fits: number of fits so far; results of earlier ones are not valid.
    family: :math:`\varphi_r`, a `KernelFamily`.
    scales: time scales of the kernel.
    exact: whether another fit has nothing to gain.
    test_error: largest error between the latest test and training samples,
      relative to the kernels at equal times.
  """

  def __init__(self, evaluator: KernelEvaluator, get: str, rtol: float,
               eps: float, start: float = 0.,
               scales: Optional[kernel_family.TimeScales] = None,
               weights: Optional[Callable[[Optional[np.ndarray]], Weights]]
               = None) -> None:
    """Fits nothing yet.

    Args:
      evaluator: of the kernel on the training data.
      get: `"ndk"` or `"nngp"`.
      rtol: tolerance of predictions.
      eps: rounding error of kernels on all data.
      start: time that is called 0.
      scales: time scales, if known.
      weights: returns what predictions multiply kernels with, of all training
        outputs (`None`) or of some.
    """
    self._evaluator, self.get, self._start = evaluator, get, start
    self._rtol, self._eps = rtol, eps
    self._training = Training(evaluator, get, start)
    self._find_weights, self._weights = weights, cast(Optional[Weights], None)
    self._tightening, self._crop = 1., True
    self._many = evaluator.vectors
    # Test samples on which the kernel has to be right too.
    self._tests: list[tuple[PyTree, Any]] = []
    self._latest: Optional[tuple[PyTree, Any]] = None
    self.fits = 0
    self.test_error = 0.
    self.exact = False
    self._scales = scales
    self._family: Optional[kernel_family.KernelFamily] = None
    self._candidates: Optional[_Candidates] = None
    self._factors: Optional[jax.Array] = None
    self._known: Optional[tuple[np.ndarray, jax.Array]] = None

  @property
  def family(self) -> kernel_family.KernelFamily:
    return self._fit() if self._family is None else self._family

  @property
  def samples(self) -> np.ndarray:
    """Training samples whose outputs are not always zero."""
    return self._training.samples

  @property
  def scales(self) -> kernel_family.TimeScales:
    """Time scales, found on three samples."""
    if self._scales is None:
      self._scales = kernel_family.time_scales(
          self._training.pairs, self._three_samples(),
          1e-2 * self._rtol, forgets=self.get == 'ndk')
    return self._scales

  @functools.cached_property
  def rounding(self) -> float:
    """Relative rounding error of the kernel of (nearly) equal inputs.

    What a change of time by (ten times) rounding does to it at equal times:
    little, unless there is a cusp, as for ReLU, or the inputs are large.
    """
    shift = self._eps * self.scales.slow
    samples = self._three_samples()
    still, moved = self._training.pairs(
        np.stack([samples, samples], 1), np.array([[0., 0.], [shift, 0.]]))
    return self._eps + float(np.max(np.abs(moved / still - 1)))

  def _three_samples(self) -> np.ndarray:
    return self._training.row(np.random.RandomState(0).permutation(
        self._training.samples)[:3])

  def factors(self,
              report: Callable[[float], None] = lambda _: None) -> jax.Array:
    """`[n, R * n]`, the matrices :math:`K_r` on the training data.

    Args:
      report: called with the number of matrices computed so far.
    """
    if self._factors is None:
      tau, known = self.family.tau, self._known
      if known is None or not np.array_equal(known[0], tau[:len(known[0])]):
        self._factors = self._train_train(tau, report)
      elif len(known[0]) == len(tau):
        self._factors = known[1]
      else:
        old = len(known[0])
        self._factors = beside(known[1], self._train_train(
            tau[old:], lambda count: report(old + count)))
      self._known = None
    return self._factors

  def _train_train(self, tau: np.ndarray,
                   report: Callable[[float], None]) -> jax.Array:
    return self._evaluator.train_train(self.get, tau + self._start, report)

  @property
  def error(self) -> float:
    """Largest error on pairs of samples, relative to kernels at equal times.

    Of training samples, and of the latest test samples with these.
    """
    rng = np.random.RandomState(3)
    pairs = self._training.row(self._training.training_pairs(1, rng))
    return max(self.test_error, float(np.max(kernel_family.check(
        self._training.pairs, self.family, pairs, rng))))

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

  def tighten(self, factor: float) -> bool:
    """Fits again, with an error smaller than now by a factor.

    Or, with the same error, also on the latest test inputs, and with weights,
    if they are not yet in the sample.

    Args:
      factor: below 1.

    Returns:
      Whether that is another fit.
    """
    fits = self.fits
    self._find(_MANY_WEIGHTS)
    self._look_again(self._latest)
    if self._candidates is not None:
      self._tightening *= factor
    self._fit()
    return self.fits > fits

  def _look_again(self, test: Optional[tuple[PyTree, Any]]) -> None:
    """Next time on whole images, and on more test inputs."""
    if self._crop and self._crops:
      self._crop, self._candidates = False, None
    if test is not None:
      self._tests.append(test)
      self._latest = self._candidates = None

  @functools.cached_property
  def _crops(self) -> Optional[tuple[Training, int]]:
    """The kernel on crops, if there are any, and their size."""
    return cropped(self._training)

  def _find(self, largest: float) -> None:
    """Finds weights of up to a number of training outputs.

    Of very many vectors some stand for all; images are not worth their kernels.
    """
    if self._find_weights is None:
      return
    size, known = self._training.n * self._training.locations, self._weights
    if size <= largest and (known is None or known.rows is not None):
      self._weights, self._candidates = self._find_weights(None), None
    elif (size > max(largest, _MANY_WEIGHTS) and known is None and
          self._evaluator.vectors):
      some = self._training.row(np.random.RandomState(6).permutation(
          self._training.samples)[:_SOME_WEIGHTS])
      self._weights, self._candidates = self._find_weights(some), None

  def among(self, rows: np.ndarray) -> np.ndarray:
    """The kernel of training outputs with each other at the first times."""
    i, j = np.triu_indices(len(rows))
    out = np.empty((len(rows), len(rows)))
    out[i, j] = out[j, i] = self._training.pairs(
        np.stack([rows[i], rows[j]], 1), np.zeros((1, 2)))[0]
    return out

  @in_one_thread
  def _fit(self) -> kernel_family.KernelFamily:
    """Fits the functions of time."""
    again = self._candidates is not None
    if self._candidates is None:
      self._candidates = self._tabulate()
    table, order, left, exhausted = self._candidates
    enough = np.flatnonzero(left <= self._tightening * _ON_PAIRS * self._rtol)
    self.exact = not len(enough)
    rank = len(order) if self.exact else 1 + int(enough[0])
    if rank > exhausted and not self._many:
      # Of images few samples are tried at first, which do for most networks.
      self._many, self._candidates = True, None
      return self._fit()
    if self._family is not None and again:
      # At least one more.
      rank = min(max(rank, self._family.rank + 1), len(order))
      if rank == self._family.rank:
        return self._family
    if self._factors is not None and self._factors.nbytes <= _KEPT_BYTES:
      self._known = self.family.tau, self._factors
    self._factors = None
    self._family = table.family(order[:rank])
    self.fits += 1
    return self._family

  def _tabulate(self) -> _Candidates:
    """Kernels of a sample, and pairs of times that stand for all."""
    rng, tau_max = np.random.RandomState(0), 2 * self.scales.slow
    if self._crop and self._crops:
      training, size = self._crops
      sample = Sample(training, [(crop(x, size), {}) for x, _ in self._tests],
                      None, self.scales, self._many, rng)
    else:
      self._find(_FEW_WEIGHTS)
      sample = Sample(self._training, self._tests, self._weights, self.scales,
                      self._many, rng)
    tol = _ON_PAIRS * self._rtol
    in_time = tol * (_IN_TIME if self._evaluator.vectors else
                     _IN_TIME_OF_IMAGES)
    # Of kernels rounding errors are this large at a cusp.
    noise = _EPS**.5 * sample.amplified
    known = None if self._family is None else self._family.tau
    table = kernel_family.tabulate(sample, self.scales, tau_max, in_time, noise,
                                   known)
    first = 1 if known is None else len(known)
    some = np.append(np.arange(first), first + rng.permutation(
        len(table.tau) - first)[:_SOME_TIMES])
    order, left = kernel_family.greedy(
        table.values[some], max(_CANDIDATES * tol, 10 * _EPS), _MAX_RANK,
        first, sample.relevance(table.tau[some]))
    return _Candidates(table, some[order], left, sample.exhausted)

  def defect(self, integrals: Sequence[tuple[float, Measure]], x_test: PyTree,
             arrays: dict[str, Any]) -> float:
    """What errors of the kernel make of integrals over time and data.

    Args:
      integrals: with the kernel, up to which time each is, over what measure.
      x_test: test inputs; `None` means training inputs.
      arrays: keyword arguments that have a part for test inputs, that part.

    Returns:
      The largest difference of integrals of exact kernels and of those that are
      interpolated in time, of all that are found on some of the inputs.
    """
    training = self._training
    kernel, rows = training.some_rows(
        training.seen(x_test, arrays), np.random.RandomState(4), training.many)
    # Of training inputs also what rounding did to the matrices.
    members = None
    if x_test is None:
      factors: Matrices = self.factors()
      if on_host(factors):
        factors = np.asarray(factors)
      members = to_host(factors[rows]).reshape(
          (len(rows), self.family.rank, -1)).swapaxes(0, 1)
    return defect.largest(
        integrals, lambda tau: self._errors(kernel, rows, tau, members))

  def _errors(self, kernel: Training, rows: np.ndarray, tau: np.ndarray,
              members: Optional[np.ndarray] = None) -> np.ndarray:
    """Errors of some rows of the kernel, `[Q, rows, n]`.

    Args:
      kernel: of the rows with the training outputs.
      rows: of that kernel.
      tau: pairs of times.
      members: `[R, rows, n]`, rows of the matrices :math:`K_r`, if known.
    """
    if members is None:
      # Together, since blocks of times cost the same if they are not full.
      exact, members = np.split(kernel.rows(rows, np.concatenate(
          [tau, self.family.tau])), [len(tau)])
    else:
      exact = kernel.rows(rows, tau)
    return exact - np.tensordot(self.family.phi(*tau.T), members, 1)

  def weighted_error(self) -> float:
    """What errors of the kernel make of products with weights, at any times."""
    self._find(np.inf)
    assert self._weights is not None
    rng, out = np.random.RandomState(5), 0.
    tau = kernel_family.some_times(2 * self.scales.slow, _TRIALS, rng)
    relevance = self._weights.relevance(tau, self.scales)
    latest = [] if self._latest is None else [self._latest]
    for test in [None] + self._tests + latest:
      kernel, rows = self._training.some_rows(test, rng)
      errors = np.einsum('qin,cnk->qcik', self._errors(kernel, rows, tau),
                         self._weights.vectors, optimize=True)
      out = max(out, float(np.max(relevance * np.max(np.abs(errors), (2, 3)))))
    return out

  def _error_on(self, x_test: PyTree, arrays: dict[str, Any],
                pairs: np.ndarray) -> float:
    """Largest error on pairs of test samples and training samples."""
    joined = self._training.joined(*take((x_test, arrays), pairs[:, 0]))
    pairs = np.stack([self._training.n + np.arange(len(pairs)), pairs[:, 1]], 1)
    return float(np.max(kernel_family.check(
        joined.pairs, self.family, joined.row(pairs),
        np.random.RandomState(2))))

  def include(self, x_test: PyTree, arrays: dict[str, Any]) -> None:
    """Makes sure that the kernel is right between test and training data.

    Args:
      x_test: test inputs.
      arrays: keyword arguments that have a part for test inputs, that part.
    """
    rng, test = np.random.RandomState(1), self._training.seen(x_test, arrays)
    if test is None:  # All predictions are zero.
      self.test_error = 0.
      return
    x_test, arrays = test
    if self._family is None:
      self._tests.append(test)
      self._fit()
      self._latest = None
    else:
      self._latest = test
    for attempt in range(_MAX_FITS):
      self.test_error = self._error_on(x_test, arrays,
                                       self._training.test_pairs(x_test, rng))
      if self.test_error <= _UNLIKE * self._rtol or self.exact:
        break
      if attempt < _MAX_FITS - 1:
        self._look_again(test)
        self._fit()
    if self.test_error > _UNLIKE * self._rtol:
      warnings.warn(
          'Kernels between test and training data have a relative error of '
          f'{self.test_error:.1e}; predictions may be less accurate than '
          '`rtol`.')
