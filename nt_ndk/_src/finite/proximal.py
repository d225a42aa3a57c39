# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Steps of Markov proximal learning, of one finite network.

Two ways to move its parameters at temperature `T` for the squared loss: a step
of Langevin dynamics, and one of the proximal chain.
"""

from typing import Callable, Optional

import jax
from jax import random
import jax.numpy as jnp

from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.finite import networks

_POWER_ITERATIONS = 30
# Of the proximal map.
_MAX_ITERATIONS = 50

# `f(params, indices)`, outputs on training data.
Outputs = Callable[[PyTree, jax.Array], jax.Array]
# `slope(fx, indices)`, gradient of a loss in outputs on training data.
Slope = Callable[[jax.Array, jax.Array], jax.Array]
# `steps(params, key, count, step_size)`.
Steps = Callable[[PyTree, jax.Array, int, float], PyTree]


def where(condition, params, other):
  """Arrays of `params` where a tree of Booleans says so, else of `other`."""
  return jax.tree_util.tree_map(lambda c, p, o: p if c else o, condition,
                                params, other)


def langevin_steps(f: Outputs, y: jax.Array, prior: PyTree, moving: PyTree,
                   temperature: float, batch_size: int,
                   slope: Optional[Slope] = None) -> Steps:
  r"""Steps of :math:`d\theta = -\nabla E\,dt + \sqrt{2T}\,dB`.

  A step of the free weight process, which is exact, between halves of a step of
  Heun's method for the data term. Second order in the size of the step. In this
  order, the errors of Heun's method and of the splitting cancel at equilibrium
  when regularisation is weak.

  Args:
    f: outputs on training data, `f(params, indices)`.
    y: `[n, ...]`, targets.
    prior: prior standard deviations, a tree like the parameters; 0 where they
      are frozen, and not `moving`.
    moving: Booleans, a tree like the parameters.
    temperature: `T`.
    batch_size: samples in a gradient; 0 is all.
    slope: of a loss other than the squared one.

  Returns:
    `steps(params, key, count, step_size)`.
  """
  n = len(y)

  def gradient(params, rows):
    weight = n / len(rows)
    if slope is not None:
      fx, pull = jax.vjp(lambda params: f(params, rows), params)
      return pull((weight * slope(fx, rows)).astype(fx.dtype))[0]
    loss = lambda params: weight / 2 * jnp.sum((f(params, rows) - y[rows])**2)
    return jax.grad(loss)(params)

  def learn(params, key, h):
    rows = (random.choice(key, n, (batch_size,), replace=False) if batch_size
            else jnp.arange(n))
    minus = lambda p, g, h: jax.tree_util.tree_map(
        lambda m, p, g: p - h * g if m else p, moving, p, g)
    first = gradient(params, rows)
    second = gradient(minus(params, first, h), rows)
    return minus(params, jax.tree_util.tree_map(jnp.add, first, second), h / 2)

  def diffuse(params, key, h):
    return where(moving, networks.diffuse(params, prior, key, temperature * h),
                 params)

  def steps(params, key, count, h):
    # Halves of two steps that meet are one whole step.
    def step(i, params):
      learn_key, diffuse_key = random.split(random.fold_in(key, i))
      params = diffuse(params, diffuse_key, h)
      return learn(params, learn_key, jnp.where(i == count, h / 2, h))

    return jax.lax.fori_loop(1, count + 1, step,
                             learn(params, random.fold_in(key, 0), h / 2))

  return steps


def proximal_steps(f: Outputs, y: jax.Array, prior: PyTree, moving: PyTree,
                   temperature: float) -> Steps:
  r"""Steps of the Markov proximal chain, of a strength :math:`\lambda`.

  .. math::
    P(\theta' | \theta) \propto \exp\Big(-\frac 1{2T} \big[E(\theta') +
    \frac\lambda 2 |\theta' - \theta|^2\big]\Big)

  A draw is the minimum of the bracket after targets, prior and :math:`\theta`
  have been displaced by noise. This is exact where the network is linear in
  its parameters as far as one step goes: for linear models, and as
  :math:`\lambda` grows. The minimum is found by Gauss-Newton iterations in the
  space of outputs, by conjugate gradients.

  Args:
    f: and what follows: see :func:`langevin_steps`.
    y: `[n, ...]`, targets.
    prior: a tree like the parameters.
    moving: a tree like the parameters.
    temperature: `T`.

  Returns:
    `steps(params, key, count, step_size)`, where the size of a step is
    :math:`1 / \lambda`. Parameters are NaN if an iteration does not converge.
  """
  rows = jnp.arange(len(y))
  tree_map = jax.tree_util.tree_map

  def step(params, key, h):
    parameter_key, target_key = random.split(key)
    strength = tree_map(lambda m, s: 1 / h + temperature / s**2 if m else 1.,
                        moving, prior)
    noise = networks.normal(parameter_key, params)
    center = where(moving, tree_map(
        lambda p, a, e: (p / h + jnp.sqrt(2 * temperature * a) * e) / a,
        params, strength, noise), params)
    target = y + jnp.sqrt(2 * temperature) * random.normal(
        target_key, y.shape, y.dtype)
    weigh = lambda p: tree_map(
        lambda m, p, a: p / a if m else jnp.zeros_like(p), moving, p, strength)

    def iterate(state):
      count, params, _ = state
      out, jvp = jax.linearize(lambda p: f(p, rows), params)
      transposed = jax.linear_transpose(jvp, params)
      vjp = lambda v: weigh(transposed(v)[0])
      right = target - out - jvp(tree_map(jnp.subtract, center, params))
      a, _ = jax.scipy.sparse.linalg.cg(lambda v: v + jvp(vjp(v)), right,
                                        tol=jnp.finfo(y.dtype).eps)
      new = tree_map(jnp.add, center, vjp(a))
      moved = sum(jnp.sum((p - q)**2) for p, q in zip(
          *map(jax.tree_util.tree_leaves, (new, params))))
      return count + 1, new, moved

    size = sum(jnp.sum(p**2) for p in jax.tree_util.tree_leaves(
        (params, center)))
    tol = (100 * jnp.finfo(y.dtype).eps)**2 * size
    count, params, moved = jax.lax.while_loop(
        lambda state: (state[0] < _MAX_ITERATIONS) & (state[2] > tol), iterate,
        (0, center, jnp.inf))
    return tree_map(lambda p: jnp.where(moved <= tol, p, jnp.nan), params)

  def steps(params, key, count, h):
    return jax.lax.fori_loop(
        0, count, lambda i, p: step(p, random.fold_in(key, i), h), params)

  return steps


def largest_slope(slope: Slope, fx: jax.Array, key: jax.Array) -> jax.Array:
  """Largest second derivative of a loss, in size, a bit above."""
  along = lambda v: jax.jvp(
      lambda fx: slope(fx, jnp.arange(len(fx))), (fx,), (v,))[1]
  norm = lambda v: jnp.sqrt(jnp.sum(v**2))

  def iterate(_, state):
    v, size = state
    w = along(v / jnp.where(size > 0, norm(v), 1.))
    return w, norm(w)

  start = random.normal(key, fx.shape, fx.dtype)
  return 1.1 * jax.lax.fori_loop(0, _POWER_ITERATIONS, iterate, (start, 1.))[1]


def largest_curvature(f: Outputs, y: jax.Array, params: PyTree,
                      key: jax.Array) -> jax.Array:
  """Largest eigenvalue of the data term's Gauss-Newton matrix, a bit above."""
  out, jvp = jax.linearize(lambda p: f(p, jnp.arange(len(y))), params)
  transposed = jax.linear_transpose(jvp, params)
  norm = lambda v: jnp.sqrt(jnp.sum(v**2))

  def iterate(_, state):
    v, _ = state
    w = jvp(transposed(v / norm(v))[0])
    return w, norm(w)

  start = random.normal(key, out.shape, out.dtype)
  return 1.1 * jax.lax.fori_loop(0, _POWER_ITERATIONS, iterate, (start, 0.))[1]
