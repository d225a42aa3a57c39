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
   collocation polynomials in the variable :math:`u` with
   :math:`\tau - \tau' = w \sinh^2 u`, which removes a square-root cusp at
   :math:`\tau' = \tau`; farther away in :math:`\tau'` itself.
*  The past enters through the products :math:`K_r \rho` at all points, which
   are kept, so that neither it nor any guess made of it costs a product.
*  The equations of a panel are solved by conjugate residuals (GCR),
   preconditioned by those in which the :math:`K_r` are diagonal in the
   eigenbasis of one equal-time kernel, from the combination of the points
   before it that solves them best. Each iteration reads the :math:`K_r` once;
   before the first one, a correction that does not is made to the guess.
*  Panels follow the trend of the last two, as far as their errors allow: a
   solution with modes of all sizes looks alike on all scales of time. An error
   at the end of a panel is a jump for the next one, however short that is; the
   panel is then taken back.
"""

import functools
import time
from typing import Any, Callable, Iterator, NamedTuple, Optional, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base.devices import in_one_thread
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import Numbers
from nt_ndk._src.dynamics import quadrature

# Points whose values and images there is room for at first.
ROOM = 256
# Of a multiple of these integrals are found, so that shapes last.
_ROUND = 128
_MAX_ITERATIONS = 60
_MAX_DIRECTIONS = 8
# Iterations after which other modes are worth their cost.
_MANY_ITERATIONS = 18
_MAX_PANELS = 4000
# Length of a panel, relative to one that would just do.
_SAFETY = .9
# Fraction of a trend that panels follow.
_FOLLOWED = .8
# Largest ratio of the lengths of a panel and of the one before it.
_MAX_GROWTH = 2.5
# About as many samples tell how to continue what is known.
_GUESS_FROM = 256
# About as many eigenvectors the preconditioner treats one by one.
_PROBES = 96
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
    """What `phi` can reuse for an earlier time."""

  def phi(self, tau: Numbers, tau_: Numbers,
          at_earlier: Optional[np.ndarray] = None) -> np.ndarray:
    """Functions of time at `tau >= tau_`, with a trailing axis `[R]`."""


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
    weights: `[R, s, points so far]`, of past points and its own.
    x: `[n, s, k]`, solution.
    images: `[n, k, R, s]`, what the :math:`K_r` make of it.
    error: estimated error, relative to the size of `y`.
    limit_error: distance from the limit, in the same units.
    step: length of the next panel.
    modes_at: time of the modes.
    precise: whether these are in full precision.
  """
  points: np.ndarray
  weights: np.ndarray
  x: jax.Array
  images: jax.Array
  error: float
  limit_error: float
  step: float
  modes_at: float
  precise: bool


def _rms(x):
  """Root mean square over samples and outputs, the largest over points."""
  return jnp.sqrt(jnp.max(jnp.mean(x**2, (0, 2))))


def _images(factors, x):
  """`K_r x`, `[m, k, R, s]`; factors `[m, R * n]`, x `[n, s, k]`."""
  out = factors.reshape((-1, len(x))) @ x.reshape((len(x), -1))
  return jnp.moveaxis(out.reshape((len(factors), -1) + x.shape[1:]), -1, 1)


def _weigh(weights, images):
  """Sums over matrices and points, `[m, i, k]`; weights `[R, i, j]`."""
  weights = jnp.moveaxis(weights, 1, -1).reshape((-1, weights.shape[1]))
  out = images.reshape((-1, len(weights))) @ weights
  return jnp.moveaxis(out.reshape(images.shape[:2] + (-1,)), 1, -1)


@functools.partial(jax.jit, static_argnames='room')
def _start(factors, y, room):
  """Values, and images of these, at time 0 and room for as many in all."""
  rho = jnp.zeros((room,) + y.shape, y.dtype).at[0].set(y)
  images = _images(factors, y[:, None])
  return rho, jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, room - 1)))


class _Modes(NamedTuple):
  """Eigenvectors of an equal-time kernel, and what each K_r does to them.

  Attributes:
    evecs: `[n, n]`, eigenvectors, in columns.
    diagonals: `[R, n]`, of all K_r in their basis. These are exact for the
      leading ones and some of the others, relative to whose eigenvalues they
      are interpolated for the rest.
  """
  evecs: jax.Array
  diagonals: np.ndarray


@functools.partial(jax.jit, static_argnames='dtype')
def _decompose(factors, phi, dtype):
  n = len(factors)
  matrices = factors.reshape((n, -1, n))
  mean = sum(p * matrices[:, r] for r, p in enumerate(phi))
  mean = (mean + mean.T) / 2
  evals, evecs = jnp.linalg.eigh(mean.astype(dtype))
  some = n - np.unique(np.geomspace(1, n, _PROBES).astype(int))[::-1]
  probes = evecs[:, some].astype(mean.dtype)
  diagonals = jnp.einsum('ni,nri->ri', probes,
                         _images(factors, probes[..., None])[:, 0])
  info = jnp.finfo(dtype)
  evals = jnp.maximum(evals, info.eps * evals[-1] + info.tiny)
  relative = jax.vmap(lambda d: jnp.interp(jnp.arange(n), some, d))(
      diagonals / evals[some])
  return evecs, relative * evals


class _Panel(NamedTuple):
  """Solution of the equations of a panel.

  Attributes:
    x: `[n, s, k]`, values at the points.
    images: `[n, k, R, s]`, of these.
    iterations: that it took.
    left: size of what is left of the equations.
    jump: difference from the solution at the beginning, or what that integrates
      to, if that is larger.
  """
  x: jax.Array
  images: jax.Array
  iterations: jax.Array
  left: jax.Array
  jump: jax.Array


def _guess(right, inner, rho, images):
  """Combination of earlier values that solves the equations of samples best.

  Args:
    right: `[n, s, k]`, right-hand side.
    inner: `[R, s, s]`, weights of the points of the panel.
    rho: `[g, n, k]`, earlier values.
    images: `[n, k, R, g]`, of these.

  Returns:
    `[g, s]`.
  """
  points, stages = len(rho), right.shape[1]
  columns = jnp.einsum('rij,nkrg->nikgj', inner, images)
  columns += jnp.einsum('gnk,ij->nikgj', rho, jnp.eye(stages, dtype=rho.dtype))
  columns = jnp.concatenate([columns.reshape((right.size, points * stages)),
                             right.reshape((-1, 1))], 1)
  products = columns.T @ columns
  size = jnp.sqrt(jnp.diagonal(products))
  size = jnp.where(size > 0, size, 1.)
  products /= size[:, None] * size
  # Values are nearly dependent: coefficients must not be large.
  little = jnp.finfo(products.dtype).eps**.5 * jnp.eye(len(products) - 1)
  out = jax.scipy.linalg.solve(
      products[:-1, :-1] + little.astype(products.dtype), products[:-1, -1],
      assume_a='pos')
  return (size[-1] * out / size[:-1]).reshape((points, stages))


@functools.partial(jax.jit, static_argnames='max_iterations')
def _solve_panel(factors, y, rho, images, count, past, inner, evecs, inverse,
                 at_start, smoothing, tol, max_iterations):
  """Solves the equations of a panel by conjugate residuals.

  Args:
    factors: `[n, R * n]`.
    y: `[n, k]`.
    rho: `[points, n, k]`, values at time 0 and at all earlier points.
    images: `[n, k, R, points]`, of these.
    count: number of points, without the room for more.
    past: `[R, s, points]`, weights of these.
    inner: `[R, s, s]`, weights of the points of the panel.
    evecs: `[n, n]`, modes of the preconditioner, in columns.
    inverse: `[n, s, s]`, of what the equations are for each mode.
    at_start: `[s]`, polynomials at the beginning.
    smoothing: fraction of a jump at the beginning that lasts over the panel.
    tol: absolute tolerance.
    max_iterations: of conjugate residuals.

  Returns:
    A `_Panel`.
  """
  product = lambda matrix, x: (
      matrix @ x.reshape((len(x), -1)).astype(matrix.dtype)).reshape(
          x.shape).astype(x.dtype)

  def precondition(residual):
    z = product(evecs.T, residual)
    return product(evecs, jnp.sum(inverse[..., None] * z[:, None], 2))

  def unsolved(state):
    i, (*_, residual), z, _ = state
    return (i < max_iterations) & (jnp.maximum(_rms(z), _rms(residual)) > tol)

  def iterate(state):
    i, (x, x_images, residual), z, directions = state
    z_images = _images(factors, z)

    def orthogonalize(j, new):
      old = tuple(a[j] for a in directions)
      overlap = jnp.vdot(old[-1], new[-1])
      return tuple(a - overlap * b for a, b in zip(new, old))

    new = jax.lax.fori_loop(0, jnp.minimum(i, _MAX_DIRECTIONS), orthogonalize,
                            (z, z_images, z + _weigh(inner, z_images)))
    norm = jnp.linalg.norm(new[-1])
    new = tuple(a / norm for a in new)
    size = jnp.vdot(new[-1], residual)
    residual = residual - size * new[-1]
    directions = tuple(a.at[i % _MAX_DIRECTIONS].set(b)
                       for a, b in zip(directions, new))
    return (i + 1, (x + size * new[0], x_images + size * new[1], residual),
            precondition(residual), directions)

  right = y[:, None] - _weigh(past, images)
  points = min(len(at_start) + 1, len(rho))
  start = jnp.maximum(count - points, 0)
  rho_ = jax.lax.dynamic_slice_in_dim(rho, start, points)
  images_ = jax.lax.dynamic_slice_in_dim(images, start, points, 3)
  some = slice(None, None, -(-len(y) // _GUESS_FROM))
  guess = _guess(right[some], inner, rho_[:, some], images_[some])
  x = jnp.einsum('gi,gnk->nik', guess, rho_)
  # A first correction costs no product, by the images of the combination. These
  # are no more than a guess: they would add up rounding errors from panel to
  # panel.
  x += precondition(right - x - _weigh(inner, images_ @ guess))
  x_images = _images(factors, x)
  residual = right - x - _weigh(inner, x_images)
  none = tuple(jnp.zeros((_MAX_DIRECTIONS,) + a.shape, a.dtype)
               for a in (x, x_images, residual))
  i, (x, x_images, residual), *_ = jax.lax.while_loop(
      unsolved, iterate, (jnp.int32(0), (x, x_images, residual),
                          precondition(residual), none))
  last_images = jax.lax.dynamic_index_in_dim(images, count - 1, 3, False)
  jump = rho[count - 1] - jnp.moveaxis(x, 1, -1) @ at_start
  jump_images = last_images - x_images @ at_start
  # Integrated over the panel, where the polynomial is better than here.
  integral = smoothing * jump_images @ jnp.sum(inner[:, -1], -1)
  return _Panel(x, x_images, i, _rms(residual), jnp.maximum(
      _rms(jump[:, None]), _rms(integral[:, None])))


@jax.jit
def _distance(x, limit, integral, gamma):
  """Of a solution from its limit, or what that integrates to, if larger."""
  x = x - limit[:, None]
  change = (integral @ x.reshape((len(x), -1))).reshape(x.shape)
  return jnp.maximum(_rms(x), gamma * _rms(change))


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _append(rho, images, x, x_images, start):
  """Puts values and images of a panel in their places."""
  return (jax.lax.dynamic_update_slice(rho, jnp.moveaxis(x, 1, 0),
                                       (start, 0, 0)),
          jax.lax.dynamic_update_slice(images, x_images, (0, 0, 0, start)))


@jax.jit
def _integrals(factors, weights, rho):
  """At all points, `[points, m, k]`."""
  images = _images(factors, jnp.moveaxis(rho, 0, 1))
  return jnp.moveaxis(_weigh(weights, images), 1, 0)


@jax.jit
def _sizes(rho):
  """Root mean square over samples, the largest over outputs, at all points."""
  return jnp.max(jnp.sqrt(jnp.mean(rho**2, 1)), -1)


class VolterraSolver:
  """A solution that is extended in time when asked for.

  Attributes:
    ends: `[panels + 1]`, ends of the panels so far, the first one 0.
    errors: estimated error of each panel, relative to the size of `y`.
    settled: whether the solution has reached its limit; it is not solved for
      any further.
    stats: counters and seconds.
  """

  def __init__(
      self,
      kernel: TimeKernel,
      factors: jax.Array,
      y: jax.Array,
      gamma: float,
      rtol: float,
      limit: Optional[Callable[[], tuple[jax.Array, jax.Array]]] = None,
      limit_from: float = np.inf,
      stages: int = 8,
      max_step: float = np.inf,
      fixed_step: Optional[float] = None,
      journal: Optional[Journal] = None,
  ) -> None:
    r"""Prepares the solution; nothing is solved yet.

    Args:
      kernel: functions of time.
      factors: `[n, R * n]`, the matrices :math:`K_r` side by side.
      y: `[n, k]`, right-hand side.
      gamma: factor of the integral.
      rtol: tolerance, relative to the root mean square of `y`.
      limit: returns `[n, k]`, the solution at late times, and `[n, n]`, the
        integral of :math:`\mathcal K(\tau, \tau')` over :math:`\tau'` there.
      limit_from: time from which the solution is compared with its limit.
      stages: number of collocation points in a panel; the order at ends of
        panels is `2 * stages - 1` for a smooth kernel.
      max_step: largest length of a panel.
      fixed_step: length of all panels, without adaptation (to measure orders).
      journal: keeps panels, and has those of an earlier solution of the same
        equation, which is taken up where it ended.
    """
    self._kernel = kernel
    self._factors = factors
    self._y = y
    self._gamma = gamma
    self._rtol = rtol
    self._limit = limit
    self._limit_from = limit_from
    self._max_step = max_step
    self._fixed_step = fixed_step
    self._collocation = quadrature.Collocation.radau(stages)
    self._scale = max(float(np.sqrt(np.mean(np.square(y)))), 1e-300)

    # Values at time 0 and at all points, and their images; room for more.
    self._rho, self._images = _start(factors, y, ROOM)
    self._points = np.zeros(0)
    # Of each panel: [R, stages, points so far].
    self._weights: list[np.ndarray] = []
    self._gauss = np.zeros(0)
    self._at_gauss = kernel.at_earlier(self._gauss)
    self._step: Optional[float] = None
    self._modes: Optional[_Modes] = None
    # Modes couple most when they begin to diffuse. Single precision will do in
    # general: they only precondition.
    self._modes_at, self._precise = _MODES_FROM * kernel.tau_max, False
    self.ends = np.zeros(1)
    self.errors: list[float] = []
    self.settled = False
    self.limit_error = np.inf
    self.stats = dict(panels=0, rejected=0, products=0, eigendecompositions=0,
                      seconds=0.)
    self._journal = journal
    for record in journal or ():
      self._accept(Record(**record))

  # Quadrature in time.

  def _product_weights(self, tau: np.ndarray, low: float, high: np.ndarray,
                       start: float, step: float) -> np.ndarray:
    r""":math:`\int_{low}^{high} \varphi_r(\tau, \tau') \ell_j d\tau'`.

    Args:
      tau: `[s]`, later times.
      low: beginning of the interval.
      high: `[s]`, its end, not after `tau`.
      start: beginning of the panel of the polynomials.
      step: length of that panel.

    Returns:
      `[R, s, stages]`.
    """
    lag, weights = quadrature.cusp_rule(tau - high, tau - low,
                                        self._kernel.cusp_width)
    tau_ = np.maximum(tau[:, None] - lag, low)
    phi = self._kernel.phi(tau[:, None], tau_)
    polynomials = self._collocation.lagrange((tau_ - start) / step)
    return np.einsum('iq,iqr,iqj->rij', weights, phi, polynomials)

  @in_one_thread
  def _panel_weights(self,
                     step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the past points and of the points of a new panel."""
    start = self.ends[-1]
    tau = start + step * self._collocation.points
    inner = self._product_weights(tau, start, tau, start, step)
    past = np.zeros((len(inner), len(tau), len(self._points)))
    stages, lengths = len(tau), np.diff(self.ends)
    if len(lengths):
      phi = self._kernel.phi(tau[:, None], self._gauss, self._at_gauss)
      phi = phi.reshape((stages, len(lengths), -1, len(inner)))
      past = np.einsum('ipgr,gj,p->ripj', phi, self._collocation.gauss_weights,
                       lengths).reshape(past.shape)
      # Points that see the cusp from less than a panel's length away.
      for p in range(len(lengths) - 1, -1, -1):
        near = tau - self.ends[p + 1] < lengths[p]
        if not np.any(near):
          break
        past[:, near, stages * p:stages * (p + 1)] = self._product_weights(
            tau[near], self.ends[p], np.full(near.sum(), self.ends[p + 1]),
            self.ends[p], lengths[p])
    return tau, self._gamma * past, self._gamma * inner

  # One panel.

  def _current_modes(self) -> _Modes:
    if self._modes is None:
      tau, dtype = self._modes_at, self._y.dtype
      phi = np.asarray(self._kernel.phi(tau, tau), dtype)
      evecs, diagonals = _decompose(self._factors, phi, dtype if self._precise
                                    else jnp.float32)
      self._modes = _Modes(evecs, np.asarray(to_host(diagonals), float))
      self.stats['eigendecompositions'] += 1
    return self._modes

  def _try_panel(self, step: float) -> tuple[np.ndarray, np.ndarray, _Panel]:
    """Times, weights and solution of a panel.

    The polynomial of a panel does not see the solution at its beginning; the
    jump there is the error of the polynomial, the largest in the panel.
    """
    tau, past, inner = self._panel_weights(step)
    # Equations of each mode.
    modes = self._current_modes()
    matrices = np.einsum('rn,rij->nij', modes.diagonals, inner)
    inverse = np.linalg.inv(np.eye(len(tau)) + matrices)
    dtype = self._y.dtype
    tol = max(2e-2 * self._rtol, 4 * float(np.finfo(dtype).eps)) * self._scale
    panel = _solve_panel(
        self._factors, self._y, self._rho, self._images, 1 + len(self._points),
        self._pad(past), inner.astype(dtype), modes.evecs,
        inverse.astype(dtype), self._collocation.lagrange(0.).astype(dtype),
        dtype.type(self._collocation.smoothing), dtype.type(tol),
        _MAX_ITERATIONS)
    iterations = int(to_host(panel.iterations))
    self.stats['products'] += 1 + iterations
    if iterations >= _MANY_ITERATIONS and (
        self._modes_at < self.ends[-1] or not self._precise):
      self._modes_at = max(self._modes_at, self.ends[-1])
      self._modes, self._precise = None, True
    return tau, np.concatenate([past, inner], -1), panel

  def _retract(self) -> None:
    """Takes the last panel back; the next to try has half its length."""
    stages = len(self._collocation.points)
    gauss = len(self._gauss) - len(self._collocation.gauss)
    self._step = (self.ends[-1] - self.ends[-2]) / 2
    self.ends, self._points = self.ends[:-1], self._points[:-stages]
    self._gauss, self._at_gauss = self._gauss[:gauss], self._at_gauss[:gauss]
    self._weights.pop()
    self.errors.pop()
    self.stats['panels'] -= 1

  @in_one_thread
  def _accept(self, record: Record) -> None:
    tau, stages = record.points, len(record.points)
    # Records of panels that were taken back are followed by others.
    while len(self._points) + stages > record.weights.shape[-1]:
      self._retract()
    if 1 + len(self._points) + stages > len(self._rho):
      self._rho, self._images = (
          jnp.concatenate([a, jnp.zeros_like(a)], axis)
          for a, axis in ((self._rho, 0), (self._images, 3)))
    self._rho, self._images = _append(self._rho, self._images, record.x,
                                      record.images, 1 + len(self._points))
    start = self.ends[-1]
    gauss = start + (tau[-1] - start) * self._collocation.gauss
    at_gauss = self._kernel.at_earlier(gauss)
    self._gauss = np.append(self._gauss, gauss)
    self._at_gauss = np.concatenate([self._at_gauss, at_gauss])
    self._points = np.append(self._points, tau)
    self._weights.append(record.weights)
    self.ends = np.append(self.ends, tau[-1])
    self.errors.append(float(record.error))
    self.limit_error = float(record.limit_error)
    self.settled = self.limit_error <= self._rtol
    self._step, self._modes_at = float(record.step), float(record.modes_at)
    self._precise = bool(record.precise)
    self.stats['panels'] += 1

  def _trend(self, step: float, error: float) -> float:
    """Ratio of the lengths of panels that lowers their error a little.

    Most of that of this panel and the last one, corrected for the ratio of
    their errors, and of times. Solutions of many modes look alike on all scales
    of time, and panels are a fraction of the time.

    Args:
      step: length of this panel.
      error: of this panel, relative to the size of `y`.
    """
    if not self.errors:
      return _MAX_GROWTH
    start, stages = self.ends[-1], len(self._collocation.points)
    trend = step / (start - self.ends[-2]) * (
        self.errors[-1] / max(error, 1e-300))**(1 / stages)
    return max(1., _FOLLOWED * min(trend, 1 + step / start))

  def _limit_error(self, x: jax.Array, tau: float) -> float:
    """Distance of a solution from its limit; infinite before that counts."""
    if self._limit is None or tau < self._limit_from:
      return np.inf
    limit, integral = self._limit()
    return float(to_host(_distance(x, limit, integral, np.asarray(
        self._gamma, x.dtype)))) / self._scale

  def extend(self, tau: float,
             progress: Optional[Callable[[float], None]] = None) -> None:
    """Solves up to `tau`, or until the solution has settled.

    Args:
      tau: time.
      progress: called with the time reached after every panel.

    Raises:
      ArithmeticError: if no step is small enough, or too many are needed.
    """
    begin = time.perf_counter()
    tau = min(tau, self._kernel.tau_max)
    tol, stages = self._rtol, len(self._collocation.points)
    rejected: Optional[tuple[float, float]] = None
    while tau - self.ends[-1] > 1e-9 * tau and not self.settled:
      if self._step is None:
        fastest = self._gamma * np.max(
            self._kernel.phi(0., 0.) @ self._current_modes().diagonals)
        # However slow the learning is, there the solution is not smooth.
        self._step = min(.3 / max(fastest, 1e-300), self._kernel.cusp_width)
      start = self.ends[-1]
      if self.stats['panels'] + self.stats['rejected'] >= _MAX_PANELS:
        raise ArithmeticError(
            f'Diffusion time {tau:.3e} is out of reach: {_MAX_PANELS} steps '
            f'led to {start:.3e}. Use float64 or a larger `rtol`.')
      step = min(self._step, self._max_step)
      if self._fixed_step is not None:
        step = self._fixed_step
      step = min(step, self._kernel.tau_max - start)
      points, weights, panel = self._try_panel(step)
      jump, left = (float(a) / self._scale
                    for a in to_host((panel.jump, panel.left)))
      # A shorter step is of use for equations that could not be solved only.
      error = max(jump, left if left > .1 * tol else 0.)
      if not np.isfinite(error):
        raise ArithmeticError(
            f'The solution is not finite at diffusion time {start + step:.3e}.')
      factor = _SAFETY * (tol / max(error, 1e-8 * tol))**(1 / stages)
      if error > tol and self._fixed_step is None:
        self.stats['rejected'] += 1
        before, rejected = rejected, (step, jump)
        if before and len(self.ends) > 1 and (
            jump > max(tol, before[1] * step / before[0])):
          # A shorter panel left the jump: an error of the panel before.
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
                      self._precise)
      rejected = None
      self._accept(record)
      if self._journal is not None:
        self._journal.append(record._asdict())
      if progress is not None:
        progress(self.ends[-1])
    self.stats['seconds'] += time.perf_counter() - begin

  # Results.

  def solution(self, tau: np.ndarray) -> jax.Array:
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

  def integral(self, factors: jax.Array, tau: np.ndarray) -> jax.Array:
    r""":math:`\gamma \int_0^\tau \mathcal{K}(\tau, \tau') \rho(\tau') d\tau'`.

    Args:
      factors: `[m, R * n]`, matrices :math:`K_r` of another :math:`\mathcal K`.
      tau: times within the panels.

    Returns:
      `tau.shape + [m, k]`.
    """
    room = -(-(1 + len(self._points)) // _ROUND) * _ROUND
    weights = np.zeros((self._images.shape[2], room, room), self._y.dtype)
    start = 1
    for panel in self._weights:
      stop = start + panel.shape[1]
      weights[:, start:stop, 1:1 + panel.shape[2]] = panel
      start = stop
    return self._interpolate(
        to_host(_integrals(factors, weights, self._rho[:room])), tau)

  def _pad(self, weights: np.ndarray) -> np.ndarray:
    """Weights of all that there is room for, so that shapes last."""
    room = len(self._rho) - 1 - weights.shape[-1]
    return np.pad(weights, ((0, 0), (0, 0), (1, room))).astype(self._y.dtype)

  def _interpolate(self, values: np.ndarray, tau: np.ndarray) -> jax.Array:
    """Polynomials through all points of a panel and its beginning.

    Args:
      values: `[1 + points, m, k]`, at time 0 and at all points, or more.
      tau: times.

    Returns:
      `tau.shape + [m, k]`.
    """
    if len(self.ends) == 1:
      return jnp.broadcast_to(values[0], tau.shape + values[0].shape)
    stages = len(self._collocation.points)
    panel = np.searchsorted(self.ends, tau, side='left') - 1
    panel = np.clip(panel, 0, len(self.ends) - 2)
    start = self.ends[panel]
    x = (tau - start) / (self.ends[panel + 1] - start)
    basis = quadrature.lagrange(np.append(0., self._collocation.points), x)
    out = sum(basis[..., j, None, None] * values[stages * panel + j]
              for j in range(stages + 1))
    return jnp.asarray(out, self._y.dtype)
