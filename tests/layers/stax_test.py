# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of `nt_ndk.stax`: two-time kernels of wide networks."""

import functools
import operator

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import numpy as jnp
from jax import random
from jax import tree_util
import numpy as np
import pytest

from nt_ndk import stax
import reference
from reference import dense

# Neural Tangents comes after `nt_ndk`, which lets it be imported.
# isort: split
import neural_tangents as nt
from neural_tangents import stax as nt_stax

jax.config.update('jax_enable_x64', True)


def setUpModule():
  # Hundreds of small programs, each run once: compilation is all of the time.
  jax.config.update('jax_disable_most_optimizations', True)


def tearDownModule():
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()  # Others test optimized programs.


RELU, ERF, LINEAR = 'relu', 'erf', 'linear'
NONLINEARITY = dict(relu=stax.Relu, erf=stax.Erf, linear=stax.Identity)

NETWORKS = dict(
    no_hidden=[dense(1.4, W_init_std=.6, W_prior_std=1.2)],
    relu=[dense(1.4, .3), RELU, dense(.9, .5)],
    erf=[dense(1.4, .3, 1.5, .7, .8, 1.3), ERF, dense(1.1, W_init_std=2.)],
    linear=[dense(1.2, .3, .5, 1.1), LINEAR, dense(1.1, .2, 2., 1.4)],
    deep_relu=[dense(1.4, W_init_std=.7, W_prior_std=1.3), RELU,
               dense(1.4, .2, 1.4, .8, .5, .9), RELU,
               dense(1.1, W_init_std=1.2, W_prior_std=.6), RELU,
               dense(.8, .1, .9, 1.7, 2., 1.1)],
    deep_erf=[dense(1.6, .2, 1.3, .8, 1.2, .5), ERF, dense(1.3), LINEAR,
              dense(1.3, .2, .5, 1.4), RELU, dense(1.3, .4, 1., 2., 1., 3.)],
)


def network(layers, width=8):
  """The `stax` network that a `reference` description stands for."""
  return stax.serial(*(
      NONLINEARITY[layer]() if isinstance(layer, str)
      else stax.Dense(width, **layer) for layer in layers))


def vectors(n1=3, n2=4, features=5):
  k1, k2 = random.split(random.PRNGKey(1))
  return random.normal(k1, (n1, features)), random.normal(k2, (n2, features))


def images(n1=2, n2=3, size=3, channels=2):
  k1, k2 = random.split(random.PRNGKey(2))
  return (random.normal(k1, (n1, size, size, channels)),
          random.normal(k2, (n2, size, size, channels)))


def compiled(kernel_fn, get, **kwargs):
  """`kernel_fn` as one program: quicker than the compilation of each step."""
  return jax.jit(lambda x1, x2=None: kernel_fn(x1, x2, get, **kwargs))


def residual_cnn(**stds):
  conv = functools.partial(stax.Conv, 4, (3, 3), W_std=1.3, b_std=.2, **stds)
  block = stax.serial(
      stax.FanOut(2),
      stax.parallel(
          stax.serial(stax.Relu(), conv(padding='SAME')), stax.Identity()),
      stax.FanInSum())
  return stax.serial(conv(padding='CIRCULAR'), block, block, stax.Relu(),
                     stax.GlobalAvgPool(), stax.Flatten(),
                     stax.Dense(1, W_std=1.2, b_std=.1, **stds))


# Every stack takes one callable per weighted layer from `make`, so that the
# same architecture can be built with this package and with Neural Tangents.
CONVOLUTIONS = dict(
    conv=lambda make: [make('Conv', (2, 3), (2, 1), 'SAME'), 'pool', 'flatten'],
    circular=lambda make: [make('Conv', (3, 3), None, 'CIRCULAR'), 'flatten'],
    local=lambda make: [make('ConvLocal', (2, 2), None, 'VALID'),
                        make('ConvLocal', (2, 2), None, 'SAME'), 'flatten'],
    local_pool=lambda make: [make('Conv', (3, 3), None, 'SAME'),
                             make('ConvLocal', (2, 2), None, 'VALID'), 'gap'],
    local_first=lambda make: [make('ConvLocal', (3, 3), None, 'SAME'),
                              make('Conv', (2, 2), None, 'VALID'), 'gap'],
    transpose=lambda make: [make('ConvTranspose', (3, 3), (2, 2), 'SAME'),
                            make('Conv', (2, 2), None, 'VALID'), 'gap'],
)


def build(lib, name, keywords, nonlinearity=None):
  """A network of `CONVOLUTIONS` and a Dense readout; `keywords` by layer."""
  keywords = iter(keywords)

  def make(layer, filter_shape, strides, padding):
    return getattr(lib, layer)(4, filter_shape, strides, padding,
                               **next(keywords))

  layers = []
  for layer in CONVOLUTIONS[name](make):
    if isinstance(layer, str):
      layer = dict(pool=lambda: lib.AvgPool((2, 2)), flatten=lib.Flatten,
                   gap=lib.GlobalAvgPool)[layer]()
      layers += [layer]
    else:
      layers += [layer] + ([nonlinearity()] if nonlinearity else [])
  return lib.serial(*layers, lib.Dense(1, **next(keywords)))


class TwoTimeKernelTest(parameterized.TestCase):

  @parameterized.product(name=list(NETWORKS), times=[
      (0., 0.), (.3, .3), (.1, 2.), (5., .02), (3., 0.)])
  def test_reference(self, name, times):
    x1, x2 = vectors()
    layers = NETWORKS[name]
    want = reference.two_time_kernels(x1, x2, *times, layers)
    _, _, kernel_fn = network(layers)
    get = ('nngp', 'ndk', 'cov1', 'cov2')
    got = kernel_fn(x1, x2, get, diffusion_time=times)
    self.assertEqual(got._fields, get)
    full = kernel_fn(x1, x2, None, diffusion_time=times)
    self.assertIsInstance(full, nt.Kernel)
    for field, value in [
        ('nngp', want.nngp), ('ndk', want.ndk),
        ('cov1', want.cov1[:, 0]), ('cov2', want.cov2[0])]:
      for result in (
          getattr(got, field),
          getattr(full, 'ntk' if field == 'ndk' else field),
          kernel_fn(x1, x2, field, diffusion_time=times)):
        np.testing.assert_allclose(result, value, rtol=1e-12, atol=1e-14)

  @parameterized.product(name=list(NETWORKS), same=[False, True])
  def test_one_time_per_sample(self, name, same):
    x1, x2 = vectors(4, 4)
    t1, t2 = np.array([.1, 2., 0., .5]), np.array([.3, 1., 7., .05])
    want = reference.two_time_kernels(
        x1, x1 if same else x2, t1[:, None], t2[None], NETWORKS[name])
    got = network(NETWORKS[name])[2](
        x1, None if same else x2, ('nngp', 'ndk', 'cov2'),
        diffusion_time=(t1, t2))
    np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got.ndk, want.ndk, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got.cov2, want.cov2[0], rtol=1e-12)

  @parameterized.product(name=list(NETWORKS), times=[(.2, 1.), (.4, .4)])
  def test_one_set_of_inputs(self, name, times):
    # Where a point meets itself at equal times, the correlation is 1 and
    # Neural Tangents' ReLU takes sqrt(1 - rho^2), which turns a rounding error
    # of 1e-16 into one of 1e-8. Distinct times keep the correlation below 1.
    rtol = 1e-12 if times[0] != times[1] else 1e-7
    x, _ = vectors()
    want = reference.two_time_kernels(x, x, *times, NETWORKS[name])
    got = network(NETWORKS[name])[2](
        x, None, ('nngp', 'ndk'), diffusion_time=times)
    np.testing.assert_allclose(got.nngp, want.nngp, rtol=rtol, atol=1e-14)
    np.testing.assert_allclose(got.ndk, want.ndk, rtol=rtol, atol=1e-14)

  @parameterized.parameters(*NETWORKS)
  def test_ntk_is_that_at_initialisation(self, name):
    x1, x2 = vectors()
    _, _, kernel_fn = network(NETWORKS[name])
    want = kernel_fn(x1, x2, 'ntk')
    np.testing.assert_allclose(
        want, reference.two_time_kernels(x1, x2, 0., 0., NETWORKS[name]).ndk,
        rtol=1e-12)
    got = kernel_fn(x1, x2, ('ntk', 'ndk', 'nngp'), diffusion_time=(1., .4))
    late = reference.two_time_kernels(x1, x2, 1., .4, NETWORKS[name])
    np.testing.assert_allclose(got.ntk, want, rtol=1e-14)
    np.testing.assert_allclose(got.ndk, late.ndk, rtol=1e-12)
    np.testing.assert_allclose(got.nngp, late.nngp, rtol=1e-12)
    np.testing.assert_allclose(
        kernel_fn(x1, x2, 'ntk', diffusion_time=(1., .4)), want, rtol=1e-14)

  @pytest.mark.slow
  def test_initial_network_in_neural_tangents_parameterisation(self):
    x1, x2 = images()
    s0 = 1.7
    stds = dict(W_init_std=s0, b_init_std=s0)
    for name in CONVOLUTIONS:
      base = dict(W_std=1.3, b_std=.4)
      scaled = dict(W_std=1.3 * s0, b_std=.4 * s0)
      ours = build(stax, name, [{**base, **stds}] * 3, stax.Relu)[2]
      theirs = build(nt_stax, name, [scaled] * 3, nt_stax.Relu)[2]
      got = compiled(ours, ('nngp', 'ndk'), diffusion_time=(0., 0.))(x1, x2)
      want = compiled(theirs, ('nngp', 'ntk'))(x1, x2)
      np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-12)
      np.testing.assert_allclose(got.ndk, want.ntk / s0**2, rtol=1e-12)

  @parameterized.parameters(*CONVOLUTIONS)
  def test_prior_network_at_late_times(self, name):
    x1, x2 = images()
    ours = build(stax, name, [
        dict(W_std=1.3, b_std=.4, W_init_std=2., b_init_std=.5, W_prior_std=s,
             b_prior_std=2. * s) for s in (.7, 1.2, 1.5)], stax.Relu)[2]
    theirs = build(nt_stax, name, [
        dict(W_std=1.3 * s, b_std=.8 * s) for s in (.7, 1.2, 1.5)],
        nt_stax.Relu)[2]
    np.testing.assert_allclose(
        compiled(ours, 'nngp', diffusion_time=(1e6, 1e6))(x1, x2),
        compiled(theirs, 'nngp')(x1, x2), rtol=1e-12)

  @parameterized.product(name=list(CONVOLUTIONS), times=[(.3, 1.1), (2., 0.)])
  def test_ndk_is_response_times_derivative_of_covariance(self, name, times):
    # In linear networks C is a polynomial in the autocovariances m of the
    # layers, and Neural Tangents evaluates it as it takes m for variances.
    # NDK = sum over layers of r dC/dm: a wrong pattern of the bias shows.
    x1, x2 = images()
    stds = [(.6, 1.2, 1.5, .8), (1., 1., 2., .9), (1.4, .7, .5, 1.1)]
    m, r = reference.m, reference.r

    def theirs(v):
      return build(nt_stax, name, [
          dict(W_std=1.3 * jnp.sqrt(w), b_std=.9 * jnp.sqrt(b)) for w, b in v],
          nt_stax.Identity)[2](x1, x2, 'nngp')

    values = [[m(*times, w0, w), m(*times, b0, b)] for w0, w, b0, b in stds]
    rates = [[r(*times, w), r(*times, b)] for _, w, _, b in stds]
    nngp, ndk = jax.jit(lambda v, r: jax.jvp(theirs, (v,), (r,)))(values, rates)
    ours = build(stax, name, [
        dict(W_std=1.3, b_std=.9, W_init_std=w0, W_prior_std=w, b_init_std=b0,
             b_prior_std=b) for w0, w, b0, b in stds], stax.Identity)[2]
    got = compiled(ours, ('nngp', 'ndk'), diffusion_time=times)(x1, x2)
    np.testing.assert_allclose(got.nngp, nngp, rtol=1e-12)
    np.testing.assert_allclose(got.ndk, ndk, rtol=1e-12)


class FrozenTest(parameterized.TestCase):
  """Layers with `trainable=False`."""

  LAYERS = dict(
      first=[dense(1.4, .3, 1.5, .7, .8, 1.3, trainable=False), ERF,
             dense(1.1, .2, 1.3, .6)],
      last=[dense(1.4, .3, 1.5, .7, .8, 1.3), RELU,
            dense(1.1, .2, 1.3, .6, trainable=False)],
      middle=[dense(1.4, W_init_std=.7, W_prior_std=1.3), RELU,
              dense(1.4, .2, 1.4, .8, .5, .9, trainable=False), RELU,
              dense(1.1, .4, 1.2, .6)])

  @parameterized.product(name=['first', 'last', 'middle'],
                         times=[(.1, 2.), (5., 5.)])
  def test_reference(self, name, times):
    x1, x2 = vectors()
    got = compiled(network(self.LAYERS[name])[2], ('nngp', 'ndk', 'ntk'),
                   diffusion_time=times)(x1, x2)
    want = reference.two_time_kernels(x1, x2, *times, self.LAYERS[name])
    np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-12)
    np.testing.assert_allclose(got.ndk, want.ndk, rtol=1e-12, atol=1e-12)
    want = reference.two_time_kernels(x1, x2, 0., 0., self.LAYERS[name])
    np.testing.assert_allclose(got.ntk, want.ndk, rtol=1e-9)

  @parameterized.parameters(*nt.NtkImplementation)
  @pytest.mark.slow
  def test_gradients_of_finite_networks_are_stopped(self, implementation):
    # The NTK of their parameters is that of the layers that learn.
    x1, x2 = vectors()
    x1 = x1.at[1].set(100.)
    init_fn, apply_fn, _ = network(self.LAYERS['middle'])
    _, params = init_fn(random.PRNGKey(0), x1.shape)

    def learns(moving, x):
      return stax.unmask_fn(apply_fn)(
          params[:2] + [tuple(params[2])] + params[3:4] + [moving], x,
          mask_constant=100.)

    kernel_fn = lambda f: nt.empirical_ntk_fn(
        f, implementation=implementation)
    everything = kernel_fn(lambda p, x: stax.unmask_fn(apply_fn)(
        p, x, mask_constant=100.))(x1, x2, params)
    readout = kernel_fn(learns)(x1, x2, params[4])
    first = kernel_fn(lambda p, x: stax.unmask_fn(apply_fn)(
        [p] + params[1:], x, mask_constant=100.))(x1, x2, params[0])
    np.testing.assert_allclose(everything, readout + first, rtol=1e-10)
    self.assertGreater(np.min(np.abs(readout[0])), 0.)

  def test_without_a_time(self):
    # The NTK of layers that learn, though weights are of unit size.
    x1, x2 = vectors()
    make = lambda trainable: stax.serial(
        stax.Dense(4, 1.3, .4, trainable=trainable), stax.Relu(),
        stax.Dense(1))[2](x1, x2, ('nngp', 'ntk'))
    hidden = nt_stax.serial(nt_stax.Dense(4, 1.3, .4), nt_stax.Relu())[2](
        x1, x2, 'nngp')
    np.testing.assert_allclose(make(False).ntk, hidden, rtol=1e-10)
    np.testing.assert_allclose(make(False).nngp, make(True).nngp, rtol=1e-10)
    self.assertGreater(np.abs(make(True).ntk - hidden).max(), .1)

  def test_prior(self):
    init_fn, _, _ = stax.serial(
        stax.Dense(4, b_std=.1, W_prior_std=.5, trainable=False), stax.Relu(),
        stax.Dense(1, W_prior_std=.7))
    self.assertEqual(stax.prior_std(init_fn), [(0., 0.), (), (.7, None)])

  @parameterized.parameters(True, False)
  def test_attention(self, linear):
    # A network all of whose layers are frozen is the same at all times.
    kind = dict(trainable=False, W_key_init_std=1.3, W_value_prior_std=.7)
    if not linear:
      kind.update(linear_scaling=False, attention_mechanism='IDENTITY')
    conv = lambda: stax.Conv(4, (1, 1), trainable=False)
    kernel_fn = stax.serial(
        conv(), stax.Relu(), stax.GlobalSelfAttention(4, 4, 4, 2, **kind),
        conv(), stax.GlobalAvgPool())[2]
    x1, x2 = images()
    start, late = (compiled(kernel_fn, ('nngp', 'ndk'), diffusion_time=times)(
        x1, x2) for times in ((0., 0.), (3., .7)))
    np.testing.assert_array_equal(late.nngp, start.nngp)
    np.testing.assert_array_equal(late.ndk, 0.)
    self.assertGreater(np.abs(start.nngp).min(), 0.)


class StandardTest(parameterized.TestCase):
  """`parameterization="standard"`."""

  STDS = dict(W_init_std=1.4, W_prior_std=.8, b_init_std=.7, b_prior_std=1.2)

  def network(self, lib, **stds):
    standard = dict(parameterization='standard', **stds)
    return lib.serial(
        lib.Conv(8, (3, 2), None, 'SAME', 1.3, .4, s=(1, 2), **standard),
        lib.Relu(),
        lib.ConvLocal(6, (2, 2), None, 'VALID', 1.2, .3, s=(2, 3), **standard),
        lib.Relu(),
        lib.ConvTranspose(5, (2, 2), None, 'SAME', s=(3, 1), **standard),
        lib.Erf(), lib.Flatten(), lib.Dense(4, .9, .2, **standard), lib.Relu(),
        lib.Dense(1, 1.1, .3, **standard))

  def test_initial_network(self):
    x1, x2 = images()
    want = compiled(self.network(nt_stax)[2], ('nngp', 'ntk'))(x1, x2)
    got = compiled(self.network(stax)[2], ('nngp', 'ndk'),
                   diffusion_time=(0., 0.))(x1, x2)
    np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-12)
    np.testing.assert_allclose(got.ndk, want.ntk, rtol=1e-12)

  def test_same_network_in_ntk_parameterization(self):
    # As documented: multipliers and widths move into standard deviations.
    def layer(fan_in, make, W_std, b_std):
      root = fan_in**.5
      return make(W_std=root, b_std=1., W_init_std=1.4 * W_std / root,
                  W_prior_std=.8 * W_std / root, b_init_std=.7 * b_std,
                  b_prior_std=1.2 * b_std)

    def standard(make, W_std, b_std):
      return make(W_std=W_std, b_std=b_std, parameterization='standard',
                  **self.STDS)

    first = functools.partial(stax.Conv, 8, (3, 2), None, 'SAME')
    last = functools.partial(stax.Dense, 1)
    args = (first, 1.3, .4), (last, 1.1, .3)
    one = stax.serial(layer(3 * 2 * 2, *args[0]), stax.Relu(),
                      stax.GlobalAvgPool(), layer(8, *args[1]))
    two = stax.serial(standard(*args[0]), stax.Relu(), stax.GlobalAvgPool(),
                      standard(*args[1]))
    x1, x2 = images()
    got, want = (compiled(kernel_fn, ('nngp', 'ndk'), diffusion_time=(
        .03, .01))(x1, x2) for _, _, kernel_fn in (two, one))
    np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-12)
    np.testing.assert_allclose(got.ndk, want.ndk, rtol=1e-12)
    self.assertGreater(np.abs(got.ndk).min(), .1)
    # Same parameters, same outputs.
    _, params = two[0](random.PRNGKey(0), x1.shape)
    np.testing.assert_allclose(two[1](params, x1), one[1](params, x1),
                               rtol=1e-12)
    np.testing.assert_allclose(
        tree_util.tree_leaves(stax.prior_std(two[0], x1.shape)),
        tree_util.tree_leaves(stax.prior_std(one[0])), rtol=1e-12)

  def test_parameters(self):
    # Standard deviations at initialisation, and those of the prior beside them.
    init_fn, _, _ = self.network(stax, **self.STDS)
    shape = (1, 6, 5, 40)
    layers = zip(stax.prior_std(init_fn, shape),
                 init_fn(random.PRNGKey(0), shape)[1])
    for stds, params in ((s, p) for s, p in layers if p):
      (W, b), ratios = params, (1.4 / .8, .7 / 1.2)
      for std, p, ratio in zip(stds, (W, b), ratios):
        if p is not None:
          size = np.sqrt(np.mean(p**2)) / std / ratio
          self.assertLess(abs(size - 1.), 5 / (2 * p.size)**.5)


class PhysicsTest(parameterized.TestCase):

  def assert_fluctuation_dissipation(self, kernel_fn, x1, x2, t, s):
    @jax.jit
    def both(s):
      kernel = lambda get, s: kernel_fn(x1, x2, get, diffusion_time=(t, s))
      return kernel('ndk', s), jax.jvp(
          functools.partial(kernel, 'nngp'), (s,), (1.,))[1]

    ndk, slope = both(s)
    np.testing.assert_allclose(ndk, slope, rtol=1e-8, atol=1e-12)

  @parameterized.parameters(*NETWORKS)
  def test_fluctuation_dissipation_dense(self, name):
    x1, x2 = vectors()
    _, _, kernel_fn = network(NETWORKS[name])
    self.assert_fluctuation_dissipation(kernel_fn, x1, x2, 401., 400.2)

  def check_fluctuation_dissipation_convolutions(self, name, phi):
    kernel_fn = build(stax, name, [
        dict(W_std=1.3, b_std=.6, W_init_std=s, W_prior_std=s, b_init_std=1 / s,
             b_prior_std=1 / s) for s in (.7, 1.2, 1.5)], phi)[2]
    self.assert_fluctuation_dissipation(kernel_fn, *images(), 1.5, .4)

  @parameterized.parameters(
      ('conv', stax.Relu), ('local_pool', stax.Erf), ('transpose', stax.Erf))
  def test_fluctuation_dissipation_convolutions(self, name, phi):
    self.check_fluctuation_dissipation_convolutions(name, phi)

  @parameterized.parameters(
      ('circular', stax.Erf), ('local', stax.Relu), ('local_first', stax.Relu))
  @pytest.mark.slow
  def test_fluctuation_dissipation_convolutions_more(self, name, phi):
    self.check_fluctuation_dissipation_convolutions(name, phi)

  @pytest.mark.slow
  def test_fluctuation_dissipation_architectures(self):
    layer = lambda s: stax.Dense(8, 1.3, .4, W_init_std=s, W_prior_std=s)
    branches = lambda fan_in: stax.serial(
        layer(1.), stax.FanOut(2),
        stax.parallel(stax.serial(stax.Erf(), layer(.8)),
                      stax.serial(stax.Relu(), layer(1.3))),
        fan_in(), layer(1.1))
    for kernel_fn, inputs in [
        (residual_cnn()[2], images()),
        (branches(stax.FanInSum)[2], vectors()),
        (branches(stax.FanInProd)[2], vectors()),
        (branches(functools.partial(stax.FanInConcat, -1))[2], vectors()),
        (stax.serial(layer(.8), stax.LayerNorm(), stax.Gelu(), layer(1.2))[2],
         vectors())]:
      self.assert_fluctuation_dissipation(kernel_fn, *inputs, .9, .2)

  @parameterized.parameters(LINEAR, RELU)
  def test_stationary_kernels_depend_on_time_differences(self, phi):
    x1, x2 = vectors()
    layers = [dense(1.2, W_init_std=.8, W_prior_std=.8), phi] * 2 + [dense(1.1)]
    _, _, kernel_fn = network(layers)
    early, late = (
        kernel_fn(x1, x2, ('nngp', 'ndk'), diffusion_time=(a + .7, a))
        for a in (0., 3.))
    np.testing.assert_allclose(early.nngp, late.nngp, rtol=1e-12)
    np.testing.assert_allclose(early.ndk, late.ndk, rtol=1e-12)

  def test_non_stationary_kernels_depend_on_both_times(self):
    x1, x2 = vectors()
    kernel_fn = network(NETWORKS['linear'])[2]
    early, late = (kernel_fn(x1, x2, 'ndk', diffusion_time=(a + .7, a))
                   for a in (0., 3.))
    self.assertGreater(np.abs(early / late - 1.).min(), 1e-2)

  @parameterized.parameters(*range(4))
  def test_hermite_of_any_variance(self, degree):
    # The variance of its inputs moves, from 2.25 x^2 to .36 x^2.
    x1, x2 = jnp.array([[1.], [-.4]]), jnp.array([[.7]])
    linear = stax.Dense(1, W_init_std=1.5, W_prior_std=.6)
    times = .3, .05
    k = linear[2](x1, x2, None, diffusion_time=times)
    u, weight = np.polynomial.hermite_e.hermegauss(12)
    weight = np.outer(weight, weight) / np.sum(weight)**2
    basis = np.polynomial.hermite_e.HermiteE.basis(degree)
    norm = np.sqrt(np.prod(np.arange(1., degree + 1)))
    got = stax.Hermite(degree)[2](k)
    for i, (q1, c) in enumerate(zip(k.cov1, k.nngp[:, 0])):
      one = np.sqrt(q1) * u[:, None]
      two = c / np.sqrt(q1) * u[:, None] + np.sqrt(k.cov2[0] - c**2 / q1) * u
      mean = lambda phi: np.sum(weight * phi(one) * phi(two)) / norm**2
      np.testing.assert_allclose(got.nngp[i, 0], mean(basis), rtol=1e-11)
      np.testing.assert_allclose(got.ntk[i, 0], k.ntk[i, 0] * mean(
          basis.deriv()), rtol=1e-11, atol=1e-14)

  def test_swap_symmetry(self):
    x1, x2 = images(3, 2)
    kernel_fn = residual_cnn(W_init_std=.7, b_init_std=1.5, W_prior_std=1.1)[2]
    get = ('nngp', 'ndk')
    for t1, t2 in [(.3, 1.2), (np.array([.1, 2., .5]), np.array([.7, .2]))]:
      one = compiled(kernel_fn, get, diffusion_time=(t1, t2))(x1, x2)
      two = compiled(kernel_fn, get, diffusion_time=(t2, t1))(x2, x1)
      np.testing.assert_allclose(one.nngp, two.nngp.T, rtol=1e-12)
      np.testing.assert_allclose(one.ndk, two.ndk.T, rtol=1e-12)

  def test_covariance_over_times_is_positive(self):
    x, _ = vectors()
    times = np.repeat([0., .1, .5, 2.], len(x))
    for name in NETWORKS:
      c = compiled(network(NETWORKS[name])[2], 'nngp',
                   diffusion_time=(times, times))(np.tile(x, (4, 1)))
      self.assertGreater(np.linalg.eigvalsh(c).min(), -1e-7 * np.trace(c))


class TransformationsTest(parameterized.TestCase):

  @pytest.mark.slow
  def test_jit_vmap_grad(self):
    x1, x2 = vectors()
    layers = NETWORKS['deep_relu']
    _, _, kernel_fn = network(layers)
    ndk = lambda t, s: kernel_fn(x1, x2, 'ndk', diffusion_time=(t, s))
    t, s = np.array([.1, .5, 2.]), np.array([.3, .2, 0.])
    want = reference.two_time_kernels(
        x1, x2, t[:, None, None], s[:, None, None], layers).ndk
    np.testing.assert_allclose(
        jax.jit(jax.vmap(ndk))(t, s), want, rtol=1e-12)

    h = 1e-4
    slope = (ndk(.5 + h, .2) - ndk(.5 - h, .2)) / (2 * h)
    for jacobian in (jax.jacfwd, jax.jacrev):
      np.testing.assert_allclose(
          jax.jit(jacobian(ndk))(.5, .2), slope, rtol=1e-6, atol=1e-8)

  @parameterized.parameters(['ndk'])
  def test_derivatives_in_standard_deviations(self, get):
    self.check_derivatives_in_standard_deviations(get)

  @parameterized.parameters('nngp', 'ntk')
  @pytest.mark.slow
  def test_derivatives_in_standard_deviations_more(self, get):
    self.check_derivatives_in_standard_deviations(get)

  def check_derivatives_in_standard_deviations(self, get):
    # Networks that are made inside of what JAX traces, against differences.
    x1, x2 = images(2, 2, 2)

    def kernel(stds):
      w, v, b, c = stds
      stds = dict(W_init_std=w, W_prior_std=v, b_init_std=b, b_prior_std=c)
      return stax.serial(
          stax.Conv(4, (2, 1), None, 'SAME', w, b, **stds), stax.Relu(),
          stax.GlobalSelfAttention(
              4, 4, 4, 2, b_std=.2, W_key_init_std=w, W_value_prior_std=v,
              W_out_init_std=b, b_prior_std=c), stax.GlobalAvgPool(),
          stax.Dense(1, parameterization='standard', **stds),
          stax.Dense(1, trainable=False, **stds), stax.Erf(),
          stax.Dense(1, 1.1, .3, **stds))[2](x1, x2, get,
                                             diffusion_time=(.5, .2))

    stds, h = jnp.array([1.4, .8, .6, 1.2]), 1e-5
    some = jax.jit(jax.vmap(kernel))(stds + h * np.concatenate(
        [np.zeros((1, 4)), np.eye(4), -np.eye(4)]))
    np.testing.assert_allclose(some[0], kernel(stds), rtol=1e-12)
    want = np.moveaxis(some[1:5] - some[5:], 0, -1) / (2 * h)
    for jacobian in (jax.jacfwd, jax.jacrev):
      got = jax.jit(jacobian(kernel))(stds)
      np.testing.assert_allclose(got, want, atol=1e-7 * np.abs(want).max())
    # Wrong values are not known in time for an error.
    for wrong in (0., -1., np.inf):
      self.assertTrue(np.all(np.isnan(jax.jit(kernel)(stds.at[1].set(wrong)))))

  def test_batch_does_not_recompile_for_new_times(self):
    traces = []

    @stax.layer
    def Counter():
      init_fn = lambda rng, input_shape: (input_shape, ())
      apply_fn = lambda params, inputs, **kwargs: inputs

      def kernel_fn(k, **kwargs):
        traces.append(1)
        return k

      return init_fn, apply_fn, kernel_fn

    x1, x2 = vectors(4, 6)
    layers = NETWORKS['erf']
    _, _, kernel_fn = stax.serial(network(layers), Counter())
    batched = nt.batch(kernel_fn, batch_size=2)
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(3):
      t1, t2 = rng.uniform(0., 3., 4), rng.uniform(0., 3., 6)
      want = reference.two_time_kernels(x1, x2, t1[:, None], t2[None], layers)
      got = batched(x1, x2, 'ndk', diffusion_time=(t1, t2))
      np.testing.assert_allclose(got, want.ndk, rtol=1e-12)
      got = batched(x1, x2, ('nngp', 'ndk'),
                    diffusion_time=(jnp.array(t1), jnp.array(t2)))
      np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-12)
      np.testing.assert_allclose(got.ndk, want.ndk, rtol=1e-12)
      counts.append(len(traces))
    self.assertNotEmpty(traces)
    self.assertEqual(counts[0], counts[-1])


def layer_zoo():
  """Layers to compare with Neural Tangents: name -> (lib -> layer, images)."""
  dense_zoo = dict(
      dense=lambda lib: lib.Dense(6, 1.3),
      dense_bias=lambda lib: lib.Dense(6, W_std=1.3, b_std=.4),
      dense_standard=lambda lib: lib.Dense(
          6, 1.3, .4, parameterization='standard', s=(1, 2)),
      dense_axes=lambda lib: lib.serial(
          lib.Dense(6, 1.3, .4, batch_axis=1, channel_axis=0),
          lib.Relu(), lib.Dense(2, 1.1, None, 1, 0)),
      layer_norm=lambda lib: lib.serial(lib.Dense(6), lib.LayerNorm(),
                                        lib.Relu(), lib.Dense(1)),
      fan_in_sum=lambda lib: branches(lib, lib.FanInSum()),
      fan_in_concat=lambda lib: branches(lib, lib.FanInConcat(-1)),
      fan_in_prod=lambda lib: branches(lib, lib.FanInProd()),
      repeat=lambda lib: lib.repeat(
          lib.serial(lib.Dense(5, 1.2, .3), lib.Erf()), 3),
      dropout=lambda lib: lib.serial(
          lib.Dense(6), lib.Dropout(.9, mode='test'), lib.Relu(), lib.Dense(1)),
  )
  for name in ('Relu', 'Erf', 'Gelu', 'Sin', 'Cos', 'Rbf', 'Abs', 'LeakyRelu',
               'ABRelu', 'Sign', 'Exp', 'Gaussian', 'Sigmoid_like', 'Identity'):
    args = dict(LeakyRelu=(.1,), ABRelu=(-.5, 1.)).get(name, ())
    dense_zoo[name.lower()] = functools.partial(
        lambda name, args, lib: lib.serial(
            lib.Dense(6, 1.2, .2), getattr(lib, name)(*args), lib.Dense(1)),
        name, args)

  image_zoo = {}
  for padding in ('VALID', 'SAME', 'CIRCULAR'):
    for layer in ('Conv', 'ConvLocal', 'ConvTranspose'):
      for strides in (None,) if layer == 'ConvLocal' else (None, (2, 1)):
        image_zoo[f'{layer}_{padding}_{strides}'.lower()] = functools.partial(
            lambda layer, strides, padding, lib: lib.serial(
                getattr(lib, layer)(3, (3, 2), strides, padding, 1.3, .4),
                lib.Flatten(), lib.Dense(1)),
            layer, strides, padding)
  image_zoo.update(
      conv_standard=lambda lib: lib.serial(
          lib.Conv(3, (3, 3), W_std=1.2, b_std=.3, parameterization='standard'),
          lib.Relu(), lib.GlobalAvgPool()),
      conv_spatial=lambda lib: lib.serial(
          lib.Conv(3, (3, 3), padding='SAME', b_std=.3), lib.Relu()),
      conv_axes=lambda lib: lib.serial(
          lib.Conv(3, (2, 2), dimension_numbers=('NHWC', 'IWOH', 'NCHW')),
          lib.Relu(), lib.Flatten(), lib.Dense(1)),
      avg_pool=lambda lib: lib.serial(
          lib.Conv(3, (2, 2)), lib.Relu(), lib.AvgPool((2, 2), (1, 1), 'SAME'),
          lib.Flatten(), lib.Dense(1)),
      sum_pool=lambda lib: lib.serial(
          lib.Conv(3, (2, 2)), lib.Relu(), lib.SumPool((2, 2)),
          lib.GlobalSumPool(), lib.Dense(1)),
      layer_norm_image=lambda lib: lib.serial(
          lib.Conv(3, (2, 2)), lib.LayerNorm((1, 2, 3)), lib.Relu(),
          lib.GlobalAvgPool(), lib.Dense(1)),
      attention=lambda lib: lib.serial(
          lib.Conv(3, (2, 2), padding='SAME'), lib.Relu(),
          lib.GlobalSelfAttention(4, n_chan_key=4, n_chan_val=2, n_heads=2),
          lib.Flatten(), lib.Dense(1)),
  )
  columns = lambda: tuple(x.T for x in vectors())
  return [(name, layer, columns if name == 'dense_axes' else vectors)
          for name, layer in dense_zoo.items()] + [
              (name, layer, images) for name, layer in image_zoo.items()]


def branches(lib, fan_in):
  return lib.serial(
      lib.Dense(6), lib.FanOut(2),
      lib.parallel(lib.serial(lib.Relu(), lib.Dense(6, 1.2)),
                   lib.serial(lib.Erf(), lib.Dense(6, 1.1, .2))),
      fan_in, lib.Dense(1))


# One of each kind.
QUICK_LAYERS = (
    'dense_bias', 'dense_standard', 'dense_axes', 'layer_norm', 'fan_in_concat',
    'fan_in_prod', 'repeat', 'dropout', 'relu', 'erf', 'gelu',
    'conv_same_(2, 1)', 'convlocal_valid_none', 'convtranspose_circular_none',
    'conv_standard', 'conv_spatial', 'avg_pool', 'attention')


class NeuralTangentsTest(parameterized.TestCase):

  def test_every_name_is_exported(self):
    names = [name for name in dir(nt_stax) if not name.startswith('_')]
    self.assertEmpty([name for name in names if not hasattr(stax, name)])

  def check_same_to_the_last_bit(self, layer, inputs):
    x1, x2 = inputs()
    ours, theirs = layer(stax), layer(nt_stax)
    for args in ((x1, x2), (x1, None, ('nngp', 'ntk', 'cov1'))):
      got, want = (jax.jit(lambda net=net: net[2](*args))()
                   for net in (ours, theirs))
      self.assertEqual(type(got).__name__, type(want).__name__)
      got, want = ((k._asdict() if isinstance(k, tuple) else k.asdict())
                   for k in (got, want))
      self.assertEqual(got.keys(), want.keys())
      for key in want:
        np.testing.assert_array_equal(got[key], want[key], key)

    key = random.PRNGKey(3)
    (shape, params), (their_shape, their_params) = (
        net[0](key, x1.shape) for net in (ours, theirs))
    self.assertEqual(shape, their_shape)
    self.assertEqual(tree_util.tree_structure(params),
                     tree_util.tree_structure(their_params))
    tree_util.tree_map(np.testing.assert_array_equal, params, their_params)
    np.testing.assert_array_equal(
        ours[1](params, x1, rng=key), theirs[1](their_params, x1, rng=key))

  @parameterized.named_parameters(
      *(case for case in layer_zoo() if case[0] in QUICK_LAYERS))
  def test_same_to_the_last_bit(self, layer, inputs):
    self.check_same_to_the_last_bit(layer, inputs)

  @parameterized.named_parameters(
      *(case for case in layer_zoo() if case[0] not in QUICK_LAYERS))
  @pytest.mark.slow
  def test_same_to_the_last_bit_more(self, layer, inputs):
    self.check_same_to_the_last_bit(layer, inputs)

  @parameterized.parameters(*range(5))
  def test_hermite(self, degree):
    # Those of Neural Tangents hold for inputs of unit variance alone.
    x = vectors()[0]
    x /= jnp.mean(x**2, 1, keepdims=True)**.5
    network = lambda lib: lib.serial(lib.Dense(6), lib.Hermite(degree),
                                     lib.Dense(1))
    ours, theirs = network(stax), network(nt_stax)
    for get in ('nngp', 'ntk'):
      np.testing.assert_allclose(ours[2](x, None, get), theirs[2](x, None, get),
                                 rtol=1e-12, atol=1e-13)
    params = ours[0](random.PRNGKey(3), x.shape)[1]
    np.testing.assert_allclose(ours[1](params, x), theirs[1](params, x),
                               rtol=1e-12, atol=1e-12)

  @parameterized.parameters(
      ((2, 5), 'linear', False), ((-1, 6), 'nearest', False),
      ((2, 5), 'linear', True))
  def test_image_resize_after_any_number_of_convolutions(self, shape, method,
                                                         masked):
    # Each reverses the order of axes, which Neural Tangents overlooks.
    x1, x2 = images()
    kwargs = {}
    if masked:
      x1, x2 = x1.at[0, 1].set(9.), x2.at[1, :, 2].set(9.)
      kwargs['mask_constant'] = 9.

    def kernel(lib, convolutions):
      layers = [lib.Conv(4, (1, 1)) for _ in range(convolutions)]
      layers += [lib.ImageResize((-1, *shape, -1), method), lib.Relu(),
                 lib.Conv(4, (2, 1)), lib.Relu(), lib.Flatten()]
      return jax.jit(lambda: lib.serial(*layers)[2](
          x1, x2, ('nngp', 'ntk'), **kwargs))()

    want, one, two = kernel(nt_stax, 2), kernel(stax, 1), kernel(stax, 2)
    # An NTK grows with the number of layers.
    np.testing.assert_allclose(one.nngp, want.nngp, rtol=1e-12)
    for get in ('nngp', 'ntk'):
      np.testing.assert_array_equal(getattr(two, get), getattr(want, get))

  def test_masking(self):
    x1, x2 = vectors(3, 3)
    x1 = x1.at[1].set(100.)
    make = lambda lib: lib.serial(
        lib.Dense(4, 1.3, .4), lib.Relu(), lib.Dense(1))[2]
    want = make(nt_stax)(x1, x2, 'ntk', mask_constant=100.)
    np.testing.assert_array_equal(
        make(stax)(x1, x2, 'ntk', mask_constant=100.), want)
    np.testing.assert_allclose(
        make(stax)(x1, x2, 'ndk', mask_constant=100., diffusion_time=(0., 0.)),
        want, rtol=1e-12)


# Kinds of attention that Neural Tangents has in closed form.
ATTENTION = [
    dict(attention_mechanism=mechanism, **positions)
    for mechanism in ('SOFTMAX', 'IDENTITY', 'ABS', 'RELU')
    for positions in (
        {}, dict(pos_emb_type='SUM'),
        dict(pos_emb_type='SUM', val_pos_emb=True,
             pos_emb_decay_fn=lambda d: 1 / (1 + d)),
        dict(pos_emb_type='CONCAT', n_chan_pos_emb=3),
        dict(pos_emb_type='CONCAT', val_pos_emb=True))]
ATTENTION += [dict(linear_scaling=False, **kind) for kind in ATTENTION
              if kind['attention_mechanism'] == 'IDENTITY']
# Each mechanism and each kind of positions in one of the quick tests.
QUICK = ATTENTION[::6]
SLOW = [kind for kind in ATTENTION if kind not in QUICK]


class AttentionTest(parameterized.TestCase):

  def network(self, lib, kind, s=None, even=True):
    """An even filter reverses the order of spatial axes."""
    stds = lambda *names: {
        f'{name}_{when}_std': s for name in names
        for when in ('init', 'prior') if s is not None}
    queries = () if kind.get('linear_scaling', True) else ('W_query',)
    return lib.serial(
        lib.Conv(8, (2, 2) if even else (1, 1), None, 'SAME', 1.2, .1,
                 **stds('W', 'b')),
        lib.Relu(),
        lib.GlobalSelfAttention(
            8, 8, 8, 4, W_key_std=1.3, W_out_std=.7, b_std=.3,
            W_pos_emb_std=.8, **kind, **stds(
                'W_key', 'W_value', 'W_out', 'W_pos_emb', 'b', *queries)),
        lib.Relu(), lib.GlobalAvgPool(), lib.Dense(1, **stds('W')))[2]

  def check_initial_and_prior_network(self, **kind):
    x1, x2 = images()
    masked = x1.at[0, 1].set(9.), x2.at[1, :, 2].set(9.)
    get = ('nngp', 'ntk')
    for even, args, keywords in [
        (True, (x1, x2), {}), (False, (x1, None), {}),
        (True, masked, dict(mask_constant=9.))]:
      want = compiled(self.network(nt_stax, kind, even=even), get,
                      **keywords)(*args)
      got = compiled(self.network(stax, kind, even=even), ('nngp', 'ndk'),
                     diffusion_time=(0., 0.), **keywords)(*args)
      # Rounding of ReLU where an input meets itself.
      rtol = 1e-11 if args[1] is not None else 1e-7
      np.testing.assert_allclose(got.nngp, want.nngp, rtol=rtol)
      np.testing.assert_allclose(got.ndk, want.ntk, rtol=rtol)

  @parameterized.parameters(*QUICK)
  def test_initial_and_prior_network(self, **kind):
    self.check_initial_and_prior_network(**kind)

  @parameterized.parameters(*SLOW)
  @pytest.mark.slow
  def test_initial_and_prior_network_more(self, **kind):
    self.check_initial_and_prior_network(**kind)

  def check_fluctuation_dissipation(self, **kind):
    x1, x2 = images()
    kernel_fn = self.network(stax, kind, .8)
    ndk = compiled(kernel_fn, 'ndk', diffusion_time=(.9, .2))(x1, x2)
    slope = jax.jit(lambda s: jax.jvp(
        lambda s: kernel_fn(x1, x2, 'nngp', diffusion_time=(.9, s)),
        (s,), (1.,))[1])(.2)
    np.testing.assert_allclose(ndk, slope, rtol=1e-9)

  @parameterized.parameters(*ATTENTION[:8:4])
  def test_fluctuation_dissipation(self, **kind):
    self.check_fluctuation_dissipation(**kind)

  @parameterized.parameters(*ATTENTION[8::4])
  @pytest.mark.slow
  def test_fluctuation_dissipation_more(self, **kind):
    self.check_fluctuation_dissipation(**kind)

  def check_one_time_per_sample(self, **kind):
    x1, x2 = images()
    kernel_fn = self.network(stax, kind)
    t1, t2 = np.array([.1, 2.]), np.array([.3, 1., 0.])
    got = compiled(kernel_fn, 'ndk', diffusion_time=(t1, t2))(x1, x2)
    for i in range(2):
      for j in range(3):
        want = compiled(kernel_fn, 'ndk', diffusion_time=(t1[i], t2[j]))(
            x1[i:i + 1], x2[j:j + 1])
        np.testing.assert_allclose(got[i, j], want[0, 0], rtol=1e-9)

  @parameterized.parameters([ATTENTION[3]])
  def test_one_time_per_sample(self, **kind):
    self.check_one_time_per_sample(**kind)

  @parameterized.parameters(ATTENTION[0], *ATTENTION[6::3])
  @pytest.mark.slow
  def test_one_time_per_sample_more(self, **kind):
    self.check_one_time_per_sample(**kind)

  def test_weights(self):
    stds = dict(W_key_init_std=2., W_key_prior_std=3., W_out_prior_std=.5,
                W_pos_emb_init_std=.1, b_init_std=4., b_prior_std=.2)
    make = functools.partial(stax.GlobalSelfAttention, 4, 200, 8, 2, b_std=1.,
                             pos_emb_type='SUM', **stds)
    init_fn = make()[0]
    self.assertEqual(stax.prior_std(init_fn), (None, 3., 1., .5, .2, 1.))
    _, params = init_fn(random.PRNGKey(0), (1, 8, 30))
    self.assertEqual(
        tree_util.tree_structure(params, is_leaf=lambda x: x is None),
        tree_util.tree_structure(stax.prior_std(init_fn),
                                 is_leaf=lambda x: x is None))
    self.assertAlmostEqual(float(jnp.std(params[1])), 2., delta=.1)
    self.assertAlmostEqual(float(jnp.std(params[5])), .1, delta=.02)
    init_fn = make(linear_scaling=False, W_query_init_std=.5,
                   W_query_prior_std=.7)[0]
    self.assertEqual(stax.prior_std(init_fn), (.7, 3., 1., .5, .2, 1.))

  @parameterized.parameters(
      (dict(W_query_prior_std=2.), 'queries are keys'),
      (dict(W_value_init_std=-1.), 'W_value_init_std'),
      (dict(b_prior_std=0.), 'b_prior_std'))
  def test_wrong_std(self, stds, message):
    with self.assertRaisesRegex(ValueError, message):
      stax.GlobalSelfAttention(4, 4, 4, 2, **stds)

  def test_no_closed_form(self):
    kernel_fn = stax.serial(stax.Conv(4, (1, 1)), stax.GlobalSelfAttention(
        4, 4, 4, 2, linear_scaling=False))[2]
    with self.assertRaisesRegex(NotImplementedError, 'SOFTMAX'):
      kernel_fn(*images(), 'ndk', diffusion_time=(.1, .2))

  def test_frozen_readout(self):
    kernel_fn = stax.serial(stax.Conv(4, (1, 1)),
                            stax.GlobalSelfAttention(4, 4, 4, 2))[2]
    with self.assertRaisesRegex(ValueError, 'ends in .* attention'):
      kernel_fn(*images(), 'ndk', diffusion_time=(.1, .2), readout_freeze=.1)


class WeightsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('dense', lambda **k: stax.Dense(300, 3., .4, **k), (1, 400)),
      ('conv', lambda **k: stax.Conv(300, (3, 3), None, 'SAME', 3., .4, **k),
       (1, 4, 4, 50)),
      ('conv_local', lambda **k: stax.ConvLocal(
          30, (3, 3), None, 'SAME', 3., .4, **k), (1, 4, 4, 50)),
      ('conv_transpose', lambda **k: stax.ConvTranspose(
          300, (3, 3), None, 'SAME', 3., .4, **k), (1, 4, 4, 50)))
  def test_initial_std(self, layer, shape):
    init_fn, _, _ = layer(W_init_std=1.7, b_init_std=.3,
                          W_prior_std=5., b_prior_std=6.)
    _, params = init_fn(random.PRNGKey(0), shape)
    for param, std in zip(params, (1.7, .3)):
      deviation = np.sqrt(np.mean(param**2)) / std - 1.
      self.assertLess(abs(deviation), 5. / np.sqrt(2. * param.size))
      self.assertLess(abs(np.mean(param)), 5. * std / np.sqrt(param.size))
    self.assertEqual(stax.prior_std(init_fn), (5., 6.))

  def test_prior_std_matches_parameters(self):
    layer = lambda s: stax.serial(
        stax.Dense(4, b_std=.1, W_prior_std=s, b_prior_std=2. * s), stax.Relu())
    init_fn, _, _ = stax.serial(
        stax.Dense(4, W_prior_std=.5), stax.repeat(layer(3.), 2),
        stax.FanOut(2), stax.parallel(layer(4.), stax.Identity()),
        stax.FanInSum(), stax.LayerNorm(), stax.Dense(1))
    _, params = init_fn(random.PRNGKey(0), (1, 4))
    prior = stax.prior_std(init_fn)
    self.assertEqual(tree_util.tree_structure(params),
                     tree_util.tree_structure(prior))
    self.assertEqual(tree_util.tree_leaves(prior),
                     [.5, 3., 6., 4., 8., 1.])
    log_prior = tree_util.tree_reduce(operator.add, tree_util.tree_map(
        lambda p, s: jnp.sum(p**2) / s**2, params, prior))
    self.assertTrue(np.isfinite(log_prior))


class RefusalsTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.x1, self.x2 = vectors()
    self.kernel_fn = network(NETWORKS['relu'])[2]

  @parameterized.parameters(
      'Dense', 'Conv', 'ConvLocal', 'ConvTranspose', 'GlobalSelfAttention')
  def test_layer_without_two_time_kernel(self, name):
    args = dict(Dense=(4,), GlobalSelfAttention=(4, 4, 2, 2)).get(
        name, (4, (2, 2)))
    inner = getattr(nt_stax, name)(*args)
    for block in (inner, stax.serial(stax.Identity(), inner),
                  stax.repeat(inner, 2), nt_stax.serial(inner)):
      kernel_fn = stax.serial(stax.Conv(4, (1, 1)), stax.Relu(), block)[2]
      with self.assertRaisesRegex((ValueError, TypeError),
                                  f'{name}|random weights'):
        kernel_fn(*images(), 'ndk', diffusion_time=(.1, .2))
    kernel_fn = stax.serial(stax.Conv(4, (1, 1)), stax.FanOut(2),
                            stax.parallel(inner, stax.Identity()))[2]
    with self.assertRaisesRegex((ValueError, TypeError), name):
      kernel_fn(*images(), 'ndk', diffusion_time=(.1, .2))

  def test_dropout_at_different_times(self):
    kernel_fn = stax.serial(stax.Dense(4), stax.Dropout(.9, mode='train'),
                            stax.Relu(), stax.Dense(1))[2]
    with self.assertRaisesRegex((ValueError, TypeError), 'Dropout'):
      kernel_fn(self.x1, self.x2, 'ndk', diffusion_time=(.1, .2))

  @parameterized.parameters(
      dict(diffusion_tim=(0., 0.)), dict(diffusion_times=(0., 0.)),
      dict(temperature=1.))
  def test_unknown_keyword(self, **kwargs):
    with self.assertRaisesRegex((ValueError, TypeError), list(kwargs)[0]):
      self.kernel_fn(self.x1, self.x2, 'nngp', **kwargs)

  @parameterized.named_parameters(
      ('negative', (-.1, 0.)),
      ('negative_sample', (0., np.array([1, 2, 3, -1]))),
      ('nan', (0., np.nan)), ('inf', (np.inf, 0.)),
      ('too_few', (np.zeros(2), np.zeros(4))),
      ('swapped', (np.zeros(4), np.zeros(3))),
      ('two_dimensional', (np.zeros((3, 1)), np.zeros((1, 4)))),
      ('scalar', 1.), ('triple', (0., 1., 2.)), ('one', (0.,)),
      ('half', (0., None)), ('word', ('a', 'b')))
  def test_wrong_times(self, times):
    for get in ('ndk', 'nngp', None):
      with self.assertRaisesRegex((ValueError, TypeError),
                                  '[Dd]iffusion.time|tau'):
        self.kernel_fn(self.x1, self.x2, get, diffusion_time=times)

  @parameterized.product(
      name=['W_init_std', 'W_prior_std', 'b_init_std', 'b_prior_std'],
      value=[0., -1., np.nan, np.inf])
  def test_wrong_std(self, name, value):
    for layer in (
        functools.partial(stax.Dense, 4),
        functools.partial(stax.Conv, 4, (2, 2)),
        functools.partial(stax.ConvLocal, 4, (2, 2)),
        functools.partial(stax.ConvTranspose, 4, (2, 2))):
      with self.assertRaisesRegex((ValueError, TypeError), name):
        layer(b_std=1., **{name: value})

  def test_prior_of_an_unknown_width(self):
    init_fn, _, _ = stax.serial(stax.Dense(4, parameterization='standard'))
    with self.assertRaisesRegex(ValueError, 'input_shape'):
      stax.prior_std(init_fn)


if __name__ == '__main__':
  absltest.main()
