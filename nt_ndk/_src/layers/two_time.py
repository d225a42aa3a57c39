# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Neural Tangents layers at two times.

A network's kernels at two diffusion times differ from its kernels at
initialisation only where there are random weights: there the covariance of the
weights at the two times multiplies the covariance of the inputs, and the
response of the weights multiplies the gradient. Every other layer of Neural
Tangents (NT) works unchanged on a `Kernel` whose `nngp` is the covariance
between time `tau1` (of `x1`) and time `tau2` (of `x2`), whose `cov1` and `cov2`
are the covariances at equal times, and whose `ntk` is the Neural Dynamical
Kernel (NDK).
"""

import collections
import functools
from typing import Any, Callable, Hashable, Optional, Sequence

import jax
import jax.numpy as jnp
import neural_tangents as nt
from neural_tangents import stax as nt_stax
import numpy as np

from nt_ndk._src.base.arguments import to_arrays
from nt_ndk._src.base.typing import InitFn
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import Layer
from nt_ndk._src.base.typing import P
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.layers import structure as structure_lib
from nt_ndk._src.layers.structure import Structure
from nt_ndk._src.layers.times import canonicalize_times
from nt_ndk._src.layers.times import DiffusionTime

# What NT's own layers and input conversion understand.
_KEYWORDS = frozenset((
    'batch_axis', 'channel_axis', 'diagonal_batch', 'diagonal_spatial', 'eps',
    'mask_constant', 'pattern', 'rng', 'use_dropout'))


def _is_kernel(x: Any) -> bool:
  return isinstance(x, nt.Kernel)


def is_two_time(kernel_fn: KernelFn) -> bool:
  """Whether `kernel_fn` (or what it wraps) understands `diffusion_time`."""
  return hasattr(kernel_fn, 'two_time_kernel_fn')


def is_pure(kernel_fn: KernelFn) -> bool:
  """Whether `kernel_fn` is a network's own and not, say, `nt.batch`'s.

  The first can be compiled; the second may be there to split the work.
  """
  return getattr(kernel_fn, 'two_time_kernel_fn', None) is kernel_fn


def frozen(kernel_fn: KernelFn) -> Optional[list[bool]]:
  """Which arrays of parameters of a network are; `None` if it is unknown."""
  if not hasattr(kernel_fn, 'prior_std'):
    return None
  return [not isinstance(std, jax.core.Tracer) and std == 0
          for std in jax.tree_util.tree_leaves(kernel_fn.prior_std)]


def _refuse_static_weights(init_fn: InitFn, name: str,
                           x1_or_kernel: PyTree) -> None:
  """Raises if a layer has weights, whose time it would ignore."""
  shapes = jax.tree_util.tree_map(
      lambda x: x.shape1 if _is_kernel(x) else x.shape, x1_or_kernel,
      is_leaf=_is_kernel)
  key = jax.eval_shape(jax.random.PRNGKey, 0)
  try:
    params = jax.eval_shape(lambda key: init_fn(key, shapes)[1], key)
  except NotImplementedError:  # No finite-width counterpart.
    return
  if jax.tree_util.tree_leaves(params):
    raise ValueError(
        f'`{name}` has random weights but no kernel at two times: its kernel '
        'would not move with `diffusion_time`. Use `Dense`, `Conv`, `ConvLocal`'
        ' or `ConvTranspose` of `nt_ndk.stax` in its place.')


def _rename(kernel: Any, initial: Any, get: tuple[str, ...]) -> tuple:
  """Picks `get` from `kernel`, where the NDK is called `ntk`, and the NTK."""
  values = [initial.ntk if g == 'ntk' else
            kernel.ntk if g == 'ndk' else getattr(kernel, g) for g in get]
  return collections.namedtuple('AnalyticKernel', get)(*values)


def _in_order(kernel_fn: KernelFn) -> Callable[..., Any]:
  """Makes spatial axes of kernels those of the inputs.

  After an odd number of convolutions NT has them in reversed order.
  """
  about = 'is_reversed', 'diagonal_batch', 'diagonal_spatial'

  def in_order(values, name):
    kernel = getattr(values, name)
    if (name not in ('nngp', 'ntk', 'cov1', 'cov2') or kernel is None or
        not values.is_reversed):
      return kernel
    batch = 1 if name in ('cov1', 'cov2') and values.diagonal_batch else 2
    spatial = np.arange(batch, kernel.ndim).reshape(
        (-1, 1 if values.diagonal_spatial else 2))
    return jnp.transpose(kernel, (*range(batch), *spatial[::-1].ravel()))

  def new_kernel_fn(x1: PyTree, x2: PyTree, get: tuple[str, ...],
                    **kwargs: Any) -> Any:
    out = kernel_fn(x1, x2, (*get, *(a for a in about if a not in get)),
                    **kwargs)
    return jax.tree_util.tree_map(
        lambda values: collections.namedtuple('AnalyticKernel', get)(
            *(in_order(values, name) for name in get)), out,
        is_leaf=lambda k: hasattr(k, '_fields'))

  return new_kernel_fn


def _evaluate(kernel_fn, x1, x2, get, **kwargs):
  """`kernel_fn(x1, x2, get, **kwargs)` of NT, for a `get` with "ndk" or "ntk".

  The NTK is that at initialisation whatever the time, so that it may take an
  evaluation of its own.
  """
  is_leaf = lambda k: hasattr(k, '_fields')
  names = (get,) if isinstance(get, str) else get
  names = tuple(g.lower() for g in names)
  if len(set(names)) < len(names):
    raise ValueError(f'All entries in `get` must be unique, got {get}.')

  moving = [g for g in names if g != 'ntk' or 'diffusion_time' not in kwargs]
  kernel = initial = None
  if moving:
    stock_get = tuple({'ntk' if g == 'ndk' else g: None for g in moving})
    kernel = initial = kernel_fn(x1, x2, stock_get, **kwargs)
  if len(moving) < len(names):
    kwargs.pop('diffusion_time')
    initial = kernel_fn(x1, x2, ('ntk',), **kwargs)
    kernel = initial if kernel is None else kernel

  out = jax.tree_util.tree_map(lambda k, i: _rename(k, i, names), kernel,
                               initial, is_leaf=is_leaf)
  if isinstance(get, str):
    out = jax.tree_util.tree_map(lambda k: k[0], out, is_leaf=is_leaf)
  return out


def _public(triple: Layer, *, weights_move: bool,
            keywords: Optional[frozenset[str]],
            readout: Optional[str] = None,
            structure: Optional[Structure] = None) -> Layer:
  """Adds checked diffusion times and `get="ndk"` to a layer of NT.

  Args:
    triple: NT's public layer.
    weights_move: whether random weights are taken care of, in this layer or in
      those that it is made of.
    keywords: keyword arguments that `kernel_fn` accepts; `None` for any.
    readout: `None` if the layer has no random weights, "known" if it has a last
      layer of them, "unknown" if there are several that could be the last.
    structure: what its kernel depends on; `None` is equal to no other, and all
      that it is made of has numbers of its own.

  Returns:
    `(init_fn, apply_fn, kernel_fn)`.
  """
  init_fn, apply_fn, stock_kernel_fn = triple

  @functools.wraps(stock_kernel_fn)
  def kernel_fn(x1_or_kernel, x2=None, get=None, *, diffusion_time=None,
                readout_freeze=None, numbers=None, **kwargs):
    # A kernel is an average over all that is random.
    kwargs.pop('rng', None)
    if numbers is not None and structure is not None:
      kwargs['numbers'] = numbers
    if not _holds_kernels(x1_or_kernel):
      x1_or_kernel, x2 = (to_arrays(name, x) for name, x in (
          ('x1', x1_or_kernel), ('x2', x2)))
    if readout_freeze is not None and readout is not None:
      if readout == 'unknown':
        raise ValueError(
            '`readout_freeze` needs a network with one last layer of weights, '
            'the readout, but this one ends in several branches with weights, '
            'or in attention. End the network in a layer such as `Dense`.')
      kwargs['readout_freeze'] = readout_freeze
    unknown = set(kwargs) - {'readout_freeze', 'numbers'} - (
        set(kwargs) if keywords is None else keywords)
    if unknown:
      raise TypeError(f'`kernel_fn` got unknown keyword arguments '
                      f'{sorted(unknown)}; it takes `diffusion_time` and '
                      f'{sorted(keywords or ())}.')
    if diffusion_time is not None:
      if not weights_move:
        _refuse_static_weights(init_fn, stock_kernel_fn.__name__, x1_or_kernel)
      kwargs['diffusion_time'] = canonicalize_times(diffusion_time)
      # The same inputs at two times are two different random variables.
      if x2 is None and not _holds_kernels(x1_or_kernel):
        x2 = x1_or_kernel
      x1_or_kernel = _with_second_covariance(x1_or_kernel)
      if _holds_kernels(x1_or_kernel) and get is not None and 'ntk' in get:
        raise ValueError(
            '`get="ntk"` is the NTK at initialisation, which a `Kernel` at two '
            'times does not hold. Ask for "ndk", or pass inputs.')

    if get is None or ('ndk' not in get and diffusion_time is None):
      return stock_kernel_fn(x1_or_kernel, x2, get, **kwargs)
    return _evaluate(stock_kernel_fn if _holds_kernels(x1_or_kernel) else
                     _in_order(stock_kernel_fn), x1_or_kernel, x2, get,
                     **kwargs)

  vars(kernel_fn).update(two_time_kernel_fn=kernel_fn, keywords=keywords,
                         readout=readout,
                         prior_std=getattr(init_fn, 'prior_std', ()),
                         structure=structure or Structure(object()))
  return init_fn, apply_fn, kernel_fn


def _holds_kernels(x: PyTree) -> bool:
  return any(map(_is_kernel, jax.tree_util.tree_leaves(x, is_leaf=_is_kernel)))


def _with_second_covariance(x):
  """Makes explicit that the second inputs of a `Kernel` are the first ones."""
  def explicit(k):
    if _is_kernel(k) and k.cov2 is None:
      k = k.replace(cov2=k.cov1, mask2=k.mask1)
    return k

  return jax.tree_util.tree_map(explicit, x, is_leaf=_is_kernel)


def layer(layer_fn):
  """Makes a layer, see :func:`neural_tangents.stax.layer`.

  The `kernel_fn` of the layer then takes `diffusion_time=(tau1, tau2)` and
  `get="ndk"`. A layer without random weights is right at two times as it is;
  one with random weights raises there.

  Args:
    layer_fn: function returning `(init_fn, apply_fn, kernel_fn)`, where
      `kernel_fn` maps a `Kernel` to a `Kernel`.

  Returns:
    A function with the arguments of `layer_fn` that returns a layer.
  """
  return stock(nt_stax.layer(layer_fn), keywords=None)


def stock(layer_fn: Callable[P, Layer],
          keywords: Optional[frozenset[str]] = _KEYWORDS) -> Callable[P, Layer]:
  """Takes over a public layer of NT, which must have no random weights."""

  @functools.wraps(layer_fn)
  def new_layer_fn(*args: P.args, **kwargs: P.kwargs) -> Layer:
    return _public(layer_fn(*args, **kwargs), weights_move=False,
                   keywords=keywords,
                   # Layers of users may depend on what is not an argument.
                   structure=None if keywords is None else Structure(
                       structure_lib.of_call(layer_fn, args, kwargs)))

  return new_layer_fn


def in_order(layer_fn):
  """Takes over a layer of NT that takes spatial axes for those of the inputs.

  After an odd number of convolutions a `Kernel` has them in reversed order,
  which NT's layer overlooks.
  """

  @functools.wraps(layer_fn)
  def new_layer_fn(*args, **kwargs):
    init_fn, apply_fn, stock_kernel_fn = layer_fn(*args, **kwargs)

    @functools.wraps(stock_kernel_fn)
    def kernel_fn(k, *args, **kwargs):
      if _is_kernel(k) and k.is_reversed:
        k = k.reverse()
      return stock_kernel_fn(k, *args, **kwargs)

    return _public((init_fn, apply_fn, kernel_fn), weights_move=False,
                   keywords=_KEYWORDS)

  return new_layer_fn


def dropout(layer_fn):
  """Takes over NT's `Dropout`, whose masks belong to one time."""

  @functools.wraps(layer_fn)
  def new_layer_fn(rate: float, mode: str = 'train') -> Layer:
    init_fn, apply_fn, stock_kernel_fn = layer_fn(rate, mode)

    @functools.wraps(stock_kernel_fn)
    def kernel_fn(*args, diffusion_time=None, **kwargs):
      if mode == 'train' and not _is_one_time(diffusion_time):
        raise ValueError(
            '`Dropout` in `"train"` mode has no kernel between two different '
            'diffusion times, since its masks are drawn anew; use '
            '`mode="test"`, or leave the layer out.')
      return stock_kernel_fn(*args, **kwargs)

    return _public((init_fn, apply_fn, kernel_fn), weights_move=False,
                   keywords=_KEYWORDS)

  return new_layer_fn


def _is_one_time(diffusion_time: Optional[DiffusionTime]) -> bool:
  if diffusion_time is None:
    return True
  if any(isinstance(tau, jax.core.Tracer) for tau in diffusion_time):
    return False
  return bool(np.all(diffusion_time.tau1 == diffusion_time.tau2))


def weighted(layer_fn: Callable[P, Layer],
             readout: str = 'known') -> Callable[P, Layer]:
  """Makes a layer of a function that returns `random_weights(...)`.

  Or another one whose weights move, without a `structure` of its `init_fn`.
  """

  @functools.wraps(layer_fn)
  def new_layer_fn(*args: P.args, **kwargs: P.kwargs) -> Layer:
    triple = nt_stax.layer(layer_fn)(*args, **kwargs)
    structure = getattr(triple[0], 'structure', None) or Structure(
        structure_lib.of_call(layer_fn, args, kwargs))
    return _public(triple, weights_move=True, keywords=_KEYWORDS,
                   readout=readout, structure=structure)

  return new_layer_fn


def combined(combine: Callable[..., Layer], layers: Sequence[Any],
             gather: Callable[[Any], Any], kind: Hashable,
             in_series: bool = False) -> Layer:
  """Combines layers, each of them sound at two times or refused there.

  Args:
    combine: combinator of NT, called with the layers.
    layers: `(init_fn, apply_fn, kernel_fn)` triples, also stock ones of NT.
    gather: arranges what belongs to each layer as `init_fn` arranges the
      parameters.
    kind: what tells one combinator from another.
    in_series: whether the last layer with weights comes after all others.

  Returns:
    `(init_fn, apply_fn, kernel_fn)`.
  """
  layers = [l if is_two_time(l[2]) else
            _public(l, weights_move=False, keywords=None) for l in layers]
  keywords = [l[2].keywords for l in layers]
  structure = structure_lib.gather(kind, [
      l[2].structure if is_pure(l[2]) else Structure(l[2]) for l in layers])
  layers = [l if is_pure(l[2]) else (*l[:2], _with_own_numbers(l[2]))
            for l in layers]
  weighted_layers = [i for i, l in enumerate(layers) if l[2].readout]
  if not weighted_layers:
    readout = None
  elif in_series:
    *others, last = weighted_layers
    readout = layers[last][2].readout
    for i in others:
      layers[i] = (*layers[i][:2], _never_frozen(layers[i][2]))
  else:
    readout = 'unknown'
  triple = combine(*layers)
  vars(triple[0]).update(prior_std=gather(
      [getattr(l[0], 'prior_std', ()) for l in layers]))
  init_fn, apply_fn, kernel_fn = _public(
      triple, weights_move=True,
      keywords=None if None in keywords else _KEYWORDS, readout=readout,
      structure=structure)
  if readout == 'known':
    vars(init_fn).update(readout=gather(
        [l[0].readout if i == last else jax.tree_util.tree_map(
            lambda _: False, getattr(l[0], 'prior_std', ()))
         for i, l in enumerate(layers)]))
  return init_fn, apply_fn, kernel_fn


def _with_own_numbers(kernel_fn):
  """A layer that someone has wrapped: what is inside is not known."""

  @functools.wraps(kernel_fn)
  def own_kernel_fn(*args, numbers=None, **kwargs):
    del numbers
    return kernel_fn(*args, **kwargs)

  return own_kernel_fn


def _never_frozen(kernel_fn):
  """A layer that is not the readout."""

  @functools.wraps(kernel_fn)
  def hidden_kernel_fn(*args, readout_freeze=None, **kwargs):
    del readout_freeze
    return kernel_fn(*args, **kwargs)

  return hidden_kernel_fn
