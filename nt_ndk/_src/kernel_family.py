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

from typing import Callable, NamedTuple
import warnings

import numpy as np
from numpy.polynomial import chebyshev
import scipy.linalg

# Evaluates a two-time kernel: `(i, j, tau_i, tau_j) -> matrix`, where `i`, `j`
# are arrays of sample indices and `tau_i`, `tau_j` the time of each sample.
SampleKernel = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
                        np.ndarray]

_MAX_ROUNDS = 16
_MAX_NODES = 160
_MAX_SAMPLE = 48


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

  def basis(self, x) -> np.ndarray:
    """Chebyshev polynomials at `x`; one more, trailing axis of length size."""
    u = 2 * self._to_u(x) / self._to_u(self.end) - 1
    basis = chebyshev.chebvander(np.clip(u, -1, 1), self.size - 1)
    return basis.reshape(np.shape(x) + (self.size,))

  def to_series(self, values: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients, along the first axis, from values at points."""
    return np.linalg.solve(self.basis(self.points()),
                           values.reshape((self.size, -1))).reshape(values.shape)


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
    sample: indices of the sample points.
  """
  tau: np.ndarray
  log_size: np.ndarray
  series: np.ndarray
  earlier: _Axis
  lag: _Axis
  error: float
  sample: np.ndarray

  @property
  def rank(self) -> int:
    return len(self.tau)

  @property
  def tau_max(self) -> float:
    return self.earlier.end

  @property
  def cusp_width(self) -> float:
    return self.lag.width

  def size(self, tau: np.ndarray) -> np.ndarray:
    return np.exp(self.earlier.basis(tau) @ self.log_size)

  def at_earlier(self, tau_: np.ndarray) -> np.ndarray:
    r"""What :math:`\varphi` needs to know of earlier times, `[..., lag, R]`."""
    series = np.tensordot(self.earlier.basis(tau_), self.series, (-1, 0))
    return series * self.size(tau_)[..., None, None]

  def phi(self, tau, tau_, at_earlier=None) -> np.ndarray:
    r""":math:`\varphi_r(\tau, \tau')` for :math:`\tau \ge \tau'`, `[..., R]`."""
    if at_earlier is None:
      at_earlier = self.at_earlier(np.asarray(tau_))
    basis = self.lag.basis(np.asarray(tau) - tau_) * self.size(tau)[..., None]
    return np.einsum('...b,...br->...r', basis, at_earlier)


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
  start, end = np.zeros_like(tau), np.full_like(tau, tau[-1])
  at = lambda t, t_: _blocks(kernel, points, points, np.stack([t, t_], 1))
  equal, since_start, late = at(tau, tau), at(tau, start), at(end[:1], end[:1])
  size = np.sqrt(np.einsum('tii->ti', equal))
  scale = np.maximum(size[:, :, None] * size[:, None, :], 1e-200)
  largest = lambda x, scale: np.max(np.abs(x) / scale, (1, 2))
  moved_equal = largest(equal - equal[0], scale[0])
  moved_lag = largest(since_start - since_start[0], scale[0])
  left = np.maximum(largest(equal - late, scale[-1]),
                    largest(since_start, np.sqrt(scale * scale[0])))
  if moved_lag[-2] < .1 or left[-2] > tol:
    raise ValueError(
        'The kernel must relax between diffusion times 1e-12 and 1e12, but it '
        f'moves by {moved_lag[-2]:.1e} and stays {left[-2]:.1e} away from its '
        'late limit. Check that every layer with weights is one of '
        '`nt_ndk.stax`, and that `prior_std` lies between 1e-5 and 1e5.')
  slow = tau[np.flatnonzero(left > tol)[-1] + 1]
  equal = tau[np.argmax(moved_equal > .1)] if np.any(moved_equal > .1) else slow
  return TimeScales(lag=tau[np.argmax(moved_lag > .1)],
                    equal=min(equal, slow / 10), slow=slow)


def _blocks(kernel: SampleKernel, i, j, tau: np.ndarray) -> np.ndarray:
  """Kernels of samples `i` and `j` at each pair of times, `[times, i, j]`."""
  return np.stack([kernel(i, j, np.full(len(i), t), np.full(len(j), t_))
                   for t, t_ in tau])


def _grid(kernel: SampleKernel, i: np.ndarray, earlier: _Axis,
          lag: _Axis) -> np.ndarray:
  """Kernels of samples `i` on the grid of times, `[earlier, lag, i, i]`."""
  tau_, delta = earlier.points(), lag.points()
  m = len(i)
  return np.stack([
      kernel(np.tile(i, lag.size), i, np.repeat(t_ + delta, m), np.full(m, t_))
      .reshape((lag.size, m, m)) for t_ in tau_])


def _enough(values: np.ndarray, axis: _Axis, tol: float) -> int:
  """Number of points at which a Chebyshev series in time ends below `tol`."""
  size = np.abs(axis.to_series(values)).max(tuple(range(1, values.ndim)))
  tail = np.max(size[-max(2, axis.size // 8):]) / np.max(size)
  if tail <= tol:
    return axis.size
  # The series decays geometrically.
  growth = np.log(tol) / np.log(min(tail, .5))
  return min(int(axis.size * np.clip(growth, 1.25, 2.)), _MAX_NODES)


def _fit_size(values: np.ndarray):
  """Size of kernels on the grid of times: of each time, and of each point."""
  equal = np.sqrt(np.einsum('aii->ai', values[:, 0]))
  log_equal = np.log(np.maximum(equal, 1e-100 * np.max(equal)))
  return np.mean(log_equal, 1), np.exp(np.mean(log_equal, 0))


def _compress(rows: np.ndarray, tol: float):
  """Selects pairs of times, and fits all rows by the rows selected.

  Pivoted QR: each row chosen is the one farthest from the span of those before.
  The pair of times (0, 0), where learning begins, is chosen first.
  """
  first = rows[0] / np.linalg.norm(rows[0])
  rest = rows - np.outer(rows @ first, first)
  _, r, pivots = scipy.linalg.qr(rest.T, mode='economic', pivoting=True)
  distance = np.abs(np.diag(r)) / np.sqrt(rows.shape[1])
  chosen = np.append(0, pivots[:np.count_nonzero(distance > tol)])
  phi, *_ = np.linalg.lstsq(rows[chosen].T, rows.T, rcond=None)
  return chosen, phi.T


def check(kernel: SampleKernel, family: KernelFamily, i: np.ndarray,
          j: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
  """Errors of a family at random times, the largest for each pair of points.

  Args:
    kernel: the NDK on samples.
    family: the family.
    i: samples at the later times.
    j: samples at the earlier times.
    rng: draws times, early and late, near and far apart.

  Returns:
    `[len(i), len(j)]`, relative to the kernels at equal times.
  """
  earlier = family.tau_max * 10.**rng.uniform(-4, 0, 12)
  lag = (family.tau_max - earlier) * 10.**rng.uniform(-8, 0, 12)
  tau = np.stack([earlier + lag, earlier], 1)
  exact = _blocks(kernel, i, j, tau)
  basis = _blocks(kernel, i, j, family.tau)
  phi = family.phi(tau[:, 0], tau[:, 1])
  size_i, size_j = (
      np.sqrt(np.einsum('tii->ti', _blocks(kernel, k, k, np.stack([t, t], 1))))
      for k, t in zip((i, j), tau.T))
  scale = np.maximum(size_i[:, :, None] * size_j[:, None, :], 1e-200)
  return np.max(np.abs(np.tensordot(phi, basis, 1) - exact) / scale, 0)


def fit(kernel: SampleKernel, sample: np.ndarray, held_out: np.ndarray,
        pool: np.ndarray, scales: TimeScales, tau_max: float, tol: float,
        rng: np.random.RandomState) -> KernelFamily:
  """Compresses a family of two-time kernels to a tolerance.

  Args:
    kernel: the NDK on samples.
    sample: indices of points that represent the data, with extreme norms and
      near-duplicates among them.
    held_out: indices of other such points, to check the fit on.
    pool: indices of points from which more to check it on are drawn.
    scales: time scales of the kernel.
    tau_max: the largest diffusion time.
    tol: largest allowed error, relative to the kernel at equal times.
    rng: draws points and times of the check.

  Returns:
    A `KernelFamily`. Warns if it does not meet `tol`.
  """
  n_earlier, n_lag, eps = 16, 48, .3 * tol
  family = None
  for _ in range(_MAX_ROUNDS):
    earlier = _Axis(2 * scales.equal, tau_max, n_earlier, sqrt=False)
    lag = _Axis(scales.lag / 5, tau_max, n_lag, sqrt=True)
    values = _grid(kernel, sample, earlier, lag)
    log_size, point = _fit_size(values)
    series = earlier.to_series(log_size)
    tau_, delta = np.meshgrid(earlier.points(), lag.points(), indexing='ij')
    tau = np.stack([tau_ + delta, tau_], -1)
    time = np.exp(np.sum(earlier.basis(tau) @ series, -1))
    relative = values / np.outer(point, point) / time[..., None, None]
    enough = (max(_enough(relative, earlier, .1 * tol),
                  _enough(np.exp(log_size - log_size[0]), earlier, .1 * tol)),
              _enough(np.moveaxis(relative, 1, 0), lag, .1 * tol))
    if enough != (n_earlier, n_lag):
      n_earlier, n_lag = enough
      continue

    chosen, phi = _compress(relative.reshape((tau_.size, -1)), eps)
    phi = phi / time.reshape(-1)[chosen]
    phi = earlier.to_series(phi.reshape(tau_.shape + (-1,)))
    phi = np.moveaxis(lag.to_series(np.moveaxis(phi, 1, 0)), 0, 1)
    fitted = KernelFamily(tau.reshape((-1, 2))[chosen], series, phi, earlier,
                          lag, np.inf, sample)

    n_old = min(4, len(sample))
    points = np.concatenate([
        rng.choice(sample, n_old, replace=False), held_out,
        rng.choice(pool, min(6, len(pool)), replace=False)])
    errors = check(kernel, fitted, points, points, rng)
    fitted = fitted._replace(error=np.max(errors))
    if family is None or fitted.error < family.error:
      family = fitted
    if fitted.error <= tol:
      break

    if (fitted.error > 3 * np.max(errors[:n_old, :n_old]) and
        len(sample) < _MAX_SAMPLE):
      worst = points[np.argsort(np.max(errors, 1))[-4:]]
      sample = np.unique(np.append(sample, worst))
    else:
      eps /= 3

  if family.error > tol:
    warnings.warn(
        'The kernels over time were compressed with a relative error of '
        f'{family.error:.1e} instead of {tol:.1e}, the best of {_MAX_ROUNDS} '
        f'attempts (rank {family.rank}). Predictions may be less accurate than '
        '`rtol`. Use float64, or a larger `rtol`.')
  return family
