# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Self-attention at two times.

With queries and keys of the same weights and dot products scaled by the number
of their channels, attention at one time does not fluctuate,

.. math::
  G(\tau)_{ab} = \zeta\big(\sigma_{QK}\, m_K(\tau, \tau)\,
  C(\tau, \tau)_{ab}\big),

and the layer is linear: two layers of weights, for values and outputs, around
the product with :math:`G(\tau_1)` and :math:`G(\tau_2)`. The gradient with
respect to weights inside :math:`\zeta` vanishes in the limit. With queries and
keys that are independent and scaled by the root of the number of channels,
:math:`G` is a Gaussian process with covariance
:math:`\sigma_{QK}^2 m_Q m_K C_{ac} C_{bd}` at two times. If :math:`\zeta` is
the identity, the layer is a product of four layers of weights.

Source: Hron, Bahri, Sohl-Dickstein and Novak, "Infinite attention: NNGP and NTK
for deep attention networks", arXiv:2006.10540; weights at two times: Avidan, Li
and Sompolinsky, arXiv:2309.04522.
"""

from typing import Any, Callable, NamedTuple, Optional

import jax
import jax.numpy as jnp
import neural_tangents as nt
from neural_tangents import stax as nt_stax
import numpy as np

from nt_ndk._src.base.typing import ApplyFn
from nt_ndk._src.base.typing import DiffusionTimes
from nt_ndk._src.base.typing import InitFn
from nt_ndk._src.base.typing import Layer
from nt_ndk._src.layers import random_weights
from nt_ndk._src.layers.times import canonicalize_times
from nt_ndk._src.layers.times import check_samples
from nt_ndk._src.layers.times import to_axis
from nt_ndk._src.layers.weight_process import WeightProcess


class Processes(NamedTuple):
  """Processes of the parameters, in the order in which NT keeps them."""
  query: WeightProcess
  key: WeightProcess
  value: WeightProcess
  out: WeightProcess
  b: WeightProcess
  pos_emb: WeightProcess


class _Pair(NamedTuple):
  """Covariance and NDK, or what multiplies them, of two sides.

  Their products follow the product rule, as gradients do.
  """
  nngp: Any
  ndk: Any

  def __add__(  # type: ignore[override]  # Not that of tuples.
      self, other: '_Pair') -> '_Pair':
    return _Pair(self.nngp + other.nngp, self.ndk + other.ndk)

  def __mul__(  # type: ignore[override]  # Not that of tuples.
      self, other: '_Pair') -> '_Pair':
    return _Pair(self.nngp * other.nngp,
                 self.nngp * other.ndk + self.ndk * other.nngp)

  def scale(self, factor: Any) -> '_Pair':
    return _Pair(factor * self.nngp, factor * self.ndk)

  def map(self, f: Callable[[jax.Array], jax.Array]) -> '_Pair':
    """For linear `f`."""
    return _Pair(f(self.nngp), f(self.ndk))


class _Pairs(NamedTuple):
  """Variances and responses of the parameters, in the order of `Processes`."""
  query: _Pair
  key: _Pair
  value: _Pair
  out: _Pair
  b: _Pair
  pos_emb: _Pair


def _to_matrices(cov: jax.Array, batch: int) -> jax.Array:
  """`batch + (a, a', b, b', ...)` to `batch + (a * b ..., a' * b' ...)`."""
  cov = jnp.transpose(cov, (*range(batch), *range(batch, cov.ndim, 2),
                            *range(batch + 1, cov.ndim, 2)))
  size = int(np.prod(cov.shape[batch:(cov.ndim + batch) // 2]))
  return cov.reshape(cov.shape[:batch] + (size, size))


def _from_matrices(matrices: jax.Array, spatial: tuple[int, ...]) -> jax.Array:
  """The inverse of `_to_matrices`."""
  batch = matrices.ndim - 2
  cov = matrices.reshape(matrices.shape[:batch] + 2 * spatial)
  pairs = ((batch + i, batch + len(spatial) + i) for i in range(len(spatial)))
  return jnp.transpose(cov, (*range(batch), *(i for p in pairs for i in p)))


def positions(spatial: tuple[int, ...], p_norm: float,
              decay_fn: Optional[Callable[[Any], Any]]) -> jax.Array:
  """`[P, P]`, covariance of positional embeddings of unit weights."""
  coordinates = np.indices(spatial).reshape((len(spatial), -1))
  distance = np.sum(np.abs(
      coordinates[:, :, None] - coordinates[:, None])**float(p_norm), 0)
  dtype = jax.dtypes.canonicalize_dtype(jnp.float64)
  if decay_fn is None:
    return jnp.asarray(distance == 0, dtype)
  return decay_fn(jnp.asarray(distance, dtype))


def _visible(mask: Optional[jax.Array], batch_axis: int,
             channel_axis: int) -> Optional[jax.Array]:
  """`[n, P]`, whether a position is not masked."""
  if mask is None:
    return None
  mask = jnp.moveaxis(jnp.all(mask, axis=channel_axis, keepdims=True),
                      (batch_axis, channel_axis), (0, -1))
  return ~mask.reshape((len(mask), -1))


def self_attention(
    stock: tuple[InitFn, ApplyFn, Any],
    processes: Processes,
    QK_std: float,
    OV_std: float,
    b_std: Optional[float],
    mechanism: nt_stax.AttentionMechanism,
    linear_scaling: bool,
    pos_emb_type: nt_stax.PositionalEmbedding,
    positions: Callable[[tuple[int, ...]], jax.Array],
    n_chan_pos_emb: Optional[int],
    W_pos_emb_std: float,
    val_pos_emb: bool,
    trainable: bool
) -> Layer:
  """The layer `stock` of NT, its weights moving in time.

  Args:
    stock: NT's `(init_fn, apply_fn, kernel_fn)`.
    processes: of weights before their multipliers.
    QK_std: product of the multipliers of queries and keys.
    OV_std: product of the multipliers of outputs and values.
    b_std: multiplier of the biases, or `None`.
    mechanism: attention mechanism.
    linear_scaling: whether queries are keys, and dot products scaled by their
      number of channels.
    pos_emb_type: kind of positional embeddings.
    positions: function of the spatial shape, covariance of embeddings.
    n_chan_pos_emb: number of channels of embeddings, or `None`.
    W_pos_emb_std: multiplier of embeddings.
    val_pos_emb: whether values have them too.
    trainable: whether the layer learns, rather than keep its first weights.

  Returns:
    `(init_fn, apply_fn, kernel_fn)`, `kernel_fn` mapping `Kernel` to `Kernel`.
  """
  stock_init_fn, apply_fn, stock_kernel_fn = stock
  has_pos_emb = pos_emb_type != nt_stax.PositionalEmbedding.NONE

  def init_fn(rng, input_shape):
    output_shape, params = stock_init_fn(rng, input_shape)
    return output_shape, tuple(None if p is None else p * process.init_std
                               for p, process in zip(params, processes))

  if linear_scaling and not random_weights.is_unit(*processes.query):
    raise ValueError('With `linear_scaling` queries are keys: give '
                     '`W_key_init_std` and `W_key_prior_std` instead of those '
                     'of the queries, or `linear_scaling=False`.')
  checked = {}
  for name, process in processes._asdict().items():
    full_name = name if name == 'b' else f'W_{name}'
    checked[name] = WeightProcess(*random_weights.check_stds(
        **{f'{full_name}_init_std': process.init_std,
           f'{full_name}_prior_std': process.prior_std}))
    if not trainable:
      checked[name] = checked[name]._replace(prior_std=0.)
  processes = Processes(**checked)
  is_stock = trainable and random_weights.is_unit(
      *(p.init_std for p in processes))
  if not trainable:
    apply_fn = random_weights.frozen(apply_fn)
  present = dict(query=not linear_scaling, key=True, value=True, out=True,
                 b=b_std is not None, pos_emb=has_pos_emb)
  vars(init_fn).update(prior_std=tuple(
      process.prior_std if present[name] else None
      for name, process in processes._asdict().items()))

  def attend(scores: jax.Array, visible: Optional[jax.Array]) -> jax.Array:
    """Attention `[n, P, P]` of positions (first) to positions (last axis)."""
    softmax = mechanism == nt_stax.AttentionMechanism.SOFTMAX
    if visible is not None:
      hidden = jnp.finfo(scores.dtype).min if softmax else 0.
      scores = jnp.where(visible[:, None], scores, hidden)
    return mechanism.fn()(scores)

  def output(K: _Pair, K_int: _Pair, G1: Any, G2: Any, m: _Pairs) -> _Pair:
    """Of a pair of samples with inputs `K`, and `K_int` with embeddings.

    Batch axes come first, then positions of one and the other input.
    """
    values = K_int if val_pos_emb else K
    if linear_scaling:
      attended = values.map(lambda x: G1 @ x @ jnp.swapaxes(G2, -1, -2))
      out = (m.value * m.out * attended).scale(OV_std**2)
    else:
      total = (values * K_int).map(
          lambda x: jnp.sum(x, (-2, -1), keepdims=True))
      weights = m.query * m.key * m.value * m.out
      out = (weights * total * K_int).scale((QK_std * OV_std)**2)
    return out if b_std is None else out + m.b.scale(b_std**2)

  @nt_stax.requires(**stock_kernel_fn.input_req)
  def kernel_fn(k: nt.Kernel, *,
                diffusion_time: Optional[DiffusionTimes] = None,
                **kwargs: Any) -> nt.Kernel:
    if diffusion_time is None:
      if is_stock:
        return stock_kernel_fn(k, **kwargs)
      diffusion_time = (0., 0.)
    tau1, tau2 = canonicalize_times(diffusion_time)
    check_samples(k, tau1, tau2)
    if k.is_reversed:
      k = k.reverse()
    # Shapes, masks, and an error where there is no closed form.
    shell = stock_kernel_fn(k, **kwargs)

    axes = k.batch_axis % len(k.shape1), k.channel_axis % len(k.shape1)
    spatial = tuple(size for i, size in enumerate(k.shape1) if i not in axes)
    visible1, visible2 = (_visible(mask, *axes) for mask in (k.mask1, k.mask2))
    if k.cov2 is None:
      visible2 = visible1
    weight, pos_weight = 1., W_pos_emb_std**2
    if pos_emb_type == nt_stax.PositionalEmbedding.CONCAT:
      channels = k.shape1[k.channel_axis]
      extra = channels if n_chan_pos_emb is None else n_chan_pos_emb
      weight, pos_weight = (weight * channels / (channels + extra),
                            pos_weight * extra / (channels + extra))

    def embeddings(visible: Optional[jax.Array], visible_: Optional[jax.Array],
                   crossed: bool) -> jax.Array:
      """Covariance of positional embeddings, with batch axes."""
      R = positions(spatial)
      if visible is not None:
        R = R * (visible[:, None, :, None] if crossed else visible[:, :, None])
      if visible_ is not None:
        R = R * (visible_[None] if crossed else visible_)[..., None, :]
      return R

    def between(cov: jax.Array, ndk: Optional[jax.Array],
                times: tuple[jax.Array, jax.Array],
                visible: tuple[Optional[jax.Array], Optional[jax.Array]],
                crossed: bool) -> tuple[_Pair, _Pair, _Pairs]:
      """Inputs, inputs with embeddings and weights between two sides."""
      ndk = jnp.zeros_like(cov) if ndk is None or ndk.ndim == 0 else ndk
      K = _Pair(_to_matrices(cov, 1 + crossed), _to_matrices(ndk, 1 + crossed))
      tau, tau_ = (to_axis(t, axis, K.nngp.ndim)
                   for t, axis in zip(times, (0, int(crossed))))
      m = _Pairs(*(_Pair(process.autocovariance(tau, tau_),
                         process.response(tau, tau_))
                   for process in processes))
      if not has_pos_emb:
        return K, K, m
      R = embeddings(visible[0], visible[1], crossed)
      return K, K.scale(weight) + m.pos_emb.scale(pos_weight * R), m

    def one_side(cov, tau, visible):
      """Covariance of the outputs of one side, and its attention."""
      crossed = not k.diagonal_batch
      K, K_int, m = between(cov, None, (tau, tau), (visible, visible), crossed)
      G = G_ = None
      if linear_scaling:
        scores = QK_std * m.key.nngp * K_int.nngp
        if crossed:
          scores = jnp.moveaxis(jnp.diagonal(scores), -1, 0)
        G = G_ = attend(scores, visible)
        if crossed:
          G_ = G[:, None]
      out = output(K, K_int, G_, G, m).nngp
      return _from_matrices(out, spatial), G

    cov1, G1 = one_side(k.cov1, tau1, visible1)
    cov2, G2 = None, G1
    if k.cov2 is not None:
      cov2, G2 = one_side(k.cov2, tau2, visible2)
    if linear_scaling:
      G1 = G1[:, None]
    K, K_int, m = between(k.nngp, k.ntk, (tau1, tau2), (visible1, visible2),
                          True)
    nngp, ndk = output(K, K_int, G1, G2, m).map(
        lambda x: _from_matrices(x, spatial))
    out = shell.replace(cov1=cov1, cov2=cov2, nngp=nngp,
                        ntk=None if k.ntk is None else ndk)
    return out.mask(shell.mask1, shell.mask2)

  return init_fn, apply_fn, kernel_fn
