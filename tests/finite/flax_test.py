# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of `nt_ndk.linen` and `nt_ndk.nnx`, against `nt_ndk.stax`."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as flax_linen
from flax import nnx as flax_nnx
import jax
from jax import nn
from jax import random
import jax.numpy as jnp
import numpy as np
import pytest

from nt_ndk import langevin
from nt_ndk import linen
from nt_ndk import monte_carlo
from nt_ndk import nnx
from nt_ndk import stax
import zoo

jax.config.update('jax_enable_x64', True)


def setUpModule():
  # Many programs, each run once or twice: compilation is most of the time.
  jax.config.update('jax_disable_most_optimizations', True)


def tearDownModule():
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()  # Others test optimized programs.


FIRST = dict(W_std=1.3, b_std=.4, W_init_std=1.5, W_prior_std=.7, b_init_std=.6,
             b_prior_std=1.2)
LAST = dict(W_std=1.1, W_init_std=.8, W_prior_std=1.4)
FILTER = dict(stax=dict(filter_shape=(3, 2), padding='SAME', strides=(2, 1)),
              flax=dict(kernel_size=(3, 2), strides=(2, 1)))


def dense_network(library, width=64, outputs=16):
  """The same network, of three libraries, as `(init_fn, apply_fn)`."""
  if library == 'stax':
    return stax.serial(stax.Dense(width, **FIRST), stax.Relu(),
                       stax.Dense(outputs, **LAST))
  if library == 'linen':
    module = flax_linen.Sequential([
        linen.Dense(width, **FIRST), nn.relu, linen.Dense(outputs, **LAST)])
    return module.init, module.apply, None
  return lambda rngs: flax_nnx.Sequential(
      nnx.Dense(3, width, **FIRST, rngs=rngs), nn.relu,
      nnx.Dense(width, outputs, **LAST, rngs=rngs)), None, None


def image_network(library, width=32, outputs=16):
  flatten = lambda x: x.reshape((len(x), -1))
  if library == 'stax':
    return stax.serial(
        stax.Conv(width, **FILTER['stax'], **FIRST), stax.Relu(),
        stax.Flatten(), stax.Dense(outputs, **LAST))
  if library == 'linen':
    module = flax_linen.Sequential([
        linen.Conv(width, **FILTER['flax'], **FIRST), nn.relu, flatten,
        linen.Dense(outputs, **LAST)])
    return module.init, module.apply, None
  return lambda rngs: flax_nnx.Sequential(
      nnx.Conv(2, width, **FILTER['flax'], **FIRST, rngs=rngs), nn.relu,
      flatten, nnx.Dense(width * 8, outputs, **LAST, rngs=rngs)), None, None


class SameNetworkTest(parameterized.TestCase):

  def inputs(self, network):
    return zoo.inputs((3,) if network is dense_network else (4, 4, 2))

  @parameterized.product(library=('linen', 'nnx'),
                         network=(dense_network, image_network))
  def test_outputs_and_prior(self, library, network):
    # With the parameters of the network of `stax`.
    x, _ = self.inputs(network)
    init_fn, apply_fn, _ = network('stax')
    _, params = init_fn(random.PRNGKey(0), x.shape)
    (W, b), *_, (W2, _) = params
    values = [(W, b.ravel()), (W2, None)]
    if library == 'linen':
      module = network('linen')[1].__self__
      variables = module.init(random.PRNGKey(1), x)
      for (kernel, bias), name in zip(values, sorted(variables['params'])):
        layer = variables['params'][name]
        self.assertEqual(layer['kernel'].shape, kernel.shape)
        layer['kernel'] = kernel
        if bias is not None:
          layer['bias'] = bias
      got = module.apply(variables, x)
    else:
      module = network('nnx')[0](flax_nnx.Rngs(1))
      weighted = [l for l in module.layers if hasattr(l, 'kernel')]
      for (kernel, bias), layer in zip(values, weighted):
        self.assertEqual(layer.kernel.shape, kernel.shape)
        layer.kernel = flax_nnx.Param(kernel)
        if bias is not None:
          layer.bias = flax_nnx.Param(bias)
      got = module(x)
    np.testing.assert_allclose(got, apply_fn(params, x), rtol=1e-12)

  def check_kernels(self, library, network):
    # Drawn and moved by its own standard deviations.
    x1, x2 = self.inputs(network)
    times = .3, .1
    got = monte_carlo.two_time_kernel_fn(
        *network(library)[:2], random.PRNGKey(0), 400, vmap_axes=0)(
            x1, x2, diffusion_time=times)
    want = network('stax')[2](x1, x2, ('nngp', 'ndk'), diffusion_time=times)
    for get in ('nngp', 'ndk'):
      estimate = getattr(got, get)
      z = (estimate.mean - getattr(want, get)) / estimate.standard_error
      np.testing.assert_array_less(np.abs(z), 4., get)

  @parameterized.parameters(('linen', dense_network), ('nnx', dense_network))
  def test_kernels(self, library, network):
    self.check_kernels(library, network)

  @parameterized.parameters(('linen', image_network), ('nnx', image_network))
  @pytest.mark.slow
  def test_kernels_more(self, library, network):
    self.check_kernels(library, network)

  @parameterized.product(library=('linen', 'nnx'),
                         network=(dense_network, image_network))
  @pytest.mark.slow
  def test_learning(self, library, network):
    x, _ = self.inputs(network)
    y, t = jnp.array([[1.], [-1.]]), jnp.array([0., 2.])
    one, two = (langevin.markov_proximal_ensemble(
        *network(l, 8, 1)[:2], x, y, .3)(random.PRNGKey(i), 400, t)
                for i, l in enumerate(('stax', library)))
    z = (one.mean - two.mean) / np.hypot(one.mean_error, two.mean_error)
    np.testing.assert_array_less(np.abs(z), 4.)
    z = (one.variance - two.variance) / np.hypot(one.variance_error,
                                                 two.variance_error)
    np.testing.assert_array_less(np.abs(z), 4.)


class RefusalsTest(parameterized.TestCase):

  @parameterized.parameters(0., -1., float('inf'))
  def test_wrong_std(self, std):
    x = jnp.ones((2, 3))
    with self.assertRaisesRegex(ValueError, 'prior_std'):
      linen.Dense(4, W_prior_std=std).init(random.PRNGKey(0), x)
    with self.assertRaisesRegex(ValueError, 'init_std'):
      nnx.Dense(3, 4, W_init_std=std, rngs=flax_nnx.Rngs(0))

  def test_layers_without_a_prior(self):
    x = jnp.ones((2, 3))
    module = flax_linen.Sequential([linen.Dense(4), flax_linen.Dense(1)])
    with self.assertRaisesRegex(ValueError, 'Neural Tangents or Flax'):
      monte_carlo.two_time_kernel_fn(module.init, module.apply,
                                     random.PRNGKey(0), 2)(x)
    make = lambda rngs: flax_nnx.Linear(3, 1, rngs=rngs)
    with self.assertRaisesRegex(ValueError, '`prior_std` is needed'):
      monte_carlo.two_time_kernel_fn(make, None, random.PRNGKey(0), 2)(x)


if __name__ == '__main__':
  absltest.main()
