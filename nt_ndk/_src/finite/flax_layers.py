# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Layers of Flax with a weight process: what `linen` and `nnx` share.

A layer has Neural Tangents' parameterisation: a `kernel` and a `bias` of a
standard deviation of order one, before multipliers.
"""

from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import random
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.layers import random_weights


class Parameter(NamedTuple):
  """One array of parameters.

  Attributes:
    shape: of it.
    init_std: its standard deviation at initialisation.
    prior_std: that under the prior; 0 if it is frozen.
    dtype: of it, or `None`.
  """
  shape: tuple[int, ...]
  init_std: float
  prior_std: float
  dtype: Any

  def draw(self, key):
    return self.init_std * random.normal(key, self.shape, self.canonical_dtype)

  @property
  def canonical_dtype(self):
    wide = jax.dtypes.canonicalize_dtype(jnp.float64)
    return wide if self.dtype is None else self.dtype


def parameters(shape: tuple[int, ...], layer: Any) -> dict[str, Parameter]:
  """Those of a layer with weights of a shape, the last axis its outputs."""
  random_weights.check_stds(
      W_init_std=layer.W_init_std, W_prior_std=layer.W_prior_std,
      b_init_std=layer.b_init_std, b_prior_std=layer.b_prior_std)
  prior = lambda std: std if layer.trainable else 0.
  out = dict(kernel=Parameter(shape, layer.W_init_std, prior(layer.W_prior_std),
                              layer.param_dtype))
  if layer.b_std is not None:
    out['bias'] = Parameter(shape[-1:], layer.b_init_std,
                            prior(layer.b_prior_std), layer.param_dtype)
  return out


def affine(linear, kernel, bias, layer):
  """`linear(kernel)` and biases, with their multipliers."""
  if not layer.trainable:
    kernel, bias = jax.lax.stop_gradient((kernel, bias))
  out = layer.W_std / np.sqrt(np.prod(kernel.shape[:-1])) * linear(kernel)
  return out if bias is None else out + layer.b_std * bias


def convolve(x, kernel, layer):
  """The convolution of Flax, with all that it can do."""
  stock = nn.Conv(layer.features, layer.kernel_size, layer.strides,
                  layer.padding, use_bias=False, parent=None)
  return stock.apply({'params': {'kernel': kernel}}, x)
