# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluates a network's kernel function as matrices, on all data or a sample."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src import layers

# Bytes that the covariance of two small batches may take.
_TILE_BYTES = 2**28


def to_matrix(kernel: jax.Array) -> jax.Array:
  """`(n1, n2, a, a, b, b, ...)` to `(n1 * a * b ..., n2 * a * b ...)`."""
  ndim = kernel.ndim
  kernel = jnp.transpose(kernel, (*range(0, ndim, 2), *range(1, ndim, 2)))
  return kernel.reshape((int(np.prod(kernel.shape[:ndim // 2])), -1))


@functools.lru_cache(maxsize=16)
def _compiled(kernel_fn):
  return jax.jit(kernel_fn, static_argnames=('get', 'diagonal_batch',
                                             'diagonal_spatial'))


def _length(x) -> int:
  return len(jax.tree_util.tree_leaves(x)[0])


def _is_pair(x) -> bool:
  """Whether a keyword argument has one part for `x1` and one for `x2`."""
  return isinstance(x, tuple) and len(x) == 2


def _take(tree, i):
  return jax.tree_util.tree_map(lambda x: x[i], tree)


class KernelEvaluator:
  """A kernel function at two times, with the training data.

  Attributes:
    evaluations: number of train-train kernels computed so far.
  """

  def __init__(self, kernel_fn, x_train, locations: int, **kwargs):
    """Takes what all evaluations share.

    Args:
      kernel_fn: kernel function that takes `diffusion_time`.
      x_train: training inputs.
      locations: number of outputs of a sample that are correlated, i.e. the
        size of its output without trace axes.
      **kwargs: passed to `kernel_fn`. Tuples of two arrays belong to the first
        and the second inputs.
    """
    pure = layers.is_pure(kernel_fn)
    self._kernel_fn = _compiled(kernel_fn) if pure else kernel_fn
    self._x_train = x_train
    self._locations = locations
    self._kwargs = kwargs
    self.evaluations = 0

    # Samples are evaluated in tiles of one shape, which compiles once. Square
    # tiles of a power of 2 can be split further by `nt.batch`.
    pixels = np.prod(jax.tree_util.tree_leaves(x_train)[0].shape[1:-1], dtype=float)
    pairs = max(4, _TILE_BYTES / (8 * pixels**2))
    columns = int(min(16, 2**np.floor(np.log2(pairs) / 2)))
    rows = int(min(256, 2**np.floor(np.log2(pairs / columns))))
    self._tile = (rows if pure else columns, columns)

  def _evaluate(self, x1, x2, get: str, tau1, tau2, kwargs) -> jax.Array:
    dtype = jax.dtypes.canonicalize_dtype(jnp.float64)
    # One value for each sample: `nt.batch` splits these with the inputs.
    times = tuple(jnp.broadcast_to(jnp.asarray(tau, dtype), (_length(x),))
                  for tau, x in ((tau1, x1), (tau2, x2)))
    return self._kernel_fn(x1, x2, get, diffusion_time=times, **kwargs)

  def train_train(self, get: str, tau1: float, tau2: float) -> jax.Array:
    """Kernel of all training data, as a matrix."""
    self.evaluations += 1
    x = self._x_train
    return to_matrix(self._evaluate(x, x, get, tau1, tau2, self._kwargs))

  def test_train(self, x_test, get: str, tau1: float, tau2: float,
                 **test_kwargs) -> jax.Array:
    """Kernel of test and training data, as a matrix."""
    kwargs = dict(self._kwargs)
    for name, value in test_kwargs.items():
      kwargs[name] = ((value[0], kwargs[name][1]) if _is_pair(value) else value)
    return to_matrix(self._evaluate(x_test, self._x_train, get, tau1, tau2,
                                    kwargs))

  def sample(self, i: np.ndarray, j: np.ndarray, tau_i: np.ndarray,
             tau_j: np.ndarray) -> np.ndarray:
    """NDK between rows `i` at times `tau_i` and rows `j` at times `tau_j`."""
    out = np.empty((len(i), len(j)))
    rows, columns = self._tile
    for a in range(0, len(i), rows):
      for b in range(0, len(j), columns):
        out[a:a + rows, b:b + columns] = self._sample_tile(
            i[a:a + rows], j[b:b + columns], tau_i[a:a + rows],
            tau_j[b:b + columns])
    return out

  def _sample_tile(self, i, j, tau_i, tau_j) -> np.ndarray:
    (point_i, at_i), (point_j, at_j) = (divmod(k, self._locations)
                                        for k in (i, j))
    pad_i, pad_j = (np.arange(size) % len(k)
                    for size, k in zip(self._tile, (i, j)))
    kwargs = {
        name: tuple(_take(v, p[pad]) for v, p, pad in
                    zip(value, (point_i, point_j), (pad_i, pad_j)))
        if _is_pair(value) else value for name, value in self._kwargs.items()}
    kernel = self._evaluate(_take(self._x_train, point_i[pad_i]),
                            _take(self._x_train, point_j[pad_j]), 'ndk',
                            tau_i[pad_i], tau_j[pad_j], kwargs)
    kernel = np.asarray(to_matrix(kernel), float)
    return kernel[np.ix_(np.arange(len(i)) * self._locations + at_i,
                         np.arange(len(j)) * self._locations + at_j)]
