# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Two-time kernels by sampling the free weight process."""

import collections
import functools
from typing import Any, Union

import jax
from jax import random
import jax.numpy as jnp
import neural_tangents as nt

from nt_ndk._src.base.arguments import to_arrays
from nt_ndk._src.base.moments import Estimate
from nt_ndk._src.base.typing import ApplyFn
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import DiffusionTimes
from nt_ndk._src.base.typing import Get
from nt_ndk._src.base.typing import InitFn
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.finite import empirical
from nt_ndk._src.finite import networks


def two_time_kernel_fn(
    init_fn: InitFn,
    apply_fn: ApplyFn,
    key: jax.Array,
    n_samples: int,
    prior_std: Any = None,
    trace_axes: Axes = (-1,),
    vmap_axes: Any = None,
    implementation: Union[int, nt.NtkImplementation] = (
        nt.NtkImplementation.NTK_VECTOR_PRODUCTS),
) -> KernelFn:
  r"""Returns a Monte Carlo estimate of kernels at two diffusion times.

  Draws networks and moves their parameters without data, by the free weight
  process

  .. math::
    d\theta_i = -\frac{\theta_i}{s_i^2}\, d\tau + \sqrt 2\, dB_i,

  exactly, from the parameters that `init_fn` draws, to the two diffusion times.
  The kernels are averages over networks,

  .. math::
    \mathrm{NNGP}(\tau, \tau'; x, x') &= \langle f(x; \theta(\tau))\,
    f(x'; \theta(\tau')) \rangle, \\
    \mathrm{NDK}(\tau, \tau'; x, x') &= \Big\langle \sum_i
    e^{-|\tau - \tau'| / s_i^2}\, \partial_i f(x; \theta(\tau))\,
    \partial_i f(x'; \theta(\tau')) \Big\rangle

  (Avidan, Li and Sompolinsky, arXiv:2309.04522). As the width grows they become
  those of :mod:`nt_ndk.stax`, where there is a closed form. At a finite width
  there is a deviation of the order of its inverse, which `standard_error` does
  not include.

  Use it for networks without a closed form, or to check one. With the standard
  parameterisation parameters have a standard deviation, and so a relaxation
  time :math:`s_i^2`, that depends on the width. Networks of
  :mod:`nt_ndk.stax` know it; for others give `prior_std` accordingly.

  Args:
    init_fn:
      function of :mod:`nt_ndk.stax` or the like, `init_fn(key, input_shape)`,
      which returns `(output_shape, params)`; or the `init` of a `flax.linen`
      module. It may draw parameters in any way.

    apply_fn:
      `apply_fn(params, x, **kwargs)`; or the `apply` of the same module.

    key:
      `jax.random` key.

    n_samples:
      number of networks, at least 2.

    prior_std:
      :math:`s`, standard deviation under the prior: a number, or a tree with a
      number for each array of parameters, 0 if it is frozen. `None` reads
      those of a network of :mod:`nt_ndk.stax`. For a Flax module a tree like
      its `"params"`; what else its state holds does not move.

    trace_axes:
      axes of outputs over which kernels are averaged, see
      :func:`neural_tangents.empirical_ntk_fn`.

    vmap_axes:
      batch axes, see :func:`neural_tangents.empirical_ntk_fn`; 0 for most
      networks, which saves time and memory.

    implementation:
      how gradients are contracted, see
      :class:`neural_tangents.NtkImplementation`.

  Returns:
    A function `kernel_fn(x1, x2=None, get=None, diffusion_time=(0., 0.),
    **apply_fn_kwargs)`. `diffusion_time` is a pair of numbers, that of `x1` and
    that of `x2`; new ones do not recompile. `get` is "nngp", "ndk", or a tuple
    of these, of which `None` is both. It returns an `Estimate` for each,
    `mean` and `standard_error` of shape `(n1, n2)` for one output axis that is
    traced. `x2=None` means `x1`, at the second time.

  Raises:
    ValueError: if there are too few networks, or `prior_std` is not known, not
      positive or not like the parameters.

  Example:
    >>> from jax import random
    >>> from nt_ndk import monte_carlo, stax
    >>> #
    >>> init_fn, apply_fn, kernel_fn = stax.serial(
    >>>     stax.Dense(256, W_prior_std=.8), stax.Relu(), stax.Dense(16))
    >>> estimate_fn = monte_carlo.two_time_kernel_fn(
    >>>     init_fn, apply_fn, random.PRNGKey(0), n_samples=50)
    >>> x = random.normal(random.PRNGKey(1), (3, 5))
    >>> ndk = estimate_fn(x, None, 'ndk', diffusion_time=(.5, .1))
    >>> exact = kernel_fn(x, None, 'ndk', diffusion_time=(.5, .1))
    >>> z = (ndk.mean - exact) / ndk.standard_error
  """
  if n_samples < 2:
    raise ValueError(f'`n_samples` must be at least 2, got {n_samples}.')
  init, apply = networks.canonicalize(init_fn, apply_fn)

  kernel = empirical.response_weighted(apply, trace_axes, vmap_axes,
                                       implementation)

  def free_paths(key, x, prior, tau1, tau2):
    """Parameters at two times, and the rest of the state."""
    init_key, *keys = random.split(key, 3)
    params, rest = init(init_key, x)
    early = networks.diffuse(params, prior, keys[0], jnp.minimum(tau1, tau2))
    late = networks.diffuse(early, prior, keys[1], jnp.abs(tau1 - tau2))
    pick = lambda a, b: jax.tree_util.tree_map(
        lambda p, q: jnp.where(tau1 <= tau2, p, q), a, b)
    return pick(early, late), pick(late, early), rest

  @functools.partial(jax.jit, static_argnames='get')
  def estimate(x1, x2, prior, tau1, tau2, get, key, kwargs):
    def one(key):
      path_key, rng = random.split(key)
      params1, params2, rest = free_paths(path_key, x1, prior, tau1, tau2)
      return kernel(x1, x2, get, params1, params2, rest, prior, (tau1, tau2),
                    rng=rng, **kwargs)

    def add(carry, key):
      """Welford's update of mean and sum of squares."""
      count, mean, squares = carry
      count, sample = count + 1, one(key)
      new = jax.tree_util.tree_map(lambda m, s: m + (s - m) / count, mean,
                                   sample)
      squares = jax.tree_util.tree_map(
          lambda q, m, n, s: q + (s - m) * (s - n), squares, mean, new, sample)
      return (count, new, squares), None

    zeros = jax.tree_util.tree_map(
        lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(one, key))
    (_, mean, squares), _ = jax.lax.scan(
        add, (0, zeros, zeros), random.split(key, n_samples))
    return mean, jax.tree_util.tree_map(
        lambda q: jnp.sqrt(q / (n_samples * (n_samples - 1))), squares)

  def kernel_fn(x1: PyTree, x2: PyTree = None, get: Get = None,
                diffusion_time: DiffusionTimes = (0., 0.),
                **apply_fn_kwargs: Any) -> Any:
    names = empirical.canonicalize_get(get)
    tau1, tau2 = empirical.canonicalize_times(diffusion_time)
    x1 = to_arrays('x1', x1)
    x2 = x1 if x2 is None else to_arrays('x2', x2)
    prior = networks.prior(init_fn, prior_std, *jax.jit(init)(key, x1))
    mean, error = estimate(x1, x2, prior, tau1, tau2, names, key,
                           apply_fn_kwargs)
    out = [Estimate(*pair) for pair in zip(mean, error)]
    if isinstance(get, str):
      return out[0]
    return collections.namedtuple('MonteCarloKernel', names)(*out)

  return kernel_fn
