# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Closed-form NNGP, NTK and Neural Dynamical Kernel (NDK) library.

Every public name of :mod:`neural_tangents.stax`, with the same arguments and
the same results (:obj:`Hermite` and :obj:`ImageResize` also where those of
Neural Tangents hold for no network). On top of that:

1) Layers with random weights (:obj:`Dense`, :obj:`Conv`, :obj:`ConvLocal`,
   :obj:`ConvTranspose`) take the standard deviation of their weights at
   initialisation, `W_init_std`, and under the prior, `W_prior_std` (and the
   same for biases; :obj:`GlobalSelfAttention` for each of its weights). Both
   are before the multiplier `W_std`. The prior is what L2 regularisation
   (weight decay) and noise of temperature `T` lead to in the absence of data.

2) `kernel_fn(x1, x2, get, diffusion_time=(tau1, tau2))` returns kernels between
   the network at diffusion time `tau1`, seen at `x1`, and at `tau2`, seen at
   `x2`. The diffusion time is temperature times training time. `get` takes
   `"ndk"`, the NDK; `"nngp"`, the covariance of the network's output without
   data; `"ntk"`, the NTK at initialisation, whatever the time; `"cov1"`,
   `"cov2"`; a tuple of these; or `None` for a `Kernel` whose `ntk` holds the
   NDK. Times are scalars or have one value for each sample. Without
   `diffusion_time` both are 0.

3) :obj:`prior_std` reads the prior off a network.

Source: Avidan, Li and Sompolinsky, "Connecting NTK and NNGP: A Unified
Theoretical Framework for Wide Neural Network Learning Dynamics",
arXiv:2309.04522.

Example:
  >>> from jax import random
  >>> from nt_ndk import stax
  >>> #
  >>> init_fn, apply_fn, kernel_fn = stax.serial(
  >>>     stax.Dense(512, W_init_std=1.4, W_prior_std=.9), stax.Relu(),
  >>>     stax.Dense(1, W_init_std=1.4, W_prior_std=.9))
  >>> #
  >>> x1 = random.normal(random.PRNGKey(0), (20, 10))
  >>> x2 = random.normal(random.PRNGKey(1), (5, 10))
  >>> # (20, 5) NDK between diffusion times 0.5 (of `x1`) and 0.1 (of `x2`).
  >>> ndk = kernel_fn(x1, x2, 'ndk', diffusion_time=(.5, .1))
"""

import functools
import math
from typing import Any, Callable, Optional, Sequence

import jax as _jax
from neural_tangents import stax as _nt
from neural_tangents.stax import AggregateImplementation
from neural_tangents.stax import AttentionMechanism
from neural_tangents.stax import Bool
from neural_tangents.stax import Diagonal
from neural_tangents.stax import MaskedArray
from neural_tangents.stax import Padding
from neural_tangents.stax import PositionalEmbedding
from neural_tangents.stax import requires
from neural_tangents.stax import Slice
from neural_tangents.stax import supports_masking
from neural_tangents.stax import unmask_fn
import numpy as np

from nt_ndk._src.base.typing import InitFn as _InitFn
from nt_ndk._src.base.typing import Layer as _Layer
from nt_ndk._src.base.typing import P as _P
from nt_ndk._src.base.typing import PyTree as _PyTree
from nt_ndk._src.layers import attention as _attention
from nt_ndk._src.layers import random_weights as _random_weights
from nt_ndk._src.layers import two_time as _two_time
from nt_ndk._src.layers.two_time import layer
from nt_ndk._src.layers.weight_process import WeightProcess as _WeightProcess

# What is new here, then what is Neural Tangents': in this order in the docs.
__all__ = [
    'Dense', 'Conv', 'ConvLocal', 'ConvTranspose', 'GlobalSelfAttention',
    'Hermite', 'prior_std', 'layer',
    'serial', 'parallel', 'repeat', 'ABRelu', 'Abs', 'Aggregate',
    'AggregateImplementation', 'AttentionMechanism', 'AvgPool', 'Bool', 'Cos',
    'Diagonal', 'DotGeneral', 'Dropout', 'Elementwise',
    'ElementwiseNumerical', 'Erf', 'Exp', 'ExpNormalized', 'FanInConcat',
    'FanInProd', 'FanInSum', 'FanOut', 'Flatten', 'Gabor', 'Gaussian', 'Gelu',
    'GlobalAvgPool', 'GlobalSumPool', 'Identity', 'ImageResize', 'Index',
    'LayerNorm', 'LeakyRelu', 'MaskedArray', 'Monomial', 'Padding',
    'Polynomial', 'PositionalEmbedding', 'Rbf', 'RectifiedMonomial', 'Relu',
    'requires', 'Sigmoid_like', 'Sign', 'Sin', 'Slice', 'SumPool',
    'supports_masking', 'unmask_fn',
]

# Layers without random weights are Neural Tangents' own.
ABRelu = _two_time.stock(_nt.ABRelu)
Abs = _two_time.stock(_nt.Abs)
Aggregate = _two_time.stock(_nt.Aggregate)
AvgPool = _two_time.stock(_nt.AvgPool)
Cos = _two_time.stock(_nt.Cos)
DotGeneral = _two_time.stock(_nt.DotGeneral)
Elementwise = _two_time.stock(_nt.Elementwise)
ElementwiseNumerical = _two_time.stock(_nt.ElementwiseNumerical)
Erf = _two_time.stock(_nt.Erf)
Exp = _two_time.stock(_nt.Exp)
ExpNormalized = _two_time.stock(_nt.ExpNormalized)
FanInConcat = _two_time.stock(_nt.FanInConcat)
FanInProd = _two_time.stock(_nt.FanInProd)
FanInSum = _two_time.stock(_nt.FanInSum)
FanOut = _two_time.stock(_nt.FanOut)
Flatten = _two_time.stock(_nt.Flatten)
Gabor = _two_time.stock(_nt.Gabor)
Gaussian = _two_time.stock(_nt.Gaussian)
Gelu = _two_time.stock(_nt.Gelu)
GlobalAvgPool = _two_time.stock(_nt.GlobalAvgPool)
GlobalSumPool = _two_time.stock(_nt.GlobalSumPool)
Identity = _two_time.stock(_nt.Identity)
ImageResize = _two_time.in_order(_nt.ImageResize)
Index = _two_time.stock(_nt.Index)
LayerNorm = _two_time.stock(_nt.LayerNorm)
LeakyRelu = _two_time.stock(_nt.LeakyRelu)
Monomial = _two_time.stock(_nt.Monomial)
Polynomial = _two_time.stock(_nt.Polynomial)
Rbf = _two_time.stock(_nt.Rbf)
RectifiedMonomial = _two_time.stock(_nt.RectifiedMonomial)
Relu = _two_time.stock(_nt.Relu)
Sigmoid_like = _two_time.stock(_nt.Sigmoid_like)
Sign = _two_time.stock(_nt.Sign)
Sin = _two_time.stock(_nt.Sin)
SumPool = _two_time.stock(_nt.SumPool)

# Not known at two different times: raises there.
Dropout = _two_time.dropout(_nt.Dropout)


@_two_time.stock
def Hermite(degree: int) -> _Layer:
  """Hermite polynomials, of norm one for standard Gaussian inputs.

  The kernels of :obj:`neural_tangents.stax.Hermite` are those of inputs of unit
  variance, which change while a network learns; these are right for any.

  Args:
    degree: non-negative integer.

  Returns:
    `(init_fn, apply_fn, kernel_fn)`.

  Raises:
    NotImplementedError: if `degree` is negative.
  """
  if degree < 0:
    raise NotImplementedError('`degree` must be a non-negative integer, got '
                              f'{degree}.')
  coef = np.polynomial.hermite_e.herme2poly([0] * degree + [1])
  return _nt.Polynomial(coef / math.factorial(degree)**.5)


@functools.wraps(_nt.serial)
def serial(*layers: _Layer) -> _Layer:
  return _two_time.combined(_nt.serial, layers, list, 'serial', in_series=True)


@functools.wraps(_nt.parallel)
def parallel(*layers: _Layer) -> _Layer:
  count = len(layers)

  def of_as_many(f: Callable[..., Any], index: int) -> Callable[..., Any]:
    # That of NT leaves out what is more, without a word.
    @functools.wraps(f)
    def checked(*args: Any, **kwargs: Any) -> Any:
      if len(args[index]) != count:
        raise ValueError(f'`parallel` has {count} layers: pass as many inputs, '
                         f'in a tuple. Got {len(args[index])}.')
      return f(*args, **kwargs)
    return checked

  def combine(*layers: _Layer) -> Any:
    return tuple(map(of_as_many, _nt.parallel(*layers), (1, 1, 0)))

  return _two_time.combined(combine, layers, tuple, 'parallel')


@functools.wraps(_nt.repeat)
def repeat(layer: _Layer, n: int) -> _Layer:  # noqa: F811 (NT's name.)
  return _two_time.combined(lambda l: _nt.repeat(l, n), [layer],
                            lambda s: s[0], ('repeat', n))


_WEIGHTS_DOC = """

  At two times (see :mod:`nt_ndk.stax`) the weights, before the multiplier
  `W_std`, and the biases, before `b_std`, follow the free weight process of
  Avidan, Li and Sompolinsky (arXiv:2309.04522).

  Args:
    W_init_std:
      positive number, standard deviation of the weights at initialisation,
      from which `init_fn` draws.

    W_prior_std:
      positive number, standard deviation of the weights under the prior.

    b_init_std:
      positive number, standard deviation of the biases at initialisation.

    b_prior_std:
      positive number, standard deviation of the biases under the prior.

    trainable:
      whether the layer learns. `False` freezes it as `init_fn` draws it: the
      prior of its parameters plays no role, and they have no gradient.

  Raises:
    ValueError: if a standard deviation is not a positive finite number.

  With `parameterization="standard"` parameters contain their multipliers, and
  have standard deviations `W_std * W_init_std / sqrt(width)`, later `W_std *
  W_prior_std / sqrt(width)`: kernels are those of
  `Dense(out_dim, sqrt(width), 1., W_init_std=W_std * W_init_std / sqrt(width),
  W_prior_std=W_std * W_prior_std / sqrt(width), b_init_std=b_std * b_init_std,
  b_prior_std=b_std * b_prior_std)`, and depend on the widths that are given.
  NDKs grow with them, and the times of learning and of diffusion fall.

  The other arguments, and what is returned, are those of Neural Tangents:

"""


def _document(layer_fn: Callable[_P, _Layer],
              doc: str = _WEIGHTS_DOC) -> Callable[_P, _Layer]:
  """Puts the arguments of the weight process before NT's documentation."""
  stock = getattr(_nt, layer_fn.__name__)
  summary, rest = (stock.__doc__ or '\n').split('\n', 1)
  layer_fn.__doc__ = summary + doc + rest
  return layer_fn


def _width(parameterization: str, width: Callable[[tuple[int, ...]], float]
           ) -> Optional[Callable[[tuple[int, ...]], float]]:
  """The width that counts, which is none in `"ntk"` parameterization."""
  return width if parameterization.lower() == 'standard' else None


@_two_time.weighted
@_document
def Dense(
    out_dim: int,
    W_std: float = 1.,
    b_std: Optional[float] = None,
    batch_axis: int = 0,
    channel_axis: int = -1,
    parameterization: str = 'ntk',
    s: tuple[int, int] = (1, 1),
    *,
    W_init_std: float = 1.,
    W_prior_std: float = 1.,
    b_init_std: float = 1.,
    b_prior_std: float = 1.,
    trainable: bool = True) -> _Layer:
  stock = functools.partial(
      _nt.Dense, out_dim, batch_axis=batch_axis, channel_axis=channel_axis,
      parameterization=parameterization, s=s)
  return _random_weights.random_weights(
      stock, W_std, b_std, _WeightProcess(W_init_std, W_prior_std),
      _WeightProcess(b_init_std, b_prior_std),
      _width(parameterization, lambda shape: shape[0] / s[0]), trainable)


def _convolution(stock: Callable[..., _Layer]) -> Callable[..., _Layer]:
  """`Conv`, `ConvLocal` and `ConvTranspose` share their arguments."""

  def convolution(
      out_chan: int,
      filter_shape: Sequence[int],
      strides: Optional[Sequence[int]] = None,
      padding: str = Padding.VALID.name,
      W_std: float = 1.,
      b_std: Optional[float] = None,
      dimension_numbers: Optional[tuple[str, str, str]] = None,
      parameterization: str = 'ntk',
      s: tuple[int, int] = (1, 1),
      *,
      W_init_std: float = 1.,
      W_prior_std: float = 1.,
      b_init_std: float = 1.,
      b_prior_std: float = 1.,
      trainable: bool = True) -> _Layer:
    layer_fn = functools.partial(
        stock, out_chan, filter_shape, strides, padding,
        dimension_numbers=dimension_numbers, parameterization=parameterization,
        s=s)

    def width(shape: tuple[int, ...]) -> float:
      inputs, outputs = (-2, -1) if dimension_numbers is None else map(
          dimension_numbers[1].index, 'IO')
      # Without shared weights all inputs of an output are on one axis.
      return (shape[inputs] if stock is _nt.ConvLocal else
              math.prod(shape) / shape[outputs]) / s[0]

    return _random_weights.random_weights(
        layer_fn, W_std, b_std, _WeightProcess(W_init_std, W_prior_std),
        _WeightProcess(b_init_std, b_prior_std),
        _width(parameterization, width), trainable)

  convolution.__name__ = convolution.__qualname__ = stock.__name__
  return _two_time.weighted(_document(convolution))


Conv = _convolution(_nt.Conv)
ConvLocal = _convolution(_nt.ConvLocal)
ConvTranspose = _convolution(_nt.ConvTranspose)


_ATTENTION_DOC = """

  At two times (see :mod:`nt_ndk.stax`) all weights, before their multipliers,
  follow the free weight process of Avidan, Li and Sompolinsky
  (arXiv:2309.04522). With `linear_scaling` attention at each time is that of
  the keys at this time, and the weights of values and outputs couple two times.
  With root scaling and the `"IDENTITY"` mechanism all four do.

  Args:
    W_query_init_std, W_query_prior_std:
      positive numbers, standard deviations of the query weights at
      initialisation and under the prior; only for `linear_scaling=False`, since
      queries are keys otherwise.

    W_key_init_std, W_key_prior_std:
      the same for key weights.

    W_value_init_std, W_value_prior_std:
      the same for value weights.

    W_out_init_std, W_out_prior_std:
      the same for output weights.

    W_pos_emb_init_std, W_pos_emb_prior_std:
      the same for positional embeddings.

    b_init_std, b_prior_std:
      the same for biases.

    trainable:
      whether the layer learns. `False` freezes all that it has as `init_fn`
      draws it: the prior plays no role, and there is no gradient.

  Raises:
    ValueError: if a standard deviation is not a positive finite number, or is
      given for queries that are keys.

  The other arguments, and what is returned, are those of Neural Tangents:

"""


@functools.partial(_two_time.weighted, readout='unknown')
@functools.partial(_document, doc=_ATTENTION_DOC)
def GlobalSelfAttention(
    n_chan_out: int,
    n_chan_key: int,
    n_chan_val: int,
    n_heads: int,
    linear_scaling: bool = True,
    W_key_std: float = 1.,
    W_value_std: float = 1.,
    W_query_std: float = 1.,
    W_out_std: float = 1.,
    b_std: Optional[float] = None,
    attention_mechanism: str = AttentionMechanism.SOFTMAX.name,
    pos_emb_type: str = PositionalEmbedding.NONE.name,
    pos_emb_p_norm: float = 2,
    pos_emb_decay_fn: Optional[Callable[[float], float]] = None,
    n_chan_pos_emb: Optional[int] = None,
    W_pos_emb_std: float = 1.,
    val_pos_emb: bool = False,
    batch_axis: int = 0,
    channel_axis: int = -1,
    *,
    W_query_init_std: float = 1.,
    W_query_prior_std: float = 1.,
    W_key_init_std: float = 1.,
    W_key_prior_std: float = 1.,
    W_value_init_std: float = 1.,
    W_value_prior_std: float = 1.,
    W_out_init_std: float = 1.,
    W_out_prior_std: float = 1.,
    W_pos_emb_init_std: float = 1.,
    W_pos_emb_prior_std: float = 1.,
    b_init_std: float = 1.,
    b_prior_std: float = 1.,
    trainable: bool = True) -> _Layer:
  stock = _nt.GlobalSelfAttention(
      n_chan_out, n_chan_key, n_chan_val, n_heads, linear_scaling, W_key_std,
      W_value_std, W_query_std, W_out_std, b_std, attention_mechanism,
      pos_emb_type, pos_emb_p_norm, pos_emb_decay_fn, n_chan_pos_emb,
      W_pos_emb_std, val_pos_emb, batch_axis, channel_axis)
  processes = _attention.Processes(
      query=_WeightProcess(W_query_init_std, W_query_prior_std),
      key=_WeightProcess(W_key_init_std, W_key_prior_std),
      value=_WeightProcess(W_value_init_std, W_value_prior_std),
      out=_WeightProcess(W_out_init_std, W_out_prior_std),
      b=_WeightProcess(b_init_std, b_prior_std),
      pos_emb=_WeightProcess(W_pos_emb_init_std, W_pos_emb_prior_std))
  return _attention.self_attention(
      stock, processes,
      QK_std=W_query_std * W_key_std,
      OV_std=W_out_std * W_value_std,
      b_std=b_std,
      mechanism=AttentionMechanism(attention_mechanism),
      linear_scaling=linear_scaling,
      pos_emb_type=PositionalEmbedding(pos_emb_type),
      positions=functools.partial(_attention.positions, p_norm=pos_emb_p_norm,
                                  decay_fn=pos_emb_decay_fn),
      n_chan_pos_emb=n_chan_pos_emb,
      W_pos_emb_std=W_pos_emb_std,
      val_pos_emb=val_pos_emb,
      trainable=trainable)


def prior_std(init_fn: _InitFn,
              input_shape: Optional[_PyTree] = None) -> Any:
  """The prior standard deviation of every parameter of a network.

  Args:
    init_fn: of a layer or network made by :mod:`nt_ndk.stax`.
    input_shape: as `init_fn` takes it; only for networks with layers of
      `parameterization="standard"`, where it depends on the width.

  Returns:
    A tree of the same structure as the parameters that `init_fn` returns. Each
    array of parameters has one number, its standard deviation under the prior
    (before the multiplier `W_std` or `b_std`), or 0 if it is frozen, in a layer
    with `trainable=False`.

  Raises:
    ValueError: if `input_shape` is needed.

  Example:
    >>> from nt_ndk import stax
    >>> #
    >>> init_fn, _, _ = stax.serial(
    >>>     stax.Dense(512, W_prior_std=.9), stax.Relu())
    >>> stax.prior_std(init_fn)
    [(0.9, None), ()]
  """
  stds = getattr(init_fn, 'prior_std', ())
  if not any(map(callable, _jax.tree_util.tree_leaves(stds))):
    return stds
  if input_shape is None:
    raise ValueError('The prior of layers with `parameterization="standard"` '
                     'depends on their width: pass `input_shape`.')
  return _random_weights.prior_of_arrays(stds, _jax.eval_shape(
      lambda: init_fn(_jax.random.PRNGKey(0), input_shape)[1]))
