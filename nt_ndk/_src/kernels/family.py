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

from typing import Callable, NamedTuple, Optional, Protocol, Union

import numpy as np
from numpy.polynomial import chebyshev
import scipy.linalg

from nt_ndk._src.base.typing import Numbers

# Evaluates a two-time kernel: pairs of samples `[P, 2]` and pairs of times
# `[Q, 2]` to values `[Q, P]`.
SampleKernel = Callable[[np.ndarray, np.ndarray], np.ndarray]

_MAX_NODES = 200
# Lines of the grid, in each direction, on which numbers of nodes are found.
_LINES = 6
# Lag at which a cusp may begin, in time scales of the kernel: inputs that are
# nearly parallel have theirs at any scale. Where times are nearly equal, cusps
# turn rounding errors into their square root.
_FINEST, _NEARLY_EQUAL = 1e-6, 1e-10
# Lag below which the kernel of an input with itself has its cusp.
_CUSP = .2
# Size of functions of time that may be left out.
_NEGLIGIBLE = 1e-11


class _Axis(NamedTuple):
  r"""Chebyshev points on an interval, dense near 0.

  `sqrt=True`: :math:`x = w \sinh^2 u`, in which both :math:`\sqrt{x}` and
  functions that vary on any scale from `w` to the end are smooth; this is the
  variable for :math:`\tau - \tau'`, because :math:`\dot K(x, x)` has a
  square-root cusp at equal times. Otherwise :math:`x = w (e^u - 1)`. Below its
  begin functions are constant.
  """
  width: float
  begin: float
  end: float
  size: int
  sqrt: bool

  def _to_u(self, x):
    x = np.maximum(x, 0.) / self.width
    return np.arcsinh(np.sqrt(x)) if self.sqrt else np.log1p(x)

  @property
  def _ends(self) -> tuple[float, float]:
    return self._to_u(self.begin), self._to_u(self.end)

  def points(self) -> np.ndarray:
    low, high = self._ends
    angle = np.pi * (np.arange(self.size) + .5) / self.size
    u = low + (high - low) * (1 - np.cos(angle)) / 2
    return self.width * (np.sinh(u)**2 if self.sqrt else np.expm1(u))

  def _to_unit(self, x):
    """Variable of the polynomials, between -1 and 1."""
    low, high = self._ends
    return np.clip(2 * (self._to_u(x) - low) / (high - low) - 1, -1, 1)

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

  :math:`\varphi_r(\tau, \tau') = s(\tau) s(\tau') \sum_{ab} c_{abr}
  e_a(\tau') l_b(\tau - \tau')`.

  Attributes:
    tau: `[R, 2]`, the selected pairs of times; the first is `(0, 0)`.
    earlier: axis of :math:`\tau'`.
    lag: axis of :math:`\tau - \tau'`.
    log_size: `[size of earlier]`, Chebyshev coefficients of the logarithm of
      the kernel's size at equal times, :math:`\log s(\tau)`.
    earlier_series: `[size of earlier, A]`, those of :math:`e_a`.
    lag_series: `[size of lag, B]`, those of :math:`l_b`.
    core: `[A, B, R]`, :math:`c`.
    cusp_width: lag below which kernels may have a square-root cusp.
  """
  tau: np.ndarray
  earlier: _Axis
  lag: _Axis
  log_size: np.ndarray
  earlier_series: np.ndarray
  lag_series: np.ndarray
  core: np.ndarray
  cusp_width: float

  @property
  def rank(self) -> int:
    return len(self.tau)

  @property
  def tau_max(self) -> float:
    return self.earlier.end

  @property
  def early_width(self) -> float:
    return self.earlier.width

  def size(self, tau: Union[float, np.ndarray]) -> np.ndarray:
    return np.exp(self.earlier.sum(self.log_size, tau))

  def at_earlier(self, tau_: np.ndarray) -> np.ndarray:
    r"""What :math:`\varphi` needs to know of earlier times, `[..., B, R]`."""
    basis = self.earlier.basis(tau_)
    size = np.exp(basis @ self.log_size)[..., None]
    return np.tensordot(size * (basis @ self.earlier_series), self.core, 1)

  def at_later(self, tau: Numbers, tau_: Numbers) -> np.ndarray:
    r"""Factors of what is known of earlier times, `[..., B]`."""
    basis = self.lag.basis(np.asarray(tau) - tau_) @ self.lag_series
    return basis * self.size(tau)[..., None]

  def phi(self, tau: Numbers, tau_: Numbers) -> np.ndarray:
    r""":math:`\varphi_r(\tau, \tau')`, :math:`\tau \ge \tau'`, `[..., R]`."""
    return np.matmul(self.at_later(tau, tau_)[..., None, :],
                     self.at_earlier(np.asarray(tau_)))[..., 0, :]

  def phi_rows(self, tau: np.ndarray, tau_: np.ndarray,
               at_earlier: Optional[np.ndarray] = None) -> np.ndarray:
    r"""The same for many later times `[E, L]` of each earlier one, `[E]`."""
    if at_earlier is None:
      at_earlier = self.at_earlier(tau_)
    return self.at_later(tau, tau_[:, None]) @ at_earlier


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


def positive(equal: np.ndarray) -> np.ndarray:
  """Kernels of inputs with themselves, which must be positive."""
  bad = ~((equal > 0) & np.isfinite(equal))
  if np.any(bad):
    raise ValueError(
        'The kernel must be positive and finite for every input with itself, '
        f'but is {equal[bad][0]:.1e}. Leave out inputs that are zero or give '
        'the first layer a bias, `b_std`; scale inputs to a size near one.')
  return equal


def finite(values: np.ndarray) -> np.ndarray:
  """Kernels of any inputs, which must be finite."""
  positive(np.where(np.isfinite(values), 1., values))
  return values


def time_scales(kernel: SampleKernel, points: np.ndarray, tol: float,
                forgets: bool = True) -> TimeScales:
  """Finds the time scales of a kernel that is known through its values only.

  Args:
    kernel: the NDK on samples.
    points: a few sample indices.
    tol: fraction that defines the slow scale.
    forgets: whether nothing is left of the kernel between times far apart, as
      is where no weights are frozen.

  Returns:
    `TimeScales`, to a quarter of a decade.

  Raises:
    ValueError: if the kernel does not move, or never comes to rest.
  """
  tau = np.concatenate([[0.], 10.**np.arange(-12, 12.1, .25), [1e15]])
  pairs = np.stack(np.meshgrid(points, points), -1).reshape((-1, 2))
  at = lambda t, t_: kernel(pairs, np.stack([t, t_], 1))
  equal, since_start = at(tau, tau), at(tau, np.zeros_like(tau))
  size = np.sqrt(positive(equal[:, pairs[:, 0] == pairs[:, 1]]))
  size = (size[:, :, None] * size[:, None, :]).reshape((len(tau), -1))
  largest = lambda x, scale: np.max(np.abs(x) / scale, 1)
  moved_equal = largest(equal - equal[0], size[0])
  moved_lag = largest(since_start - since_start[0], size[0])
  kept = 0. if forgets else since_start[-1]
  left = np.maximum(largest(equal - equal[-1], size[-1]),
                    largest(since_start - kept, np.sqrt(size * size[0])))
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
  """Size of the last terms of Chebyshev series in time."""
  last = np.linalg.inv(axis.basis(axis.points()))[-max(2, axis.size // 8):]
  return float(np.max(np.abs(last @ values.reshape((axis.size, -1)))))


def _some(points: np.ndarray) -> np.ndarray:
  """A few points of an axis."""
  return points[np.linspace(0, len(points) - 1, _LINES).astype(int)]


def _enough(axis: _Axis, tail: float, tol: float) -> int:
  """Number of points at which series end below `tol`."""
  if tail <= tol:
    return axis.size
  # They decay geometrically.
  growth = np.log(min(tol, .25)) / np.log(np.clip(tail, .1 * tol, .5))
  return min(int(axis.size * np.clip(growth, 1.25, 2.)), _MAX_NODES)


def greedy(rows: np.ndarray, tol: float, count: Optional[int] = None,
           first: int = 1, relevance: Numbers = 1.
           ) -> tuple[np.ndarray, np.ndarray]:
  """Selects rows that span all rows, the most different ones first.

  Each row chosen is the one that is farthest from the span of those before it.

  Args:
    rows: `[Q, P]`.
    tol: distance from the span of the rows that is left.
    count: largest number of rows to select.
    first: number of rows that are selected in any case, the first ones; at
      least that for the times at which learning begins.
    relevance: factors of what is left, `[Q, P]` or for all.

  Returns:
    Indices `[R]`, and the largest entry that is left after each, `[R]`.
  """
  chosen: list[int] = []
  left: list[float] = []
  rest, farthest = np.array(rows, float, order='C'), 0
  while len(chosen) < min(*rows.shape, count or len(rows)):
    direction = rest[farthest] / np.linalg.norm(rest[farthest])
    chosen.append(farthest)
    # In place.
    scipy.linalg.blas.dger(-1., direction, rest @ direction, a=rest.T,
                           overwrite_a=True)
    relevant = rest * relevance
    left.append(float(np.max(np.abs(relevant))))
    farthest = (len(chosen) if len(chosen) < first else
                int(np.argmax(np.einsum('qp,qp->q', relevant, relevant))))
    if left[-1] <= tol and len(chosen) >= first:
      break
  return np.array(chosen), np.array(left)


def _span(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Orthonormal vectors that span the first axis to less than its errors.

  Returns:
    Vectors `[size, A]`, and their coefficients, `[A]` instead of `[size]`.
  """
  triangle = np.linalg.qr(values.reshape((len(values), -1)).T, mode='r')
  _, size, vt = np.linalg.svd(triangle, full_matrices=False)
  vt = vt[size > _NEGLIGIBLE * size[0]]
  return vt.T, np.tensordot(vt, values, 1)


def fit(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
  """Coefficients `[Q, R]` of all rows in those chosen, by least squares."""
  q, triangle = np.linalg.qr(rows[chosen].T)
  return scipy.linalg.solve_triangular(triangle, (rows @ q).T).T


class Table(NamedTuple):
  """Functions of a kernel on a grid of times that resolves them.

  Attributes:
    earlier: axis of the earlier time.
    lag: axis of the time between the two.
    tau: `[Q, 2]`, pairs of times, those of the grid last.
    values: `[Q, P]`, divided by the size of the kernel at equal times.
    log_size: series of the logarithm of that size.
    size: `[Q]`, for each pair of times.
    cusp_width: lag below which kernels may have a square-root cusp.
  """
  earlier: _Axis
  lag: _Axis
  tau: np.ndarray
  values: np.ndarray
  log_size: np.ndarray
  size: np.ndarray
  cusp_width: float

  def family(self, chosen: np.ndarray) -> KernelFamily:
    """Interpolates between the chosen pairs of times, indices `[R]`."""
    return self.interpolated(self.tau[chosen], fit(self.values, chosen) /
                             self.size[chosen])

  def interpolated(self, tau: np.ndarray, phi: np.ndarray) -> KernelFamily:
    """Functions of time `[Q, R]`, relative to sizes, between those of the grid.

    Args:
      tau: pairs of times that the functions belong to.
      phi: the functions at all pairs of times.
    """
    grid = self.earlier.size, self.lag.size
    phi = phi[-grid[0] * grid[1]:].reshape(grid + (-1,))
    earlier, phi = _span(self.earlier.to_series(phi))
    lag, phi = _span(self.lag.to_series(np.moveaxis(phi, 1, 0)))
    core = np.ascontiguousarray(np.moveaxis(phi, 1, 0))
    return KernelFamily(tau, self.earlier, self.lag, self.log_size, earlier,
                        lag, core, self.cusp_width)


class Sample(Protocol):
  """What stands for a kernel on all data."""

  @property
  def in_time(self) -> np.ndarray:
    """Factors of errors of interpolation in time, `[P]`."""

  def values(self, tau: np.ndarray) -> np.ndarray:
    """Linear functions of the kernel at pairs of times, `[Q, P]`."""

  def relevance(self, tau: np.ndarray) -> np.ndarray:
    """Factors of their errors there, `[Q, P]`."""

  def log_size(self, tau: np.ndarray) -> np.ndarray:
    """Logarithm of the size of the kernel at equal times, `[Q]`."""


def tabulate(sample: Sample, scales: TimeScales, tau_max: float, tol: float,
             noise: float = 0., known: Optional[np.ndarray] = None) -> Table:
  """Functions of a kernel at given times, and on a grid that resolves them.

  Args:
    sample: the functions.
    scales: time scales of the kernel.
    tau_max: the largest diffusion time.
    tol: tolerance of the Chebyshev series in time.
    noise: size below which what more points do not lower is rounding errors.
    known: `[K, 2]`, pairs of times to begin with; by default `(0, 0)`.
  """
  known = np.zeros((1, 2)) if known is None else known
  earlier = _Axis(2 * scales.equal, 0., tau_max, 24, sqrt=False)
  lag = _Axis(_FINEST * scales.lag, _NEARLY_EQUAL * scales.lag, tau_max, 64,
              sqrt=True)
  before, everywhere = np.full(2, np.inf), False
  while True:
    t_, lags = earlier.points(), lag.points()
    log_time = sample.log_size(t_)
    log_size = earlier.to_series(log_time)
    size = lambda tau: np.exp(np.sum(earlier.basis(tau) @ log_size, -1))

    def on_grid(t_, lags):
      tau = np.stack(np.broadcast_arrays(t_[:, None] + lags, t_[:, None]), -1)
      values = sample.values(tau.reshape((-1, 2))).reshape(
          tau.shape[:-1] + (-1,))
      return tau, size(tau), values / size(tau)[..., None]

    if everywhere:
      tau, time, values = on_grid(t_, lags)
      along = values, values
    else:
      along = on_grid(t_, _some(lags))[-1], on_grid(_some(t_), lags)[-1]
    tails = np.array([
        max(_tail(along[0] * sample.in_time, earlier),
            _tail(np.exp(log_time - log_time[0]), earlier)),
        _tail(np.moveaxis(along[1] * sample.in_time, 1, 0), lag)])
    # They fall by much more than a half where they are not noise.
    noisy = (tails < noise) & (tails > .5 * before)
    before = tails
    enough = tuple(_enough(axis, tail, np.inf if no_use else tol)
                   for axis, tail, no_use in zip((earlier, lag), tails, noisy))
    if enough == (earlier.size, lag.size):
      if everywhere:
        break
      everywhere = True
    earlier, lag = (axis._replace(size=size)
                    for axis, size in zip((earlier, lag), enough))
  first = sample.values(known) / size(known)[:, None]
  return Table(earlier, lag, np.concatenate([known, tau.reshape((-1, 2))]),
               np.concatenate([first, values.reshape((time.size, -1))]),
               log_size, np.append(size(known), time), _CUSP * scales.lag)


def some_times(tau_max: float, count: int,
               rng: np.random.RandomState) -> np.ndarray:
  """Pairs of times `[count, 2]`, early and late, near and far apart."""
  earlier = tau_max * 10.**rng.uniform(-4, 0, count)
  lag = (tau_max - earlier) * 10.**rng.uniform(-8, 0, count)
  return np.stack([earlier + lag, earlier], 1)


def check(kernel: SampleKernel, family: KernelFamily, pairs: np.ndarray,
          rng: np.random.RandomState) -> np.ndarray:
  """Errors of a family at random times, the largest for each pair of samples.

  Args:
    kernel: the NDK on samples.
    family: the family.
    pairs: `[P, 2]`, pairs of samples.
    rng: draws times.

  Returns:
    `[P]`, relative to the kernels at equal times, of these or of all samples,
    whichever are larger.
  """
  tau = some_times(family.tau_max, 16, rng)
  error = kernel(pairs, tau) - family.phi(*tau.T) @ kernel(pairs, family.tau)
  first, second = (kernel(np.stack([i, i], 1), np.stack([t, t], 1))
                   for i, t in zip(pairs.T, tau.T))
  size = np.sqrt(first * second)
  typical = np.exp(np.mean(np.log(np.maximum(size, 1e-300)), 1, keepdims=True))
  return np.max(np.abs(error) / np.maximum(size, typical), 0)
