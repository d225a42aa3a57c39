# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What is compiled of a network's kernels: a program for each kind of work.

To compile a network takes longer than its kernels of a thousand samples. So
programs depend on neither the number of samples nor that of times, which come
in blocks of a few sizes, nor on the standard deviations of weights, which are
arguments. Networks of the same layers share them.
"""

import functools
from typing import Any, Hashable, Iterator

import jax
from jax.extend import core as jax_core
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base.store import fingerprint
from nt_ndk._src.layers import two_time
from nt_ndk._src.layers.structure import Structure


def to_matrix(kernel: jax.Array) -> jax.Array:
  """`(n1, n2, a, a, b, b, ...)` to `(n1 * a * b ..., n2 * a * b ...)`."""
  ndim = kernel.ndim
  kernel = jnp.transpose(kernel, (*range(0, ndim, 2), *range(1, ndim, 2)))
  rows = 1
  for size in kernel.shape[:ndim // 2]:
    rows *= size
  return kernel.reshape((rows, -1))


def _hashable(value: Any) -> Hashable:
  """The value itself, or a digest of arrays."""
  try:
    hash(value)
  except TypeError:
    return fingerprint(value)
  return value


class Network:
  """A kernel function, equal to others that differ in standard deviations.

  Attributes:
    numbers: multipliers and standard deviations of all weights.
    get: the kernel that is wanted.
    chosen: which one that is of a program that finds both.
  """

  def __init__(self, kernel_fn: Any, get: str, together: bool,
               static_kwargs: tuple[tuple[str, Any], ...]) -> None:
    """Takes what programs depend on.

    Args:
      kernel_fn: a kernel function at two times.
      get: `"ndk"` or `"nngp"`.
      together: whether a program is to find both, of which one is chosen when
        it runs.
      static_kwargs: names and values of keyword arguments.
    """
    self._kernel_fn, self._kwargs = kernel_fn, dict(static_kwargs)
    # A function that wraps a network's own has a copy of its attributes.
    structure = (kernel_fn.structure if two_time.is_pure(kernel_fn) else
                 Structure(kernel_fn))
    leaves, self._treedef = jax.tree_util.tree_flatten(structure.numbers)
    self.numbers, self._keys = np.asarray(leaves, float), structure.keys
    self._get, self.get = ('ndk', 'nngp') if together else (get,), get
    self.chosen = self._get.index(get)
    self._identity = structure.layers, self._get, tuple(
        (name, _hashable(value)) for name, value in static_kwargs)

  def __eq__(self, other: Any) -> bool:
    return isinstance(other, Network) and self._identity == other._identity

  def __hash__(self) -> int:
    return hash(self._identity)

  def kernel(self, first: Any, second: Any, tau1: jax.Array, tau2: jax.Array,
             numbers: Any, chosen: jax.Array) -> jax.Array:
    """Kernel as a matrix, of inputs and what belongs to them.

    Args:
      first: inputs, and a dictionary of keyword arguments that belong to them.
      second: the same.
      tau1: time of the first inputs.
      tau2: time of the second inputs.
      numbers: of this network or an equal one.
      chosen: which kernel.
    """
    (x1, arrays1), (x2, arrays2) = first, second
    kwargs: dict[str, Any] = {name: (v, arrays2[name])
                              for name, v in arrays1.items()}
    if self._keys:
      kwargs['numbers'] = dict(zip(
          self._keys, jax.tree_util.tree_unflatten(self._treedef, numbers)))
    kernels = self._kernel_fn(x1, x2, self._get, diffusion_time=(tau1, tau2),
                              **kwargs, **self._kwargs)
    out = kernels[0]
    for i, kernel in enumerate(kernels[1:], 1):
      out = jnp.where(chosen == i, kernel, out)
    return to_matrix(out)


# Numbers of samples that tell the axes of arrays, as primes that no other axis
# is a multiple of.
_SAMPLES = 10007, 10009


def _arrays(jaxpr: Any) -> Iterator[Any]:
  """Shapes of all that a program computes."""
  is_program = lambda p: isinstance(p, (jax_core.Jaxpr, jax_core.ClosedJaxpr))
  for equation in jaxpr.eqns:
    yield from (variable.aval for variable in equation.outvars)
    for part in filter(is_program, jax.tree_util.tree_leaves(
        list(equation.params.values()), is_leaf=is_program)):
      yield from _arrays(getattr(part, 'jaxpr', part))


def _traced(network: Network, samples: Any, numbers: tuple[int, int]) -> Any:
  """Program of a kernel of these numbers of samples, see `pair_size`."""
  leaves, structure = samples
  first, second = (jax.tree_util.tree_unflatten(structure, [
      jax.ShapeDtypeStruct((n,) + shape, dtype) for shape, dtype in leaves])
                   for n in numbers)
  return jax.make_jaxpr(network.kernel)(
      first, second, np.zeros(()), np.zeros(()), network.numbers,
      network.chosen)


@functools.lru_cache(maxsize=64)
def check_inputs(network: Network, samples: Any) -> None:
  """Raises what the network raises if inputs do not fit, see `pair_size`."""
  _traced(network, samples, (1, 1))


@functools.lru_cache(maxsize=64)
def pair_size(network: Network, samples: Any) -> int:
  """Entries of the largest array that a kernel of inputs goes through, a pair.

  Layers differ: what begins with `Flatten` has no covariances of pixels, and
  what has no pooling those of each pixel with itself alone.

  Args:
    network: whose kernel it is.
    samples: leaves and structure of inputs, and of what belongs to them, all of
      them shapes and dtypes of a sample.
  """
  program = _traced(network, samples, _SAMPLES)
  pairs = _SAMPLES[0] * _SAMPLES[1]
  return max([1] + [a.size // pairs for a in _arrays(program.jaxpr)
                    if hasattr(a, 'size') and a.size % pairs == 0])


@functools.lru_cache(maxsize=64)
def block(network: Network) -> Any:
  """Kernels of some samples with some others at pairs of times, `[a, Q, b]`."""

  def on_block(first, second, times, numbers, chosen):
    return jax.vmap(lambda tau1, tau2: network.kernel(
        first, second, tau1, tau2, numbers, chosen), out_axes=1)(*times)

  return jax.jit(on_block)


@functools.lru_cache(maxsize=64)
def pairs(network: Network) -> Any:
  """Kernel of pairs of inputs at pairs of times, `[pairs, times]`."""

  def on_pairs(first, second, locations, times, numbers, chosen):
    def on_one(sample1, sample2, locations, tau):
      sample1, sample2 = jax.tree_util.tree_map(lambda a: a[None],
                                                (sample1, sample2))
      return network.kernel(sample1, sample2, tau[0], tau[1], numbers,
                            chosen)[locations]

    at_times = jax.vmap(on_one, (None, None, None, 0))
    return jax.vmap(at_times, (0, 0, 0, None))(first, second, locations, times)

  return jax.jit(on_pairs)


@functools.lru_cache(maxsize=64)
def itself(network: Network) -> Any:
  """Kernel of every sample with itself at equal times, a matrix of each."""

  def on_itself(samples, tau, numbers, chosen):
    def on_one(sample):
      sample = jax.tree_util.tree_map(lambda a: a[None], sample)
      return network.kernel(sample, sample, tau, tau, numbers, chosen)

    return jax.vmap(on_one)(samples)

  return jax.jit(on_itself)
