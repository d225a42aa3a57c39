# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Two-time kernels of one finite network, from its parameters."""

import collections
import functools
from typing import Any, Union

import jax
import jax.numpy as jnp
import neural_tangents as nt

from nt_ndk._src.base.arguments import to_arrays
from nt_ndk._src.base.typing import ApplyFn
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import DiffusionTimes
from nt_ndk._src.base.typing import Get
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.finite import networks
from nt_ndk._src.kernels import functions
from nt_ndk._src.layers import times
from nt_ndk._src.layers.weight_process import WeightProcess

_GET = ('nngp', 'ndk')


def canonicalize_get(get: Get) -> tuple[str, ...]:
  names = _GET if get is None else (get,) if isinstance(get, str) else get
  names = tuple(name.lower() for name in names)
  if not names or set(names) - set(_GET) or len(set(names)) < len(names):
    raise ValueError(f'`get` must be one of {_GET}, or a tuple of these, got '
                     f'{get!r}.')
  return names


def canonicalize_times(diffusion_time: DiffusionTimes) -> times.DiffusionTime:
  """One time for all samples."""
  tau1, tau2 = times.canonicalize_times(diffusion_time)
  if tau1.ndim or tau2.ndim:
    raise ValueError('Kernels of finite networks have one time for all '
                     f'samples, got times of shapes {tau1.shape} and '
                     f'{tau2.shape}.')
  return times.DiffusionTime(tau1, tau2)


def response_weighted(apply, trace_axes, vmap_axes, implementation):
  """Kernels between a network and itself at another time.

  Args:
    apply: `apply(params, rest, x, **kwargs)`.
    trace_axes: see `neural_tangents.empirical_ntk_fn`.
    vmap_axes: the same.
    implementation: the same.

  Returns:
    `kernel_fn(x1, x2, get, params1, params2, rest, prior, times, **kwargs)`,
    which returns a tuple like `get`.
  """
  def displaced(shift, x, state, **kwargs):
    """The network where parameters are moved by `shift` times a weight."""
    params, root, rest = state
    params = jax.tree_util.tree_map(lambda p, r, d: p + r * d, params, root,
                                    shift)
    return apply(params, rest, x, **kwargs)

  # Its tangent kernel has the product of both weights, the response. A tuple of
  # two belongs to the first and to the second inputs.
  empirical = nt.empirical_kernel_fn(
      displaced, trace_axes=trace_axes, vmap_axes=vmap_axes,
      implementation=implementation)

  def kernel_fn(x1, x2, get, params1, params2, rest, prior, times, **kwargs):
    root = jax.tree_util.tree_map(
        lambda s: jnp.sqrt(WeightProcess(0., s).response(*times)), prior)
    still = jax.tree_util.tree_map(jnp.zeros_like, params1)
    stock_get = tuple('ntk' if g == 'ndk' else g for g in get)
    return tuple(empirical(
        x1, x2, stock_get, still,
        state=((params1, root, rest), (params2, root, rest)), **kwargs))

  return kernel_fn


def two_time_kernel_fn(
    apply_fn: ApplyFn,
    prior_std: Any,
    trace_axes: Axes = (-1,),
    vmap_axes: Any = None,
    implementation: Union[int, nt.NtkImplementation] = (
        nt.NtkImplementation.NTK_VECTOR_PRODUCTS),
    batch_size: int = 0,
) -> KernelFn:
  r"""Returns the kernels of one finite network between two times.

  From the parameters of a network at two diffusion times, while it learns or
  not,

  .. math::
    \mathrm{NNGP}(\tau, \tau'; x, x') &= f(x; \theta(\tau))\,
    f(x'; \theta(\tau')), \\
    \mathrm{NDK}(\tau, \tau'; x, x') &= \sum_i e^{-|\tau - \tau'| / s_i^2}\,
    \partial_i f(x; \theta(\tau))\, \partial_i f(x'; \theta(\tau'))

  (Avidan, Li and Sompolinsky, arXiv:2309.04522). As the width grows the second
  tends to the closed form of :mod:`nt_ndk.stax`, for a network that learns as
  for one that does not. The first does so on average over networks without
  data. At equal parameters and times the NDK is the NTK of
  :func:`neural_tangents.empirical_ntk_fn`.

  Args:
    apply_fn:
      `apply_fn(params, x, **kwargs)`, of `stax` or Flax.

    prior_std:
      :math:`s`, standard deviation under the prior: a number, or a tree with a
      number for each array of parameters, 0 if it is frozen. See
      :func:`nt_ndk.stax.prior_std`.

    trace_axes:
      axes of outputs over which kernels are averaged, see
      :func:`neural_tangents.empirical_ntk_fn`.

    vmap_axes:
      batch axes, see :func:`neural_tangents.empirical_ntk_fn`; 0 for most
      networks, which saves time and memory.

    implementation:
      how gradients are contracted, see
      :class:`neural_tangents.NtkImplementation`. The Jacobian is not formed
      unless it is asked for.

    batch_size:
      number of samples in a batch of each of the inputs; 0 is all.

  Returns:
    A function `kernel_fn(x1, x2, get, params1, params2=None,
    diffusion_time=(0., 0.), **apply_fn_kwargs)`. `params1` and the first time
    belong to `x1`, `params2` and the second time to `x2`; `None` means
    `params1` and `x1`. `get` is "nngp", "ndk", or a tuple of these, of which
    `None` is both. Kernels have the shape `(n1, n2)` for one output axis that
    is traced.

  Raises:
    ValueError: if `prior_std` is not positive or not like the parameters, or
      times are not numbers.

  Example:
    >>> from jax import random
    >>> from nt_ndk import empirical, stax
    >>> #
    >>> init_fn, apply_fn, _ = stax.serial(
    >>>     stax.Dense(64, W_prior_std=.8), stax.Relu(), stax.Dense(2))
    >>> kernel_fn = empirical.two_time_kernel_fn(
    >>>     apply_fn, stax.prior_std(init_fn))
    >>> x = random.normal(random.PRNGKey(1), (3, 5))
    >>> _, before = init_fn(random.PRNGKey(0), x.shape)
    >>> _, after = init_fn(random.PRNGKey(2), x.shape)
    >>> ndk = kernel_fn(x, None, 'ndk', before, after, diffusion_time=(0., .3))
  """
  kernel = response_weighted(lambda p, _, x, **kwargs: apply_fn(p, x, **kwargs),
                             trace_axes, vmap_axes, implementation)

  @functools.partial(jax.jit, static_argnames='get')
  def compiled(x1, x2, get, params1, params2, prior, times, kwargs):
    return kernel(x1, x2, get, params1, params2, None, prior, times, **kwargs)

  def kernel_fn(x1: PyTree, x2: PyTree, get: Get,
                params1: PyTree, params2: PyTree = None,
                diffusion_time: DiffusionTimes = (0., 0.),
                **apply_fn_kwargs: Any) -> Any:
    names = canonicalize_get(get)
    times = canonicalize_times(diffusion_time)
    prior = networks.prior(None, prior_std, params1)
    x1 = to_arrays('x1', x1)
    x2 = x1 if x2 is None else to_arrays('x2', x2)
    params2 = params1 if params2 is None else params2

    def on(x1, x2, get, **kwargs):
      return compiled(x1, x2, get, params1, params2, prior, times, kwargs)

    if batch_size:
      on = functions.batched(on, batch_size)
    out = on(x1, x2, names, **apply_fn_kwargs)
    if isinstance(get, str):
      return out[0]
    return collections.namedtuple('EmpiricalKernel', names)(*out)

  return kernel_fn
