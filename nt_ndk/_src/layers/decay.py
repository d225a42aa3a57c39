# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Weights that decay without noise.

That is the limit of a vanishing temperature :math:`T` and prior standard
deviation :math:`s` at a given weight decay :math:`\kappa = T / s^2`. The
covariance of a weight is then :math:`s_0^2 e^{-\kappa (t + t')}`, and its
response :math:`e^{-\kappa |t - t'|}`: :math:`\kappa t` is the diffusion time of
a weight with :math:`s = 1` but without its noise.
"""

import functools
from typing import Any

import jax

from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.layers import two_time
from nt_ndk._src.layers.weight_process import WeightProcess

_is_process = lambda a: isinstance(a, WeightProcess)


def decaying(kernel_fn: KernelFn) -> KernelFn:
  """The kernel function of the same network with weights that decay.

  Args:
    kernel_fn: kernel function of a network.

  Returns:
    The same in the time `weight_decay * t` in place of diffusion time.

  Raises:
    ValueError: if the weights of the network are not known.
  """
  network: Any = getattr(kernel_fn, 'two_time_kernel_fn', None)
  structure = getattr(network, 'structure', None)
  if not two_time.is_pure(kernel_fn) or structure is None:
    raise ValueError('`weight_decay` needs the `kernel_fn` of a network of '
                     '`nt_ndk.stax`, not wrapped by `nt_ndk.batch`: pass that, '
                     'and `batch_size`.')
  stds = jax.tree_util.tree_leaves(network.prior_std)
  if any(map(callable, stds)) or len(stds) != sum(
      1 + (layer.b_std != 0) for layer in structure.numbers):
    raise ValueError(
        '`weight_decay` needs layers whose weights are known: `Dense`, `Conv`, '
        '`ConvLocal` and `ConvTranspose` in `"ntk"` parameterization, with '
        '`b_std=None` rather than 0, but not attention. For others, make the '
        'network with a `W_prior_std` of 0.01, and pass 1e-4 times the weight '
        'decay as `temperature`.')

  def change(process: Any) -> Any:
    if not _is_process(process) or process.prior_std == 0:  # Frozen.
      return process
    return WeightProcess(process.init_std, 1., 0.)

  numbers = jax.tree_util.tree_map(change, structure.numbers,
                                   is_leaf=_is_process)
  by_key = dict(zip(structure.keys, numbers))

  @functools.wraps(kernel_fn)
  def new_kernel_fn(*args: Any, **kwargs: Any) -> Any:
    return kernel_fn(*args, **{'numbers': by_key, **kwargs})

  vars(new_kernel_fn).update(two_time_kernel_fn=new_kernel_fn,
                             structure=structure._replace(numbers=numbers))
  return new_kernel_fn
