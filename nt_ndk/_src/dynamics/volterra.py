# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Volterra equations of the second kind with a low-rank matrix kernel.

Solves, for :math:`\rho(\tau)` with values in :math:`n \times k` matrices,

.. math::
  \rho(\tau) + \gamma \int_0^\tau \mathcal{K}(\tau, \tau')\, \rho(\tau')\,
  d\tau' = Y, \qquad
  \mathcal{K}(\tau, \tau') = \sum_{r=1}^R \varphi_r(\tau, \tau') K_r,

by collocation at the Radau IIA points of panels that adapt to the solution.
The equation is stiff: the eigenvalues of :math:`\gamma \mathcal{K}` spread over
many decades, and Radau IIA damps the fast ones (stiff accuracy).

*  Inside a panel and next to it, :math:`\varphi_r` is integrated against the
   collocation polynomials in :math:`\sqrt{\tau - \tau'}`, in which a cusp at
   :math:`\tau' = \tau` is smooth, on intervals that shrink towards it, for
   cusps of any width; farther away in :math:`\tau'` itself.
*  The past enters through the products :math:`K_r \rho` at all points, which
   are kept, so that neither it nor any guess made of it costs a product.
*  The equations of a panel are solved by conjugate residuals (GCR),
   preconditioned by those in which the :math:`K_r` are diagonal in the
   eigenbasis of one equal-time kernel, from the combination of the points
   before it that solves them best. Of many samples only leading eigenvectors
   are found, and on what is orthogonal to them the :math:`K_r` are polynomials
   of that kernel. Each iteration reads the :math:`K_r` once; before the first
   one, a correction that does not is made to the guess. Where iterations are
   many, what couples the leading modes is solved for, too.
*  Panels follow the trend of the last two, as far as their errors allow: a
   solution with modes of all sizes looks alike on all scales of time. An error
   at the end of a panel is a jump for the next one, however short that is; the
   panel is then taken back. What a jump integrates to is an error of other
   outputs, within the panel too, where kernels that vary as fast as the
   polynomial does are not smoothed by it.
*  A solution may begin where another one ends, of other samples, weights of
   these, targets and :math:`\gamma`. What came before is then a part of the
   right-hand side, through the products that the other solution has kept. With
   weights :math:`a` of samples, the integral is over :math:`a \rho`, and the
   equations are solved for :math:`\sqrt a \rho`, for which they are symmetric.
"""

import copy
import functools
import time
from typing import Any, Callable, Iterator, NamedTuple, Optional, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from nt_ndk._src.base.arrays import is_small
from nt_ndk._src.base.arrays import Matrices
from nt_ndk._src.base.arrays import numpy_of
from nt_ndk._src.base.arrays import of_kind
from nt_ndk._src.base.arrays import on_either
from nt_ndk._src.base.arrays import on_host
from nt_ndk._src.base.arrays import product
from nt_ndk._src.base.devices import in_one_thread
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import Numbers
from nt_ndk._src.dynamics import quadrature
from nt_ndk._src.dynamics.measure import Measure
from nt_ndk._src.dynamics.spectrum import ALL_MODES
from nt_ndk._src.dynamics.spectrum import BLOCKS
from nt_ndk._src.dynamics.spectrum import most_blocks
from nt_ndk._src.dynamics.spectrum import multiply
from nt_ndk._src.dynamics.spectrum import of_rest
from nt_ndk._src.dynamics.spectrum import Series
from nt_ndk._src.dynamics.spectrum import series
from nt_ndk._src.dynamics.spectrum import spectrum
from nt_ndk._src.dynamics.spectrum import TERMS

# Points whose values and images there is room for at first.
ROOM = 256
# Of a multiple of these integrals are found, so that shapes last.
_ROUND = 128
# Times at which errors of interpolation are measured.
_CHECKS = 8
_MAX_ITERATIONS = 60
# Largest ratio of a correction to what is left of the equations: they are those
# of memories that fade, and may have solutions about twice their right-hand
# side.
_AMPLIFIED = 2.
_MAX_DIRECTIONS = 8
# Iterations after which other modes are worth their cost.
_MANY_ITERATIONS = 18
_MAX_PANELS = 150
# Length of a panel, relative to one that would just do.
_SAFETY = .9
# Fraction of a trend that panels follow.
_FOLLOWED = .8
# Number of panels of about one length and error, after which a longer one is
# tried.
_ALIKE = 3
# Errors that no length of panels lowers, relative to `y`, that are accepted.
_LARGEST_FLOOR = 1e-2
# Largest ratio of the lengths of a panel and of the one before it.
_MAX_GROWTH = 2.5
# Samples up to which the equations of a panel are solved directly. Of more
# samples, those of this many leading modes are, from so many iterations on, and
# all of them, unless samples are many, if iterations are too many even so.
_DIRECTLY, _TOGETHER, _SOME_ITERATIONS, _TOO_MANY = 64, 32, 5, 40
# Chebyshev points of a panel, between which functions of earlier times are
# interpolated.
_NODES = (1 - np.cos(np.pi * (np.arange(20) + .5) / 20)) / 2
# Gauss points of the last panel, for integrals of the solution and functions
# that need not be accurate.
_LAST = np.polynomial.legendre.leggauss(8)
# About as many samples, and outputs, tell how to continue what is known.
_GUESS_FROM, _OUTPUTS = 256, 4
# About as many eigenvectors the preconditioner treats one by one.
_PROBES = 96
# Degree of polynomials that tell how the K_r act where modes are not known, and
# smallest eigenvalue that counts there, relative to the largest one.
_DEGREE, _LEAST = 4, 1e-3
# Fraction of the largest time whose modes are those to begin with.
_MODES_FROM = .1


class TimeKernel(Protocol):
  """The functions of time of a low-rank kernel."""

  @property
  def cusp_width(self) -> float:
    """Lag below which kernels may have a square-root cusp."""

  @property
  def tau_max(self) -> float:
    """The largest time."""

  def at_earlier(self, tau_: np.ndarray) -> np.ndarray:
    """What does not depend on later times, `[..., B, R]`, smooth."""

  def at_later(self, tau: Numbers, tau_: Numbers) -> np.ndarray:
    """Factors of this in functions at `tau >= tau_`, `[..., B]`."""

  def phi(self, tau: Numbers, tau_: Numbers) -> np.ndarray:
    """Functions of time at `tau >= tau_`, `[..., R]`: the two multiplied."""


class Journal(Protocol):
  """Keeps what was solved for; the fields of a `Record` by their names."""

  def __iter__(self) -> Iterator[dict[str, Any]]:
    """Records so far, from the beginning."""

  def append(self, record: dict[str, Any]) -> None:
    """Keeps one more."""


class Record(NamedTuple):
  r"""A panel that was accepted, and how to go on after it.

  Attributes:
    points: `[s]`, times.
    weights: `[s, points so far, R]`, of past points and its own.
    x: `[s, n, k]`, solution.
    images: `[s, R, n, k]`, what the :math:`K_r` make of it.
    error: estimated error, relative to `scale`.
    limit_error: distance from the limit, in the same units.
    step: length of the next panel.
    modes_at: time of the modes.
    precise: whether these are in full precision.
    together: number of leading modes that are solved for together from then on.
    blocks: number of blocks of vectors that leading modes are found from.
  """
  points: np.ndarray
  weights: np.ndarray
  x: Matrices
  images: Matrices
  error: float
  limit_error: float
  step: float
  modes_at: float
  precise: bool
  together: int
  blocks: int


# Arrays are of NumPy on one CPU and of JAX elsewhere. They have points first:
# values `[points, n, k]`, and what the `K_r` make of them, images,
# `[points, R, n, k]`.


def _with_room(values, room, memory=None):
  """The same, and room, which takes no memory on the host before its use.

  Args:
    values: arrays, points first.
    room: number of points.
    memory: an array whose memory is used if it is large enough.
  """
  if numpy_of(values) is np:
    shape = (room,) + values.shape[1:]
    size = int(np.prod(shape))
    out = (np.zeros(shape, values.dtype) if memory is None or memory.size < size
           else memory.reshape(-1)[:size].reshape(shape))
    out[:len(values)] = values
    return out
  return jnp.pad(values, [(0, room - len(values))] + [(0, 0)] *
                 (values.ndim - 1))


@on_either
def _rms(x):
  """Root mean square over samples and outputs, the largest over points."""
  return numpy_of(x).sqrt((x**2).mean((1, 2)).max())


@on_either
def _images(x, factors):
  """`K_r x`, `[s, R, m, k]`; factors `[m, R * n]`, x `[s, n, k]`."""
  s, n, k = x.shape
  out = product(factors, x.transpose((1, 0, 2)).reshape((n, -1)))
  # In the order in which they are kept and summed.
  return out.reshape((len(factors), -1, s, k)).transpose((2, 1, 0, 3)).copy()


@on_either
def _weigh(images, weights):
  """Sums over points and matrices, `[i, m, k]`; weights `[i, points, R]`."""
  out = (weights.reshape((len(weights), -1)) @
         images.reshape((weights[0].size, -1)))
  return out.reshape((len(weights),) + images.shape[2:])


@on_either
def _precondition(residual, evecs, inverse, together, rest):
  """Solves the equations of modes.

  Args:
    residual: `[s, n, k]`, right-hand side.
    evecs: `[n, m]`, modes, in columns.
    inverse: `[m - l, s, s]`, of the equations of each mode but the leading `l`.
    together: `[l * s, l * s]`, of those of the leading modes.
    rest: the kernel, and a `Series` of it that solves those of what is
      orthogonal to all modes; `None` if nothing is.

  Returns:
    `[s, n, k]`.
  """
  residual = residual.transpose((1, 0, 2))
  z = multiply(residual, evecs, transposed=True)
  one, (_, s, k) = len(inverse), z.shape
  leading = (together @ z[one:].reshape((-1, k))).reshape((-1, s, k))
  out = multiply(numpy_of(z).concatenate([inverse @ z[:one], leading]), evecs)
  if rest is not None:
    out = out + of_rest(residual, evecs, *rest)
  return out.transpose((1, 0, 2))


def _factorize(factors, inner, root, dtype):
  """LU decomposition of the equations of a panel, of few samples."""
  n, s = len(factors), len(inner)
  matrix = np.einsum('ijr,nrm->injm', inner.astype(dtype),
                     factors.reshape((n, -1, n)).astype(dtype), optimize=True)
  if root is not None:
    matrix *= (root * root[:, None, None]).astype(dtype)
  matrix = matrix.reshape((s * n, s * n))
  matrix.flat[::s * n + 1] += 1
  return scipy.linalg.lu_factor(matrix, overwrite_a=True, check_finite=False)


def _solve_factorized(residual, lu):
  """Solves the equations, to the precision of their decomposition."""
  right = residual.reshape((len(lu[0]), -1)).astype(lu[0].dtype)
  z = scipy.linalg.lu_solve(lu, right, check_finite=False)
  return z.astype(residual.dtype).reshape(residual.shape)


def _scaled(x, root):
  """Values `[..., n, k]` times the roots of the weights of samples."""
  return x if root is None else x * root[:, None]


@on_either
def _unscaled(x, other, root):
  """Values without the roots of weights, or other ones where these are 0."""
  np_, root = numpy_of(x), root[:, None]
  return np_.where(root > 0, x / np_.where(root > 0, root, 1), other)


@on_either
def _equations(x, x_images, inner, root):
  """What the equations of a panel make of its values."""
  return x + _scaled(_weigh(x_images, inner), root)


@on_either
def _residual(x, x_images, right, inner, root):
  """What is left of the equations."""
  return _scaled(right, root) - _equations(x, x_images, inner, root)


@on_either
def _orthogonalize(z, z_images, q, z_, z_images_, q_):
  """Takes what is along one direction out of another."""
  overlap = (q_ * q).sum()
  return z - overlap * z_, z_images - overlap * z_images_, q - overlap * q_


@on_either
def _step(x, x_images, residual, z, z_images, q):
  """One along a direction that lowers the residual most; the direction too."""
  norm = numpy_of(q).sqrt((q * q).sum())
  z, z_images, q = z / norm, z_images / norm, q / norm
  size = (q * residual).sum()
  return (x + size * z, x_images + size * z_images, residual - size * q,
          (z, z_images, q))


class _Modes(NamedTuple):
  """Eigenvectors of an equal-time kernel, and what each K_r does to them.

  Attributes:
    evecs: `[n, m]`, all eigenvectors or the leading ones, in columns.
    diagonals: `[R, m]`, of all K_r in their basis. These are exact for the
      leading ones and some of the others, relative to whose eigenvalues they
      are interpolated for the rest.
    rest: what is orthogonal to the leading ones, if there is anything.
  """
  evecs: Matrices
  diagonals: np.ndarray
  rest: Optional['_Rest']


class _Rest(NamedTuple):
  """An equal-time kernel, where modes are not known.

  Attributes:
    matrix: `[n, n]`.
    ends: bounds of its eigenvalues.
    diagonals: `[R, degree + 1]`, coefficients of polynomials in them that are
      about those of each K_r.
  """
  matrix: Matrices
  ends: tuple[float, float]
  diagonals: np.ndarray

  def series(self, inner: np.ndarray) -> Series:
    """Of what solves the equations of a panel; inner `[s, s, R]`."""

    def solver(evals):
      of_each = np.polynomial.polynomial.polyval(evals, self.diagonals.T)
      return np.linalg.inv(np.eye(len(inner)) +
                           np.einsum('rl,ijr->lij', of_each, inner))

    return series(solver, self.ends)


def _probed(n: int) -> np.ndarray:
  """Indices of modes that are treated one by one, the leading ones last."""
  return n - np.unique(np.geomspace(1, n, _PROBES).astype(int))[::-1]


@functools.partial(on_either, static_argnames='dtype')
def _mean(factors, phi, root, dtype):
  """Sum of all K_r `[n, R * n]` times numbers `[R]`, for weighted samples."""
  n = len(factors)
  matrices = factors.reshape((n, -1, n))
  mean = _scaled(sum(p * matrices[:, r] for r, p in enumerate(phi)), root)
  return (mean if root is None else mean * root).astype(dtype)


@on_either
def _symmetric(matrix):
  # A program of its own: as part of that of a sum it would find this twice.
  return (matrix + matrix.T) / 2


@on_either
def _diagonals(vectors, factors, root):
  """Diagonal entries `[R, m]` of all K_r for vectors `[n, m]`."""
  vectors = _scaled(vectors.astype(factors.dtype), root)
  return numpy_of(factors).einsum(
      'ni,irn->ri', vectors, _images(vectors.T[..., None], factors)[..., 0])


@on_either
def _couplings(evecs, factors, root):
  """What each K_r makes of some modes `[n, m]` in their basis, `[R, m, m]`."""
  evecs = _scaled(evecs.astype(factors.dtype), root)
  images = _images(evecs.T[..., None], factors)[..., 0]
  return numpy_of(evecs).einsum('arn,nb->rba', images, evecs)


def _extend_diagonals(evals: np.ndarray, diagonals: np.ndarray) -> np.ndarray:
  """Diagonals `[R, n]` of all modes from those of some."""
  n, some = len(evals), _probed(len(evals))
  info = np.finfo(evals.dtype)
  evals = np.maximum(evals, info.eps * evals[-1] + info.tiny).astype(float)
  relative = [np.interp(np.arange(n), some, d)
              for d in diagonals / evals[some]]
  return np.array(relative) * evals


class _Panel(NamedTuple):
  """Solution of the equations of a panel.

  Attributes:
    x: `[s, n, k]`, values at the points.
    images: `[s, R, n, k]`, of these.
    iterations: that it took.
    left: size of what is left of the equations.
    jump: difference from the solution at the beginning, or what that integrates
      to, if that is larger.
  """
  x: Matrices
  images: Matrices
  iterations: int
  left: float
  jump: float


@on_either
def _guess_products(rho, images, right, inner):
  """Scalar products of what earlier values make of the equations of samples.

  Args:
    rho: `[g, n, k]`, earlier values.
    images: `[g, R, n, k]`, of these.
    right: `[s, n, k]`, right-hand side.
    inner: `[s, s, R]`, weights of the points of the panel.

  Returns:
    `[g * s + 1, g * s + 1]`, the last ones those with the right-hand side.
  """
  np_ = numpy_of(rho)
  stages = len(right)
  some = tuple(slice(None, None, -(-size // most)) for size, most in zip(
      rho.shape[1:], (_GUESS_FROM, _OUTPUTS)))
  # With the values themselves as one more matrix.
  members = np_.concatenate([images[(slice(None), slice(None), *some)],
                             rho[(slice(None), None, *some)]], 1)
  weights = np_.concatenate([inner, np.eye(stages, dtype=rho.dtype)[..., None]],
                            2).swapaxes(0, 1)
  size = members[0, 0].size
  columns = (weights.reshape((stages**2, -1)) @
             members.reshape(members.shape[:2] + (size,)))
  columns = np_.concatenate([columns.reshape((-1, stages * size)),
                             right[(slice(None), *some)].reshape((1, -1))])
  return columns @ columns.T


def _guess(products: np.ndarray, points: int, dtype: Any) -> np.ndarray:
  """Combination `[s, g]` of earlier values that solves the equations best."""
  size = np.sqrt(np.diagonal(products))
  size = np.where(size > 0, size, 1.)
  products = products / (size[:, None] * size)
  # Values are nearly dependent: coefficients must not be large.
  little = np.finfo(dtype).eps**.5 * np.eye(len(products) - 1)
  out = scipy.linalg.solve(products[:-1, :-1] + little, products[:-1, -1],
                           assume_a='pos', check_finite=False)
  return (size[-1] * out / size[:-1]).reshape((points, -1)).T


@on_either
def _combine(rho, guess):
  """Combinations `[s, ...]` of values or images, `guess` `[s, g]`."""
  return (guess @ rho.reshape((len(rho), -1))).reshape(
      (len(guess),) + rho.shape[1:])


@on_either
def _jump(x, x_images, rho, images, begin, at_start, ends):
  """Sizes of the jump at the beginning, and of what it integrates to."""
  jump = rho[begin] - _combine(x, at_start[None])[0]
  change = images[begin] - _combine(x_images, at_start[None])[0]
  # Integrated over the panel, where the polynomial is better than here.
  integrals = _weigh(change[None], ends[:, None])
  return numpy_of(x).stack([_rms(jump[None]), _rms(integrals)])


@on_either
def _distance(x, limit, integral):
  """Of a solution from its limit, and what that integrates to."""
  x = x - limit
  change = multiply(x.transpose((1, 0, 2)), integral).transpose((1, 0, 2))
  return numpy_of(x).stack([_rms(x), _rms(change)])


@functools.partial(jax.jit, static_argnames='points')
def _slices(rho, images, start, points):
  """Some values and images."""
  return tuple(jax.lax.dynamic_slice_in_dim(a, start, points)
               for a in (rho, images))


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _append(rho, images, x, x_images, start):
  """Puts values and images of a panel in their places."""
  put = lambda a, b: jax.lax.dynamic_update_slice(
      a, b, (start,) + (0,) * (a.ndim - 1))
  return put(rho, x), put(images, x_images)


@on_either
def _sizes(rho):
  """Root mean square over samples, the largest over outputs, at all points."""
  return numpy_of(rho).sqrt((rho**2).mean(1)).max(-1)


class VolterraSolver:
  """A solution that is extended in time when asked for.

  Attributes:
    ends: `[panels + 1]`, ends of the panels so far; the first one is the
      beginning.
    errors: estimated error of each panel, relative to `scale`.
    floor: error that no length of panels lowers, in the same units.
    settled: whether the solution has reached its limit; it is not solved for
      any further.
    stats: counters and seconds.
  """

  def __init__(
      self,
      kernel: TimeKernel,
      factors: Matrices,
      y: Matrices,
      gamma: float,
      rtol: float,
      limit: Optional[Callable[[], tuple[Matrices, Matrices]]] = None,
      limit_from: float = np.inf,
      stages: int = 8,
      max_step: float = np.inf,
      fixed_step: Optional[float] = None,
      panels: Optional[np.ndarray] = None,
      journal: Optional[Journal] = None,
      weight: Optional[np.ndarray] = None,
      scale: Optional[float] = None,
      start: float = 0.,
      stop: float = np.inf,
      before: Optional[Callable[[np.ndarray], np.ndarray]] = None,
      like: Optional['VolterraSolver'] = None,
  ) -> None:
    r"""Prepares the solution; nothing is solved yet.

    Args:
      kernel: functions of time.
      factors: `[n, R * n]`, the matrices :math:`K_r` side by side.
      y: `[n, k]`, right-hand side.
      gamma: factor of the integral.
      rtol: tolerance, relative to `scale`.
      limit: returns `[n, k]`, the solution at late times, and `[n, n]`, the
        integral of :math:`\mathcal K(\tau, \tau')` over :math:`\tau'` there.
      limit_from: time from which the solution is compared with its limit.
      stages: number of collocation points in a panel; the order at ends of
        panels is `2 * stages - 1` for a smooth kernel.
      max_step: largest length of a panel.
      fixed_step: length of all panels, without adaptation (to measure orders).
      panels: ends of panels, without adaptation; the beginning first.
      journal: keeps panels, and has those of an earlier solution of the same
        equation, which is taken up where it ended.
      weight: `[n]`, factors of :math:`\rho` in the integral, not negative; by
        default 1.
      scale: size that errors are relative to; by default that of `y`, its root
        mean square.
      start: time at which the integral begins.
      stop: time that is not solved beyond.
      before: takes times `[t]` to what is subtracted there from `y`, `[t, n,
        k]`.
      like: a solver of the same equation with another right-hand side, whose
        modes are taken over, and whose panels are tried first.
    """
    self._kernel = kernel
    few = len(factors) <= _DIRECTLY
    # Leading modes that are solved for together, and how these couple.
    self._together = len(factors) if few else 0
    self._couplings: Optional[np.ndarray] = None
    # Of few samples NumPy computes, whatever the devices.
    self._of_kind = to_host if few else of_kind
    self._factors = factors = self._of_kind(factors)
    self._host, self._small = on_host(factors), is_small(factors)
    self._y = (np if self._host else jnp).asarray(y)
    self._gamma = gamma
    self._rtol = rtol
    self._limit = limit
    self._limit_from = limit_from
    self._max_step = max_step
    self._fixed_step, self._panels = fixed_step, panels
    self._collocation = quadrature.Collocation.radau(stages)
    self._scale = scale or max(float(np.sqrt(np.mean(np.square(y)))), 1e-300)
    self._root = None if weight is None else (
        np if self._host else jnp).asarray(weight, self._y.dtype)**.5
    # What is left of samples of small weights is small.
    self._smallest = 1. if weight is None else float(
        np.sqrt(np.min(weight[weight > 0])))
    self._start, self._before = start, before
    self._stop = min(start + kernel.tau_max, stop)

    # Values at the beginning and at all points; room for more.
    self._rho = _with_room(self._right(np.full(1, start)), ROOM)
    self._kept: Optional[Matrices] = None
    self._memory: Optional[Matrices] = None
    self._points = np.zeros(0)
    # Of each panel: [stages, points so far, R].
    self._weights: list[np.ndarray] = []
    self._gauss = np.zeros(0)
    self._at_gauss = kernel.at_earlier(self._gauss)
    self._step: Optional[float] = None
    # Modes couple most when they begin to diffuse. Single precision will do in
    # general: they only precondition.
    self._modes: Optional[_Modes] = None
    self._modes_at, self._precise = start + _MODES_FROM * kernel.tau_max, False
    self._blocks = BLOCKS
    self._like = like
    if like is not None:
      self._modes, self._modes_at = like._modes, like._modes_at
      self._precise, self._together = like._precise, like._together
      self._blocks = like._blocks
      self._couplings = like._couplings
    self.ends = np.full(1, start)
    self.errors: list[float] = []
    self.settled = False
    self.floor, self._retracted = 0., -1.
    self.limit_error = np.inf
    self.stats = dict(panels=0, rejected=0, products=0, eigendecompositions=0,
                      seconds=0.)
    self._journal = journal
    for record in journal or ():
      self._accept(Record(**record))

  @property
  def tolerance(self) -> float:
    """What is left of the equations at points, relative to `scale`."""
    return max(2e-2 * self._rtol, 4 * float(np.finfo(self._y.dtype).eps))

  def _right(self, tau: np.ndarray) -> Matrices:
    """Right-hand side at times `[t]`, `[t, n, k]` or, for all, `[1, n, k]`."""
    if self._before is None:
      return self._y[None]
    return self._y - np.asarray(self._before(tau), self._y.dtype)

  def _images_of(self, rho: Matrices, factors: Matrices) -> Matrices:
    """What matrices make of weighted values."""
    return _images(_scaled(_scaled(rho, self._root), self._root), factors)

  @property
  def _images(self) -> Matrices:
    """Of the values so far; found again if they were not kept."""
    if self._kept is None:
      known = self._rho[:1 + len(self._points)]
      self._kept = _with_room(self._images_of(known, self._factors),
                              len(self._rho), self._memory)
      self._memory = None
    return self._kept

  def release(self) -> None:
    """Forgets what only later times need, and takes most of the memory."""
    self._memory = self._kept = None

  def take_memory(self, other: 'VolterraSolver') -> None:
    """Releases another solver, and keeps products in its memory."""
    self._memory, other._kept = other._kept, None

  # Quadrature in time.

  def _product_weights(
      self, tau: np.ndarray, low: float, high: np.ndarray, start: float,
      step: float, basis: Optional[Callable[[np.ndarray], np.ndarray]] = None
  ) -> np.ndarray:
    r""":math:`\int_{low}^{high} \varphi_r(\tau, \tau') \ell_j d\tau'`.

    Args:
      tau: `[s]`, later times.
      low: beginning of the interval.
      high: `[s]`, its end, not after `tau`.
      start: beginning of the panel of the polynomials.
      step: length of that panel.
      basis: takes times, in units of the panel, to values of `j` polynomials;
        by default those of Lagrange through the points.

    Returns:
      `[s, j, R]`.
    """
    basis = basis or self._collocation.lagrange
    lag, weights = quadrature.cusp_rule(tau - high, tau - low)
    tau_ = np.maximum(tau[:, None] - lag, low)
    x = (tau_ - start) / step
    at_nodes = self._kernel.at_earlier(start + step * _NODES)
    # Integrals first: there are fewer polynomials than points and functions.
    at_later = (quadrature.lagrange(_NODES, x)[..., None] *
                self._kernel.at_later(tau[:, None], tau_)[:, :, None])
    polynomials = weights[..., None] * basis(x)
    integrals = polynomials.swapaxes(1, 2) @ at_later.reshape(
        x.shape + (-1,))
    return integrals @ at_nodes.reshape((integrals.shape[-1], -1))

  def _past_weights(self, tau: np.ndarray, panels: int) -> np.ndarray:
    """Weights `[s, points, R]` of the points of the first panels."""
    ends, stages = self.ends[:panels + 1], len(self._collocation.points)
    lengths, each = np.diff(ends), len(self._collocation.gauss)
    gauss = self._gauss[:panels * each, None]
    phi = self._kernel.at_later(tau, gauss) @ self._at_gauss[:len(gauss)]
    past = (lengths[:, None, None] * self._collocation.gauss_weights.T) @ (
        phi.reshape((panels, each, len(tau) * phi.shape[-1])))
    past = past.reshape((-1,) + phi.shape[1:]).swapaxes(0, 1).copy()
    # Points that see the cusp from less than a panel's length away.
    for p in range(panels - 1, -1, -1):
      near = tau - ends[p + 1] < lengths[p]
      if not np.any(near):
        break
      past[near, stages * p:stages * (p + 1)] = self._product_weights(
          tau[near], ends[p], np.full(near.sum(), ends[p + 1]), ends[p],
          lengths[p])
    return self._gamma * past

  def _own_weights(self, tau: np.ndarray, start: float,
                   step: float) -> np.ndarray:
    """Weights `[s, stages, R]` of the points of the panel that `tau` is in."""
    return self._gamma * self._product_weights(tau, start, tau, start, step)

  def _panel_weights(self, tau: np.ndarray, start: float,
                     step: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a panel in integrals up to its points, and of an error.

    Args:
      tau: `[stages]`, the points.
      start: beginning of the panel.
      step: its length.

    Returns:
      Weights `[stages, stages, R]` of the points, and those `[R]` of a jump at
      the beginning within the panel: kernels may vary as fast as the
      polynomial, which is then not smoothed.
    """
    tau = np.append(tau, start + step * self._collocation.worst)
    weights = self._gamma * self._product_weights(
        tau, start, tau, start, step, lambda x: np.concatenate([
            self._collocation.lagrange(x),
            self._collocation.error(x)[..., None]], -1))
    return weights[:-1, :-1], weights[-1, -1]

  # One panel.

  def _current_modes(self) -> _Modes:
    if self._modes is None:
      tau, dtype = self._modes_at, self._y.dtype
      phi = np.asarray(self._kernel.phi(tau, tau), dtype)
      dtype = np.dtype(dtype if self._precise or self._small else np.float32)
      matrix = _symmetric(_mean(self._factors, phi, self._root, dtype=dtype))
      diagonals_of = lambda vectors: to_host(_diagonals(
          vectors, self._factors, self._root))
      rest = None
      if len(matrix) <= ALL_MODES or (
          self._host and self._blocks > most_blocks(len(matrix))):
        evals, evecs = numpy_of(matrix).linalg.eigh(matrix)
        evals = to_host(evals)
      else:
        known = spectrum(matrix, self._blocks)
        evals = known.evals
        evecs, others = map(self._of_kind, (known.evecs.astype(dtype),
                                            known.other_evecs))
        rest = _Rest(matrix, known.ends, np.polynomial.polynomial.polyfit(
            known.other_evals, diagonals_of(others).T, _DEGREE,
            w=1 / np.maximum(known.other_evals, _LEAST * known.ends[1])).T)
      self._modes = _Modes(evecs, _extend_diagonals(evals, diagonals_of(
          evecs[:, _probed(len(evals))])), rest)
      self._couplings = None
      self.stats['eigendecompositions'] += 1
    return self._modes

  def _known(self) -> tuple[Matrices, Matrices]:
    """Values and images so far, of JAX with all that there is room for."""
    count = 1 + len(self._points) if self._host else len(self._rho)
    return self._rho[:count], self._images[:count]

  def _last(self) -> tuple[Matrices, Matrices, int]:
    """The last values and images, and at which of them the panel begins."""
    count, points = 1 + len(self._points), len(self._collocation.points) + 1
    start = max(count - points, 0)
    if self._host:
      return (self._rho[start:count], self._images[start:count],
              count - 1 - start)
    return *_slices(self._rho, self._images, start, points), count - 1 - start

  def _preconditioner(self, inner: np.ndarray) -> Callable[[Matrices],
                                                           Matrices]:
    """Solves the equations of a panel, up to what iterations have to mend."""
    dtype = self._y.dtype
    n, leading, stages = len(self._factors), self._together, len(inner)
    if leading == n:
      full = n <= _DIRECTLY or self._precise
      return functools.partial(_solve_factorized, lu=_factorize(
          self._factors, inner, self._root, dtype if full else np.float32))
    modes = self._current_modes()
    leading = min(leading, modes.diagonals.shape[1])
    alone = modes.diagonals.shape[1] - leading
    # Equations of each mode.
    matrices = np.einsum('rn,ijr->nij', modes.diagonals[:, :alone], inner)
    inverse = np.linalg.inv(np.eye(stages) + matrices).astype(dtype)
    together, rest = np.zeros((0, 0)), None
    if modes.rest is not None:
      coefficients, *interval = modes.rest.series(inner)
      if not self._host:
        # One program for all.
        coefficients = _with_room(coefficients, TERMS)
      rest = (modes.rest.matrix, coefficients.astype(dtype),
              *map(dtype.type, interval))
    if leading:
      if self._couplings is None:
        self._couplings = to_host(_couplings(
            modes.evecs[:, alone:], self._factors, self._root))
      size = leading * stages
      together = np.linalg.inv(np.eye(size) + np.einsum(
          'ijr,rab->aibj', inner, self._couplings, optimize=True).reshape(
              (size, size)))
    return functools.partial(_precondition, evecs=modes.evecs, inverse=inverse,
                             together=together.astype(dtype), rest=rest)

  def _solve(self, tau: np.ndarray, past: np.ndarray, inner: np.ndarray,
             of_jump: np.ndarray, tol: float) -> _Panel:
    """Solves the equations of a panel by conjugate residuals.

    Args:
      tau: `[s]`, times.
      past: `[s, points, R]`, weights of all values, without room for more.
      inner: `[s, s, R]`, weights of the points of the panel.
      of_jump: `[R]`, weights of a jump at its beginning.
      tol: absolute tolerance.

    Returns:
      A `_Panel`.
    """
    dtype, root = self._y.dtype, self._root
    precondition = self._preconditioner(inner)
    at_start = self._collocation.lagrange(0.).astype(dtype)
    right = self._right(tau) - _weigh(self._known()[1], past)
    rho, images, begin = self._last()
    guess = _guess(np.asarray(to_host(_guess_products(
        rho, images, right, inner)), float), len(rho), dtype).astype(dtype)
    # From here on for values times roots of weights.
    rho = _scaled(rho, root)
    x, x_images = _combine(rho, guess), _combine(images, guess)
    # A first correction costs no product, by the images of the combination.
    # These are no more than a guess: they would add up rounding errors from
    # panel to panel.
    x = x + precondition(_residual(x, x_images, right, inner, root))
    x_images = _images(_scaled(x, root), self._factors)
    residual = _residual(x, x_images, right, inner, root)
    directions: list[tuple[Matrices, ...]] = []
    for i in range(_MAX_ITERATIONS + 1):
      left = float(to_host(_rms(residual)))
      if left <= tol / _AMPLIFIED:
        break
      z = precondition(residual)
      # Also where these are not numbers.
      if (not max(left, float(to_host(_rms(z)))) > tol or
          i == _MAX_ITERATIONS):
        break
      z_images = _images(_scaled(z, root), self._factors)
      q = _equations(z, z_images, inner, root)
      for direction in directions:
        z, z_images, q = _orthogonalize(z, z_images, q, *direction)
      x, x_images, residual, direction = _step(x, x_images, residual, z,
                                               z_images, q)
      directions[i % _MAX_DIRECTIONS:i % _MAX_DIRECTIONS + 1] = [direction]
    jumps = to_host(_jump(x, x_images, rho, images, begin, at_start,
                          np.stack([self._collocation.smoothing *
                                    np.sum(inner[-1], 0), of_jump])))
    if root is not None:
      # As images are of these values, only others are those of the equations,
      # which would amplify what is left of them.
      x = _unscaled(x, right - _weigh(x_images, inner), root)
    return _Panel(x, x_images, i, left, float(np.max(jumps)))

  def _try_panel(self, step: float,
                 known: Optional[tuple[np.ndarray, np.ndarray]] = None
                 ) -> tuple[np.ndarray, np.ndarray, _Panel]:
    """Times, weights and solution of a panel.

    The polynomial of a panel does not see the solution at its beginning; the
    jump there is the error of the polynomial, the largest in the panel.

    Args:
      step: length of the panel.
      known: times and weights, if these are known.
    """
    start = self.ends[-1]
    tau = (start + step * self._collocation.points if known is None else
           known[0])
    inner, of_jump = self._panel_weights(tau, start, step)
    if known is None:
      past = self._past_weights(tau, len(self.ends) - 1)
    else:
      past, inner = np.split(known[1], [len(self._points)], 1)
    dtype = self._y.dtype
    panel = self._solve(tau, self._pad(past, self._known()[1]),
                        inner.astype(dtype), of_jump.astype(dtype),
                        self.tolerance * self._scale * self._smallest)
    self.stats['products'] += 1 + panel.iterations
    n = len(self._factors)
    if panel.iterations >= _SOME_ITERATIONS and not self._together:
      self._together = min(_TOGETHER, n - 1)
    elif panel.iterations > _TOO_MANY and self._small and self._together < n:
      self._together, self._precise = n, False
    elif panel.iterations >= _MANY_ITERATIONS and (
        self._modes_at < self.ends[-1] or not self._precise or
        ALL_MODES < n and self._blocks <= most_blocks(n)):
      self._modes_at = max(self._modes_at, self.ends[-1])
      self._modes, self._precise, self._blocks = None, True, 2 * self._blocks
    return tau, np.concatenate([past, inner], 1), panel

  @property
  def _followed(self) -> Optional[tuple[np.ndarray, np.ndarray]]:
    """Times and weights of the next panel of a solver that has had the same."""
    like, panel = self._like, len(self.ends) - 1
    if (like is None or panel >= len(like._weights) or
        not np.array_equal(self.ends, like.ends[:panel + 1])):
      return None
    stages = len(self._collocation.points)
    return (like._points[panel * stages:(panel + 1) * stages],
            like._weights[panel])

  def _retract(self) -> None:
    """Takes the last panel back; the next to try has half its length."""
    stages = len(self._collocation.points)
    gauss = len(self._gauss) - len(self._collocation.gauss)
    self._step = (self.ends[-1] - self.ends[-2]) / 2
    self.ends, self._points = self.ends[:-1], self._points[:-stages]
    self._gauss = self._gauss[:gauss]
    self._weights.pop()
    self.errors.pop()
    self.stats['panels'] -= 1

  @in_one_thread
  def _accept(self, record: Record) -> None:
    tau, stages = record.points, len(record.points)
    # Records of panels that were taken back are followed by others.
    while len(self._points) + stages > record.weights.shape[1]:
      self._retract()
    if 1 + len(self._points) + stages > len(self._rho):
      self._rho, self._kept = (
          _with_room(a, 2 * len(a)) for a in (self._rho, self._images))
    count = 1 + len(self._points)
    if self._host:
      self._rho[count:count + stages] = record.x
      self._images[count:count + stages] = record.images
    else:
      self._rho, self._kept = _append(self._rho, self._images, record.x,
                                      record.images, count)
    start = self.ends[-1]
    gauss = start + (tau[-1] - start) * self._collocation.gauss
    at_gauss = self._kernel.at_earlier(gauss)
    known = len(self._gauss)
    self._gauss = np.append(self._gauss, gauss)
    if len(self._gauss) > len(self._at_gauss):
      self._at_gauss = _with_room(self._at_gauss, 2 * len(self._gauss))
    self._at_gauss[known:len(self._gauss)] = at_gauss
    self._points = np.append(self._points, tau)
    self._weights.append(record.weights)
    self.ends = np.append(self.ends, tau[-1])
    self.errors.append(float(record.error))
    self.limit_error = float(record.limit_error)
    self.settled = self.limit_error <= self._rtol
    self._step, self._modes_at = float(record.step), float(record.modes_at)
    self._precise, self._together = bool(record.precise), int(record.together)
    self._blocks = int(record.blocks)
    self.stats['panels'] += 1

  def _trend(self, step: float, error: float) -> float:
    """Ratio of the lengths of panels that lowers their error a little.

    Most of that of this panel and the last one, corrected for the ratio of
    their errors, and of times. Solutions of many modes look alike on all scales
    of time, and panels are a fraction of the time.

    Args:
      step: length of this panel.
      error: of this panel, relative to `scale`.
    """
    if not self.errors:
      return _MAX_GROWTH
    lengths = np.append(np.diff(self.ends[-_ALIKE - 1:]), step)
    errors = np.append(self.errors[-_ALIKE:], error)
    if len(lengths) > _ALIKE and (
        np.ptp(lengths) < .2 * step and np.max(errors) < 3 * np.min(errors)):
      # Whether the error depends on the length at all.
      return _MAX_GROWTH
    start, stages = self.ends[-1], len(self._collocation.points)
    trend = step / (start - self.ends[-2]) * (
        self.errors[-1] / max(error, 1e-300))**(1 / stages)
    return max(1., _FOLLOWED * min(trend, 1 + step / start))

  def _limit_error(self, x: Matrices, tau: float) -> float:
    """Distance of a solution from its limit; infinite before that counts."""
    if self._limit is None or tau < self._limit_from:
      return np.inf
    limit, integral = self._limit()
    integral = self._of_kind(integral)
    distance, change = map(float, to_host(_distance(x, limit, integral)))
    return max(distance, self._gamma * change) / self._scale

  @in_one_thread
  def extend(self, tau: float,
             progress: Optional[Callable[[float], None]] = None) -> None:
    """Solves up to `tau`, or until the solution has settled.

    Args:
      tau: time.
      progress: called with the time reached after every panel.

    Raises:
      ArithmeticError: if no step is small enough, too many are needed, or
        kernels are not finite.
    """
    begin = time.perf_counter()
    tau = min(tau, self._stop)
    stages = len(self._collocation.points)
    rejected: Optional[tuple[float, float]] = None
    least = 1e-9 * (tau - self._start)
    while tau - self.ends[-1] > least and not self.settled:
      if self._step is None:
        fastest = self._gamma * np.max(
            self._kernel.phi(self._start, self._start) @
            self._current_modes().diagonals)
        # However slow the learning is, there the solution is not smooth.
        self._step = min(.3 / max(fastest, 1e-300), self._kernel.cusp_width)
      start = self.ends[-1]
      if self.stats['panels'] + self.stats['rejected'] >= _MAX_PANELS:
        raise ArithmeticError(
            f'Diffusion time {tau:.3e} is out of reach: {_MAX_PANELS} steps '
            f'led to {start:.3e}. Raise the temperature or `rtol`, leave out '
            'nearly equal inputs, or use float64.')
      step = min(self._step, self._max_step)
      if self._fixed_step is not None:
        step = self._fixed_step
      step = min(step, self._stop - start)
      if self._panels is not None:
        step = self._panels[len(self.ends)] - start
      followed = self._followed
      if followed is not None:
        step = followed[0][-1] - start
      adapts = self._fixed_step is None and self._panels is None
      try:
        points, weights, panel = self._try_panel(step, followed)
      except np.linalg.LinAlgError as e:
        raise ArithmeticError(
            f'The equations at diffusion time {start + step:.3e} are not finite'
            ' or singular. Look for NaN in kernels, raise the temperature, or '
            'use float64.') from e
      jump, left = panel.jump / self._scale, panel.left / self._scale
      tol = max(self._rtol, self.floor)
      # A shorter step is of use for equations that could not be solved only.
      error = max(jump, left if left > .1 * tol else 0.)
      if not np.isfinite(error):
        raise ArithmeticError(
            f'The solution is not finite at diffusion time {start + step:.3e}.')
      factor = _SAFETY * (tol / max(error, 1e-8 * tol))**(1 / stages)
      if error > tol and adapts:
        self.stats['rejected'] += 1
        self._like = None
        before, rejected = rejected, (step, jump)
        # A shorter panel left the jump: an error of the panel before, or noise.
        stuck = before and jump > max(tol, before[1] * step / before[0])
        if stuck and start <= self._retracted and jump <= _LARGEST_FLOOR:
          self.floor = 2 * jump
        elif stuck and len(self.ends) > 1:
          self._retracted = start
          self._retract()
          rejected = None
        else:
          self._step = step * max(.2, factor)
        if start + self._step <= start:
          raise ArithmeticError(
              f'No step at diffusion time {start:.3e} reaches the tolerance: '
              'rounding errors are amplified. Leave out nearly duplicated '
              'inputs, raise `rtol` or the temperature, or use float64.')
        continue
      # What is left is an error throughout the panel, a jump at its beginning.
      error = max(error, 4 * left)
      factor *= self._trend(step, error)
      record = Record(points, weights, panel.x, panel.images, error,
                      self._limit_error(panel.x, points[-1]),
                      step * min(_MAX_GROWTH, factor), self._modes_at,
                      self._precise, self._together, self._blocks)
      rejected = None
      self._accept(record)
      if self._journal is not None:
        self._journal.append(record._asdict())
      if progress is not None:
        progress(self.ends[-1])
    self.stats['seconds'] += time.perf_counter() - begin

  # Results.

  def solution(self, tau: np.ndarray) -> np.ndarray:
    r""":math:`\rho` at times within the panels, `tau.shape + [n, k]`."""
    return self._interpolate(to_host(self._rho), tau)

  def total(self, weight: Callable[[np.ndarray], np.ndarray]) -> float:
    r""":math:`\gamma \int w(\tau) \|\rho(\tau)\| d\tau` up to now.

    Args:
      weight: function of time.

    Returns:
      The integral, with the root mean square over samples as norm, the largest
      over outputs.
    """
    size = to_host(_sizes(self._rho))[1:1 + len(self._points)]
    weights = np.diff(self.ends)[:, None] * self._collocation.weights
    return float(self._gamma * np.sum(weights.ravel() * weight(self._points) *
                                      size))

  def integral(self, factors: Matrices, tau: np.ndarray) -> np.ndarray:
    r""":math:`\gamma \int_0^\tau \mathcal{K}(\tau, \tau') \rho(\tau') d\tau'`.

    Args:
      factors: `[m, R * n]`, matrices :math:`K_r` of another :math:`\mathcal K`.
      tau: times within the panels.

    Returns:
      `tau.shape + [m, k]`.
    """
    return self._interpolate(self._through_points(factors)[1], tau)

  def checked_integral(self, factors: Matrices, tau: np.ndarray
                       ) -> tuple[np.ndarray, float]:
    """The same, and the error of interpolation in time, in units of `y`.

    That is measured at a few of the times, where interpolation should be worst:
    polynomials through integrals up to the points of a panel are compared with
    integrals up to the times themselves, and what is left of the equations
    there is an error of integrals, too.
    """
    images, at_points = self._through_points(factors)
    out = self._interpolate(at_points, tau)
    if not self.errors:
      return out, 0.
    worst = np.argsort(self._oscillation(tau))[-_CHECKS:]
    weights = self._weights_at(tau[worst])
    exact = to_host(_weigh(images, self._pad(weights, images)))
    missed = np.abs(out[worst] - exact), np.abs(self._left(tau[worst], weights))
    return out, max(float(np.max(a, initial=0.)) for a in missed)

  def _through_points(self, factors: Matrices) -> tuple[Matrices, np.ndarray]:
    """Products `[points, R, m, k]`, and integrals up to all points."""
    count = 1 + len(self._points)
    room = count if self._host else -(-count // _ROUND) * _ROUND
    terms = self._factors.shape[1] // len(self._factors)
    weights = np.zeros((room, room, terms), self._y.dtype)
    start = 1
    for panel in self._weights:
      stop = start + len(panel)
      weights[start:stop, 1:1 + panel.shape[1]] = panel
      start = stop
    images = self._images_of(self._rho[:room],
                             to_host(factors) if self._small else factors)
    return images, to_host(_weigh(images, weights))

  def _oscillation(self, tau: np.ndarray) -> np.ndarray:
    """Errors of polynomials through the points, times lengths of panels."""
    panel, start = self._panels_of(tau)
    length = self.ends[panel + 1] - start
    nodes = np.append(0., self._collocation.points)
    factor = np.prod(((tau - start) / length)[:, None] - nodes, 1)
    return np.abs(factor) * length * np.asarray(self.errors)[panel]

  def beyond(self, tau: np.ndarray,
             factors: Optional[Matrices] = None) -> np.ndarray:
    r"""The integral over all panels, at times after them.

    Args:
      tau: `[t]`, times, not before the end of the last panel.
      factors: see `integral`; `None` is the :math:`\mathcal K` of the equation,
        which takes no product.

    Returns:
      `[t, m, k]`.
    """
    images = self._known()[1]
    if factors is not None:
      images = self._images_of(self._known()[0],
                               to_host(factors) if self._small else factors)
    weights = self._past_weights(tau, len(self.ends) - 1)
    return to_host(_weigh(images, self._pad(weights, images)))

  def defect(self, tau: np.ndarray) -> np.ndarray:
    """What is left of the equations between the points, `[t, n, k]`.

    Args:
      tau: `[t]`, times within the panels.
    """
    return self._left(tau, self._weights_at(tau))

  def _left(self, tau: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What is left of the equations, from weights of integrals."""
    images = self._known()[1]
    integral = to_host(_weigh(images, self._pad(weights, images)))
    return to_host(self._right(tau)) - self.solution(tau) - integral

  def _weights_at(self, tau: np.ndarray) -> np.ndarray:
    """Weights `[t, points, R]` of integrals up to times within the panels."""
    panels, starts = self._panels_of(tau)
    stages = len(self._collocation.points)
    weights = np.zeros((len(tau), len(self._points), self._at_gauss.shape[-1]))
    for p, start in set(zip(panels, starts)):
      here = panels == p
      weights[here, :p * stages] = self._past_weights(tau[here], p)
      weights[here, p * stages:(p + 1) * stages] = self._own_weights(
          tau[here], start, self.ends[p + 1] - start)
    return weights

  def through(self, kernel: TimeKernel, factors: list[Matrices]
              ) -> Callable[[np.ndarray], np.ndarray]:
    r"""Integrals of the solution so far, with several other kernels.

    Args:
      kernel: functions of time, those of all matrices for the first kernel
        before those for the next one.
      factors: `[m, M * n]`, matrices that the kernels have in common, in any
        number of parts.

    Returns:
      A function that takes times `[t]` within the panels to :math:`\gamma
      \int_0^\tau \mathcal K_d(\tau, \tau') \rho(\tau') d\tau'`, `[t, D, m,
      k]`.
    """
    other = copy.copy(self)
    other._kernel = kernel
    other._at_gauss = kernel.at_earlier(self._gauss)
    known = self._known()[0]
    parts = [self._images_of(known, to_host(f) if self._small else f)
             for f in factors]
    images = numpy_of(parts[0]).concatenate(parts, 1)
    terms = images.shape[1]

    def integrals(tau: np.ndarray) -> np.ndarray:
      weights = other._pad(other._weights_at(tau), images)
      t, points, functions = weights.shape
      weights = weights.reshape((t, points, -1, terms)).swapaxes(1, 2)
      out = to_host(_weigh(images, weights.reshape((-1, points, terms))))
      return out.reshape((t, functions // terms) + out.shape[1:])

    return integrals

  def moments(self, panels: int, points: int = 3) -> Measure:
    r"""The measure :math:`\gamma a \rho(\tau) d\tau` of the first panels.

    Args:
      panels: how many.
      points: how many there are on each panel but the last one, where they are
        dense next to its end, at which kernels may have a cusp.
    """
    ends = self.ends[:panels + 1]
    lengths = np.diff(ends[:-1])[:, None]
    x, weights = np.polynomial.legendre.leggauss(points)
    tau = (ends[:-2, None] + lengths * (1 + x) / 2).ravel()
    # Of the root of the lag from the last time.
    x, last = _LAST
    root, length = (1 + x) / 2, ends[-1] - ends[-2]
    tau = np.append(tau, ends[-1] - length * root**2)
    weights = np.append(lengths * weights / 2, length * root * last)
    rho = self.solution(tau)
    if self._root is not None:
      rho = rho * to_host(self._root)[:, None]**2
    return Measure(tau, self._gamma * weights[:, None, None] * rho)

  def _pad(self, weights: np.ndarray, images: Matrices) -> np.ndarray:
    """Weights of all that images have room for, so that shapes last."""
    room = len(images) - 1 - weights.shape[1]
    return np.pad(weights, ((0, 0), (1, room), (0, 0))).astype(self._y.dtype)

  def _panels_of(self, tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the panels that times are in, and their beginnings."""
    panel = np.searchsorted(self.ends, tau, side='left') - 1
    panel = np.clip(panel, 0, len(self.ends) - 2)
    return panel, self.ends[panel]

  def _interpolate(self, values: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Polynomials through all points of a panel and its beginning.

    Args:
      values: `[1 + points, m, k]`, at time 0 and at all points, or more.
      tau: times.

    Returns:
      `tau.shape + [m, k]`.
    """
    if len(self.ends) == 1:
      return np.broadcast_to(values[0], tau.shape + values[0].shape)
    stages = len(self._collocation.points)
    panel, start = self._panels_of(tau)
    x = (tau - start) / (self.ends[panel + 1] - start)
    basis = quadrature.lagrange(np.append(0., self._collocation.points), x)
    out = sum(basis[..., j, None, None] * values[stages * panel + j]
              for j in range(stages + 1))
    return np.asarray(out, self._y.dtype)
