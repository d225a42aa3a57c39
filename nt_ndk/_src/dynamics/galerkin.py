# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Nonlinear Volterra equations that are driven by rough functions.

Solves, for many draws of :math:`g` at once,

.. math::
  f(s) = g(s) - \int_0^s \mathcal{K}(\tau(s), \tau(s'))\, u(f(s'))\, ds',
  \qquad \mathcal{K}(\tau, \tau') = \sum_r \varphi_r(\tau, \tau') K_r,

with :math:`u` the gradient of a loss in each sample, by the discontinuous
Galerkin method of degree 1 (:mod:`nt_ndk._src.dynamics.steps`). Of :math:`g`
nothing is needed but values at ends of steps and averages over them.

*  Steps may be long compared with the time in which the loss acts: the method
   damps what is fast. But so are fluctuations, which :math:`g` would excite
   between the points. What belongs to an average over a step and a straight
   line is in the equations; the rest is a noise of the gradient,
   :math:`\sqrt{T H}\, \xi\, P_1`, with :math:`H` the Hessian of the loss, a
   normal number :math:`\xi` for each step and output, and :math:`P_1` the
   straight line from -1 to 1. With it the stationary distribution is exact, for
   any length of steps, where the loss is quadratic and :math:`\mathcal{K}` the
   response of :math:`g`: then :math:`1 - R(z)^2 = 2 z N(z) + (z^2 / 6 D(z))^2`
   holds between the factor :math:`R` of a step, the variance :math:`N` that
   averages and ends bring, and that of this noise, for the rate of decay times
   the length of the step :math:`z` (:math:`R = (1 - z / 3) / D`, :math:`D = 1 +
   2 z / 3 + z^2 / 6`, :math:`N = (1 + z / 3 + z^2 / 9) / D^2`).
*  The equations of a step are solved by Newton's method with a line search, its
   linear ones, in single precision, by conjugate residuals (GCR). These are
   preconditioned by the equations with a mean Hessian of all draws, which is
   taken to be diagonal in one basis of outputs: where a loss does not feel a
   sum of outputs (softmax), neither does the preconditioner. Of many rows it
   has the leading modes of the kernel, and a number in place of all others.
"""

import functools
from typing import Any, Callable, NamedTuple

import jax
from jax import random
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.dynamics.steps import NODES

# Straight line from -1 to 1 at the points of a step.
_P1 = 2 * NODES - 1
_MAX_NEWTON, _MAX_GCR, _DIRECTIONS, _MAX_HALVINGS = 40, 60, 6, 12
# Rows up to which the preconditioner has all modes, and modes of more.
_ALL, _MODES = 256, 200
# Errors of linear equations, relative to their right-hand side.
_INNER = 3e-2
# Steps of which there is room for one more number at a time.
_ROUND = 64

# Gradient of the loss in its outputs `[rows, k, draws]`, for given targets.
Gradient = Callable[[jax.Array, Any], jax.Array]


class Solved(NamedTuple):
  """Values at the two points of a step, `[2, rows, k, draws]`.

  Attributes:
    f: the solution.
    u: gradient of the loss and its noise.
    iterations: of Newton's method, and of all linear equations.
    left: largest last correction of a draw, root mean square.
  """
  f: jax.Array
  u: jax.Array
  iterations: jax.Array
  left: jax.Array


def _per_draw(a: jax.Array, b: jax.Array) -> jax.Array:
  """Scalar products of each draw."""
  return jnp.sum(a * b, tuple(range(a.ndim - 1)))


def hessian(gradient: Gradient, f: jax.Array, data: Any,
            locations: int) -> jax.Array:
  """Second derivatives for each sample, `[q, q, n, draws]`.

  Args:
    gradient: of the loss.
    f: `[n * locations, k, draws]`, outputs.
    data: targets.
    locations: rows of a sample.
  """
  shape = (-1, locations) + f.shape[1:]
  q = locations * f.shape[1]
  units = jnp.eye(q, dtype=f.dtype).reshape((q, 1) + shape[1:3] + (1,))

  def along(unit):
    tangent = jnp.broadcast_to(unit, f.reshape(shape).shape).reshape(f.shape)
    out = jax.jvp(lambda f: gradient(f, data), (f,), (tangent,))[1]
    return jnp.moveaxis(out.reshape((-1, q, f.shape[-1])), 1, 0)

  return jax.lax.map(along, units)


def root(matrices: jax.Array) -> jax.Array:
  """Cholesky factors of `[q, q, ...]`; of what is negative, nothing."""
  q = len(matrices)
  size = jnp.trace(matrices)
  eps = q * jnp.finfo(matrices.dtype).eps * size

  def column(i, state):
    left, out = state
    pivot = left[i, i]
    inverse = jnp.where(pivot > eps,
                        1 / jnp.sqrt(jnp.maximum(pivot, 1e-300)), 0.)
    one = left[:, i] * inverse
    return left - one[:, None] * one, out.at[:, i].set(one)

  return jax.lax.fori_loop(0, q, column,
                           (matrices, jnp.zeros_like(matrices)))[1]


def _gcr(apply: Callable[[jax.Array], jax.Array],
         precondition: Callable[[jax.Array], jax.Array],
         right: jax.Array) -> tuple[jax.Array, Any]:
  """Solves linear equations of all draws, which share no direction."""
  shape = (_DIRECTIONS,) + right.shape
  start = _per_draw(right, right)

  def unsolved(state):
    i, _, left, _, _ = state
    return (i < _MAX_GCR) & jnp.any(_per_draw(left, left) > _INNER**2 * start)

  def body(state):
    i, x, left, zs, qs = state
    z = precondition(left)
    q = apply(z)
    overlap = jnp.einsum('m...b,...b->mb', qs, q)
    z = z - jnp.einsum('mb,m...b->...b', overlap, zs)
    q = q - jnp.einsum('mb,m...b->...b', overlap, qs)
    norm = jnp.sqrt(_per_draw(q, q))
    inverse = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1.), 0.)
    z, q = z * inverse, q * inverse
    size = _per_draw(q, left)
    slot = i % _DIRECTIONS
    return (i + 1, x + size * z, left - size * q, zs.at[slot].set(z),
            qs.at[slot].set(q))

  state: Any = 0, jnp.zeros_like(right), right, *2 * (
      jnp.zeros(shape, right.dtype),)
  i, x, _, _, _ = jax.lax.while_loop(unsolved, body, state)
  return x, i


@functools.partial(jax.jit, static_argnums=0, static_argnames='locations')
def _noise(gradient: Gradient, f: jax.Array, data: Any, temperature: jax.Array,
           keys: jax.Array, index: Any, locations: int
           ) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Noise of the gradient, and its mean derivative.

  Returns:
    Noise `[rows, k, draws]`; a basis of outputs `[k, k]`, in columns; and the
    mean Hessian in it, `[k, rows]`.
  """
  second = hessian(gradient, f, data, locations)
  q, k = len(second), f.shape[1]
  normal = jax.vmap(lambda key: random.normal(
      random.fold_in(key, index), (q,) + second.shape[2:3], f.dtype), 0, -1)(
          keys)
  noise = jnp.einsum('qp...,p...->q...', root(second), normal)
  mean = jnp.mean(second, -1).reshape((locations, k, locations, k, -1))
  mean = jnp.einsum('liljn->nlij', mean).reshape((-1, k, k))
  _, basis = jnp.linalg.eigh(jnp.mean(mean, 0))
  diagonal = jnp.maximum(jnp.einsum('ia,nij,ja->an', basis, mean, basis), 0.)
  return (jnp.moveaxis(noise, 0, 1).reshape(f.shape) * jnp.sqrt(temperature),
          basis, diagonal)


class _Modes(NamedTuple):
  """Matrices of a kernel between its leading modes, and what is left of them.

  Attributes:
    vectors: `[rows, q]`, modes; `None` if there are as many as rows.
    matrices: `[R, q, q]`.
    rest: `[R]`, mean diagonal entries in what is orthogonal to the modes.
  """
  vectors: Any
  matrices: jax.Array
  rest: jax.Array


@jax.jit
def _modes(factors: jax.Array, phi: jax.Array) -> _Modes:
  """Of a kernel with matrices `[rows, R * rows]` and typical weights `[R]`."""
  rows = len(factors)
  factors = factors.astype(jnp.float32).reshape((rows, -1, rows))
  if rows <= _ALL:
    return _Modes(None, jnp.moveaxis(factors, 1, 0),
                  jnp.zeros_like(phi))
  typical = jnp.einsum('mrn,r->mn', factors, phi)
  vectors = jnp.linalg.eigh(typical + typical.T)[1][:, -_MODES:]
  matrices = jnp.einsum('ma,mrn,nb->rab', vectors, factors, vectors)
  traces = jnp.einsum('mrm->r', factors) - jnp.einsum('raa->r', matrices)
  return _Modes(vectors, matrices, traces / (rows - _MODES))


class _Inverse(NamedTuple):
  """Inverses of `1 + matrix diag(h)`, for typical Hessians `h` of outputs.

  Attributes:
    vectors: `[rows, q]`, modes; `None` if there are as many as rows.
    first: `[2, 2, k, rows]`, inverses without modes.
    inner: `[k, 2 * q, 2 * q]`, between the modes.
    hessian: `[k, rows]`, zero for outputs that the loss does not feel.
  """
  vectors: Any
  first: jax.Array
  inner: jax.Array
  hessian: jax.Array

  def __call__(self, x: jax.Array) -> jax.Array:
    """Of `x`, `[k, 2, rows, draws]`."""
    first = lambda x: jnp.einsum('abkn,kbnd->kand', self.first, x)
    x = first(x)
    out = self.hessian[:, None, :, None] * x
    if self.vectors is not None:
      out = jnp.einsum('nq,kand->kaqd', self.vectors, out)
    out = jnp.einsum('kij,kjd->kid', self.inner, out.reshape(
        (len(out), -1, out.shape[-1]))).reshape(out.shape)
    if self.vectors is not None:
      out = jnp.einsum('nq,kaqd->kand', self.vectors, out)
    return x - first(out)


@jax.jit
def _own(phi: jax.Array, factors: jax.Array, modes: _Modes,
         diagonal: jax.Array) -> tuple[jax.Array, _Inverse]:
  """Matrix of the equations of a step, and typical inverses.

  Args:
    phi: `[2, 2, R]`, weights.
    factors: `[rows, R * rows]`.
    modes: of these.
    diagonal: `[k, rows]`, Hessian.

  Returns:
    `[2 * rows, 2 * rows]`, and inverses of all outputs.
  """
  n = len(factors)
  matrix = jnp.einsum('abr,mrn->ambn', phi, factors.reshape((n, -1, n)))
  size = jnp.sum(diagonal, 1, keepdims=True)
  felt = jnp.where(size > 1e-3 * jnp.max(size), diagonal, 0.).astype(
      jnp.float32)
  phi = phi.astype(jnp.float32)
  q = modes.matrices.shape[-1]
  # With modes V, numbers c and D = 1 + c h, the matrix is c + V S V^T, and the
  # inverse D^-1 - D^-1 V S (1 + W S)^-1 V^T h D^-1 for W = V^T h D^-1 V.
  rest = phi @ modes.rest
  eye = lambda size: jnp.eye(size, dtype=jnp.float32)
  inner = jnp.einsum('abr,rij->aibj', phi, modes.matrices)
  inner = inner - rest[:, None, :, None] * eye(q)[:, None]
  inner = inner.reshape((2 * q, 2 * q))
  first = jnp.moveaxis(jnp.linalg.inv(
      eye(2) + felt[..., None, None] * rest), (2, 3), (0, 1))

  def invert(weights):
    """Between the modes, for one output."""
    if modes.vectors is None:
      between = jax.vmap(jax.vmap(jnp.diag))(weights)
    else:
      between = jnp.einsum('nq,abn,np->abqp', modes.vectors, weights,
                           modes.vectors)
    between = jnp.moveaxis(between, 1, 2).reshape((2 * q, 2 * q))
    return jnp.linalg.solve((eye(2 * q) + between @ inner).T, inner.T).T

  return matrix.reshape((2 * n, 2 * n)), _Inverse(
      modes.vectors, first, jax.lax.map(
          invert, jnp.moveaxis(first * felt, 2, 0)), felt)


@functools.partial(jax.jit, static_argnames='count')
def _past(u: jax.Array, weights: jax.Array, factors: jax.Array,
          count: int) -> jax.Array:
  """What the past brings, `[a, m, k, draws]`.

  Args:
    u: `[room, rows, k, draws]`, gradients.
    weights: `[a, R, count]`, of the first of them.
    factors: `[m, R * rows]`.
    count: number of those that count.
  """
  summed = weights.reshape((-1, count)) @ u[:count].reshape((count, -1))
  summed = summed.reshape((len(weights), factors.shape[1], -1))
  out = jnp.einsum('mr,arc->amc', factors, summed)
  return out.reshape(out.shape[:2] + u.shape[2:])


@functools.partial(jax.jit, static_argnums=0)
def _solve(gradient: Gradient, right: jax.Array, guess: jax.Array, data: Any,
           noise: jax.Array, matrix: jax.Array, basis: jax.Array,
           inverse: _Inverse, tol: jax.Array) -> Solved:
  """Solves `f + matrix (u(f) - noise) = right` for all draws."""
  rounded, basis = (a.astype(jnp.float32) for a in (matrix, basis))

  def multiply(a, x):
    return (a @ x.reshape((len(a), -1))).reshape(x.shape)

  def precondition(x):
    x = inverse(jnp.einsum('ca,prcd->aprd', basis, x))
    return jnp.einsum('ca,aprd->prcd', basis, x)

  noises = jnp.stack([p * noise for p in _P1])
  both = jax.vmap(gradient, (0, None))
  value = lambda f: both(f, data) - noises
  residual = lambda f: right - f - multiply(matrix, value(f))
  norm = lambda r: _per_draw(r, r)

  def search(f, left, step):
    """Shorter steps of draws whose equations would get worse."""
    size = norm(left)

    def fails(state):
      i, length, _, new = state
      return (i < _MAX_HALVINGS) & jnp.any(
          ~(norm(new) <= (1 - .1 * length) * size + tol**2))

    def halve(state):
      i, length, _, new = state
      good = norm(new) <= (1 - .1 * length) * size + tol**2
      length = jnp.where(good, length, length / 2)
      moved = f + length * step
      return i + 1, length, moved, residual(moved)

    first = f + step
    return jax.lax.while_loop(fails, halve, (
        0, jnp.ones_like(size), first, residual(first)))

  def unsolved(state):
    i, _, _, _, last = state
    return (i < _MAX_NEWTON) & (last > tol)

  def body(state):
    i, inner, f, left, _ = state

    at = f.astype(jnp.float32)

    def apply(v):
      along = jax.jvp(lambda f: both(f, data), (at,), (v,))[1]
      return v + multiply(rounded, along.astype(v.dtype))

    step, count = _gcr(apply, precondition, left.astype(jnp.float32))
    step = step.astype(f.dtype)
    _, length, f, left = search(f, left, step)
    sizes = jnp.sqrt(norm(step) / step[..., 0].size)
    # A step that was cut short says nothing of the error.
    last = jnp.max(jnp.where(length < 1, jnp.inf, sizes))
    return i + 1, inner + count, f, left, last

  state: Any = 0, 0, guess, residual(guess), jnp.inf
  i, inner, f, _, last = jax.lax.while_loop(unsolved, body, state)
  return Solved(f, value(f), jnp.stack([i, inner]), last)


class Equations:
  """Draws of a solution, step by step.

  Attributes:
    f: `[rows, k, draws]`, solution at the end of the last step.
    iterations: numbers of those so far, of Newton and of linear equations.
  """

  def __init__(self, gradient: Gradient, factors: jax.Array,
               weights: np.ndarray, start: jax.Array, keys: jax.Array,
               locations: int, tol: float) -> None:
    """Starts at time 0.

    Args:
      gradient: of the loss.
      factors: `[rows, R * rows]`, matrices of the kernel side by side.
      weights: of :meth:`Steps.weights`.
      start: `[rows, k, draws]`, solution at time 0.
      keys: one for each draw.
      locations: rows of a sample.
      tol: of corrections, root mean square.
    """
    self._gradient, self._factors, self._weights = gradient, factors, weights
    self._keys, self._locations, self._tol = keys, locations, tol
    own = np.array([w[1, j].sum(0) for j, w in enumerate(weights)])
    self._modes = _modes(factors, jnp.asarray(np.mean(
        own / np.sum(np.abs(own), 1, keepdims=True), 0), jnp.float32))
    self.f, self.iterations = start, np.zeros(2, int)
    room = -(-2 * len(weights) // _ROUND) * _ROUND
    self._u = jnp.zeros((room,) + start.shape, start.dtype)
    self._j = 0

  def integral(self, factors: jax.Array) -> jax.Array:
    """What was learned of other outputs at the end of the last step.

    Args:
      factors: `[m, R * rows]`, matrices between them and those of the equation.

    Returns:
      `[m, k, draws]`.
    """
    j = self._j
    return self._integral(factors, self._weights[j - 1, 1:, :j])[0]

  def _integral(self, factors: jax.Array, weights: np.ndarray) -> jax.Array:
    """Of the gradients so far, weights `[a, steps, 2, R]`."""
    number = 2 * weights.shape[1]
    count = -(-number // _ROUND) * _ROUND
    padded = np.zeros((len(weights), weights.shape[-1], count))
    padded[..., :number] = np.moveaxis(weights, -1, 1).reshape(
        padded.shape[:2] + (number,))
    return _past(self._u, padded.astype(self._u.dtype), factors, count)

  def step(self, g: jax.Array, data: Any, temperature: float,
           index: int) -> jax.Array:
    """Takes one step.

    Args:
      g: `[2, rows, k, draws]`, what drives the solution, at the points.
      data: targets.
      temperature: that of the noise.
      index: number of the noise.

    Returns:
      The solution at the end of the step.

    Raises:
      ArithmeticError: if the equations cannot be solved.
    """
    j = self._j
    noise, basis, diagonal = _noise(self._gradient, self.f, data, temperature,
                                    self._keys, index,
                                    locations=self._locations)
    matrix, inverse = _own(self._weights[j, :, j], self._factors, self._modes,
                           diagonal)
    right = g
    if j:
      right = g - self._integral(self._factors, self._weights[j, :, :j])
    guess = jnp.stack([self.f, self.f])
    out = _solve(self._gradient, right, guess, data, noise, matrix, basis,
                 inverse, self._tol)
    if not float(out.left) <= self._tol:
      raise ArithmeticError(
          'The equations of a step could not be solved. The gradient of `loss` '
          'must be finite and continuous in `fx`, and not grow too fast: take '
          'a smooth loss, or a smaller `rtol` for shorter steps.')
    self.iterations += np.asarray(out.iterations)
    self._u = jax.lax.dynamic_update_slice(self._u, out.u,
                                           (2 * j,) + 3 * (0,))
    self.f, self._j = out.f[1], j + 1
    return self.f
