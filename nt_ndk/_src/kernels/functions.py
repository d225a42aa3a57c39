# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Kernel functions as users pass them."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels import programs
from nt_ndk._src.kernels.evaluation import is_pair
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.evaluation import length
from nt_ndk._src.kernels.evaluation import sample_shapes
from nt_ndk._src.layers import two_time


def unwrapped(kernel_fn: Any) -> tuple[KernelFn, dict[str, Any]]:
  """A network's kernel function, and keyword arguments that are bound to it.

  What `jax.jit` and `functools.partial` make of it hides that it can be
  compiled in parts. Other functions are left as they are.
  """
  if isinstance(kernel_fn, jax.stages.Wrapped):
    network, bound = unwrapped(cast(Any, kernel_fn).__wrapped__)
    return (network, bound) if two_time.is_pure(network) else (kernel_fn, {})
  if not isinstance(kernel_fn, functools.partial):
    return kernel_fn, {}
  network, bound = unwrapped(kernel_fn.func)
  bound = {**bound, **kernel_fn.keywords}
  chosen = {'get', 'diffusion_time', 'x1', 'x2'} & set(bound)
  if chosen or kernel_fn.args:
    what = f'`{min(chosen)}`' if chosen else 'inputs'
    raise ValueError(f'`kernel_fn` must not be a `functools.partial` with '
                     f'{what}, which predictors choose. Leave that out.')
  return (network, bound) if two_time.is_two_time(network) else (kernel_fn, {})


def canonicalize_keywords(kwargs: dict[str, Any]) -> dict[str, Any]:
  """Keyword arguments of a kernel function: numbers, arrays, pairs of these."""

  def canonicalize(name, value):
    if isinstance(value, (list, tuple)) and len(value) == 2 and any(
        np.ndim(a) for a in value):
      return tuple(None if a is None else arguments.to_arrays(name, a)
                   for a in value)
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and (
        not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)):
      arguments.check_not_traced(name, value)
      value = value.item() if np.ndim(value) == 0 else value
    # All NaNs are one, which is equal to itself where programs are looked up.
    return np.nan if isinstance(value, float) and np.isnan(value) else value

  return {name: canonicalize(name, value) for name, value in kwargs.items()}


def batched(kernel_fn: KernelFn, batch_size: int) -> KernelFn:
  """`neural_tangents.batch` for any number of samples, on all devices.

  Args:
    kernel_fn: kernel function of a network.
    batch_size: number of samples in a batch, of the first and of the second
      inputs. The last batch is filled up with samples of the first.

  Returns:
    `kernel_fn(x1, x2, get, **kwargs)`, for kernels with two batch axes.
  """
  @functools.cache
  def on(device_count):
    return nt.batch(kernel_fn, batch_size, device_count)

  def fill(tree: PyTree, n: int, size: int) -> PyTree:
    """Arrays of `n` samples with the first ones again, up to a whole batch."""
    rows = np.arange(-(-n // size) * size) % n
    return jax.tree_util.tree_map(
        lambda a: a[rows] if np.ndim(a) and len(a) == n else a, tree)

  @functools.wraps(kernel_fn)
  def batched_fn(x1, x2=None, get=None, **kwargs):
    n1, n2 = length(x1), length(x1 if x2 is None else x2)
    devices = jax.local_device_count()
    devices = devices if n1 >= devices * batch_size else 1
    sizes = (n1, devices * batch_size), (n2, devices * batch_size)
    if x2 is None and devices > 1:
      x2 = x1
    kernel = on(devices if devices > 1 else 0)(
        fill(x1, *sizes[0]), None if x2 is None else fill(x2, *sizes[1]), get,
        **{k: tuple(fill(a, *size) for a, size in zip(v, sizes))
           if is_pair(v) else v for k, v in kwargs.items()})
    return jax.tree_util.tree_map(lambda a: a[:n1, :n2], kernel)

  return batched_fn


def _check_inputs(kernel_fn, x, kwargs):
  """Raises unless a network can take inputs of this structure and shape."""
  pairs = {k: v[0] for k, v in kwargs.items() if is_pair(v)}
  network = programs.Network(kernel_fn, 'ndk', False, tuple(
      (k, v) for k, v in kwargs.items() if k not in pairs))
  try:
    # What has been traced is remembered.
    programs.check_inputs(network, sample_shapes(x, pairs))
  except (AttributeError, TypeError) as e:
    shapes = ' and '.join(str(np.shape(a))
                          for a in jax.tree_util.tree_leaves(x))
    what = 'a tuple of arrays' if isinstance(x, tuple) else 'an array'
    raise TypeError(f'`x_train`, {what} of shape {shapes}, does not fit the '
                    'network. Networks with several inputs, as `stax.'
                    'parallel` has them, take a tuple, all others one array '
                    'with the axes of samples, pixels and channels. The '
                    f'network says: {str(e)[:160]}') from e


def check_kernel_fn(kernel_fn, x, kwargs):
  """Raises unless the kernel depends on `diffusion_time`."""
  if two_time.is_two_time(kernel_fn):
    frozen = two_time.frozen(kernel_fn)
    if frozen and all(frozen):
      raise ValueError('At least one layer of the network must learn, but all '
                       'have `trainable=False`.')
    if two_time.is_pure(kernel_fn):
      _check_inputs(kernel_fn, x, kwargs)
    return
  remedy = ('Build the network with `nt_ndk.stax` in place of '
            '`neural_tangents.stax`; a wrapper must pass `diffusion_time` on.')
  try:
    evaluator = KernelEvaluator(kernel_fn, x, 1, **kwargs)
    start, later = evaluator.sample(np.zeros((1, 2), int),
                                    np.array([[0., 0.], [1e10, 0.]]))[:, 0]
  except Exception as e:  # pylint: disable=broad-exception-caught
    raise ValueError('`kernel_fn` must take `get="ndk"` and `diffusion_time='
                     f'(tau1, tau2)`, but raised {e!r}. {remedy}') from e
  if np.allclose(start, later):
    raise ValueError('`kernel_fn` does not depend on `diffusion_time`. ' +
                     remedy)


def check_batch_size(batch_size, kernel_fn):
  if isinstance(batch_size, bool) or not (
      isinstance(batch_size, (int, np.integer)) and batch_size >= 0):
    raise ValueError('`batch_size` must be a number of samples, or 0 for all '
                     f'at once, got {batch_size!r}.')
  if batch_size and two_time.is_two_time(kernel_fn) and (
      not two_time.is_pure(kernel_fn)):
    raise ValueError('`batch_size` is for a kernel function that is not in '
                     'batches yet: pass either it or a `kernel_fn` wrapped by '
                     '`nt_ndk.batch`.')
