# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs of diffusion times, one value or one for each sample."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np


class DiffusionTime(NamedTuple):
  """A pair of diffusion times that has been checked."""
  tau1: jax.Array
  tau2: jax.Array


def _canonicalize_time(tau: Any) -> jax.Array:
  """Returns `tau` as a floating-point array, or raises if it is not a time."""
  dtype = jax.dtypes.canonicalize_dtype(jnp.float64)
  if isinstance(tau, jax.core.Tracer):
    # Values are not known yet: a time that is none becomes NaN, and so does
    # all that is computed from it.
    tau = tau.astype(dtype)
    tau = jnp.where((tau >= 0) & jnp.isfinite(tau), tau, jnp.nan)
  else:
    try:
      tau = np.asarray(tau, dtype)
    except (TypeError, ValueError) as e:
      raise TypeError('A diffusion time must be a number or an array of '
                      f'numbers, got {tau!r}.') from e
    if not np.all(np.isfinite(tau)) or np.any(tau < 0):
      raise ValueError('Diffusion times must be finite and not negative, got '
                       f'{tau}. The late-time limit is reached at a few times '
                       'the largest `prior_std**2`; pass a large finite time.')
    tau = jnp.asarray(tau)
  if tau.ndim > 1:
    raise ValueError('A diffusion time must be a scalar or have one value for '
                     f'each sample, got an array of shape {tau.shape}. Use '
                     '`jax.vmap` to evaluate kernels at many times.')
  return tau


def canonicalize_times(diffusion_time: Any) -> DiffusionTime:
  if isinstance(diffusion_time, DiffusionTime):
    return diffusion_time
  if not isinstance(diffusion_time, (tuple, list)) or len(diffusion_time) != 2:
    raise ValueError('`diffusion_time` must be a pair `(tau1, tau2)`: the time '
                     'of `x1` and the time of `x2`, each a scalar or an array '
                     f'with one value for each sample, got {diffusion_time!r}.')
  return DiffusionTime(*map(_canonicalize_time, diffusion_time))


def to_axis(tau: jax.Array, axis: int, ndim: int) -> jax.Array:
  """Aligns per-sample times with one batch axis of an `ndim` covariance."""
  if tau.ndim == 0:
    return tau
  return jnp.expand_dims(tau, [i for i in range(ndim) if i != axis])


def check_samples(k: nt.Kernel, tau1: jax.Array, tau2: jax.Array) -> None:
  """Raises unless there is one time, or one for each sample."""
  for name, tau, cov in (('tau1', tau1, k.cov1), ('tau2', tau2, k.cov2)):
    if tau.ndim and cov is not None and len(tau) != len(cov):
      raise ValueError(f'`{name}` has {len(tau)} values for {len(cov)} '
                       'samples; give one value, or one for each sample.')
