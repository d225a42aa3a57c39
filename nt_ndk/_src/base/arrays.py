# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Functions of arrays of NumPy, or of JAX.

JAX compiles a program for each shape, which takes longer than to solve a small
problem. On one CPU NumPy computes, with nothing to compile, all but products
with large matrices.
"""

import functools
from typing import Any, Callable, cast, TypeVar, Union

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base.devices import to_host

Matrices = Union[np.ndarray, jax.Array]
_F = TypeVar('_F', bound=Callable[..., Any])

# Rows of matrices up to which a problem is small. Products with larger ones are
# faster in JAX.
_SMALL = 512
# Bytes of whose multiples JAX wants addresses of arrays to be.
_ALIGNMENT = 64


def on_host(matrices: Matrices) -> bool:
  """Whether arrays are in the memory of one CPU, for NumPy as well as JAX."""
  return isinstance(matrices, np.ndarray) or (
      len(matrices.sharding.device_set) == 1 and
      jax.default_backend() == 'cpu')


def is_small(matrices: Matrices) -> bool:
  """Whether NumPy is to be used for what is done with matrices of few rows."""
  return len(matrices) <= _SMALL and on_host(matrices)


def of_kind(matrices: Matrices) -> Matrices:
  """As an array of NumPy if it is small, else of JAX."""
  return (np if is_small(matrices) else jnp).asarray(matrices)


def numpy_of(x: Any) -> Any:
  """The module, `numpy` or `jax.numpy`, for functions of an array."""
  return np if isinstance(x, (np.ndarray, np.generic)) else jnp


def on_either(f: _F, static_argnames: Any = ()) -> _F:
  """Decorates a function of arrays of either kind, that of the first argument.

  It runs as it is on arrays of NumPy, and is compiled for those of JAX.
  """
  compiled = jax.jit(f, static_argnames=static_argnames)

  @functools.wraps(f)
  def either(first, *args, **kwargs):
    on = f if numpy_of(first) is np else compiled
    return on(first, *args, **kwargs)

  return cast(_F, either)


@functools.partial(jax.jit, static_argnames='transposed')
def _compiled_product(matrix, x, transposed):
  matrix = matrix.T if transposed else matrix
  return matrix.reshape((-1, len(x))) @ x


def product(matrix: Matrices, x: Any, transposed: bool = False) -> Any:
  """A product with a matrix, or with several side by side.

  Of an array of NumPy with a matrix of JAX, JAX computes it: where rows are
  many, that is what takes long.

  Args:
    matrix: `[m, R * n]`, or its transpose.
    x: `[n, c]`.
    transposed: whether the matrix is transposed.

  Returns:
    `[m * R, c]`.
  """
  if isinstance(x, np.ndarray) and isinstance(matrix, jax.Array):
    return to_host(_compiled_product(matrix, x, transposed))
  matrix = matrix.T if transposed else matrix
  return matrix.reshape((-1, len(x))) @ x


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
  """Zeros that JAX can use where they are, without a copy."""
  count = int(np.prod(shape)) * np.dtype(dtype).itemsize
  memory = np.zeros(count + _ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % _ALIGNMENT
  return memory[start:start + count].view(dtype).reshape(shape)


def beside(left: Matrices, right: Matrices) -> jax.Array:
  """Two matrices side by side."""
  if not on_host(left):
    return jnp.concatenate([left, right], 1)
  out = aligned_zeros((len(left), left.shape[1] + right.shape[1]), left.dtype)
  out[:, :left.shape[1]], out[:, left.shape[1]:] = left, right
  return jax.device_put(out, may_alias=True)
