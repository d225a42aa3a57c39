# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of `nt_ndk.monte_carlo`, and of every layer against finite networks."""

import inspect
import os

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
from jax import random
import jax.numpy as jnp
import numpy as np
import pytest

import nt_ndk
from nt_ndk import monte_carlo
from nt_ndk import stax
import zoo

# Neural Tangents comes after `nt_ndk`, which lets it be imported.
# isort: split
from neural_tangents import stax as nt_stax

jax.config.update('jax_enable_x64', True)

# Estimates of `tests/ensemble/make_layer_kernels.py`.
STORED = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..',
                      'ensemble', 'layer_kernels.npz')


# Layers with weights, and those where Neural Tangents is not left as it is.
QUICK = (
    'dense', 'conv', 'conv_local', 'conv_transpose', 'layer_norm', 'fan_in_sum',
    'fan_in_prod', 'aggregate', 'index', 'image_resize', 'repeat', 'transposed',
    'masked', 'attention_softmax', 'attention_identity', 'attention_root',
    'attention_masked', 'frozen_readout', 'hermite', 'relu', 'erf',
    'exp_normalized')


def setUpModule():
  # Many programs, each run once: compilation is all of the time.
  jax.config.update('jax_disable_most_optimizations', True)


def tearDownModule():
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()  # Others test optimized programs.


class EveryLayerTest(parameterized.TestCase):
  """Closed forms are within 3 standard errors of finite networks."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.stored = dict(np.load(STORED))

  def check_two_times(self, name):
    self.assertIn(f'{name}.ndk.mean', self.stored,
                  'Sample it with `tests/ensemble/make_layer_kernels.py`.')
    network, x1, x2, kwargs = zoo.problem(name, 8)
    exact = jax.jit(lambda x1, x2, tau: network[2](
        x1, x2, ('nngp', 'ndk'), diffusion_time=tau, **kwargs))(
            x1, x2, zoo.TIMES)
    for get, want in exact._asdict().items():
      mean, error = (self.stored[f'{name}.{get}.{field}']
                     for field in ('mean', 'standard_error'))
      self.assertLess(np.max(error / np.abs(mean)), .02, get)
      np.testing.assert_array_less(np.abs(mean - want) / error, 3., get)

  @parameterized.parameters(*QUICK)
  def test_two_times(self, name):
    self.check_two_times(name)

  @parameterized.parameters(
      *(name for name in zoo.NETWORKS if name not in QUICK))
  @pytest.mark.slow
  def test_two_times_more(self, name):
    self.check_two_times(name)

  def test_every_layer_is_in_the_zoo(self):
    source = open(zoo.__file__, encoding='utf-8').read()
    layers = [name for name, value in vars(nt_stax).items()
              if name[0].isupper() and inspect.isfunction(value)]
    self.assertIn('Dense', layers)
    self.assertEmpty([n for n in layers if f'stax.{n}' not in source])


class StandardTest(absltest.TestCase):

  @pytest.mark.slow
  def test_two_times(self):
    # Relaxation times are those of the widths.
    stds = dict(W_init_std=1.4, W_prior_std=.8, b_init_std=.7, b_prior_std=1.2,
                parameterization='standard')
    init_fn, apply_fn, kernel_fn = stax.serial(
        stax.Dense(64, 1.2, .3, **stds), stax.Relu(),
        stax.Dense(32, 1.1, .2, **stds))
    x1, x2 = zoo.inputs((40,))
    times = 6e-3, 2e-3
    estimates = monte_carlo.two_time_kernel_fn(
        init_fn, apply_fn, random.PRNGKey(0), 200, vmap_axes=0)(
            x1, x2, diffusion_time=times)
    want = kernel_fn(x1, x2, ('nngp', 'ndk'), diffusion_time=times)
    for get, (mean, error) in estimates._asdict().items():
      np.testing.assert_array_less(np.abs(mean - getattr(want, get)), 3 * error)
      self.assertLess(np.max(error / mean), .04)
    # Relaxation has begun, and shows.
    start = kernel_fn(x1, x2, ('nngp', 'ndk'), diffusion_time=(0., 0.))
    for one, other in zip(want, start):
      self.assertGreater(np.min(np.abs(one / other - 1)), .2)


class FreePathsTest(parameterized.TestCase):
  """Where networks are so simple that estimates have a closed form."""

  @parameterized.parameters((.3, .1), (0., .7), (1., 1.))
  def test_one_weight(self, tau1, tau2):
    # f = w x: covariance m(tau1, tau2) x x', NDK r(tau1, tau2) x x' for any
    # network, so without any spread.
    s0, s = 1.7, .6
    init_fn, apply_fn, _ = stax.Dense(1, 1., W_init_std=s0, W_prior_std=s)
    x1, x2 = jnp.array([[1.], [-2.]]), jnp.array([[.5]])
    estimate_fn = monte_carlo.two_time_kernel_fn(
        init_fn, apply_fn, random.PRNGKey(0), 4000)
    got = estimate_fn(x1, x2, diffusion_time=(tau1, tau2))
    decay = lambda t: np.exp(-t / s**2)
    m = s**2 * decay(abs(tau1 - tau2)) + (s0**2 - s**2) * decay(tau1 + tau2)
    variances = [s**2 + (s0**2 - s**2) * decay(2 * t) for t in (tau1, tau2)]
    xx = x1 @ x2.T
    np.testing.assert_allclose(
        got.ndk.mean, decay(abs(tau1 - tau2)) * xx, rtol=1e-12)
    np.testing.assert_allclose(got.ndk.standard_error, 0., atol=1e-12)
    np.testing.assert_array_less(
        np.abs(got.nngp.mean - m * xx) / got.nngp.standard_error, 4.)
    # Variance of a product of two Gaussian variables.
    spread = np.sqrt((variances[0] * variances[1] + m**2) / 4000) * np.abs(xx)
    np.testing.assert_allclose(got.nngp.standard_error, spread, rtol=.1)

  def test_symmetries(self):
    init_fn, apply_fn, _ = stax.serial(stax.Dense(8), stax.Erf(),
                                       stax.Dense(4))
    x1, x2 = zoo.inputs((3,))
    estimate_fn = monte_carlo.two_time_kernel_fn(
        init_fn, apply_fn, random.PRNGKey(0), 3)
    one, swapped, same, both = (
        estimate_fn(a, b, diffusion_time=times) for a, b, times in [
            (x1, x2, (.2, .5)), (x2, x1, (.5, .2)), (x1, None, (.2, .5)),
            (x1, x1, (.2, .5))])
    for get in ('nngp', 'ndk'):
      kernel = lambda estimate, get=get: getattr(estimate, get).mean
      np.testing.assert_allclose(kernel(one), kernel(swapped).T, rtol=1e-12)
      np.testing.assert_array_equal(kernel(same), kernel(both))

  def check_implementations(self, implementation):
    init_fn, apply_fn, _ = stax.serial(
        stax.Conv(4, (2, 2), W_prior_std=.7), stax.Relu(), stax.Flatten(),
        stax.Dense(2))
    x1, x2 = zoo.inputs((3, 3, 1))
    want, got = (
        monte_carlo.two_time_kernel_fn(
            init_fn, apply_fn, random.PRNGKey(0), 2, **kwargs)(
                x1, x2, 'ndk', diffusion_time=(.2, .5)).mean
        for kwargs in ({}, dict(implementation=implementation, vmap_axes=0)))
    np.testing.assert_allclose(got, want, rtol=1e-10)

  @parameterized.parameters([*nt_ndk.NtkImplementation][:1])
  def test_implementations(self, implementation):
    self.check_implementations(implementation)

  @parameterized.parameters([*nt_ndk.NtkImplementation][1:])
  @pytest.mark.slow
  def test_implementations_more(self, implementation):
    self.check_implementations(implementation)

  @pytest.mark.slow
  def test_flax(self):
    # The same network, with its multipliers in the parameters: standard
    # deviations and relaxation times scale with the width.
    width, features, s0, s = 64, 3, 1.5, .8

    class Network(nn.Module):

      @nn.compact
      def __call__(self, x):
        init = lambda n: nn.initializers.normal(s0 / n**.5)
        x = nn.Dense(width, use_bias=False, kernel_init=init(features))(x)
        return nn.Dense(32, use_bias=False, kernel_init=init(width))(nn.relu(x))

    module = Network()
    x1, x2 = zoo.inputs((features,))
    tau = .4, .1
    # One relaxation time for both layers, in units of its own.
    scale = s / width**.5
    prior = {'Dense_0': {'kernel': scale}, 'Dense_1': {'kernel': scale}}
    got = monte_carlo.two_time_kernel_fn(
        module.init, module.apply, random.PRNGKey(3), 400, prior_std=prior,
        vmap_axes=0)(x1, x2, diffusion_time=tuple(t / width for t in tau))
    stds = dict(W_init_std=s0, W_prior_std=s)
    # Weights are `1 / sqrt(width)` times weights with a prior of `s`.
    ratio = (features / width)**.5
    first = dict(W_std=ratio, W_init_std=s0 / ratio, W_prior_std=s)
    exact = stax.serial(stax.Dense(1, **first), stax.Relu(),
                        stax.Dense(1, **stds))[2](
                            x1, x2, ('nngp', 'ndk'), diffusion_time=tau)
    np.testing.assert_array_less(
        np.abs(got.nngp.mean - exact.nngp) / got.nngp.standard_error, 4.)
    np.testing.assert_array_less(
        np.abs(got.ndk.mean / width - exact.ndk) /
        (got.ndk.standard_error / width), 4.)


class RefusalsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.init_fn, self.apply_fn, _ = stax.serial(stax.Dense(4), stax.Dense(1))
    self.x, _ = zoo.inputs((3,))

  def make(self, **kwargs):
    kwargs = {'n_samples': 2, **kwargs}
    return monte_carlo.two_time_kernel_fn(
        self.init_fn, self.apply_fn, random.PRNGKey(0), **kwargs)

  @parameterized.parameters(0, 1, -3)
  def test_too_few_networks(self, n_samples):
    with self.assertRaisesRegex(ValueError, 'n_samples'):
      self.make(n_samples=n_samples)

  @parameterized.parameters(
      0., -1., float('nan'), dict(prior_std=[1., 2., 3.]),
      [[(1., None), (-1., None)]])
  def test_wrong_prior(self, prior_std):
    with self.assertRaisesRegex(ValueError, 'prior_std'):
      self.make(prior_std=prior_std)(self.x)

  def test_unknown_prior(self):
    with self.assertRaisesRegex(ValueError, '`prior_std` is needed'):
      monte_carlo.two_time_kernel_fn(
          lambda *args: self.init_fn(*args), self.apply_fn, random.PRNGKey(0),
          2)(self.x)

  @parameterized.parameters('ntk', ((),), (('ndk', 'ndk'),), 'cov1')
  def test_wrong_get(self, get):
    with self.assertRaisesRegex(ValueError, '`get`'):
      self.make()(self.x, None, get)

  @parameterized.parameters((0., -1.), (float('inf'), 0.),
                            ([0., 0.], [0., 0.]))
  def test_wrong_times(self, *times):
    with self.assertRaisesRegex(ValueError, 'time'):
      self.make()(self.x, None, 'ndk', diffusion_time=times)


if __name__ == '__main__':
  absltest.main()
