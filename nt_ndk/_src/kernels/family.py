# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""The family of two-time kernels, compressed in time.

Over all pairs of times :math:`\tau \ge \tau'` the Neural Dynamical Kernel (NDK)
of a network is, to a given tolerance, a combination of a few of its members,

.. math::
  \mathrm{NDK}(\tau, \tau') \approx
  \sum_{r=1}^R \varphi_r(\tau, \tau')\, \mathrm{NDK}(\tau_r, \tau'_r),

where :math:`\varphi_r` are functions of time alone and NDKs are matrices
indexed by data (empirical interpolation: Barrault, Maday, Nguyen and Patera,
C. R. Math. 339, 2004). Both the pairs :math:`(\tau_r, \tau'_r)` and
:math:`\varphi_r` come from a small sample of the data, on which the kernel is
cheap at all times; :math:`\varphi_r` is then a Chebyshev series in time. The
fit is checked on data and times that it has not seen, and refined until the
tolerance is met.
"""

from typing import Callable, NamedTuple, Optional, Union
import warnings

import numpy as np
from numpy.polynomial import chebyshev

from nt_ndk._src.base.typing import Numbers

# Evaluates a two-time kernel: pairs of samples `[P, 2]` and pairs of times
# `[Q, 2]` to values `[Q, P]`.
SampleKernel = Callable[[np.ndarray, np.ndarray], np.ndarray]

_MAX_ROUNDS = 8
_MAX_NODES = 160
_MAX_PAIRS = 400


class _Axis(NamedTuple):
  r"""Chebyshev points on :math:`[0, T]`, dense near 0.

  `sqrt=True`: :math:`x = w \sinh^2 u`, in which both :math:`\sqrt{x}` and
  functions that vary on any scale from `w` to `T` are smooth; this is the
  variable for :math:`\tau - \tau'`, because :math:`\dot K(x, x)` has a
  square-root cusp at equal times. Otherwise :math:`x = w (e^u - 1)`.
  """
  width: float
  end: float
  size: int
  sqrt: bool

  def _to_u(self, x):
    x = np.maximum(x, 0.) / self.width
    return np.arcsinh(np.sqrt(x)) if self.sqrt else np.log1p(x)

  def points(self) -> np.ndarray:
    u = (1 - np.cos(np.pi * np.arange(self.size) / (self.size - 1))) / 2
    u = u * self._to_u(self.end)
    x = np.sinh(u)**2 if self.sqrt else np.expm1(u)
    x = self.width * x
    x[-1] = self.end
    return x

  def _to_unit(self, x):
    """Variable of the polynomials, between -1 and 1."""
    return np.clip(2 * self._to_u(x) / self._to_u(self.end) - 1, -1, 1)

  def basis(self, x: Numbers) -> np.ndarray:
    """Chebyshev polynomials at `x`; one more, trailing axis of length size."""
    basis = chebyshev.chebvander(self._to_unit(x), self.size - 1)
    return basis.reshape(np.shape(x) + (self.size,))

  def sum(self, series: np.ndarray, x: Numbers) -> np.ndarray:
    """A Chebyshev series at `x`."""
    return chebyshev.chebval(self._to_unit(x), series)

  def to_series(self, values: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients, along the first axis, from values at points."""
    series = np.linalg.solve(self.basis(self.points()),
                             values.reshape((self.size, -1)))
    return series.reshape(values.shape)


class KernelFamily(NamedTuple):
  r"""Times :math:`(\tau_r, \tau'_r)` and functions :math:`\varphi_r`.

  Attributes:
    tau: `[R, 2]`, the selected pairs of times; the first is `(0, 0)`.
    log_size: `[size of earlier]`, Chebyshev coefficients of the logarithm of
      the kernel's size at equal times, :math:`\log s(\tau)`.
    series: `[size of earlier, size of lag, R]`, Chebyshev coefficients of
      :math:`\varphi_r / (s(\tau) s(\tau'))` in :math:`\tau'` and
      :math:`\tau - \tau'`.
    earlier: axis of :math:`\tau'`.
    lag: axis of :math:`\tau - \tau'`.
    error: largest error on data and times left out of the fit, relative to
      :math:`\sqrt{\mathrm{NDK}(\tau, \tau; x, x)
      \mathrm{NDK}(\tau', \tau'; x', x')}`.
  """
  tau: np.ndarray
  log_size: np.ndarray
  series: np.ndarray
  earlier: _Axis
  lag: _Axis
  error: float

  @property
  def rank(self) -> int:
    return len(self.tau)

  @property
  def tau_max(self) -> float:
    return self.earlier.end

  @property
  def cusp_width(self) -> float:
    return self.lag.width

  @property
  def early_width(self) -> float:
    return self.earlier.width

  def size(self, tau: Union[float, np.ndarray]) -> np.ndarray:
    return np.exp(self.earlier.sum(self.log_size, tau))

  def at_earlier(self, tau_: np.ndarray) -> np.ndarray:
    r"""What :math:`\varphi` needs to know of earlier times, `[..., lag, R]`."""
    series = np.tensordot(self.earlier.basis(tau_), self.series, (-1, 0))
    return series * self.size(tau_)[..., None, None]

  def phi(self, tau: Numbers, tau_: Numbers,
          at_earlier: Optional[np.ndarray] = None) -> np.ndarray:
    r""":math:`\varphi_r(\tau, \tau')`, :math:`\tau \ge \tau'`, `[..., R]`."""
    if at_earlier is None:
      at_earlier = self.at_earlier(np.asarray(tau_))
    basis = self.lag.basis(np.asarray(tau) - tau_) * self.size(tau)[..., None]
    return np.einsum('...b,...br->...r', basis, at_earlier)

  def phi_rows(self, tau: np.ndarray, tau_: np.ndarray,
               at_earlier: Optional[np.ndarray] = None) -> np.ndarray:
    r"""The same for many later times `[E, L]` of each earlier one, `[E]`."""
    if at_earlier is None:
      at_earlier = self.at_earlier(tau_)
    basis = self.lag.basis(tau - tau_[:, None]) * self.size(tau)[..., None]
    return basis @ at_earlier


class TimeScales(NamedTuple):
  """When a kernel begins to move, and when it has arrived.

  Attributes:
    lag: time apart that changes the kernel by a tenth.
    equal: time that changes the kernel at equal times by a tenth; at most
      `slow / 10`.
    slow: time that leaves less than a given fraction of the memory of time 0
      and of the distance from the late kernel.
  """
  lag: float
  equal: float
  slow: float


def _positive(equal: np.ndarray) -> np.ndarray:
  """Kernels of inputs with themselves, which must be positive."""
  bad = ~((equal > 0) & np.isfinite(equal))
  if np.any(bad):
    raise ValueError(
        'The kernel must be positive and finite for every input with itself, '
        f'but is {equal[bad][0]:.1e}. Leave out inputs that are zero or give '
        'the first layer a bias, `b_std`; scale inputs to a size near one.')
  return equal


def time_scales(kernel: SampleKernel, points: np.ndarray,
                tol: float) -> TimeScales:
  """Finds the time scales of a kernel that is known through its values only.

  Args:
    kernel: the NDK on samples.
    points: a few sample indices.
    tol: fraction that defines the slow scale.

  Returns:
    `TimeScales`, to a quarter of a decade.

  Raises:
    ValueError: if the kernel does not move, or never comes to rest.
  """
  tau = np.concatenate([[0.], 10.**np.arange(-12, 12.1, .25), [1e15]])
  pairs = np.stack(np.meshgrid(points, points), -1).reshape((-1, 2))
  at = lambda t, t_: kernel(pairs, np.stack([t, t_], 1))
  equal, since_start = at(tau, tau), at(tau, np.zeros_like(tau))
  size = np.sqrt(_positive(equal[:, pairs[:, 0] == pairs[:, 1]]))
  size = (size[:, :, None] * size[:, None, :]).reshape((len(tau), -1))
  largest = lambda x, scale: np.max(np.abs(x) / scale, 1)
  moved_equal = largest(equal - equal[0], size[0])
  moved_lag = largest(since_start - since_start[0], size[0])
  left = np.maximum(largest(equal - equal[-1], size[-1]),
                    largest(since_start, np.sqrt(size * size[0])))
  if not (moved_lag[-2] >= .1 and left[-2] <= tol):
    raise ValueError(
        'The kernel must relax between diffusion times 1e-12 and 1e12, but it '
        f'moves by {moved_lag[-2]:.1e} and stays {left[-2]:.1e} away from its '
        'late limit. Check that every layer with weights is one of '
        '`nt_ndk.stax`, and that `prior_std` lies between 1e-5 and 1e5.')
  slow = tau[np.flatnonzero(left > tol)[-1] + 1]
  equal = tau[np.argmax(moved_equal > .1)] if np.any(moved_equal > .1) else slow
  return TimeScales(lag=tau[np.argmax(moved_lag > .1)],
                    equal=min(equal, slow / 10), slow=slow)


def _tail(values: np.ndarray, axis: _Axis) -> float:
  """Relative size of the last terms of Chebyshev series in time."""
  size = np.abs(axis.to_series(values)).max(tuple(range(1, values.ndim)))
  return np.max(size[-max(2, axis.size // 8):]) / np.max(size)


def _enough(axis: _Axis, tail: float, tol: float) -> int:
  """Number of points at which series end below `tol`."""
  if tail <= tol:
    return axis.size
  # They decay geometrically.
  growth = np.log(tol) / np.log(min(tail, .5))
  return min(int(axis.size * np.clip(growth, 1.25, 2.)), _MAX_NODES)


def compress(rows: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
  """Selects rows, and fits all rows by those selected, to a tolerance.

  Greedy: each row chosen is the one that is farthest from the span of those
  before it. The first row, for the times at which learning begins, is chosen
  first.
  """
  chosen: list[int] = []
  rest, farthest = rows.copy(), 0
  while len(chosen) < min(rows.shape):
    direction = rest[farthest] / np.linalg.norm(rest[farthest])
    chosen.append(farthest)
    rest -= np.outer(rest @ direction, direction)
    farthest = int(np.argmax(np.sum(rest**2, 1)))
    # The distance from the span is at most the error of the fit.
    if np.max(np.abs(rest)) <= tol:
      break
  phi, *_ = np.linalg.lstsq(rows[chosen].T, rows.T, rcond=None)
  return np.array(chosen), phi.T


def _tabulate(
    kernel: SampleKernel, pairs: np.ndarray, earlier: _Axis, lag: _Axis,
    tol: float, noise: float
) -> tuple[_Axis, _Axis, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Kernels of a sample on a grid of times that resolves them.

  Args:
    kernel: the NDK on samples.
    pairs: `[P, 2]`, pairs of samples.
    earlier: axis to begin with.
    lag: axis to begin with.
    tol: tolerance of the Chebyshev series in time.
    noise: size below which what more points do not lower is rounding errors.

  Returns:
    The axes, refined; the pairs of times, `[earlier, lag, 2]`; kernels,
    `[earlier, lag, P]`, divided by their size at equal times; the series of the
    logarithm of that size; and the size for each pair of times.
  """
  points, inverse = np.unique(pairs, return_inverse=True)
  inverse = inverse.reshape(pairs.shape)
  before = np.full(2, np.inf)
  while True:
    t_ = earlier.points()
    tau = np.stack(np.broadcast_arrays(t_[:, None] + lag.points(),
                                       t_[:, None]), -1)
    values = kernel(pairs, tau.reshape((-1, 2)))
    values = values.reshape(tau.shape[:2] + (-1,))
    equal = kernel(np.stack([points, points], 1), np.stack([t_, t_], 1))
    log_equal = np.log(_positive(equal)) / 2
    point, log_time = np.mean(log_equal, 0), np.mean(log_equal, 1)
    point -= np.mean(point)
    log_size = earlier.to_series(log_time)
    time = np.exp(np.sum(earlier.basis(tau) @ log_size[:, None], (-1, -2)))
    pair = np.exp(np.sum(point[inverse], 1))
    relative = values / time[..., None] / pair
    tails = np.array([
        max(_tail(relative, earlier),
            _tail(np.exp(log_time - log_time[0]), earlier)),
        _tail(np.moveaxis(relative, 1, 0), lag)])
    # They fall by much more than a half where they are not noise.
    noisy = (tails < noise) & (tails > .5 * before)
    before = tails
    enough = tuple(_enough(axis, tail, np.inf if no_use else tol)
                   for axis, tail, no_use in zip((earlier, lag), tails, noisy))
    if enough == (earlier.size, lag.size):
      return earlier, lag, tau, relative, log_size, time
    earlier, lag = (axis._replace(size=size)
                    for axis, size in zip((earlier, lag), enough))


def check(kernel: SampleKernel, family: KernelFamily, pairs: np.ndarray,
          rng: np.random.RandomState) -> np.ndarray:
  """Errors of a family at random times, the largest for each pair of samples.

  Args:
    kernel: the NDK on samples.
    family: the family.
    pairs: `[P, 2]`, pairs of samples.
    rng: draws times, early and late, near and far apart.

  Returns:
    `[P]`, relative to the kernels at equal times.
  """
  earlier = family.tau_max * 10.**rng.uniform(-4, 0, 16)
  lag = (family.tau_max - earlier) * 10.**rng.uniform(-8, 0, 16)
  tau = np.stack([earlier + lag, earlier], 1)
  error = kernel(pairs, tau) - family.phi(*tau.T) @ kernel(pairs, family.tau)
  size = [kernel(np.stack([i, i], 1), np.stack([t, t], 1))
          for i, t in zip(pairs.T, tau.T)]
  return np.max(np.abs(error) / np.sqrt(size[0] * size[1]), 0)


def fit(kernel: SampleKernel, pairs: np.ndarray, held_out: np.ndarray,
        scales: TimeScales, tau_max: float, tol: float,
        rng: np.random.RandomState, aim: Optional[float] = None,
        noise: float = 0.) -> KernelFamily:
  """Compresses a family of two-time kernels to a tolerance.

  Args:
    kernel: the NDK on samples.
    pairs: `[P, 2]`, pairs of samples that represent the data, with samples
      paired with themselves and near-duplicates among them.
    held_out: `[P', 2]`, other such pairs, to check the fit on.
    scales: time scales of the kernel.
    tau_max: the largest diffusion time.
    tol: largest allowed error, relative to the kernel at equal times.
    rng: draws the times of the check.
    aim: error to aim for, if smaller than `tol`.
    noise: size that rounding errors of the kernel can have.

  Returns:
    A `KernelFamily`. Warns if it does not meet `tol`.
  """
  aim = tol if aim is None else min(aim, tol)
  earlier = _Axis(2 * scales.equal, tau_max, 16, sqrt=False)
  lag = _Axis(scales.lag / 5, tau_max, 48, sqrt=True)
  earlier, lag, *_ = _tabulate(kernel, pairs[::len(pairs) // 6 + 1], earlier,
                               lag, .1 * aim, noise)
  family: Optional[KernelFamily] = None
  eps, hopeless = .3 * aim, 0
  for _ in range(_MAX_ROUNDS):
    earlier, lag, tau, relative, log_size, time = _tabulate(
        kernel, pairs, earlier, lag, .1 * aim, noise)
    chosen, phi = compress(relative.reshape((time.size, -1)), eps)
    phi = phi / time.reshape(-1)[chosen]
    phi = earlier.to_series(phi.reshape(time.shape + (-1,)))
    phi = np.moveaxis(lag.to_series(np.moveaxis(phi, 1, 0)), 0, 1)
    fitted = KernelFamily(tau.reshape((-1, 2))[chosen], log_size, phi, earlier,
                          lag, np.inf)
    errors = check(kernel, fitted, held_out, rng)
    fitted = fitted._replace(error=np.max(errors))
    better = family is None or fitted.error < .5 * family.error
    if family is None or fitted.error < family.error:
      family = fitted
    if family.error <= aim:
      return family
    # What rounding errors of the kernel forbid is not worth more attempts.
    hopeless = 0 if better else hopeless + 1
    if family.error <= tol and hopeless == 2:
      return family
    eps /= 2
    if len(pairs) < _MAX_PAIRS:
      pairs = np.concatenate([pairs, held_out[np.argsort(errors)[-8:]]])

  assert family is not None  # There was a round.
  if family.error <= tol:
    return family
  warnings.warn(
      'The kernels over time were compressed with a relative error of '
      f'{family.error:.1e} instead of {tol:.1e}, the best of {_MAX_ROUNDS} '
      f'attempts (rank {family.rank}). Predictions may be less accurate than '
      '`rtol`. Use float64, or a larger `rtol`.')
  return family
