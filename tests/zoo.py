# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Networks with every kind of layer, to compare with finite networks."""

import functools
import math

from jax import random
import jax.numpy as jnp
import numpy as np

from nt_ndk import stax

# Standard deviations at initialisation and under the prior differ in every
# layer, and between weights and biases.
FIRST = dict(W_init_std=1.6, W_prior_std=.8, b_init_std=.6, b_prior_std=1.3)
SECOND = dict(W_init_std=.7, W_prior_std=1.2, b_init_std=1.4, b_prior_std=.5)
LAST = dict(W_init_std=1.3, W_prior_std=.9)
FIXED = dict(FIRST, trainable=False)
TIMES = (.25, .1)


def inputs(shape, n1=2, n2=2):
  """Correlated inputs, so that no kernel is close to zero."""
  keys = random.split(random.PRNGKey(5), 3)
  common = random.normal(keys[0], (1,) + shape)
  draw = lambda key, n: (common + .5 * random.normal(key, (n,) + shape)) / 1.1
  return draw(keys[1], n1), draw(keys[2], n2)


def dense(width, b_std=.3, stds=None, W_std=1.2):
  return stax.Dense(width, W_std, b_std, **(stds or FIRST))


def conv(width, b_std=.3, stds=None, filter_shape=(3, 3), **kwargs):
  kwargs = {'padding': 'SAME', **kwargs}
  return stax.Conv(width, filter_shape, W_std=1.2, b_std=b_std,
                   **(stds or FIRST), **kwargs)


def readout(outputs):
  return stax.Dense(outputs, 1.1, **LAST)


def elementwise(layer):
  return lambda width, outputs: (stax.serial(
      dense(width), layer(), dense(width, stds=SECOND), layer(),
      readout(outputs)), (6,))


def convolutional(*layers, stds=None):
  """Of functions of the width."""
  return lambda width, outputs: (stax.serial(
      conv(width, stds=stds), stax.Relu(), *(layer(width) for layer in layers),
      readout(outputs)), (4, 4, 3))


def attention(**kwargs):
  """Layers around attention are wide, since it is cubic in their kernel."""
  def make(width, outputs):
    stds = dict(W_key_init_std=1.3, W_key_prior_std=.8, W_value_init_std=.7,
                W_value_prior_std=1.2, W_out_init_std=1.4, W_out_prior_std=.9,
                W_pos_emb_init_std=.6, W_pos_emb_prior_std=1.2, b_init_std=.5,
                b_prior_std=1.3)
    heads = 2
    if not kwargs.get('linear_scaling', True):
      stds.update(W_query_init_std=.8, W_query_prior_std=1.2)
      # Each head has random attention, over which many average.
      heads = width // 2
    layer = stax.GlobalSelfAttention(
        2 * width, n_chan_key=8 * width // heads,
        n_chan_val=2 * width // heads, n_heads=heads, b_std=.2,
        W_pos_emb_std=.9, **stds, **kwargs)
    return stax.serial(
        conv(8 * width, filter_shape=(1, 1)), stax.Relu(), layer, stax.Relu(),
        stax.GlobalAvgPool(), readout(outputs)), (2, 2, 3)
  return make


def residual(*layers):
  return stax.serial(
      stax.FanOut(2), stax.parallel(stax.Identity(), stax.serial(*layers)),
      stax.FanInSum())


def transformer(width, outputs):
  """Attention and a feed-forward network, each after `LayerNorm`.

  Wide, since attention is cubic in the kernel of its inputs.
  """
  width, heads = 4 * width, 2
  stds = dict(W_key_init_std=1.3, W_key_prior_std=.8, W_value_init_std=.7,
              W_value_prior_std=1.2, W_out_init_std=1.4, W_out_prior_std=.9)
  return stax.serial(
      dense(width),
      residual(stax.LayerNorm(), stax.GlobalSelfAttention(
          width, n_chan_key=2 * width, n_chan_val=width // heads, n_heads=heads,
          pos_emb_type='SUM', W_pos_emb_std=.5, **stds)),
      residual(stax.LayerNorm(), dense(width, stds=SECOND), stax.Relu(),
               dense(width)),
      stax.LayerNorm(), stax.GlobalAvgPool(), readout(outputs)), (5, 3)


def branches(fan_in):
  return lambda width, outputs: (stax.serial(
      dense(width), stax.FanOut(2),
      stax.parallel(stax.serial(stax.Relu(), dense(width, stds=SECOND)),
                    stax.serial(stax.Erf(), dense(width))),
      fan_in(), dense(width, stds=SECOND), stax.Relu(), readout(outputs)),
                                (6,))


def transposed(width, outputs):
  """Batch axis last, channels first."""
  layer = lambda n, **stds: stax.Dense(n, 1.2, .3, batch_axis=1, channel_axis=0,
                                       **stds)
  return stax.serial(layer(width, **FIRST), stax.Relu(),
                     layer(outputs, **SECOND)), (6,)


def aggregate(width, outputs):
  return stax.serial(
      stax.Dense(width, 1.2, .3, **FIRST), stax.Relu(),
      stax.Aggregate(aggregate_axis=1), stax.Dense(width, 1.2, .3, **SECOND),
      stax.Relu(), stax.GlobalAvgPool(), readout(outputs)), (4, 3)


def pattern(x1, x2):
  """Adjacency matrices of graphs of four nodes, one for each sample."""
  draw = lambda key, n: random.uniform(random.PRNGKey(key), (n, 4, 4))
  return draw(1, len(x1)), draw(2, len(x2))


def dot_general(width, outputs):
  weights = np.linspace(.2, 1., 16).reshape((4, 4))
  return stax.serial(
      conv(width), stax.Relu(),
      stax.DotGeneral(rhs=jnp.asarray(weights),
                      dimension_numbers=(((2,), (0,)), ((), ()))),
      # The axis that is contracted comes back behind that of the channels.
      stax.Dense(width, 1.2, .3, channel_axis=2, **SECOND), stax.Relu(),
      stax.GlobalAvgPool(channel_axis=2), readout(outputs)), (4, 4, 3)


def exp_normalized():
  """`ExpNormalized`, which is nobody's finite network in Neural Tangents.

  Its kernel is a power series of the correlation, with one Hermite polynomial
  of normalised inputs for each power.
  """
  coef = [(np.exp(-1.) / math.factorial(n))**.5 for n in range(12)]
  coef /= np.array([math.factorial(n)**.5 for n in range(12)])
  poly = jnp.asarray(np.polynomial.hermite_e.herme2poly(coef)[::-1])
  init_fn, _, kernel_fn = stax.ExpNormalized()

  def apply_fn(params, inputs, **kwargs):
    std = jnp.mean(inputs**2, -1, keepdims=True)**.5
    return std * jnp.polyval(poly, inputs / std)

  return init_fn, apply_fn, kernel_fn


NETWORKS = dict(
    dense=lambda width, outputs: (stax.serial(
        dense(width), stax.Relu(), dense(width, stds=SECOND), stax.Erf(),
        readout(outputs)), (6,)),
    conv=convolutional(lambda w: conv(w, stds=SECOND, strides=(2, 1)),
                       lambda w: stax.Relu(), lambda w: stax.Flatten()),
    conv_circular=convolutional(
        lambda w: conv(w, stds=SECOND, padding='CIRCULAR'),
        lambda w: stax.Relu(), lambda w: stax.GlobalAvgPool()),
    conv_axes=lambda width, outputs: (stax.serial(
        stax.Conv(width, (3, 3), W_std=1.2, b_std=.3,
                  dimension_numbers=('NCHW', 'HWIO', 'NHWC'), **FIRST),
        stax.Relu(), stax.Flatten(), readout(outputs)), (3, 4, 4)),
    conv_local=convolutional(
        lambda w: stax.ConvLocal(w, (2, 2), W_std=1.2, b_std=.3, **SECOND),
        lambda w: stax.Relu(), lambda w: stax.GlobalAvgPool()),
    conv_transpose=convolutional(
        lambda w: stax.ConvTranspose(w, (3, 3), (2, 2), 'SAME', 1.2, .3,
                                     **SECOND),
        lambda w: stax.Relu(), lambda w: stax.GlobalAvgPool()),
    avg_pool=convolutional(lambda w: stax.AvgPool((2, 2), (1, 2)),
                           lambda w: conv(w, stds=SECOND),
                           lambda w: stax.Relu(), lambda w: stax.Flatten()),
    sum_pool=convolutional(lambda w: stax.SumPool((2, 2), (2, 2)),
                           lambda w: conv(w, stds=SECOND),
                           lambda w: stax.Relu(),
                           lambda w: stax.GlobalSumPool()),
    global_avg_pool=convolutional(lambda w: stax.GlobalAvgPool()),
    layer_norm=lambda width, outputs: (stax.serial(
        dense(width), stax.LayerNorm(), stax.Relu(),
        dense(width, stds=SECOND), stax.LayerNorm(), stax.Erf(),
        readout(outputs)), (6,)),
    layer_norm_image=convolutional(
        lambda w: conv(w, stds=SECOND), lambda w: stax.LayerNorm((1, 2, 3)),
        lambda w: stax.Relu(), conv, lambda w: stax.LayerNorm((3,)),
        lambda w: stax.Relu(), lambda w: stax.GlobalAvgPool()),
    fan_in_sum=branches(stax.FanInSum),
    fan_in_concat=branches(functools.partial(stax.FanInConcat, -1)),
    fan_in_prod=branches(stax.FanInProd),
    aggregate=aggregate,
    dot_general=dot_general,
    index=convolutional(lambda w: stax.Index(stax.Slice[:, 1:, ::2]),
                        lambda w: conv(w, stds=SECOND),
                        lambda w: stax.Relu(), lambda w: stax.Flatten()),
    image_resize=convolutional(
        lambda w: stax.ImageResize((-1, 3, 6, -1), 'linear'),
        lambda w: conv(w, stds=SECOND),
        lambda w: stax.Relu(), lambda w: stax.Flatten()),
    repeat=lambda width, outputs: (stax.serial(
        dense(width), stax.Relu(), stax.repeat(
            stax.serial(dense(width, stds=SECOND), stax.Erf()), 3),
        readout(outputs)), (6,)),
    identity=convolutional(lambda w: stax.Identity(),
                           lambda w: stax.Flatten()),
    transposed=transposed,
    dropout_test=elementwise(lambda: stax.Dropout(.7, mode='test')),
    masked=lambda width, outputs: (stax.serial(
        conv(width, filter_shape=(2, 2)), stax.Relu(), stax.GlobalAvgPool(),
        readout(outputs)), (4, 4, 3)),
    attention_softmax=attention(),
    attention_relu=attention(attention_mechanism='RELU'),
    attention_abs=attention(attention_mechanism='ABS', pos_emb_type='SUM'),
    attention_identity=attention(attention_mechanism='IDENTITY',
                                 pos_emb_type='CONCAT', val_pos_emb=True),
    attention_positions=attention(pos_emb_type='SUM', val_pos_emb=True),
    attention_concat=attention(pos_emb_type='CONCAT'),
    attention_root=attention(linear_scaling=False,
                             attention_mechanism='IDENTITY'),
    attention_root_positions=attention(
        linear_scaling=False, attention_mechanism='IDENTITY',
        pos_emb_type='SUM'),
    attention_masked=attention(),
    # Frozen: random features, embeddings, what is in between, readouts.
    frozen_features=lambda width, outputs: (stax.serial(
        dense(width, stds=FIXED), stax.Relu(),
        dense(width, stds=dict(SECOND, trainable=False)), stax.Erf(),
        readout(outputs)), (6,)),
    frozen_embedding=convolutional(
        lambda w: stax.GlobalAvgPool(),
        lambda w: dense(w, stds=SECOND), lambda w: stax.Relu(), stds=FIXED),
    frozen_middle=convolutional(
        lambda w: stax.ConvLocal(w, (2, 2), W_std=1.2, b_std=.3, **FIXED),
        lambda w: stax.Relu(),
        lambda w: stax.ConvTranspose(w, (2, 2), W_std=1.2, b_std=.3, **FIXED),
        lambda w: stax.Relu(), lambda w: stax.GlobalAvgPool()),
    frozen_readout=lambda width, outputs: (stax.serial(
        dense(width), stax.Relu(), stax.Dense(
            outputs, 1.1, .3, **dict(SECOND, trainable=False))), (6,)),
    frozen_attention=attention(trainable=False, pos_emb_type='SUM'),
    transformer=transformer,
)

ELEMENTWISE = dict(
    abrelu=lambda: stax.ABRelu(-.5, 1.), abs=stax.Abs, cos=stax.Cos,
    elementwise_numerical=lambda: stax.ElementwiseNumerical(jnp.tanh, deg=40),
    erf=stax.Erf, exp=lambda: stax.Exp(.5, .5),
    gabor=stax.Gabor, gaussian=stax.Gaussian, gelu=stax.Gelu,
    leaky_relu=lambda: stax.LeakyRelu(.2),
    polynomial=lambda: stax.Polynomial([.2, .5, .1]), rbf=stax.Rbf,
    relu=stax.Relu,
    sigmoid_like=stax.Sigmoid_like, sign=stax.Sign, sin=stax.Sin)
NETWORKS.update({name: elementwise(layer)
                 for name, layer in ELEMENTWISE.items()})
# One nonlinearity only: a square of squares has tails so heavy that the mean of
# many networks says little, and for `RectifiedMonomial` Neural Tangents has no
# number for an input with itself.
HEAVY = dict(
    exp_normalized=exp_normalized,
    hermite=lambda: stax.Hermite(2), monomial=lambda: stax.Monomial(2),
    rectified_monomial=lambda: stax.RectifiedMonomial(2))
NETWORKS.update({
    name: lambda width, outputs, layer=layer: (stax.serial(
        dense(width), layer(), readout(outputs)), (6,))
    for name, layer in HEAVY.items()})


def problem(name, width, outputs=1):
  """A network, inputs, and keyword arguments."""
  network, shape = NETWORKS[name](width, outputs)
  x1, x2 = inputs(shape)
  kwargs = {}
  if name == 'transposed':
    x1, x2 = x1.T, x2.T
  if name == 'aggregate':
    kwargs['pattern'] = pattern(x1, x2)
  if name.endswith('masked'):
    x1, x2 = x1.at[0, 1].set(9.), x2.at[1, :, 1].set(9.)
    kwargs['mask_constant'] = 9.
  return network, x1, x2, kwargs
