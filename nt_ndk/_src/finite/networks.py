# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Finite networks, of `stax` or Flax: how to draw and to apply them."""

import functools
from typing import Any, cast

from flax import linen as nn
from flax import nnx
import jax
from jax import flatten_util
from jax import random
import jax.numpy as jnp

from nt_ndk._src.layers import random_weights
from nt_ndk._src.layers.weight_process import WeightProcess


def bare(f: Any) -> Any:
  """A function without what `jax.jit` and `functools.partial` wrap it in."""
  while isinstance(f, (jax.stages.Wrapped, functools.partial)):
    f = (f.func if isinstance(f, functools.partial) else
         cast(Any, f).__wrapped__)
  return f


def canonicalize(init_fn, apply_fn):
  """Functions `init(key, x)`, with parameters apart from the rest of a state.

  Args:
    init_fn: of `stax`; the `init` of a `flax.linen` module; or a function of
      `flax.nnx.Rngs` that makes a `flax.nnx` module.
    apply_fn: of `stax`; the `apply` of the same module; or `None`.

  Returns:
    `init(key, x)`, which returns parameters and the rest, and
    `apply(parameters, rest, x, **kwargs)`.
  """
  if isinstance(getattr(bare(init_fn), '__self__', None), nn.Module):
    def init(key, x):
      variables = dict(init_fn(key, x))
      return variables.pop('params'), variables

    def apply(params, rest, x, **kwargs):
      rng = kwargs.pop('rng', None)
      rngs = None if rng is None else dict(dropout=rng)
      return apply_fn({'params': params, **rest}, x, rngs=rngs, **kwargs)
  elif apply_fn is None:
    def init(key, x):
      del x
      parts: tuple[Any, ...] = nnx.split(init_fn(nnx.Rngs(key)), nnx.Param, ...)
      graph, params, rest = parts
      return params, (graph, rest)

    def apply(params, rest, x, **kwargs):
      kwargs.pop('rng', None)  # A module of `nnx` has its own.
      graph, rest = rest
      return nnx.merge(graph, params, rest)(x, **kwargs)
  else:
    def init(key, x):
      return init_fn(key, jax.tree_util.tree_map(jnp.shape, x))[1], None

    def apply(params, rest, x, **kwargs):
      del rest
      return apply_fn(params, x, **kwargs)

  return init, apply


def _known_prior(init_fn, params, rest):
  """What layers of `nt_ndk` say, or `None`."""
  if isinstance(params, nnx.State):
    variables = jax.tree_util.tree_leaves(
        params, is_leaf=lambda v: hasattr(v, 'get_metadata'))
    stds = [v.get_metadata().get('prior_std') for v in variables]
    return None if None in stds else jax.tree_util.tree_unflatten(
        jax.tree_util.tree_structure(params), stds)
  if isinstance(rest, dict) and 'prior_std' in rest:
    return jax.tree_util.tree_map(float, rest['prior_std'])
  return getattr(bare(init_fn), 'prior_std', None)


def prior(init_fn, prior_std, params, rest=None):
  """Prior standard deviation of every array of parameters, a tree like them.

  That of parameters that are frozen is 0.
  """
  if prior_std is None:
    prior_std = _known_prior(init_fn, params, rest)
    if prior_std is None:
      raise ValueError(
          '`prior_std` is needed: a number, or a tree of numbers like the '
          'parameters of the network. Only networks of `nt_ndk.stax`, '
          '`nt_ndk.linen` and `nt_ndk.nnx` know their own.')
  if jax.tree_util.all_leaves([prior_std]):
    random_weights.check_stds(prior_std=prior_std)
    prior_std = jax.tree_util.tree_map(lambda _: prior_std, params)
  structures: list[Any] = [jax.tree_util.tree_structure(t)
                           for t in (params, prior_std)]
  if structures[0] != structures[1]:
    raise ValueError(
        '`prior_std` must be a number or a tree with a number for each array '
        f'of parameters, {structures[0]}, got {structures[1]}. Layers of '
        'Neural Tangents or Flax with weights do not know theirs: use those of '
        '`nt_ndk`, or pass `prior_std`.')
  prior_std = random_weights.prior_of_arrays(prior_std, params)
  for std in jax.tree_util.tree_leaves(prior_std):
    if std != 0:
      random_weights.check_stds(prior_std=std)
  return prior_std


def normal(key, params):
  """Standard normal variables, a tree like parameters."""
  flat, unravel = flatten_util.ravel_pytree(params)
  return unravel(random.normal(key, flat.shape, flat.dtype))


def diffuse(params, prior_std, key, tau):
  """Parameters after a diffusion time `tau` of the free weight process."""
  def move(p, s, noise):
    process = WeightProcess(0., s)
    return (process.memory(tau, 0.) * p +
            jnp.sqrt(process.variance(tau)) * noise)

  return jax.tree_util.tree_map(move, params, prior_std, normal(key, params))
