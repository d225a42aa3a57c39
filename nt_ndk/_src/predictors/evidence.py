# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The evidence: how probable targets are under the prior."""

from typing import Any, Optional

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.devices import in_full_precision
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels import functions
from nt_ndk._src.kernels.programs import to_matrix
from nt_ndk._src.layers import two_time
from nt_ndk._src.predictors.documentation import documented

# Rounding errors of the largest variance below which a conditional variance is
# not known.
_SINGULAR = 100


@in_full_precision
@documented
def log_marginal_likelihood(
    kernel_fn: KernelFn,
    x_train: PyTree,
    y_train: ArrayLike,
    temperature: ArrayLike,
    trace_axes: Axes = (-1,),
    **kernel_fn_train_train_kwargs: Any) -> jax.Array:
  r"""Logarithm of the evidence of training data, a function that JAX traces.

  At equilibrium the networks of :func:`markov_proximal_mse_ensemble` are drawn
  from a Bayesian posterior: the prior is a Gaussian process with the kernel
  :math:`C` of late times (NNGP), and targets have noise of variance :math:`T`.
  The evidence is how probable the :math:`n` targets of :math:`k` outputs are
  under this prior,

  .. math::
    \log p(Y | X) = -\frac12 \mathrm{tr}\, Y^T (C + T)^{-1} Y -
    \frac k2 \log\det (C + T) - \frac{n k}2 \log 2 \pi.

  It is large if the prior expects such data, and expects few others. Maximise
  it to choose the temperature, standard deviations and multipliers of layers,
  or the architecture: `jax.grad`, `jax.jit` and `jax.vmap` work in all of these
  numbers, of a network that is built inside of the function that is
  differentiated, and in inputs and targets. Initial standard deviations are
  forgotten at equilibrium, so that the evidence does not depend on them.

  Layers with `trainable=False` keep the weights that they were drawn with.
  Then this is the evidence for the weights that learn, averaged (its logarithm)
  over networks: :math:`C` is the covariance of what they make, and the average
  square of what frozen weights alone make of the training inputs,
  :math:`\frac k2 \mathrm{tr}\, C_0 (C + T)^{-1}`, is subtracted. It is zero
  unless the readout is frozen.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`.

    x_train:
      {x_train}

    y_train:
      {y_train}

    temperature:
      :math:`T > 0`, variance of the noise of targets, as in
      :func:`markov_proximal_mse_ensemble`.

    trace_axes:
      {trace_axes}

    **kernel_fn_train_train_kwargs:
      {kernel_fn_train_train_kwargs}

  Returns:
    A scalar. NaN inside of JAX's transformations where this function by itself
    raises an error.

  Raises:
    ArithmeticError: if :math:`C + T` is singular to rounding.
    TypeError: if an argument is of the wrong kind.
    ValueError: if an argument is out of range, or `kernel_fn` does not depend
      on `diffusion_time`.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from nt_ndk import predict, stax
    >>> #
    >>> x_train = jax.random.normal(jax.random.PRNGKey(0), (20, 10))
    >>> y_train = jnp.sin(x_train[:, :1])
    >>> #
    >>> def evidence(temperature, W_std):
    >>>   _, _, kernel_fn = stax.serial(
    >>>       stax.Dense(512, W_std), stax.Relu(), stax.Dense(1))
    >>>   return predict.log_marginal_likelihood(kernel_fn, x_train, y_train,
    >>>                                          temperature)
    >>> #
    >>> slopes = jax.jit(jax.grad(evidence, (0, 1)))(.1, 1.4)
    >>> temperatures = jnp.geomspace(1e-3, 1., 10)
    >>> # (10,)
    >>> values = jax.vmap(evidence, (0, None))(temperatures, 1.4)

  Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning",
  eq. 2.30; Lee et al., "Deep Neural Networks as Gaussian Processes",
  arXiv:1711.00165.
  """
  kernel_fn, bound = functions.unwrapped(kernel_fn)
  kwargs = {**bound, **kernel_fn_train_train_kwargs}
  arguments.check_keywords(kwargs)
  if not isinstance(temperature, jax.core.Tracer):
    arguments.check_number('temperature', temperature, 0., strict=True)
  x, y = (_to_floats(name, a) for name, a in (('x_train', x_train),
                                              ('y_train', y_train)))
  _check_data(x, y, kwargs)
  last = arguments.canonicalize_trace_axes(trace_axes, y.ndim)
  y = jnp.moveaxis(y, last, range(-len(last), 0))
  y = y.reshape((np.prod(y.shape[:y.ndim - len(last)]), -1))
  # Weights have long forgotten, and second derivatives do not overflow.
  late = float(jnp.finfo(y.dtype).max)**.25

  def covariance(tau1: float, tau2: float) -> jax.Array:
    return to_matrix(kernel_fn(x, x, 'nngp', diffusion_time=(tau1, tau2),
                               **kwargs))

  prior = covariance(late, late)
  if len(prior) != len(y):
    raise ValueError(
        f'`y_train` must have as many entries without `trace_axes` as the '
        f'network has outputs, {len(prior)}, got {len(y)} in shape '
        f'{np.shape(y_train)}.')
  frozen = two_time.frozen(kernel_fn)
  fixed = (covariance(late, late / 2) if frozen is None or any(frozen) else
           None)
  if fixed is not None:
    prior = prior - fixed
  out = _log_density(prior, jnp.asarray(temperature, y.dtype), y, fixed)
  if not isinstance(out, jax.core.Tracer) and jnp.isnan(out):
    raise ArithmeticError(
        'The covariance of the training outputs under the prior plus '
        f'temperature {temperature:.1e} is singular to rounding. Leave out '
        'duplicated inputs, use float64, or a larger temperature.')
  return out


def _to_floats(name: str, x: PyTree) -> PyTree:
  """Arrays of JAX, which may be traced."""
  dtype = jax.dtypes.canonicalize_dtype(jnp.float64)
  return jax.tree_util.tree_map(lambda a: jnp.asarray(a, dtype),
                                arguments.to_arrays(name, x))


def _check_data(x: PyTree, y: jax.Array, kwargs: dict[str, Any]) -> None:
  """Raises unless these are training data, as far as is known."""
  known = lambda a: (np.zeros(a.shape) if isinstance(a, jax.core.Tracer) else
                     np.asarray(a))
  arguments.check_data(jax.tree_util.tree_map(known, x), known(y),
                       kwargs.get('mask_constant'))


def _log_density(kernel: jax.Array, noise: jax.Array, y: jax.Array,
                 fixed: Optional[jax.Array]) -> jax.Array:
  """Of the columns of `y`, and its average over random means.

  Args:
    kernel: `[n, n]`, covariance.
    noise: variance of the noise.
    y: `[n, k]`.
    fixed: `[n, n]`, covariance of means, or `None`.

  Returns:
    A number; NaN if the covariance is singular to rounding.
  """
  n, k = y.shape
  factor = jnp.linalg.cholesky(
      kernel + jnp.where(noise > 0, noise, jnp.nan) * jnp.eye(n))
  whitened = lambda a: jax.scipy.linalg.solve_triangular(factor, a, lower=True)
  pivots = jnp.diagonal(factor)
  out = -.5 * (jnp.sum(whitened(y)**2) + n * k * jnp.log(2 * jnp.pi)) - (
      k * jnp.sum(jnp.log(pivots)))
  if fixed is not None:
    out -= .5 * k * jnp.trace(whitened(whitened(fixed).T))
  known = jnp.min(pivots)**2 > _SINGULAR * jnp.finfo(y.dtype).eps * jnp.max(
      jnp.diagonal(kernel))
  return jnp.where(known, out, jnp.nan)
