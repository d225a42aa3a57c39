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

import time
from typing import Callable, Optional, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src import quadrature
from nt_ndk._src.typing import Numbers

_MAX_ITERATIONS = 60
_MAX_PANELS = 4000
_LEADING = 64  # Eigenvectors that the preconditioner treats one by one.


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


@jax.jit
def _matrices_times(factors, vectors):
  """`sum_r K_r v_r`; factors `[m, R * n]`, vectors `[R, n, s, k]`."""
  rank, n, s, k = vectors.shape
  out = factors @ vectors.reshape((rank * n, s * k))
  return out.reshape((-1, s, k))


@jax.jit
def _memory(weights, rho):
  """Weighted sums over all past points, `[R, n, s, k]`."""
  return jnp.einsum('rij,jnk->rnik', weights, rho)


@jax.jit
def _residual(factors, y, inner, memory, x):
  vectors = memory + jnp.einsum('rij,njk->rnik', inner, x)
  return y[:, None, :] - x - _matrices_times(factors, vectors)


@jax.jit
def _precondition(evecs, inverse, residual):
  n, s, k = residual.shape
  z = (evecs.T @ residual.reshape((n, s * k))).reshape((n, s, k))
  z = jnp.sum(inverse[..., None] * z[:, None], 2)
  return (evecs @ z.reshape((n, s * k))).reshape((n, s, k))


@jax.jit
def _panel_operator(factors, inner, x):
  return x + _matrices_times(factors, jnp.einsum('rij,njk->rnik', inner, x))


@jax.jit
def _modes_inverses(modes, inner):
  """For every eigenvector: its panel matrix `A`, and `(1 + A)^-1`."""
  matrices = jnp.einsum('rn,rij->nij', modes, inner)
  eye = jnp.eye(inner.shape[1], dtype=inner.dtype)
  return matrices, jnp.linalg.inv(eye + matrices)


@jax.jit
def _decompose(factors, phi):
  """Eigenvectors of an equal-time kernel, and what each K_r does to them.

  Returns:
    The largest eigenvalue; eigenvectors; and `[R, n]`, the diagonals of all K_r
    in the basis of eigenvectors. These are exact for the leading ones; the
    others share a factor of their eigenvalues.
  """
  n = len(factors)
  matrices = factors.reshape((n, -1, n))
  mean = sum(p * matrices[:, r] for r, p in enumerate(phi))
  mean = (mean + mean.T) / 2
  evals, evecs = jnp.linalg.eigh(mean)
  evals = jnp.maximum(evals, 0.)
  lead = evecs[:, -min(n, _LEADING):]
  diagonals = jnp.einsum(
      'ni,nri->ri', lead,
      (factors.reshape((-1, n)) @ lead).reshape((n, -1, lead.shape[1])))
  trace = jnp.einsum('nrn->r', matrices) - jnp.sum(diagonals, 1)
  rest = evals[:-lead.shape[1]]
  factor = trace / jnp.maximum(jnp.sum(rest), 1e-15 * jnp.sum(evals))
  modes = jnp.concatenate([factor[:, None] * rest, diagonals], 1)
  return evals[-1], evecs, modes


@jax.jit
def _rms(x):
  """Root mean square over samples and outputs, the largest over points."""
  return jnp.sqrt(jnp.max(jnp.mean(x**2, (0, 2))))


@jax.jit
def _distance(x, integral):
  """Size of a change of the solution, or of what it integrates to."""
  n = len(x)
  return jnp.maximum(_rms(x), _rms((integral @ x.reshape((n, -1))).reshape(
      x.shape)))


@jax.jit
def _jump_size(jump, evecs, strength):
  """Size of a jump of the solution, or of what it integrates to."""
  integral = evecs @ (strength[:, None] * (evecs.T @ jump))
  return jnp.maximum(_rms(jump[:, None]), _rms(integral[:, None]))


@jax.jit
def _append(rho, x, start):
  return jax.lax.dynamic_update_slice(rho, jnp.moveaxis(x, 1, 0),
                                      (start, 0, 0))


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
      stages: int = 5,
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
    self._scale = max(float(jnp.sqrt(jnp.mean(y**2))), 1e-300)

    n, k = y.shape
    self._rho = jnp.zeros((64 * stages, n, k), y.dtype)
    self._points = np.zeros(0)
    # Of each panel: [R, stages, points so far].
    self._weights: list[np.ndarray] = []
    self._gauss = np.zeros(0)
    self._at_gauss: Optional[np.ndarray] = None
    self._step: Optional[float] = None
    self._basis_at: Optional[float] = None
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

  def _refresh_basis(self):
    tau = self.ends[-1]
    phi = jnp.asarray(self._kernel.phi(tau, tau), self._y.dtype)
    self._largest, self._evecs, self._modes = _decompose(self._factors, phi)
    self._basis_at = tau
    self.stats['eigendecompositions'] += 1

  def _solve_panel(self, past: np.ndarray,
                   inner: np.ndarray) -> tuple[jax.Array, int, float]:
    """Collocation values `[n, stages, k]`, iterations, and what is left."""
    dtype = self._y.dtype
    memory = _memory(self._pad(past), self._rho)
    weights = jnp.asarray(inner, dtype)
    matrices, inverse = _modes_inverses(self._modes, weights)
    self._strength = self._collocation.smoothing * jnp.abs(
        jnp.sum(matrices[:, -1], -1))
    x = jnp.broadcast_to(self._last[:, None], self._y.shape[:1] +
                         weights.shape[1:2] + self._y.shape[1:])
    residual = _residual(self._factors, self._y, weights, memory, x)
    self.stats['products'] += 1
    tol = max(2e-2 * self._rtol, 4 * float(jnp.finfo(dtype).eps)) * self._scale

    directions: list[tuple[jax.Array, jax.Array]] = []
    for iteration in range(_MAX_ITERATIONS):
      z = _precondition(self._evecs, inverse, residual)
      left = float(_rms(residual))
      if max(float(_rms(z)), left) <= tol:
        return x + z, iteration, left / self._scale
      q = _panel_operator(self._factors, weights, z)
      self.stats['products'] += 1
      for z_, q_ in directions:
        overlap = jnp.vdot(q_, q)
        z, q = z - overlap * z_, q - overlap * q_
      norm = jnp.linalg.norm(q)
      z, q = z / norm, q / norm
      directions.append((z, q))
      size = jnp.vdot(q, residual)
      x, residual = x + size * z, residual - size * q
    return x, _MAX_ITERATIONS, float(_rms(residual)) / self._scale

  @property
  def _last(self) -> jax.Array:
    return self._rho[len(self._points) - 1] if len(self._points) else self._y

  def _try_panel(
      self, step: float) -> tuple[np.ndarray, np.ndarray, jax.Array, float]:
    """Solves a panel and estimates its error.

    The polynomial of a panel does not see the solution at its beginning; the
    jump there is the error of the polynomial, the largest in the panel.
    """
    tau, past, inner = self._panel_weights(step)
    if self._basis_at is None:
      self._refresh_basis()
    x, iterations, left = self._solve_panel(past, inner)
    if iterations >= 18 and self._basis_at != self.ends[-1]:
      self._refresh_basis()
    jump = self._last - jnp.tensordot(
        x, jnp.asarray(self._collocation.lagrange(0.), x.dtype), ((1,), (0,)))
    # Integrated over the panel, where the polynomial is better than here.
    error = float(_jump_size(jump, self._evecs, self._strength))
    # Equations that were not solved count as an error.
    error = max(error / self._scale, left)
    return tau, np.concatenate([past, inner], -1), x, error

  def _accept(self, tau, weights, x, error):
    stages = len(tau)
    if len(self._points) + stages > len(self._rho):
      self._rho = jnp.concatenate([self._rho, jnp.zeros_like(self._rho)])
    self._rho = _append(self._rho, x, len(self._points))
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
    tol, stages = 6 * self._rtol, len(self._collocation.points)
    while tau - self.ends[-1] > 1e-9 * tau and not self.settled:
      if self._step is None:
        self._refresh_basis()
        fastest = self._gamma * float(self._largest)
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
      factor = .9 * (tol / max(error, 1e-3 * tol))**(1 / stages)
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
      self._step = step * min(2.5, factor)
      if self._limit is not None and self.ends[-1] >= self._limit_from:
        limit, integral = self._limit()
        self.limit_error = float(_distance(
            x - limit[:, None], self._gamma * integral)) / self._scale
        self.settled = self.limit_error <= self._rtol
      if progress is not None:
        progress(self.ends[-1])
    self.stats['seconds'] += time.perf_counter() - begin

  # Results.

  def solution(self, tau: np.ndarray) -> jax.Array:
    r""":math:`\rho` at times within the panels, `tau.shape + [n, k]`."""
    rho = np.asarray(self._rho)[:len(self._points)]
    return self._interpolate(np.concatenate([self._y[None], rho]), tau)

  def total(self, weight: Callable[[np.ndarray], np.ndarray]) -> float:
    r""":math:`\gamma \int w(\tau) \|\rho(\tau)\| d\tau` up to now.

    Args:
      weight: function of time.

    Returns:
      The integral, with the root mean square over samples as norm, the largest
      over outputs.
    """
    rho = self._rho[:len(self._points)]
    size = np.asarray(jnp.max(jnp.sqrt(jnp.mean(rho**2, 1)), -1))
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
    for weights in self._weights:
      memory = _memory(self._pad(weights), self._rho)
      values.append(np.moveaxis(_matrices_times(factors, memory), 1, 0))
    return self._interpolate(np.concatenate(values), tau)

  def _pad(self, weights: np.ndarray) -> jax.Array:
    """Weights of all points that `rho` has room for, so that shapes last."""
    room = len(self._rho) - weights.shape[-1]
    return jnp.asarray(np.pad(weights, ((0, 0), (0, 0), (0, room))),
                       self._y.dtype)

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
    nodes = np.append(0., self._collocation.points)
    powers = np.arange(stages + 1)
    basis = (x[..., None]**powers) @ np.linalg.inv(nodes[:, None]**powers)
    out = sum(basis[..., j, None, None] * values[stages * panel + j]
              for j in powers)
    return jnp.asarray(out, self._y.dtype)
