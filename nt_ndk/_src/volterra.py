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
*  The past enters through :math:`R` vectors, so that a panel costs a few
   products with the :math:`K_r`, and memory is that of the :math:`K_r`.
*  The equations of a panel are solved by conjugate residuals (GCR),
   preconditioned by those in which the :math:`K_r` are diagonal in the
   eigenbasis of one equal-time kernel.
"""

import functools
import time
from typing import Callable, NamedTuple, Optional, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src import quadrature
from nt_ndk._src.devices import to_host
from nt_ndk._src.typing import Numbers

_MAX_ITERATIONS = 60
_MAX_PANELS = 4000
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


def _rms(x):
  """Root mean square over samples and outputs, the largest over points."""
  return jnp.sqrt(jnp.max(jnp.mean(x**2, (0, 2))))


def _matrices_times(factors, vectors):
  """`sum_r K_r v_r`; factors `[m, R * n]`, vectors `[R, n, s, k]`."""
  rank, n, s, k = vectors.shape
  out = factors @ vectors.reshape((rank * n, s * k))
  return out.reshape((-1, s, k))


@jax.jit
def _memory(weights, rho):
  """Weighted sums over all past points, `[R, n, s, k]`."""
  return jnp.einsum('rij,jnk->rnik', weights, rho)


class _Modes(NamedTuple):
  """Eigenvectors of an equal-time kernel, and what each K_r does to them.

  Attributes:
    evecs: `[n, n]`, eigenvectors, in columns.
    diagonals: `[R, n]`, of all K_r in their basis. These are exact for the
      leading ones and some of the others, relative to whose eigenvalues they
      are interpolated for the rest.
    tau: time of the kernel.
  """
  evecs: jax.Array
  diagonals: np.ndarray
  tau: float


@jax.jit
def _decompose(factors, phi):
  n = len(factors)
  matrices = factors.reshape((n, -1, n))
  mean = sum(p * matrices[:, r] for r, p in enumerate(phi))
  mean = (mean + mean.T) / 2
  evals, evecs = jnp.linalg.eigh(mean)
  some = n - np.unique(np.geomspace(1, n, _PROBES).astype(int))[::-1]
  probes = evecs[:, some]
  diagonals = jnp.einsum(
      'ni,nri->ri', probes,
      (factors.reshape((-1, n)) @ probes).reshape((n, -1, len(some))))
  info = jnp.finfo(evals.dtype)
  evals = jnp.maximum(evals, info.eps * evals[-1] + info.tiny)
  relative = jax.vmap(lambda d: jnp.interp(jnp.arange(n), some, d))(
      diagonals / evals[some])
  return evecs, relative * evals


class _Panel(NamedTuple):
  """Solution of the equations of a panel.

  Attributes:
    x: `[n, s, k]`, values at the points.
    iterations: that it took.
    left: size of what is left of the equations.
    jump: difference from the solution at the beginning, or what that integrates
      to, if that is larger.
  """
  x: jax.Array
  iterations: jax.Array
  left: jax.Array
  jump: jax.Array


@functools.partial(jax.jit, static_argnames='max_iterations')
def _solve_panel(factors, y, last, memory, inner, evecs, inverse, at_start,
                 strength, tol, max_iterations):
  """Solves the equations of a panel by conjugate residuals.

  Args:
    factors: `[n, R * n]`.
    y: `[n, k]`.
    last: `[n, k]`, solution at the beginning.
    memory: `[R, n, s, k]`, integrals over the past.
    inner: `[R, s, s]`, weights of the points of the panel.
    evecs: `[n, n]`, modes of the preconditioner, in columns.
    inverse: `[n, s, s]`, of what the equations are for each mode.
    at_start: `[s]`, polynomials at the beginning.
    strength: `[n]`, integral of a jump over the panel, for each mode.
    tol: absolute tolerance.
    max_iterations: of conjugate residuals.

  Returns:
    A `_Panel`.
  """
  product = lambda matrix, x: (matrix @ x.reshape((len(x), -1))).reshape(
      x.shape)

  def apply(x, memory=0.):
    vectors = memory + jnp.einsum('rij,njk->rnik', inner, x)
    return x + _matrices_times(factors, vectors)

  def precondition(residual):
    z = product(evecs.T, residual)
    return product(evecs, jnp.sum(inverse[..., None] * z[:, None], 2))

  def unsolved(state):
    i, _, residual, z, *_ = state
    return (i < max_iterations) & (jnp.maximum(_rms(z), _rms(residual)) > tol)

  def iterate(state):
    i, x, residual, z, directions, images = state

    def orthogonalize(j, zq):
      z, q = zq
      overlap = jnp.vdot(images[j], q)
      return z - overlap * directions[j], q - overlap * images[j]

    z, q = jax.lax.fori_loop(0, i, orthogonalize, (z, apply(z)))
    norm = jnp.linalg.norm(q)
    z, q = z / norm, q / norm
    size = jnp.vdot(q, residual)
    residual = residual - size * q
    return (i + 1, x + size * z, residual, precondition(residual),
            directions.at[i].set(z), images.at[i].set(q))

  x = jnp.broadcast_to(last[:, None], last.shape[:1] + inner.shape[1:2] +
                       last.shape[1:])
  residual = y[:, None] - apply(x, memory)
  none = jnp.zeros((max_iterations,) + x.shape, x.dtype)
  start = jnp.int32(0), x, residual, precondition(residual), none, none
  i, x, residual, z, *_ = jax.lax.while_loop(unsolved, iterate, start)
  x = x + z
  jump = last - jnp.tensordot(x, at_start, ((1,), (0,)))
  # Integrated over the panel, where the polynomial is better than here.
  integral = evecs @ (strength[:, None] * (evecs.T @ jump))
  return _Panel(x, i, _rms(residual), jnp.maximum(_rms(jump[:, None]),
                                                  _rms(integral[:, None])))


@jax.jit
def _distance(x, limit, integral, gamma):
  """Of a solution from its limit, or what that integrates to, if larger."""
  x = x - limit[:, None]
  change = (integral @ x.reshape((len(x), -1))).reshape(x.shape)
  return jnp.maximum(_rms(x), gamma * _rms(change))


@jax.jit
def _append(rho, x, start):
  """Puts values in their place, and returns the last one too."""
  return (jax.lax.dynamic_update_slice(rho, jnp.moveaxis(x, 1, 0),
                                       (start, 0, 0)), x[:, -1])


@jax.jit
def _integrals(factors, weights, rho):
  """At the points of a panel, `[s, m, k]`."""
  return jnp.moveaxis(_matrices_times(factors, _memory(weights, rho)), 1, 0)


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

    n, k = y.shape
    self._rho, self._last = jnp.zeros((64 * stages, n, k), y.dtype), y
    self._points = np.zeros(0)
    # Of each panel: [R, stages, points so far].
    self._weights: list[np.ndarray] = []
    self._gauss = np.zeros(0)
    self._at_gauss: Optional[np.ndarray] = None
    self._step: Optional[float] = None
    self.ends = np.zeros(1)
    self.errors: list[float] = []
    self.settled = False
    self.limit_error = np.inf
    self.stats = dict(panels=0, rejected=0, products=0, eigendecompositions=0,
                      seconds=0.)

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

  def _refresh_modes(self, tau: float) -> None:
    phi = np.asarray(self._kernel.phi(tau, tau), self._y.dtype)
    evecs, diagonals = _decompose(self._factors, phi)
    self._modes = _Modes(evecs, np.asarray(to_host(diagonals), float), tau)
    self.stats['eigendecompositions'] += 1

  def _try_panel(
      self, step: float) -> tuple[np.ndarray, np.ndarray, jax.Array, float]:
    """Solves a panel and estimates its error.

    The polynomial of a panel does not see the solution at its beginning; the
    jump there is the error of the polynomial, the largest in the panel.
    """
    tau, past, inner = self._panel_weights(step)
    # Equations of each mode.
    matrices = np.einsum('rn,rij->nij', self._modes.diagonals, inner)
    inverse = np.linalg.inv(np.eye(len(tau)) + matrices)
    strength = self._collocation.smoothing * np.abs(np.sum(matrices[:, -1], -1))
    dtype = self._y.dtype
    tol = max(2e-2 * self._rtol, 4 * float(np.finfo(dtype).eps)) * self._scale
    panel = _solve_panel(
        self._factors, self._y, self._last, _memory(self._pad(past), self._rho),
        inner.astype(dtype), self._modes.evecs, inverse.astype(dtype),
        self._collocation.lagrange(0.).astype(dtype), strength.astype(dtype),
        dtype.type(tol), _MAX_ITERATIONS)
    iterations, left, jump = to_host(
        (panel.iterations, panel.left, panel.jump))
    self.stats['products'] += 1 + int(iterations)
    if iterations >= 18 and self._modes.tau < self.ends[-1]:
      self._refresh_modes(self.ends[-1])
    # Equations that were not solved count as an error.
    error = np.maximum(jump, left) / self._scale
    return tau, np.concatenate([past, inner], -1), panel.x, float(error)

  def _accept(self, tau, weights, x, error):
    stages = len(tau)
    if len(self._points) + stages > len(self._rho):
      self._rho = jnp.concatenate([self._rho, jnp.zeros_like(self._rho)])
    self._rho, self._last = _append(self._rho, x, len(self._points))
    start = self.ends[-1]
    gauss = start + (tau[-1] - start) * self._collocation.gauss
    at_gauss = self._kernel.at_earlier(gauss)
    self._gauss = np.append(self._gauss, gauss)
    self._at_gauss = (at_gauss if self._at_gauss is None else
                      np.concatenate([self._at_gauss, at_gauss]))
    self._points = np.append(self._points, tau)
    self._weights.append(weights)
    self.ends = np.append(self.ends, tau[-1])
    self.errors.append(error)
    self.stats['panels'] += 1

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
    while tau - self.ends[-1] > 1e-9 * tau and not self.settled:
      if self._step is None:
        # Modes couple most when they begin to diffuse.
        self._refresh_modes(_MODES_FROM * self._kernel.tau_max)
        fastest = self._gamma * np.max(
            self._kernel.phi(0., 0.) @ self._modes.diagonals)
        self._step = .3 / fastest if fastest > 0 else self._kernel.tau_max
      start = self.ends[-1]
      step = min(self._step, self._max_step)
      if self._fixed_step is not None:
        step = self._fixed_step
      step = min(step, self._kernel.tau_max - start)
      points, weights, x, error = self._try_panel(step)
      if not np.isfinite(error):
        raise ArithmeticError(
            f'The solution is not finite at diffusion time {start + step:.3e}.')
      factor = .9 * (tol / max(error, 1e-8 * tol))**(1 / stages)
      if error > tol and self._fixed_step is None:
        self.stats['rejected'] += 1
        self._step = step * max(.2, factor)
        if start + self._step <= start:
          raise ArithmeticError(
              f'No step at diffusion time {start:.3e} reaches the tolerance: '
              'rounding errors are amplified. Leave out nearly duplicated '
              'inputs, raise `rtol` or the temperature, or use float64.')
        continue
      if self.stats['panels'] >= _MAX_PANELS:
        raise ArithmeticError(
            f'Diffusion time {tau:.3e} is out of reach: {_MAX_PANELS} steps '
            f'led to {start:.3e}. Use float64 or a larger `rtol`.')
      self._accept(points, weights, x, error)
      self._step = step * min(4., factor)
      if self._limit is not None and self.ends[-1] >= self._limit_from:
        limit, integral = self._limit()
        self.limit_error = float(to_host(_distance(
            x, limit, integral,
            np.asarray(self._gamma, x.dtype)))) / self._scale
        self.settled = self.limit_error <= self._rtol
      if progress is not None:
        progress(self.ends[-1])
    self.stats['seconds'] += time.perf_counter() - begin

  # Results.

  def solution(self, tau: np.ndarray) -> jax.Array:
    r""":math:`\rho` at times within the panels, `tau.shape + [n, k]`."""
    rho = to_host(self._rho)[:len(self._points)]
    return self._interpolate(np.concatenate([self._y[None], rho]), tau)

  def total(self, weight: Callable[[np.ndarray], np.ndarray]) -> float:
    r""":math:`\gamma \int w(\tau) \|\rho(\tau)\| d\tau` up to now.

    Args:
      weight: function of time.

    Returns:
      The integral, with the root mean square over samples as norm, the largest
      over outputs.
    """
    size = to_host(_sizes(self._rho))[:len(self._points)]
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
    values = [np.zeros((1, len(factors)) + self._y.shape[1:])]
    values += [to_host(_integrals(factors, self._pad(weights), self._rho))
               for weights in self._weights]
    return self._interpolate(np.concatenate(values), tau)

  def _pad(self, weights: np.ndarray) -> np.ndarray:
    """Weights of all points that `rho` has room for, so that shapes last."""
    room = len(self._rho) - weights.shape[-1]
    return np.pad(weights, ((0, 0), (0, 0), (0, room))).astype(self._y.dtype)

  def _interpolate(self, values: np.ndarray, tau: np.ndarray) -> jax.Array:
    """Polynomials through all points of a panel and its beginning.

    Args:
      values: `[1 + points, m, k]`, at time 0 and at all points.
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
