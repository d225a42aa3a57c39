# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""How a prediction responds to the outputs on the training data in the past.

A prediction at time :math:`\tau` is, in diffusion time,

.. math::
  f = g - \int_0^\tau b(s)\, \big(g(X, s) - Y\big)\, ds, \qquad
  T\, b(s) + \int_s^\tau b(u)\, \mathrm{NDK}(u, s)\, du = \kappa(s),

with :math:`g` the network without data and :math:`\kappa(s)` the NDK between
the prediction and the training data at :math:`s`. Rows :math:`b` of the
resolvent give its mean and its covariance with other predictions (Avidan, Li
and Sompolinsky, arXiv:2309.04522; the covariance is that of a linear functional
of the Gaussian process :math:`g`). At :math:`T = 0` a part of :math:`b` is an
impulse at :math:`s = \tau`.

Each eigenvector of :math:`\mathrm{NDK}(\tau, \tau)` has in :math:`b` a boundary
layer of its own width :math:`T / \lambda` in the age :math:`a = \tau - s`; they
span as many decades as the eigenvalues. Therefore :math:`b` has two scales:

*  In the basis of these eigenvectors, the equations without coupling between
   modes are solved mode by mode, on a fine mesh of ages that resolves all
   layers, for right-hand sides that are polynomials on a coarse grid.
*  The coupling vanishes at age 0, where the layers are. So the right-hand sides
   :math:`h` that these equations really have are smooth, and are found on the
   coarse grid alone. Large matrices multiply functions on the coarse grid only.

The double integral of the covariance :math:`C` of :math:`g`, which is as rough
as Brownian motion, is split in the same way: by modes on the fine mesh, exactly
across its kink, and their coupling on the coarse grid.
"""

import copy
import functools
from typing import Any, Callable, NamedTuple, Optional, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse

from nt_ndk._src.base.arrays import Matrices
from nt_ndk._src.base.arrays import numpy_of
from nt_ndk._src.base.arrays import of_kind
from nt_ndk._src.base.arrays import on_either
from nt_ndk._src.base.arrays import on_host
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import Numbers
from nt_ndk._src.dynamics import quadrature

_STAGES = 6
# Growth of ages from panel to panel, for small tolerances and from one on.
_RATIO, _LARGE_RATIO, _LARGE_FROM = 2.5, 3.5, 1e-5
_MODES_AT_ONCE = 32
_ROWS_AT_ONCE = 32
_COLUMNS_AT_ONCE = 512
_REFERENCE_SIZE = 24  # Points that show which combinations of matrices matter.
_MAX_ITERATIONS = 100
# Bytes that one block of vectors on the coarse grid may take.
_BLOCK_BYTES = 2**25


class TimeKernel(Protocol):
  """The functions of time of a low-rank kernel."""

  @property
  def cusp_width(self) -> float:
    """Lag below which kernels may have a square-root cusp."""

  @property
  def early_width(self) -> float:
    """Earlier time above which kernels vary slowly."""

  def at_earlier(self, tau_: np.ndarray) -> np.ndarray:
    """What `phi_rows` can reuse for earlier times."""

  def phi(self, tau: Numbers, tau_: Numbers) -> np.ndarray:
    """Functions of time at `tau >= tau_`, with a trailing axis `[R]`."""

  def phi_rows(self, tau: np.ndarray, tau_: np.ndarray,
               at_earlier: Optional[np.ndarray] = None) -> np.ndarray:
    """`phi` at later times `[E, L]` for each earlier time `[E]`."""


class Shifted(NamedTuple):
  """A `TimeKernel` in time since a beginning.

  Attributes:
    time: the kernel.
    start: the beginning.
  """
  time: TimeKernel
  start: float

  @property
  def cusp_width(self) -> float:
    return self.time.cusp_width

  @property
  def early_width(self) -> float:
    return self.time.early_width

  def at_earlier(self, tau_: np.ndarray) -> np.ndarray:
    return self.time.at_earlier(self.start + tau_)

  def phi(self, tau: Numbers, tau_: Numbers) -> np.ndarray:
    return self.time.phi(self.start + tau, self.start + tau_)

  def phi_rows(self, tau: np.ndarray, tau_: np.ndarray,
               at_earlier: Optional[np.ndarray] = None) -> np.ndarray:
    return self.time.phi_rows(self.start + tau, self.start + tau_, at_earlier)


class LowRankKernel(NamedTuple):
  r""":math:`\sum_r \varphi_r(\tau, \tau') K_r` on the training data.

  Attributes:
    time: the functions :math:`\varphi_r`.
    factors: `[n, R * n]`, the matrices :math:`K_r` side by side.
  """
  time: TimeKernel
  factors: jax.Array


# Time.


class _CoarseGrid:
  """Chebyshev points in ages, dense near age 0 and near time 0."""

  def __init__(self, tau: float, width: float, early: float, slow: float,
               size: int) -> None:
    self._tau, self._width, self._early, self._slow = tau, width, early, slow
    low, high = (np.zeros(1), np.full(1, tau))
    self._ends = self._variable(low)[0], self._variable(high)[0]
    u = (1 - np.cos(np.pi * np.arange(size) / (size - 1))) / 2
    target = self._ends[0] + u * (self._ends[1] - self._ends[0])
    # The variable is monotonic in z, age = width * sinh(z)**2.
    low, high = np.zeros(size), np.full(size, np.arcsinh(np.sqrt(tau / width)))
    for _ in range(100):
      middle = (low + high) / 2
      above = self._variable(self._age(middle)) > target
      low, high = np.where(above, low, middle), np.where(above, middle, high)
    self.ages = self._age((low + high) / 2)
    self.ages[0], self.ages[-1] = 0., tau
    self._degree = size - 1
    self._inverse = np.linalg.inv(self._chebyshev(self.ages))

  @property
  def times(self) -> np.ndarray:
    return self._tau - self.ages

  def reduced(self, functions: np.ndarray,
              tol: float) -> tuple['_CoarseGrid', np.ndarray, np.ndarray]:
    """The points that some functions need, with the space that they span.

    Args:
      functions: `[P, C]`, values on the grid.
      tol: what may be left out of them, in Euclidean norm over `P`.

    Returns:
      A grid of `Q` of the points; their indices, `[Q]`; and values at all
      points of what interpolates between these, `[C, Q]`.
    """
    triangle = np.linalg.qr(functions, mode='r')
    _, triangle, order = scipy.linalg.qr(triangle, mode='economic',
                                         pivoting=True)
    count = max(1, int(np.sum(np.abs(np.diag(triangle)) > tol)))
    weights = scipy.linalg.solve_triangular(triangle[:count, :count],
                                            triangle[:count])
    matrix = np.empty((len(order), count))
    matrix[order] = weights.T
    latest_first = np.argsort(order[:count])
    points, matrix = order[:count][latest_first], matrix[:, latest_first]
    out = copy.copy(self)
    out.ages, out._inverse = self.ages[points], self._inverse @ matrix
    return out, points, matrix

  def _age(self, z):
    return np.minimum(self._width * np.sinh(z)**2, self._tau)

  def _variable(self, age):
    # Logarithmic, but not where memory decays exponentially.
    return (np.arcsinh(np.sqrt(age / self._width)) + age / self._slow -
            np.log1p((self._tau - age) / self._early) / 2)

  def _chebyshev(self, age):
    low, high = self._ends
    u = 2 * (self._variable(age) - low) / (high - low) - 1
    return np.polynomial.chebyshev.chebvander(np.clip(u, -1, 1), self._degree)

  def lagrange(self, age: np.ndarray) -> np.ndarray:
    """Polynomials that are 1 at one point and 0 at the others, `[..., C]`."""
    return self._chebyshev(age) @ self._inverse

  def tail(self, values: np.ndarray) -> np.ndarray:
    """Size of the last coefficients of functions on the grid, axis -1."""
    last = self._inverse[-max(2, (self._degree + 1) // 6):]
    return np.max(np.abs(values @ last.T), -1)


class _FineMesh:
  """Panels of ages that grow from the thinnest layer.

  Attributes:
    ends: `[panels + 1]`.
    ages: `[F]`, collocation points; with an impulse, the first one is 0.
    weights: `[F]`, of integrals; the impulse has weight 1.
  """

  def __init__(self, tau: float, first: float, ratio: float, early: float,
               longest: float, impulse: bool) -> None:
    ends = [0., min(first, tau)]
    while ends[-1] < tau:
      step = min((ratio - 1) * ends[-1], longest,
                 .5 * (tau - ends[-1]) + .25 * early)
      ends.append(ends[-1] + step if tau - ends[-1] > 1.3 * step else tau)
    self.tau, self.impulse, self.ends = tau, impulse, np.array(ends)
    self._rule = quadrature.Collocation.radau(_STAGES)
    lengths = np.diff(self.ends)
    self.ages = (self.ends[:-1, None] + lengths[:, None] *
                 self._rule.points).ravel()
    self.weights = (lengths[:, None] * self._rule.weights).ravel()
    if impulse:
      self.ages = np.append(0., self.ages)
      self.weights = np.append(1., self.weights)

  @property
  def blocks(self) -> list[slice]:
    """Points that are solved for together."""
    first = int(self.impulse)
    panels = [slice(i, i + _STAGES)
              for i in range(first, len(self.ages), _STAGES)]
    return [slice(0, 1)] * first + panels

  def lagrange(self, ages: np.ndarray) -> scipy.sparse.csr_array:
    """Polynomials of the panels at ages `[A]`, `[A, F]`."""
    assert not self.impulse
    panel = np.searchsorted(self.ends, ages, side='left') - 1
    panel = np.clip(panel, 0, len(self.ends) - 2)
    starts, lengths = self.ends[panel], np.diff(self.ends)[panel]
    x = np.clip((ages - starts) / lengths, 0., 1.)
    points = _STAGES * panel[:, None] + np.arange(_STAGES)
    return scipy.sparse.csr_array(
        (self._rule.lagrange(x).ravel(), points.ravel(),
         _STAGES * np.arange(len(ages) + 1)), (len(ages), len(self.ages)))

  def product_weights(self, kernel: TimeKernel, ages: np.ndarray,
                      older: bool) -> np.ndarray:
    r"""Integrals over the ages on one side of given ages.

    Args:
      kernel: functions of time.
      ages: `[A]`.
      older: whether to integrate over older ages :math:`a' > a`, with
        :math:`\varphi_r(\tau - a, \tau - a')`; else over younger ones, with
        :math:`\varphi_r(\tau - a', \tau - a)`.

    Returns:
      `[R, A, F]`, the integrals against the polynomials of the panels.
    """
    tau, at = self.tau, np.maximum(self.tau - ages, 0.)
    at_earlier = None if older else kernel.at_earlier(at)
    out = np.zeros((kernel.phi(0., 0.).shape[-1], len(ages), len(self.ages)))

    def phi(a, rows):
      """Functions at ages `a`, `[len(rows), q]`, that go with `rows`."""
      other = np.maximum(tau - a, 0.)
      if at_earlier is None:
        later = np.broadcast_to(at[rows][:, None], other.shape)
        return kernel.phi_rows(later.reshape((-1, 1)), other.ravel()).reshape(
            other.shape + (-1,))
      return kernel.phi_rows(other, at[rows], at_earlier[rows])

    if self.impulse and not older:  # No age is older than that of the impulse.
      rows = np.arange(len(ages))
      out[:, :, 0] = phi(np.zeros((len(ages), 1)), rows)[:, 0].T
    points = slice(int(self.impulse), None)
    panels = out[:, :, points].reshape(out.shape[:2] + (-1, _STAGES))
    for p, (start, end) in enumerate(zip(self.ends[:-1], self.ends[1:])):
      length = end - start
      if older:
        near, far = np.maximum(start - ages, 0.), end - ages
      else:
        near, far = np.maximum(ages - end, 0.), ages - start
      seen = far > 0.
      close = np.flatnonzero(seen & (near < length))
      if close.size:
        lag, weights = quadrature.cusp_rule(near[close], far[close])
        a = ages[close][:, None] + (lag if older else -lag)
        a = np.clip(a, start, end)
        polynomials = self._rule.lagrange((a - start) / length)
        panels[:, close, p] = np.einsum('aq,aqr,aqj->raj', weights,
                                        phi(a, close), polynomials,
                                        optimize=True)
      distant = np.flatnonzero(seen & (near >= length))
      if distant.size:
        a = start + length * self._rule.gauss
        if older:
          values = np.moveaxis(kernel.phi_rows(
              np.broadcast_to(at[distant], (len(a), len(distant))),
              np.maximum(tau - a, 0.)), 0, 1)
        else:
          values = phi(np.broadcast_to(a, (len(distant), len(a))), distant)
        panels[:, distant, p] = length * np.einsum(
            'aqr,qj->raj', values, self._rule.gauss_weights, optimize=True)
    out[:, :, points] = panels.reshape(out[:, :, points].shape)
    return out


# Modes.


class Basis(NamedTuple):
  """Eigenvectors of an equal-time NDK, and kernels in their basis.

  Attributes:
    evecs: `[n, n]`, in columns.
    ndk: `[n, n * R]`, matrices of the NDK without their diagonals, so that
      they apply to vectors `[n, R]`.
    ndk_diagonal: `[n, R]`.
    nngp: `[n, n * R']`, the same for the covariance; then, unless these are
      symmetric, for its transposes, `[n, n * 2 R']`.
    nngp_diagonal: `[n, R']`.
    symmetric: whether the matrices of the covariance are.
  """
  evecs: np.ndarray
  ndk: Matrices
  ndk_diagonal: np.ndarray
  nngp: Matrices
  nngp_diagonal: np.ndarray
  symmetric: bool

  def rotate(self, vectors: np.ndarray) -> np.ndarray:
    """`[n, ...]` in the basis of modes."""
    out = self.evecs.T @ vectors.reshape((len(vectors), -1))
    return out.reshape(vectors.shape)


@on_either
def _equal_time_eigenvectors(factors, phi):
  n = len(factors)
  np_ = numpy_of(factors)
  matrix = np_.einsum('nrm,r->nm', factors.reshape((n, -1, n)), phi)
  return np_.linalg.eigh((matrix + matrix.T) / 2)[1]


@on_either
def _rotate(evecs, factors):
  """`V^T K_r V`, `[R, n, n]` without diagonals, and the diagonals `[R, n]`."""
  n, np_ = len(evecs), numpy_of(evecs)

  def one(matrix):
    out = evecs.T @ matrix @ evecs
    diagonal = np_.diagonal(out)
    return out - np_.diag(diagonal), diagonal

  matrices = np_.moveaxis(factors.reshape((n, -1, n)), 1, 0)
  if np_ is np:
    rotated, diagonals = zip(*map(one, matrices))
    return np.stack(rotated), np.stack(diagonals)
  return jax.lax.map(one, matrices)


@on_either
def _is_symmetric(matrices, diagonals):
  np_ = numpy_of(matrices)
  skew = np_.max(np_.abs(matrices - np_.swapaxes(matrices, 1, 2)))
  eps = np_.finfo(matrices.dtype).eps
  return skew <= 1e4 * eps * np_.max(diagonals)


@functools.partial(on_either, static_argnames='dtype')
def _side_by_side(matrices, dtype):
  """`K_r[i, j]` to `[j, i * R]`: row vectors times matrices."""
  out = matrices.transpose((2, 1, 0)).reshape((matrices.shape[1], -1))
  return out.astype(dtype)


def make_basis(ndk: LowRankKernel, nngp: LowRankKernel, tau: float,
               dtype: Any) -> Basis:
  """Basis of eigenvectors of the NDK at equal times `tau`.

  Args:
    ndk: NDK on the training data.
    nngp: covariance of the network without data.
    tau: time.
    dtype: of matrices. In the basis of modes rounding errors of each number
      are as small as it is, so that single precision does for most.
  """
  phi = np.asarray(ndk.time.phi(tau, tau), ndk.factors.dtype)
  evecs = _equal_time_eigenvectors(of_kind(ndk.factors), phi)
  K, K_diagonal = _rotate(evecs, of_kind(ndk.factors))
  C, C_diagonal = _rotate(evecs, of_kind(nngp.factors))
  symmetric = bool(to_host(_is_symmetric(C, C_diagonal)))
  if not symmetric:
    C = numpy_of(C).concatenate([C, C.swapaxes(1, 2)])
  K, C = (_place(_side_by_side(matrices, dtype), ndk.factors)
          for matrices in (K, C))
  K_diagonal, C_diagonal = (np.asarray(to_host(d), float).T
                            for d in (K_diagonal, C_diagonal))
  return Basis(to_host(evecs), K, K_diagonal, C, C_diagonal, symmetric)


@on_either
def _largest_coupling(matrices, phi, size):
  n = len(matrices)
  out = matrices.reshape((n, n, -1)) @ phi
  return abs(out / size[:, None] / size).max()


def coupling(basis: Basis, ndk: LowRankKernel, tau: float,
             temperature: float) -> float:
  """Largest correlation between modes in the NDK at equal times `tau`.

  A mode whose boundary layer is not thinner than `tau` has none: its strength
  is less than that of the noise over this time, which is taken instead.
  """
  phi = ndk.time.phi(tau, tau)
  strength = np.maximum(basis.ndk_diagonal @ phi, 0.) + temperature / tau
  size = np.sqrt(np.maximum(strength, 1e-16 * np.max(strength)))
  dtype = basis.ndk.dtype
  return float(to_host(_largest_coupling(
      basis.ndk, phi.astype(dtype), size.astype(dtype))))


# Matrices stay on an accelerator, or on several devices. On one CPU they are
# arrays of NumPy, which compiles nothing for each new number of times.


def _place(matrices: Matrices, like: Matrices) -> Matrices:
  if isinstance(like, np.ndarray) or on_host(like):
    return np.asarray(matrices)
  return jax.device_put(matrices, like.sharding)


def _multiply(matrices: Matrices, vectors: np.ndarray) -> np.ndarray:
  """`[n, n * R]` times `[n, R, C, m]`: `[n, C, m]`."""
  n, rank, size, m = vectors.shape
  count = size * m
  flat = vectors.reshape((n * rank, count)).astype(matrices.dtype, copy=False)
  if isinstance(matrices, np.ndarray):
    out = matrices @ flat
  else:
    # In blocks of one size, as a program is compiled for each.
    flat = np.pad(flat, ((0, 0), (0, -count % _COLUMNS_AT_ONCE)))
    out = np.concatenate([
        to_host(matrices @ jnp.asarray(flat[:, i:i + _COLUMNS_AT_ONCE]))
        for i in range(0, count, _COLUMNS_AT_ONCE)], 1)[:, :count]
  return out.reshape((n, size, m))


def _compress(phi: np.ndarray, matrices: Matrices, diagonal: np.ndarray,
              tol: float) -> tuple[Matrices, np.ndarray]:
  r"""Combines matrices, as few as some of the times need.

  Args:
    phi: `[P, R]`, functions of time at all pairs of times that matter.
    matrices: `[n, n * R]`.
    diagonal: `[n]`, sizes of modes.
    tol: what may be left out of correlations between modes.

  Returns:
    `[n, n * R']`, and `[R, R']` that turns functions into those of the new
    matrices.
  """
  n = len(matrices)
  stacked = matrices.reshape((n, n, -1))
  inverse = 1 / np.maximum(diagonal, 1e-10 * np.max(diagonal))
  norms = np.zeros(stacked.shape[2])
  for i in range(0, n, _ROWS_AT_ONCE):
    some = slice(i, i + _ROWS_AT_ONCE)
    squares = np.asarray(to_host(stacked[some]), float)**2
    norms += inverse[some] @ (inverse @ squares)
  norms = np.maximum(np.sqrt(norms), 1e-3 * tol)
  _, _, directions = np.linalg.svd(phi * norms, full_matrices=False)
  parts = (phi * norms @ directions.T)[:, ::-1]
  left = np.sqrt(np.max(np.cumsum(parts**2, 1), 0))[::-1]
  keep = directions[left > tol].T
  count = keep.shape[1]
  if count == len(norms):
    return matrices, np.eye(len(norms))
  if not isinstance(matrices, np.ndarray):
    # With zeros, since a program is compiled for each number.
    room = 1 << max(count - 1, 0).bit_length()
    keep = np.pad(keep, ((0, 0), (0, room - count)))
  coefficients = (keep / norms[:, None]).astype(matrices.dtype)
  return ((stacked @ coefficients).reshape((n, n * keep.shape[1])),
          keep * norms[:, None])


def _respond(tensor: np.ndarray, h: np.ndarray) -> np.ndarray:
  """`[n, R, A, C]` times `[n, C, m]`: `[n, R, A, m]`."""
  n, rank, ages, size = tensor.shape
  out = tensor.reshape((n, rank * ages, size)) @ h.astype(tensor.dtype,
                                                          copy=False)
  return out.reshape((n, rank, ages, h.shape[-1]))


def _change(tensor: np.ndarray, at: np.ndarray,
            matrix: np.ndarray) -> np.ndarray:
  """`at @ tensor @ matrix`, `[n, R, Q, Q]`, in few large products."""
  at, matrix = at.astype(tensor.dtype), matrix.astype(tensor.dtype)
  *some, ages, size = tensor.shape
  out = tensor.reshape((-1, size)) @ matrix
  out = np.swapaxes(out.reshape((-1, ages, matrix.shape[1])), 1, 2)
  out = out.reshape((-1, ages)) @ at.T
  out = np.swapaxes(out.reshape((-1, matrix.shape[1], len(at))), 1, 2)
  return np.ascontiguousarray(out).reshape((*some, len(at), matrix.shape[1]))


def _products(diagonal: bool) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Scalar products of `[n, C, m]` and `[n, C, m']`, `[m]` or `[m, m']`."""
  if diagonal:
    return lambda a, b: np.einsum('ncm,ncm->m', a, b)
  return lambda a, b: np.tensordot(a, b, ((0, 1), (0, 1)))


class Rows(NamedTuple):
  """Rows of the resolvent, in the basis of modes.

  Attributes:
    h: `[n, C, m]`, smooth right-hand sides on the coarse grid.
    moments: `[n, C, m]`, integrals of `b` against coarse polynomials.
    coupled: `[n, C, m]`, coupling part of the integral of `b` and the
      covariance, on the coarse grid.
    tail: relative size of what the coarse grid leaves out.
  """
  h: np.ndarray
  moments: np.ndarray
  coupled: np.ndarray
  tail: float


class EndTime:
  """What all resolvents that end at one time share.

  Attributes:
    tau: that time.
    basis: modes.
    rtol: tolerance of the coupling between modes.
    ndk, nngp: functions of time.
    mesh: fine mesh of ages.
    shift: `[n]`, temperature, or what stands for none.
    variance: `[n]`, of modes under the covariance.
    size: `[n]`, what a residual of a mode makes of a prediction.
  """

  def __init__(self, tau: float, temperature: float, ndk: LowRankKernel,
               nngp: LowRankKernel, basis: Basis, rtol: float, width: float,
               longest: float) -> None:
    """Chooses the fine mesh.

    Args:
      tau: time, positive.
      temperature: not negative.
      ndk: NDK on the training data.
      nngp: covariance of the network without data.
      basis: modes.
      rtol: tolerance of the coupling between modes.
      width: age above which any coarse grid resolves any scale.
      longest: longest panel of the fine mesh.
    """
    self.tau, self.basis, self.rtol = tau, basis, rtol
    self.ndk, self.nngp = ndk.time, nngp.time
    self._slow = 5 * longest
    self._strength = np.maximum(basis.ndk_diagonal @ ndk.time.phi(tau, tau), 0.)
    largest = np.max(self._strength)
    # Without noise, modes that the network does not have are not learned, and
    # their rounding errors not amplified.
    self.shift = np.full(len(self._strength), temperature or 1e-14 * largest)
    if not temperature:
      self.shift[self._strength <= self.shift] = largest
    self.variance = np.maximum(basis.nngp_diagonal @ nngp.time.phi(tau, tau),
                               0.)
    self.size = np.sqrt(self.variance) / (self._strength + temperature +
                                          1e-12 * largest)
    impulse = temperature == 0
    first = .3 * (1e-8 if impulse else temperature / (largest + temperature))
    first = np.clip(first, 1e-13 * tau, min(1e-2 * width, tau))
    self.mesh = _FineMesh(
        tau, first, _LARGE_RATIO if rtol >= _LARGE_FROM else _RATIO,
        ndk.time.early_width, longest, impulse)
    reference = self.grid(_REFERENCE_SIZE, width).times
    i, j = np.triu_indices(len(reference))
    self._pairs = reference[i], reference[j]

  def grid(self, size: int, width: float) -> _CoarseGrid:
    """Coarse grid of ages, see `Resolvent`."""
    return _CoarseGrid(self.tau, width, self.ndk.early_width, self._slow, size)

  def hardest(self, kappa: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Order of predictions by what data at one time tell of them, most last.

    Args:
      kappa: `[n, m]`, kernel of predictions and data, in the basis of modes.
      scale: `[m]`, standard deviations of the predictions without data.
    """
    told = np.sum((self.size[:, None] * kappa)**2, 0)
    return np.argsort(told / scale**2, kind='stable')

  @functools.cached_property
  def ndk_weights(self) -> np.ndarray:
    """Integrals over younger ages of the fine mesh, `[R, F, F]`."""
    return self.mesh.product_weights(self.ndk, self.mesh.ages, older=False)

  @functools.cached_property
  def nngp_weights(self) -> np.ndarray:
    """Integrals over all ages of the fine mesh, `[R', F, F]`."""
    younger, older = (
        self.mesh.product_weights(self.nngp, self.mesh.ages, o)
        for o in (False, True))
    return younger + older

  # Over a short time the kernels are few.

  @functools.cached_property
  def ndk_matrices(self) -> tuple[Matrices, np.ndarray]:
    """Coupling of the NDK, see `_compress`."""
    return _compress(self.ndk.phi(*self._pairs), self.basis.ndk, self._strength,
                     .3 * self.rtol)

  @functools.cached_property
  def nngp_matrices(self) -> tuple[Matrices, np.ndarray]:
    """Coupling of the covariance."""
    phi = self.nngp.phi(*self._pairs)
    if not self.basis.symmetric:
      phi = np.kron(np.eye(2), phi)
    return _compress(phi, self.basis.nngp, self.variance, .3 * self.rtol)


class Resolvent:
  """Rows of the resolvent that end at one time.

  Attributes:
    basis: modes.
    grid: ages of the coarse grid, `[C]`.
    times: `[C]`, the same as times, latest first.
  """

  def __init__(self, shared: EndTime, size: int, width: float) -> None:
    """Solves for all modes.

    Args:
      shared: what does not depend on the coarse grid.
      size: number of points of the coarse grid.
      width: age above which the coarse grid resolves any scale.
    """
    self.tau, self.basis, self._shared = shared.tau, shared.basis, shared
    self.mesh = shared.mesh
    self.grid, self._width = shared.grid(size, width), width
    at_fine = self.grid.lagrange(self.mesh.ages)
    self._beta = self._solve_modes(shared.ndk_weights, at_fine, shared.shift)
    matrices, change = shared.ndk_matrices
    weights = self.mesh.product_weights(shared.ndk, self.grid.ages, older=False)
    self._coupling = self._tensor(np.tensordot(change.T, weights, 1),
                                  matrices.dtype)
    self._moments = self._tensor((self.mesh.weights[:, None] * at_fine).T[None])
    self._total = np.einsum('f,nfc->nc', self.mesh.weights, self._beta)

  @property
  def times(self) -> np.ndarray:
    return self.grid.times

  def reduced(self, rows: Rows, cross: np.ndarray, scale: np.ndarray,
              tol: float) -> 'Resolvent':
    """The same on those points of the coarse grid that some rows need.

    Args:
      rows: of `m` predictions.
      cross: `[n, C, m]`, see `covariance`.
      scale: `[m]`, standard deviations of the predictions without data.
      tol: what may be left out of them.
    """
    variance = self._shared.variance
    one = np.sqrt(np.maximum(variance, 1e-20 * np.max(variance)))
    functions = np.concatenate([
        np.moveaxis(a / scale * size[:, None, None], 1, 2).reshape(
            (-1, len(self.times)))
        for a, size in ((rows.h, self._shared.size), (cross, 1 / one),
                        (rows.coupled, 1 / one))])
    grid, points, matrix = self.grid.reduced(functions, tol)
    return self._on(grid, np.eye(len(self.times))[points], matrix)

  def truncated(self, size: int) -> 'Resolvent':
    """The same on polynomials of lower degree, with `size` points."""
    grid = self._shared.grid(size, self._width)
    return self._on(grid, self.grid.lagrange(grid.ages),
                    grid.lagrange(self.grid.ages))

  def _on(self, grid: _CoarseGrid, at: np.ndarray,
          matrix: np.ndarray) -> 'Resolvent':
    """The same for some of the functions on the coarse grid.

    Args:
      grid: `Q` points whose polynomials are combinations of those here.
      at: `[Q, C]`, values of polynomials here at these points.
      matrix: `[C, Q]`, values of their polynomials at the points here.
    """
    out = copy.copy(self)
    out.grid = grid
    out._beta, out._total = self._beta @ matrix, self._total @ matrix
    out._moments = matrix.T @ self._moments @ matrix
    out._mode_covariance = matrix.T @ self._mode_covariance @ matrix
    out._coupling = _change(self._coupling, at, matrix)
    matrices, tensor = self._covariance_operator
    out._covariance_operator = matrices, _change(tensor, at, matrix)
    return out

  def _solve_modes(self, weights: np.ndarray, right: np.ndarray,
                   shift: np.ndarray) -> np.ndarray:
    """Response of each mode to each coarse polynomial, `[n, F, C]`."""
    diagonal = self.basis.ndk_diagonal
    out = np.empty((len(diagonal),) + right.shape)
    for i in range(0, len(diagonal), _MODES_AT_ONCE):
      matrices = np.tensordot(diagonal[i:i + _MODES_AT_ONCE], weights, 1)
      matrices += shift[i:i + _MODES_AT_ONCE, None, None] * np.eye(len(right))
      beta = out[i:i + _MODES_AT_ONCE]
      for block in self.mesh.blocks:
        rest = right[block] - (matrices[:, block, :block.start] @
                               beta[:, :block.start])
        beta[:, block] = np.linalg.solve(matrices[:, block, block], rest)
    return out

  def _tensor(self, weights: np.ndarray, dtype: Any = float) -> np.ndarray:
    """`[R, A, F]` integrals of what the modes respond with, `[n, R, A, C]`."""
    rank, ages, fine = weights.shape
    weights, beta = (a.astype(dtype, copy=False)
                     for a in (weights, self._beta))
    out = weights.reshape((rank * ages, fine)) @ beta
    return out.reshape((len(out), rank, ages, out.shape[-1]))

  # Rows.

  def rows(self, kappa: np.ndarray, scale: np.ndarray,
           guess: Optional[np.ndarray] = None) -> Rows:
    r"""Solves :math:`T b + \int b\, \mathrm{NDK} = \kappa`.

    Args:
      kappa: `[n, C, m]`, right-hand sides at `times`, in the basis of modes.
      scale: `[m]`, standard deviations of the predictions without data.
      guess: `[n, C, m]`, of `Rows.h`.

    Returns:
      `Rows`.

    Raises:
      ArithmeticError: if the modes are too strongly coupled.
    """
    matrices, _ = self._shared.ndk_matrices
    size = self._shared.size[:, None, None] / np.maximum(scale, 1e-300)
    size, kappa = (a.astype(matrices.dtype, copy=False) for a in (size, kappa))
    operator = lambda h: h + _multiply(matrices, _respond(self._coupling, h))
    dot = lambda a, b: np.einsum('ncm,ncm->m', a, b)
    # Vectors are in units of what they make of a prediction.
    h = kappa if guess is None else guess.astype(kappa.dtype, copy=False)
    residual = size * (kappa - operator(h))
    directions: list[tuple[np.ndarray, np.ndarray]] = []
    while True:
      left = np.sqrt(np.max(np.sum(residual**2, 0), initial=0.))
      if left <= self._shared.rtol:
        break
      if len(directions) == _MAX_ITERATIONS:
        raise ArithmeticError(
            f'The coupling between modes at diffusion time {self.tau:.3e} was '
            f'solved to {left:.1e} instead of {self._shared.rtol:.1e} in '
            f'{_MAX_ITERATIONS} iterations. Use float64, or a larger `rtol` or '
            'temperature.')
      z = residual / np.where(size > 0, size, 1.)
      q = size * operator(z)
      for z_, q_ in directions:
        overlap = dot(q_, q)
        z, q = z - overlap * z_, q - overlap * q_
      norm = np.sqrt(dot(q, q))
      norm = np.where(norm > 0, norm, 1.)
      z, q = z / norm, q / norm
      directions.append((z, q))
      step = dot(q, residual)
      h, residual = h + step * z, residual - step * q
    missed = self.grid.tail(np.moveaxis(h * size, 1, 2))
    tail = float(np.max(np.sqrt(np.sum(missed**2, 0))))
    return Rows(h, _respond(self._moments, h)[:, 0], self._coupled(h), tail)

  def mean(self, rows: Rows, y: Matrices) -> np.ndarray:
    """Mean predictions `[m, k]`, for targets `[n, k]`."""
    total = np.einsum('ncm,nc->nm', rows.h, self._total)
    return total.T @ (self.basis.evecs.T @ y)

  def predictions(self, kappa: np.ndarray, cross: np.ndarray, prior: np.ndarray,
                  scale: np.ndarray, y: Matrices, keep: bool = False
                  ) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Mean and covariance of predictions, in blocks of bounded memory.

    Args:
      kappa: `[n, C, m]`, see `rows`.
      cross: `[n, C, m]`, see `covariance`.
      prior: `[m, m]`, or `[m]` for variances only.
      scale: `[m]`, standard deviations of the predictions without data.
      y: `[n, k]`, targets.
      keep: whether to return moments.

    Returns:
      Mean `[m, k]`, covariance `[m, m]` or variances `[m]`, an estimate of the
      relative error of the coarse grid, and moments as in `Rows`, or none.
    """
    diagonal = prior.ndim == 1
    n, size, m = kappa.shape
    rank = max(self._coupling.shape[1], self.basis.nngp_diagonal.shape[1])
    block = max(1, _BLOCK_BYTES // (8 * n * size * rank))
    means, parts, tails, kept = [], [], [], [np.zeros((n, size, 0))]
    for start in range(0, m, block):
      some = slice(start, start + block)
      rows = self.rows(kappa[:, :, some], scale[some])
      means.append(self.mean(rows, y))
      tails.append(rows.tail)
      if keep:
        kept.append(rows.moments)
      parts.append(self.covariance(rows, prior[some], cross[:, :, some])
                   if diagonal else rows[:3])
    if diagonal:
      covariance = np.concatenate(parts)
    else:
      h, moments, coupled = (np.concatenate(a, 2) for a in zip(*parts))
      rows = Rows(h, moments, coupled, max(tails))
      covariance = self.covariance(rows, prior, cross)
    return (np.concatenate(means), covariance, .1 * max(tails),
            np.concatenate(kept, 2))

  def covariance(self, rows: Rows, prior: np.ndarray,
                 cross: np.ndarray) -> np.ndarray:
    r"""Covariance of predictions at the same time.

    Args:
      rows: of `m` predictions.
      prior: `[m, m]` (or `[m]`), their covariance without data.
      cross: `[n, C, m]`, covariance without data between them and the training
        outputs at `times`, in the basis of modes.

    Returns:
      `[m, m]`, or variances `[m]`.
    """
    # Integral of `b` and the covariance; exact for each mode.
    integral = self._mode_covariance @ rows.h
    dot = _products(prior.ndim == 1)
    mixed = dot(rows.moments, cross)
    out = prior + dot(rows.h, integral) + dot(rows.moments, rows.coupled)
    out -= mixed + mixed.T
    return out if out.ndim == 1 else (out + out.T) / 2

  def response(self, rows: Rows) -> np.ndarray:
    """`b` at the ages of the fine mesh times weights of an integral."""
    return (self._beta @ rows.h) * self.mesh.weights[:, None]

  def with_outputs(self, rows: Rows, ages: np.ndarray) -> np.ndarray:
    """Integral of `b` and the covariance with training outputs.

    Args:
      rows: of `m` predictions.
      ages: `[A]`, of the outputs.

    Returns:
      `[n, A, m]`: modes by themselves, exactly, and their coupling.
    """
    weights, diagonal = self._shared.nngp_weights, self.basis.nngp_diagonal
    interpolate = self.mesh.lagrange(ages)
    out = self.grid.lagrange(ages) @ rows.coupled
    for i in range(0, len(diagonal), _MODES_AT_ONCE):
      some = slice(i, i + _MODES_AT_ONCE)
      modes = np.tensordot(diagonal[some], weights, 1) @ (
          self._beta[some] @ rows.h[some])
      modes = np.moveaxis(modes, 1, 0)
      at_ages = interpolate @ modes.reshape((len(modes), -1))
      out[some] += np.moveaxis(at_ages.reshape((len(ages),) + modes.shape[1:]),
                               0, 1)
    return out

  def with_prediction(self, rows: Rows, age: float, later: np.ndarray,
                      earlier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integrals of `b` against the covariance with other predictions.

    Args:
      rows: of `m` predictions.
      age: of the other ones.
      later: `[n, R', m']`, matrices of the covariance, training outputs first
        (later), in the basis of modes.
      earlier: `[n, R', m']`, the same, predictions first.

    Returns:
      Two arrays `[n, 2 R', m]` and `[n, 2 R', m']`, whose scalar products are
      the integrals.
    """
    younger, older = (a[:, :, 0] for a in self._integrals(rows,
                                                          np.array([age])))
    return (np.concatenate([younger, older], 1),
            np.concatenate([later, earlier], 1))

  def integral(self, rows: Rows) -> np.ndarray:
    """Double integrals mode by mode, `[n, C, m]`, to multiply with `h`."""
    return self._mode_covariance @ rows.h

  def _integrals(self, rows: Rows, ages: np.ndarray) -> list[np.ndarray]:
    """`b` and functions of the covariance, younger and older, `[n,R',A,m]`."""
    return [_respond(self._tensor(self.mesh.product_weights(
        self._shared.nngp, ages, older)), rows.h) for older in (False, True)]

  @functools.cached_property
  def _mode_covariance(self) -> np.ndarray:
    """Exact double integrals mode by mode, `[n, C, C]`."""
    mesh, weights = self.mesh, self._shared.nngp_weights
    diagonal = self.basis.nngp_diagonal
    out = np.empty((len(diagonal),) + 2 * (len(self.times),))
    for i in range(0, len(diagonal), _MODES_AT_ONCE):
      some = slice(i, i + _MODES_AT_ONCE)
      beta = self._beta[some]
      inner = np.tensordot(diagonal[some], weights, 1) @ beta
      out[some] = np.swapaxes(beta * mesh.weights[:, None], 1, 2) @ inner
    return out

  @functools.cached_property
  def _covariance_operator(self) -> tuple[Matrices, np.ndarray]:
    """Coupling matrices, and integrals over younger and over older ages."""
    matrices, change = self._shared.nngp_matrices
    younger, older = (
        self.mesh.product_weights(self._shared.nngp, self.grid.ages, o)
        for o in (False, True))
    weights = (younger + older if self.basis.symmetric else
               np.concatenate([younger, older]))
    return matrices, self._tensor(np.tensordot(change.T, weights, 1),
                                  matrices.dtype)

  def _coupled(self, h: np.ndarray) -> np.ndarray:
    matrices, tensor = self._covariance_operator
    return _multiply(matrices, _respond(tensor, h))
