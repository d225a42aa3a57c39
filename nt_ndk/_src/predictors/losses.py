# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses as users pass them, and their gradients for each sample."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base.typing import LossFn

# Of random halves of the samples, each of which the other must not feel.
_HALVES = 6


class Loss:
  r"""A sum over samples, :math:`\ell(f, y)`, of outputs that are a matrix.

  Attributes:
    shape: of the outputs on all training inputs, as the user has them.
  """

  def __init__(self, loss: LossFn, shape: tuple[int, ...],
               trace_axes: tuple[int, ...]) -> None:
    """Takes a loss.

    Args:
      loss: function of outputs, of `shape`, and targets.
      shape: `(n, ..., k)`.
      trace_axes: negative and sorted, axes of `shape` that are columns.
    """
    self._loss, self.shape, self._trace_axes = loss, shape, trace_axes
    last = range(-len(trace_axes), 0)
    moved = np.moveaxis(np.empty(shape), trace_axes, last).shape
    self._moved, self._last = moved, tuple(last)
    rows = len(shape) - len(trace_axes)
    self.rows = int(np.prod(moved[:rows]))
    self.locations = self.rows // shape[0]
    self.columns = int(np.prod(moved[rows:]))

  def of_matrix(self, f: jax.Array, y: Any) -> jax.Array:
    """Loss of outputs `[rows, columns]`."""
    f = jnp.moveaxis(f.reshape(self._moved), self._last, self._trace_axes)
    return self._loss(f, y)

  def gradient(self, f: jax.Array, data: tuple[Any, jax.Array]) -> jax.Array:
    """Gradients of many draws, `[rows, columns, draws]`.

    Args:
      f: outputs.
      data: targets, and weights of the samples.
    """
    y, weight = data
    out = jax.vmap(lambda f: jax.grad(self.of_matrix)(f, y), -1, -1)(f)
    return out * jnp.repeat(weight, self.locations)[:, None, None]

  def pull(self, y: Any) -> np.ndarray:
    """What outputs that are zero are pulled by, in the shape of outputs.

    It stands for targets where the kernel is to be accurate for these.
    """
    f = jnp.zeros((self.rows, self.columns))
    out = -np.asarray(jax.grad(self.of_matrix)(f, y), float)
    size = float(np.sqrt(np.mean(out**2)))
    if size > 0:
      out /= size
    else:
      out[...] = np.random.RandomState(3).standard_normal(out.shape)
    return np.moveaxis(out.reshape(self._moved), self._last, self._trace_axes)

  def check(self, y: Any, size: float) -> None:
    """Raises unless this is a differentiable sum over samples.

    Args:
      y: targets.
      size: of outputs.
    """
    f = jnp.asarray(size * np.random.RandomState(0).standard_normal(
        (self.rows, self.columns)))
    try:
      value = jax.eval_shape(self.of_matrix, f, y)
    except Exception as e:
      raise ValueError(
          '`loss(fx, y)` must be a JAX function of outputs of shape '
          f'{self.shape} and of `y_train`, but raised {e!r:.300}. If targets '
          'are labels, pass the shape of the outputs of one sample as '
          '`output_shape`.') from e
    if getattr(value, 'shape', None) != ():
      raise ValueError('`loss(fx, y)` must return a number, for the whole '
                       f'training set, got {value}. Return the sum.')
    gradient = jax.grad(self.of_matrix)
    for at in (jnp.zeros_like(f), f):
      if not bool(jnp.all(jnp.isfinite(gradient(at, y)))):
        raise ValueError('The gradient of `loss` must be finite for all '
                         'outputs, but has NaN or infinity for outputs of size '
                         f'{float(jnp.max(jnp.abs(at))):.1g}.')
    if self.shape[0] == 1:
      return
    own = jax.jit(lambda v: jax.jvp(lambda f: gradient(f, y), (f,), (v,))[1])
    rng = np.random.RandomState(1)
    for _ in range(_HALVES):
      half = np.repeat(rng.permutation(self.shape[0]) < self.shape[0] / 2,
                       self.locations)[:, None]
      felt = np.abs(own(jnp.asarray(half * rng.standard_normal(f.shape))))
      if np.max(np.where(half, 0., felt)) > 1e-6 * np.max(felt):
        raise ValueError(
            '`loss` must be a sum over samples, but the gradient of some '
            'depends on the outputs of others. Take a loss in which each '
            'sample has a term of its own.')
