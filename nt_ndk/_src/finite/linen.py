# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Layers of `flax.linen` with a weight process."""

from typing import Any, Callable, Optional, Sequence, Union

from flax import linen as nn
import jax
import jax.numpy as jnp

from nt_ndk._src.finite import flax_layers

# The collection of variables with standard deviations under the prior.
PRIOR_STD = 'prior_std'


class _Weighted(nn.Module, kw_only=True):
  """A layer with random weights."""
  W_std: float = 1.
  b_std: Optional[float] = None
  W_init_std: float = 1.
  W_prior_std: float = 1.
  b_init_std: float = 1.
  b_prior_std: float = 1.
  trainable: bool = True
  param_dtype: Any = None

  def _affine(self, linear: Callable[[jax.Array], jax.Array],
              shape: tuple[int, ...]) -> jax.Array:
    values: dict[str, Any] = dict(bias=None)
    for name, parameter in flax_layers.parameters(shape, self).items():
      values[name] = self.param(name, parameter.draw)
      self.variable(PRIOR_STD, name, jnp.asarray, parameter.prior_std,
                    parameter.canonical_dtype)
    return flax_layers.affine(linear, **values, layer=self)


class Dense(_Weighted):
  r"""A fully connected layer, on the last axis of its inputs.

  .. math::
    z = \frac{W_{std}}{\sqrt{N}} W x + b_{std}\, b

  `init` draws :math:`W` and :math:`b` with their standard deviations at
  initialisation. Those under the prior are in the collection `"prior_std"` of
  the variables, a tree like the parameters, and do not change.

  Attributes:
    features: number of outputs.
    W_std: multiplier of the weights.
    b_std: multiplier of the biases, or `None` for no biases.
    W_init_std: positive number, standard deviation of the weights at
      initialisation.
    W_prior_std: positive number, standard deviation of the weights under the
      prior.
    b_init_std: positive number, the same of biases.
    b_prior_std: positive number, the same of biases.
    trainable: whether the layer learns. `False` freezes it as it is drawn: its
      parameters have no gradient, and `"prior_std"` 0.
    param_dtype: of parameters; `None` is the widest that JAX has enabled.

  Raises:
    ValueError: if a standard deviation is not a positive finite number.
  """
  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return self._affine(lambda kernel: x @ kernel,
                        (x.shape[-1], self.features))


class Conv(_Weighted):
  """A convolution, with the channels on the last axis of its inputs.

  The weights of all inputs of an output are divided by the root of their
  number. See :class:`Dense`.

  Attributes:
    features: number of channels of outputs.
    kernel_size: shape of the filter.
    strides: see `flax.linen.Conv`.
    padding: see `flax.linen.Conv`.
  """
  features: int
  kernel_size: Sequence[int]
  strides: Union[None, int, Sequence[int]] = 1
  padding: Any = 'SAME'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return self._affine(
        lambda kernel: flax_layers.convolve(x, kernel, self),
        (*self.kernel_size, x.shape[-1], self.features))
