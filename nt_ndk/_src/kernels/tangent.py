# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Derivatives of a network's two-time kernels in what it is built from.

They are kernels of the same inputs at the same two times, so that all that
evaluates kernels evaluates them. Programs take the parameters and the direction
of the derivative as arguments: no value of either compiles anew.
"""

from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels import functions
from nt_ndk._src.layers.structure import Structure


class Parameters(NamedTuple):
  """Numbers that a network is built from.

  Attributes:
    values: `[P]`, all numbers.
    treedef: of the container that they come from.
    shapes: of its arrays.
  """
  values: np.ndarray
  treedef: Any
  shapes: tuple[tuple[int, ...], ...]

  @classmethod
  def of(cls, parameters: PyTree) -> 'Parameters':
    leaves, treedef = jax.tree_util.tree_flatten(parameters)
    leaves = [np.asarray(a, float) for a in leaves]
    return cls(np.concatenate([np.zeros(0)] + [a.ravel() for a in leaves]),
               treedef, tuple(a.shape for a in leaves))

  def restore(self, values: Any) -> PyTree:
    """Puts `[..., P]` into the container, as arrays `[...] + shape`."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes])
    starts = np.append(0, ends[:-1])
    return jax.tree_util.tree_unflatten(self.treedef, [
        values[..., start:stop].reshape(values.shape[:-1] + shape)
        for start, stop, shape in zip(starts, ends, self.shapes)])


def tangent(network: Callable[[PyTree], KernelFn], parameters: Parameters,
            direction: np.ndarray, keywords: Any = None) -> KernelFn:
  """Derivative of a kernel function in one direction.

  Args:
    network: takes parameters to a kernel function.
    parameters: where.
    direction: `[P + 1]`, factors of derivatives in all parameters and, last, in
      the logarithm of a factor of both times.
    keywords: keyword arguments that the kernel function accepts.

  Returns:
    A kernel function at two times.
  """
  key = object()
  own = tuple(parameters.values), tuple(direction)

  def kernel_fn(x1, x2=None, get=None, *, diffusion_time, numbers=None,
                **kwargs):
    values, directions = map(jnp.stack, own if numbers is None else
                             numbers[key])

    def kernels(values, stretch):
      moving_fn, _ = functions.unwrapped(network(parameters.restore(values)))
      return moving_fn(x1, x2, get, diffusion_time=tuple(
          (1 + stretch) * jnp.asarray(tau) for tau in diffusion_time), **kwargs)

    zero = jnp.zeros((), values.dtype)
    return jax.jvp(kernels, (values, zero),
                   (directions[:-1], directions[-1]))[1]

  vars(kernel_fn).update(
      two_time_kernel_fn=kernel_fn, keywords=keywords, readout=None,
      structure=Structure(('tangent', network, parameters.treedef,
                           parameters.shapes), (key,), (own,)))
  return kernel_fn
