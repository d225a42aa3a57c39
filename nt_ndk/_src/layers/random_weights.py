# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The one layer with random weights, which move in time.

A stock layer of Neural Tangents at unit standard deviation and without bias,
applied to a kernel, reveals its linear map on covariances and gradients. The
covariance of the weights at the two times multiplies both, the response of the
weights what the layer adds to the Neural Dynamical Kernel (NDK).
"""

import functools
from typing import Any, Callable, NamedTuple, Optional

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import neural_tangents as nt
from neural_tangents import stax as nt_stax
import numpy as np

from nt_ndk._src.base.typing import ApplyFn
from nt_ndk._src.base.typing import DiffusionTimes
from nt_ndk._src.base.typing import Layer
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.layers import structure
from nt_ndk._src.layers.structure import Structure
from nt_ndk._src.layers.times import canonicalize_times
from nt_ndk._src.layers.times import check_samples
from nt_ndk._src.layers.times import to_axis
from nt_ndk._src.layers.weight_process import WeightProcess


def check_stds(**stds: Any) -> list[Any]:
  """Raises unless all are positive, finite numbers.

  Args:
    **stds: numbers, which may be traced by JAX.

  Returns:
    The numbers. Of one that is traced the value is not known yet: it becomes
    NaN if it is wrong, and so does all that is computed from it.
  """
  out = []
  for name, std in stds.items():
    traced = isinstance(std, jax.core.Tracer)
    if np.ndim(std) or not (traced or 0 < std < float('inf')):
      raise ValueError(f'`{name}` must be a positive, finite number, got {std}.'
                       ' Leave out a bias with `b_std=None`, and freeze a layer'
                       ' with `trainable=False`.')
    out.append(jnp.where((std > 0) & jnp.isfinite(std), std, jnp.nan)
               if traced else std)
  return out


def is_unit(*stds: Any) -> bool:
  """Whether all are 1, as far as is known."""
  return all(not isinstance(std, jax.core.Tracer) and std == 1 for std in stds)


def frozen(apply_fn: ApplyFn) -> ApplyFn:
  """A layer whose parameters have no gradient."""

  @functools.wraps(apply_fn)
  def frozen_apply_fn(params, inputs, **kwargs):
    return apply_fn(jax.lax.stop_gradient(params), inputs, **kwargs)

  return frozen_apply_fn


def prior_of_arrays(stds: PyTree, params: PyTree) -> PyTree:
  """Standard deviations under the prior, some of them functions of arrays."""
  return jax.tree_util.tree_map(lambda s, p: s(p) if callable(s) else s, stds,
                                params)


class _Numbers(NamedTuple):
  """Multipliers, and processes of what they multiply."""
  W_std: Any
  b_std: Any
  weight: WeightProcess
  bias: WeightProcess

  def in_ntk(self, width: float) -> '_Numbers':
    """Those in `"ntk"` parameterization of a layer in `"standard"` one.

    Its parameters contain the multipliers, and the root of the width.
    """
    return _Numbers(width**.5, 1., self.weight.scaled(self.W_std / width**.5),
                    self.bias.scaled(self.b_std))


def random_weights(
    stock: functools.partial[Any],
    W_std: float,
    b_std: Optional[float],
    weight: WeightProcess,
    bias: WeightProcess,
    width: Optional[Callable[[tuple[int, ...]], float]],
    trainable: bool
) -> Layer:
  """The one layer with random weights: `stock`, its weights moving in time.

  Args:
    stock: function of `W_std` and `b_std` that returns NT's layer, with its
      other arguments.
    W_std: multiplier of the weights.
    b_std: multiplier of the biases, or `None` for no biases.
    weight: process of the weights before the multiplier.
    bias: process of the biases before the multiplier.
    width: of `"standard"` parameterization, the number by whose root weights of
      a shape are divided when they are drawn; `None` is `"ntk"`.
    trainable: whether the layer learns, rather than keep its first weights.

  Returns:
    `(init_fn, apply_fn, kernel_fn)`, `kernel_fn` mapping `Kernel` to `Kernel`.
  """
  stds = check_stds(W_init_std=weight.init_std, W_prior_std=weight.prior_std,
                    b_init_std=bias.init_std, b_prior_std=bias.prior_std)
  weight, bias = WeightProcess(*stds[:2]), WeightProcess(*stds[2:])
  if not trainable:
    weight, bias = (p._replace(prior_std=0.) for p in (weight, bias))
  is_stock = trainable and is_unit(weight.init_std, bias.init_std)

  stock_init_fn, apply_fn, stock_kernel_fn = stock(W_std=W_std, b_std=b_std)
  # Layers that reveal the linear map on covariances, and that of the bias.
  _, _, linear_fn = stock(W_std=1., b_std=None)
  _, _, constant_fn = stock(W_std=0., b_std=1.)

  def init_fn(rng, input_shape):
    output_shape, (W, b) = stock_init_fn(rng, input_shape)
    return output_shape, (W * weight.init_std,
                          None if b is None else b * bias.init_std)

  if not trainable:
    apply_fn = frozen(apply_fn)
  own = _Numbers(W_std, 0. if b_std is None else b_std, weight, bias)
  W_prior: Any = weight.prior_std
  b_prior = bias.prior_std
  if width is not None and trainable:
    W_prior = lambda W: own.in_ntk(width(W.shape)).weight.prior_std
    b_prior = own.in_ntk(1.).bias.prior_std
  vars(init_fn).update(
      prior_std=(W_prior, None if b_std is None else b_prior),
      readout=(True, None if b_std is None else True))
  # What tells the numbers of these weights apart from those of others.
  key = object()
  vars(init_fn).update(structure=Structure(
      (structure.of_call(stock.func, stock.args, stock.keywords),
       b_std is None), (key,), (own,)))

  @nt_stax.requires(**stock_kernel_fn.input_req)
  def kernel_fn(k: nt.Kernel, *,
                diffusion_time: Optional[DiffusionTimes] = None,
                readout_freeze: Optional[ArrayLike] = None,
                numbers: Optional[dict[object, Any]] = None,
                **kwargs: Any) -> nt.Kernel:
    if diffusion_time is None:
      if is_stock:
        return stock_kernel_fn(k, **kwargs)
      diffusion_time = (0., 0.)
    tau1, tau2 = canonicalize_times(diffusion_time)
    check_samples(k, tau1, tau2)
    here = own if numbers is None else numbers.get(key, own)
    size = 1.
    if width is not None:
      W = jax.eval_shape(lambda: stock_init_fn(jax.random.PRNGKey(0),
                                               k.shape1)[1][0])
      size = width(W.shape)
      here = here.in_ntk(size)
    W_multiplier, b_multiplier, weight, bias = here
    frozen = jnp.inf if readout_freeze is None else readout_freeze
    clock1, clock2 = jnp.minimum(tau1, frozen), jnp.minimum(tau2, frozen)

    def response(process, tau, tau_):
      # Frozen weights no longer respond.
      moves = jnp.minimum(tau, tau_) <= frozen
      return jnp.where(moves, process.response(jnp.minimum(tau, frozen),
                                               jnp.minimum(tau_, frozen)), 0.)

    linear = linear_fn(k, **kwargs)
    constant = (None if b_std is None else
                constant_fn(k.replace(ntk=None), **kwargs))

    def covariance(name, tau, tau_, axis_):
      A_nngp = getattr(linear, name)
      if A_nngp is None:
        return None
      times = to_axis(tau, 0, A_nngp.ndim), to_axis(tau_, axis_, A_nngp.ndim)
      out = W_multiplier**2 * weight.autocovariance(*times) * A_nngp
      if constant is not None:
        out += (b_multiplier**2 * bias.autocovariance(*times) *
                getattr(constant, name))
      return out

    def ndk():
      if linear.ntk is None:
        return None
      ndim = linear.nngp.ndim
      times = to_axis(tau1, 0, ndim), to_axis(tau2, 1, ndim)
      clocks = to_axis(clock1, 0, ndim), to_axis(clock2, 1, ndim)
      A_ndk = linear.ntk - size * linear.nngp
      out = W_multiplier**2 * (weight.autocovariance(*clocks) * A_ndk +
                               response(weight, *times) * linear.nngp)
      if constant is not None:
        out += b_multiplier**2 * response(bias, *times) * constant.nngp
      return out

    axis_ = 0 if k.diagonal_batch else 1
    return linear.replace(cov1=covariance('cov1', clock1, clock1, axis_),
                          cov2=covariance('cov2', clock2, clock2, axis_),
                          nngp=covariance('nngp', clock1, clock2, 1),
                          ntk=ndk())

  return init_fn, apply_fn, kernel_fn
