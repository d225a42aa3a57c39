# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Spreads large matrices over devices, of one process or of several.

Several processes, on one machine or many, run the same program. What they
decide by must not differ by a rounding error, or they would wait for each other
for ever: numbers come from devices through `to_host`.
"""

import functools
from typing import Any, Callable, cast, ContextManager, TypeVar
import zlib

import jax
from jax.experimental import multihost_utils
import numpy as np
import threadpoolctl

from nt_ndk._src.base.typing import PyTree

# Decorates what has many small products: threads of BLAS would be slower, and
# stay busy for a while afterwards, beside those of XLA.
in_one_thread = threadpoolctl.ThreadpoolController().wrap(limits=1,
                                                          user_api='blas')
_F = TypeVar('_F', bound=Callable[..., Any])


def in_full_precision(f: _F) -> _F:
  """Decorates what needs all digits of single precision.

  By default, accelerators round factors of its products to half of them or
  fewer.
  """

  @functools.wraps(f)
  def wrapped(*args, **kwargs):
    with jax.default_matmul_precision('highest'):
      return f(*args, **kwargs)

  return cast(_F, wrapped)


class Spread:
  """Puts rows of arrays on as many devices as divide a number of samples.

  What is computed from such arrays JAX computes on all of these devices.

  Attributes:
    count: number of devices, equally many of each process.
  """

  def __init__(self, samples: int) -> None:
    """Chooses devices for a number of training samples."""
    processes = jax.process_count()
    devices = [[d for d in jax.devices() if d.process_index == p]
               for p in range(processes)]
    each = max(d for d in range(1, min(map(len, devices)) + 1)
               if samples % (processes * d) == 0)
    self.count = processes * each
    self._mesh = jax.sharding.Mesh(
        np.concatenate([some[:each] for some in devices]), ('rows',))

  def _sharding(self, length: int) -> jax.sharding.NamedSharding:
    return jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec(
        *['rows'] * (length % self.count == 0)))

  def __call__(self, tree: Any) -> Any:
    """Spreads the first axis of all arrays; copies those it does not divide."""
    if self.count == 1:
      return tree

    def place(x):
      sharding = self._sharding(len(x))
      if jax.process_count() > 1 and _is_local(x):
        # `device_put` would compare it with that of other processes.
        return jax.make_array_from_callback(np.shape(x), sharding,
                                            np.asarray(x).__getitem__)
      return jax.device_put(x, sharding)

    return jax.tree_util.tree_map(place, tree)

  def rows(self, f: Callable[[Any], jax.Array], tree: Any) -> jax.Array:
    """Spreads the rows `f(tree)`; each process computes its own.

    Args:
      f: function of arrays with the same first axis, one row or more for each
        of their rows. It need not know of other processes.
      tree: these arrays.
    """
    processes = jax.process_count()
    n = len(jax.tree_util.tree_leaves(tree)[0])
    if processes == 1 or n % self.count:
      return self(f(tree))
    start = jax.process_index() * n // processes
    own = f(jax.tree_util.tree_map(
        lambda a: a[start:start + n // processes], tree))
    return jax.make_array_from_process_local_data(self._sharding(n),
                                                  np.asarray(own))


def _is_local(x: Any) -> bool:
  """Whether an array is on this process alone."""
  return not isinstance(x, jax.Array) or x.is_fully_addressable


def in_double() -> ContextManager[None]:
  """Context in which JAX computes in float64, whatever its configuration."""
  # JAX before 0.8 has the other name.
  module: Any = jax if hasattr(jax, 'enable_x64') else jax.experimental
  return module.enable_x64(True)


def to_host(tree: Any) -> Any:
  """Arrays of NumPy, the same on all processes."""

  def agree(x):
    if _is_local(x) or x.is_fully_replicated:
      # Copies may differ by rounding errors: that of the first process.
      return multihost_utils.broadcast_one_to_all(np.asarray(x))
    return multihost_utils.process_allgather(x, tiled=True)

  return jax.tree_util.tree_map(
      np.asarray if jax.process_count() == 1 else agree, tree)


def check_same(what: str, tree: PyTree) -> None:
  """Raises unless all processes have the same arrays, numbers and strings."""
  if jax.process_count() == 1:
    return
  checksum = 0
  for a in map(np.asarray, jax.tree_util.tree_leaves(tree)):
    if not a.dtype.hasobject:
      checksum = zlib.crc32(repr((a.dtype, a.shape)).encode() + a.tobytes(),
                            checksum)
  checksums = multihost_utils.process_allgather(np.uint32(checksum))
  if np.any(checksums != checksum):
    raise ValueError(
        f'All {jax.process_count()} processes must pass the same {what}, but '
        'some pass others. Read or draw them in the same way on each.')
