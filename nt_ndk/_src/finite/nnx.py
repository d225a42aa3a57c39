# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Layers of `flax.nnx` with a weight process."""

from typing import Any, Callable, Optional, Sequence, Union

from flax import nnx
import jax

from nt_ndk._src.finite import flax_layers


class _Weighted(nnx.Module):
  """A layer with random weights."""

  def __init__(self, shape: tuple[int, ...], features: int, rngs: nnx.Rngs, *,
               W_std: float, b_std: Optional[float], W_init_std: float,
               W_prior_std: float, b_init_std: float, b_prior_std: float,
               trainable: bool, param_dtype: Any) -> None:
    self.features = features
    self.W_std, self.b_std = W_std, b_std
    self.W_init_std, self.W_prior_std = W_init_std, W_prior_std
    self.b_init_std, self.b_prior_std = b_init_std, b_prior_std
    self.trainable, self.param_dtype = trainable, param_dtype
    values = {name: nnx.Param(p.draw(rngs.params()), prior_std=p.prior_std)
              for name, p in flax_layers.parameters(shape, self).items()}
    self.kernel, self.bias = values['kernel'], values.get('bias')

  def _affine(self, linear: Callable[[jax.Array], jax.Array]) -> jax.Array:
    return flax_layers.affine(
        linear, self.kernel[...],
        None if self.bias is None else self.bias[...], self)


class Dense(_Weighted):
  r"""A fully connected layer, on the last axis of its inputs.

  .. math::
    z = \frac{W_{std}}{\sqrt{N}} W x + b_{std}\, b

  Parameters know their standard deviation under the prior, as the metadata
  `prior_std`.
  """

  def __init__(self, in_features: int, features: int, *, rngs: nnx.Rngs,
               W_std: float = 1., b_std: Optional[float] = None,
               W_init_std: float = 1., W_prior_std: float = 1.,
               b_init_std: float = 1., b_prior_std: float = 1.,
               trainable: bool = True, param_dtype: Any = None) -> None:
    """Draws parameters.

    Args:
      in_features: number of inputs.
      features: number of outputs.
      rngs: `flax.nnx.Rngs`.
      W_std: multiplier of the weights.
      b_std: multiplier of the biases, or `None` for no biases.
      W_init_std: positive number, standard deviation of the weights at
        initialisation.
      W_prior_std: positive number, standard deviation of the weights under the
        prior.
      b_init_std: positive number, the same of biases.
      b_prior_std: positive number, the same of biases.
      trainable: whether the layer learns. `False` freezes it as it is drawn:
        its parameters have no gradient, and a `prior_std` of 0.
      param_dtype: of parameters; `None` is the widest that JAX has enabled.

    Raises:
      ValueError: if a standard deviation is not a positive finite number.
    """
    super().__init__(
        (in_features, features), features, rngs, W_std=W_std, b_std=b_std,
        W_init_std=W_init_std, W_prior_std=W_prior_std, b_init_std=b_init_std,
        b_prior_std=b_prior_std, trainable=trainable, param_dtype=param_dtype)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self._affine(lambda kernel: x @ kernel)


class Conv(_Weighted):
  """A convolution, with the channels on the last axis of its inputs.

  The weights of all inputs of an output are divided by the root of their
  number. See :class:`Dense`.
  """

  def __init__(self, in_features: int, features: int,
               kernel_size: Sequence[int],
               strides: Union[None, int, Sequence[int]] = 1,
               padding: Any = 'SAME', *, rngs: nnx.Rngs, W_std: float = 1.,
               b_std: Optional[float] = None, W_init_std: float = 1.,
               W_prior_std: float = 1., b_init_std: float = 1.,
               b_prior_std: float = 1., trainable: bool = True,
               param_dtype: Any = None) -> None:
    """Draws parameters.

    Args:
      in_features: number of channels of inputs.
      features: number of channels of outputs.
      kernel_size: shape of the filter.
      strides: see `flax.nnx.Conv`.
      padding: see `flax.nnx.Conv`.
      rngs: see :class:`Dense`.
      W_std: see :class:`Dense`.
      b_std: see :class:`Dense`.
      W_init_std: see :class:`Dense`.
      W_prior_std: see :class:`Dense`.
      b_init_std: see :class:`Dense`.
      b_prior_std: see :class:`Dense`.
      trainable: see :class:`Dense`.
      param_dtype: see :class:`Dense`.
    """
    self.kernel_size = tuple(kernel_size)
    self.strides, self.padding = strides, padding
    super().__init__(
        (*self.kernel_size, in_features, features), features, rngs, W_std=W_std,
        b_std=b_std, W_init_std=W_init_std, W_prior_std=W_prior_std,
        b_init_std=b_init_std, b_prior_std=b_prior_std, trainable=trainable,
        param_dtype=param_dtype)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self._affine(lambda kernel: flax_layers.convolve(x, kernel, self))
