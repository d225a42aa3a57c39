# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of derivatives of the mean along learning.

Predictors take time in the units of Neural Tangents (mean loss); the
references take that of the theory (sum loss): `t * learning_rate / y.size`.
"""

import functools
from unittest import mock
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import numpy as jnp
import numpy as np
from predict_test import data
from predict_test import image_data
from predict_test import rms
import pytest

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.kernels import derivatives as kernel_derivatives
from nt_ndk._src.predictors import problem as problem_lib
from nt_ndk._src.predictors import tangents
import reference

jax.config.update('jax_enable_x64', True)

differentiable = predict.differentiable_mean
ensemble = predict.markov_proximal_mse_ensemble
_NAMES = dict(W='W_std', b='b_std', s0='W_init_std', s='W_prior_std',
              b0='b_init_std', bs='b_prior_std')


def descriptions(parameters, phi):
  """Layers of a network, for the reference, with nonlinearities between."""
  out = []
  for p in parameters:
    out += [reference.dense(**{_NAMES[k]: v for k, v in p.items()}), phi]
  return out[:-1]


def network(parameters, phi='relu', outputs=1):
  """Dense layers, of all their numbers."""
  phi = dict(relu=stax.Relu, erf=stax.Erf)[phi]
  out = []
  for p in parameters:
    out += [stax.Dense(outputs, **{_NAMES[k]: v for k, v in p.items()}), phi()]
  return stax.serial(*out[:-1])[2]


def layer(W, s0, s):
  return dict(W=W, s0=s0, s=s)


def shared(p, phi='relu', depth=1):
  """Dense layers that have their numbers in common."""
  layers = [dict(W=p['W'], b=p['b'], s0=p['s0'], s=p['s'], b0=p['s0'])]
  return network(layers * (depth + 1), phi)


_SHARED = dict(W=1.2, b=.3, s0=1.4, s=.8)


def difference(f, h):
  """Derivative at 0, by central differences of fourth order."""
  return (8 * (f(h) - f(-h)) - f(2 * h) + f(-2 * h)) / (12 * h)


def along(direction, derivatives, temperature, t):
  """Derivative in a direction of logarithms of all."""
  d_parameters, d_temperature, d_t = direction
  t = np.reshape(t, (-1, 1, 1))
  return sum(jax.tree_util.tree_leaves(jax.tree_util.tree_map(
      np.multiply, d_parameters, derivatives.parameters))) + (
          d_temperature * temperature * derivatives.temperature +
          d_t * t * derivatives.t)


class DerivativesTest(parameterized.TestCase):

  def test_one_sample_without_hidden_layer(self):
    x, y, s, temperature = np.array([[1., 2., -1.]]), np.array([[.8]]), .7, .1
    t = np.concatenate([[0.], np.geomspace(1e-2, 400., 9)])

    def mean(p, temperature, t):
      rate = 2. * p['W']**2 + temperature / p['s']**2
      return 2. * p['W']**2 * .8 / rate * -jnp.expm1(-rate * t)

    p = dict(W=1.4, s0=1.3, s=s)
    f = differentiable(lambda p: network([p]), x, y, rtol=1e-7)
    want = jax.jacfwd(mean, (0, 1, 2))(p, temperature, t)
    for x_test, sign in ((None, 1.), (-x, -1.)):
      got_mean, got = f.with_derivatives(p, temperature, t, x_test)
      np.testing.assert_allclose(got_mean[:, 0, 0],
                                 sign * mean(p, temperature, t), atol=1e-6)
      for name in ('W', 's'):
        np.testing.assert_allclose(got.parameters[name][:, 0, 0],
                                   sign * want[0][name], rtol=0, atol=3e-6)
      np.testing.assert_array_equal(got.parameters['s0'], 0.)
      np.testing.assert_allclose(got.temperature[:, 0, 0], sign * want[1],
                                 rtol=0, atol=3e-6)
      np.testing.assert_allclose(got.t[:, 0, 0], sign * np.diag(want[2]),
                                 rtol=1e-5, atol=1e-9)

  def check_brute_force(self, phi, depth, temperature, refine=1.):
    x, y, z = data(3, features=4)
    rng = np.random.default_rng(depth)
    p = [dict(W=1.3, b=.4, s0=1.5, s=.8, b0=.7, bs=1.1),
         *[dict(W=1.1, b=.3, s0=.8, s=1., b0=1.3, bs=.9)] * depth]
    t = np.array([.3, 4., .5 / temperature, 3. / temperature])
    mean, got = differentiable(
        functools.partial(network, phi=phi), x, y, learning_rate=y.size,
        rtol=1e-6).with_derivatives(p, temperature, t, z)
    # All at once, so that few differences do.
    changes = jax.tree_util.tree_map(lambda _: rng.normal(), p)
    direction = (jax.tree_util.tree_map(np.multiply, changes, p), *rng.normal(
        size=2))

    @functools.cache
    def brute_force(h):
      moved = jax.tree_util.tree_map(lambda a, d: a * np.exp(h * d), p, changes)
      kernel = lambda *args: reference.two_time_kernels(
          *args, descriptions(moved, phi)).ndk
      return reference.volterra_mean(
          kernel, x, y, z, temperature * np.exp(h * direction[1]),
          t * np.exp(h * direction[2]), prior_std=.8, refine=refine)[1]

    np.testing.assert_allclose(mean, brute_force(0.), rtol=0, atol=2e-5)
    np.testing.assert_allclose(along(direction, got, temperature, t),
                               difference(brute_force, .02), rtol=0, atol=2e-4)

  def test_brute_force(self):
    self.check_brute_force('relu', 1, .1)

  @parameterized.product(phi=('relu', 'erf'), depth=(1, 2),
                         temperature=(.01, 1.))
  @pytest.mark.slow
  def test_brute_force_more(self, phi, depth, temperature):
    self.check_brute_force(phi, depth, temperature, 2.)

  @parameterized.parameters('relu', 'erf')
  def test_units_of_weights_and_of_time(self, phi):
    # Weights that are larger by a factor, with multipliers that are smaller,
    # make the same functions, and take its square as long to learn and to
    # diffuse. A larger readout is a faster clock and a lower temperature.
    x, y, z = data(6)
    p, temperature = [layer(1.3, 1.5, .8), layer(1.1, .8, 1.)], .03
    t = np.geomspace(.1, 1e5, 8)
    f = differentiable(functools.partial(network, phi=phi), x, y, rtol=1e-6)
    _, got = f.with_derivatives(p, temperature, t, z)
    in_time = t[:, None, None] * got.t
    scaled = [dict(W=-q['W'], s0=q['s0'], s=q['s']) for q in p]
    np.testing.assert_allclose(along((scaled, 0., 0.), got, temperature, t),
                               -2. * in_time, rtol=0, atol=2e-5)
    readout = [dict(W=0., s0=0., s=0.), dict(W=p[1]['W'], s0=0., s=0.)]
    np.testing.assert_allclose(
        along((readout, 2., -2.), got, temperature, t), 0., rtol=0, atol=2e-5)
    self.assertGreater(np.max(np.abs(in_time)), .1)
    self.assertGreater(np.max(np.abs(got.temperature)), 1.)
    # Only the product of learning rate and time matters.
    faster = differentiable(functools.partial(network, phi=phi), x, y, 3.,
                            rtol=1e-6)
    mean, other = faster.with_derivatives(p, temperature, t / 3., z)
    np.testing.assert_allclose(mean, f(p, temperature, t, z), atol=1e-5)
    np.testing.assert_allclose(other.t, 3. * got.t, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other.temperature, got.temperature, rtol=0,
                               atol=1e-4)

  def test_equilibrium(self):
    self.check_equilibrium(True)

  @pytest.mark.slow
  def test_equilibrium_with_frozen_layers(self):
    self.check_equilibrium(False)

  def check_equilibrium(self, trainable):
    x, y, z = data(6)
    x[3], x[5] = x[2], 0.  # Equal inputs, and one that tells nothing.

    def kernel_fn(p):
      stds = dict(W_init_std=p['s0'], W_prior_std=p['s'])
      return stax.serial(stax.Dense(4, p['W'], **stds, trainable=trainable),
                         stax.Relu(), stax.Dense(1, 1.2, **stds))[2]

    def posterior(p, temperature, t, inputs):
      del t
      late = lambda x1, x2: kernel_fn(p)(x1, x2, 'nngp',
                                         diffusion_time=(1e3, 1e3))
      c = late(x, x) + temperature * jnp.eye(len(x))
      return late(inputs, x) @ jnp.linalg.solve(c, y)

    p, temperature = dict(W=1.4, s0=1.3, s=.8), .02
    f = differentiable(kernel_fn, x, y, rtol=1e-6)
    for inputs in (z, None):
      where = x if inputs is None else inputs
      want = jax.jacfwd(posterior, (0, 1, 2))(p, temperature, 1., where)
      for t in (None, 1e9):  # The second is solved for.
        mean, got = f.with_derivatives(p, temperature, t, inputs)
        np.testing.assert_allclose(mean, posterior(p, temperature, t, where),
                                   rtol=0, atol=1e-8)
        jax.tree_util.tree_map(functools.partial(
            np.testing.assert_allclose, rtol=1e-5, atol=1e-8), tuple(got), want)
    self.assertGreater(np.max(np.abs(want[0]['s'])), .1)

  def test_gradient_flow(self):
    # With next to no noise, learning in the first kernel.
    x, y, z = data(5)
    p, t = dict(W=1.3, b=.4, s0=1.4, s=.8), np.array([.1, 3., 100.])

    kernel_fn = functools.partial(shared, phi='erf')

    def flow(p, t):
      ntk = lambda x1: kernel_fn(p)(x1, x, 'ntk')
      decay = jax.vmap(lambda t: jax.scipy.linalg.expm(
          -ntk(x) * t / y.size))(t)
      return ntk(z) @ jnp.linalg.solve(ntk(x), y - decay @ y)

    f = differentiable(kernel_fn, x, y)
    mean, got = f.with_derivatives(p, 1e-9, t, z)
    np.testing.assert_allclose(mean, flow(p, t), rtol=0, atol=1e-4)
    want = jax.jacfwd(flow, (0, 1))(p, t)
    for name in ('W', 'b', 's0'):
      np.testing.assert_allclose(got.parameters[name], want[0][name], rtol=0,
                                 atol=1e-4)
    np.testing.assert_allclose(got.parameters['s'], 0., atol=1e-4)
    np.testing.assert_allclose(
        got.t, np.moveaxis(np.diagonal(want[1], 0, 0, 3), -1, 0), rtol=1e-4,
        atol=1e-6)

  def test_first_step(self):
    # At the beginning, learning is the NTK times targets.
    x, y, z = data(5)
    f = differentiable(shared, x, y, learning_rate=2.)
    for inputs in (z, None):
      want = shared(_SHARED)(x if inputs is None else inputs, x, 'ntk') @ y
      mean, got = f.with_derivatives(_SHARED, .1, np.array([0., 1e-9]), inputs)
      np.testing.assert_allclose(mean, 0., atol=1e-7)
      # Later on that of ReLU moves as the root of time.
      np.testing.assert_allclose(got.t, np.stack(2 * [want * 2. / y.size]),
                                 rtol=5e-3)
      np.testing.assert_allclose(got.t[0], want * 2. / y.size, rtol=1e-7)
      jax.tree_util.tree_map(functools.partial(
          np.testing.assert_allclose, desired=0., atol=1e-6), got.parameters)
    _, alone = f.with_derivatives(_SHARED, .1, 0.)
    jax.tree_util.tree_map(
        lambda a, b: np.testing.assert_array_equal(a, b[0]), alone, got)

  def check_differences(self, kernel_fn, p, temperature, x, y, z, t, h=.005,
                        rtol=1e-7, atol=1e-4, **kwargs):
    """Derivatives in all logarithms at once, of test and of training data."""
    flat, restore = jax.flatten_util.ravel_pytree(p)

    def predict_at(logs):
      numbers = jax.tree_util.tree_map(np.asarray, restore(
          flat * np.exp(logs[:-2])))
      predict_fn = ensemble(kernel_fn(numbers), x, y,
                            temperature * np.exp(logs[-2]), rtol=rtol, **kwargs)
      return [predict_fn(t=t * np.exp(logs[-1]), x_test=inputs, get='ndk')
              for inputs in (z, None)]

    # Directions that have a component along each, of either sign.
    directions = np.random.default_rng(0).choice([-1., 1.], (3, len(flat) + 2))
    means = predict_at(np.zeros(len(flat) + 2))
    wanted = [difference(lambda h: np.concatenate(predict_at(h * d), 1), h)  # pylint: disable=cell-var-from-loop
              for d in directions]
    f = differentiable(kernel_fn, x, y, rtol=rtol, **kwargs)
    for inputs, mean in zip((z, None), means):
      got_mean, got = f.with_derivatives(p, temperature, t, inputs)
      np.testing.assert_allclose(got_mean, mean, rtol=0, atol=10 * rtol)
      slopes = np.concatenate([
          np.reshape(a, mean.shape + (-1,))
          for a in jax.tree_util.tree_leaves(got.parameters)], -1) * flat
      of_time = t.reshape((-1,) + (1,) * (mean.ndim - 1))
      slopes = np.stack([*np.moveaxis(slopes, -1, 0),
                         temperature * got.temperature, of_time * got.t])
      for direction, want in zip(directions, wanted):
        want = want[:, :len(z)] if inputs is not None else want[:, len(z):]
        np.testing.assert_allclose(np.tensordot(direction, slopes, 1), want,
                                   rtol=0, atol=atol * rms(y))

  @parameterized.product(phi=('relu', 'erf'), depth=(1, 2, 3))
  @pytest.mark.slow
  def test_differences_over_nine_decades(self, phi, depth):
    x, y, z = data(12, outputs=1, features=5)
    self.check_differences(
        functools.partial(shared, phi=phi, depth=depth), _SHARED, .01, x, y, z,
        np.geomspace(.1, 1e8, 10))

  @parameterized.parameters(1e-6, 1e-4, 1.)
  @pytest.mark.slow
  def test_differences_at_other_temperatures(self, temperature):
    x, y, z = data(8, outputs=3)
    self.check_differences(
        functools.partial(shared, phi='erf'), _SHARED, temperature, x, y, z,
        np.geomspace(.1, 1e2 / temperature, 8))

  @parameterized.parameters('relu', 'erf')
  @pytest.mark.slow
  def test_differences_in_one_variable(self, phi):
    x = np.linspace(-3., 3., 12)[:, None]
    self.check_differences(
        functools.partial(shared, phi=phi, depth=2), _SHARED, .01, x,
        np.sin(2 * x), x[:5] + .1, np.geomspace(.1, 1e7, 8))

  @pytest.mark.slow
  def test_differences_of_equal_and_opposite_inputs(self):
    x, y, z = data(8, outputs=1)
    x[1], x[3], x[5], x[6] = x[0], -x[2], 2 * x[4], 0.
    self.check_differences(
        functools.partial(shared, depth=2), _SHARED, .01, x, y, z,
        np.geomspace(.1, 1e7, 8))

  @pytest.mark.slow
  def test_differences_of_images(self):
    x, y, z = image_data()

    def kernel_fn(p):
      conv = functools.partial(stax.Conv, 4, (2, 2), None, 'SAME', p['W'],
                               W_init_std=p['s0'], W_prior_std=p['s'])
      return stax.serial(
          conv(), stax.FanOut(2), stax.parallel(
              stax.serial(stax.Relu(), conv()), stax.Identity()),
          stax.FanInSum(), stax.Erf(), stax.GlobalAvgPool(),
          stax.Dense(1, W_prior_std=p['s']))[2]

    self.check_differences(kernel_fn, dict(W=1.3, s0=1.5, s=.9), .01, x, y, z,
                           np.geomspace(.1, 1e6, 6), rtol=1e-6)

  @pytest.mark.slow
  def test_differences_in_numbers_of_a_nonlinearity(self):
    # And in an array of numbers.
    x, y, z = data(5)

    def kernel_fn(p):
      layers = lambda i: stax.Dense(4, 1.2, W_init_std=1.4,
                                    W_prior_std=p['s'][i])
      return stax.serial(layers(0), stax.ABRelu(p['a'], 1.), layers(1))[2]

    self.check_differences(
        lambda p: kernel_fn(dict(a=p[0], s=p[1:])), np.array([-.5, .8, 1.1]),
        .1, x, y, z, np.geomspace(.1, 1e5, 5), rtol=1e-6)

  def test_jax(self):
    x, y, z = data(5)
    target = np.ones((3, 2))
    f = differentiable(shared, x, y, rtol=1e-4)

    def loss(logs):
      p, temperature, t = jax.tree_util.tree_map(jnp.exp, logs)
      return jnp.mean((f(p, temperature, t, z) - target)**2)

    logs = jax.tree_util.tree_map(np.log, (_SHARED, .1, 20.))
    value, slope = jax.value_and_grad(loss)(logs)
    mean, derivatives = f.with_derivatives(_SHARED, .1, 20., z)
    self.assertAlmostEqual(float(value), float(np.mean((mean - target)**2)))
    chain = lambda slope, size: size * np.mean(2 * (mean - target) * slope)
    want = (jax.tree_util.tree_map(chain, derivatives.parameters, _SHARED),
            chain(derivatives.temperature, .1), chain(derivatives.t, 20.))
    jax.tree_util.tree_map(functools.partial(np.testing.assert_allclose,
                                             rtol=1e-9), slope, want)
    value, along_ones = jax.jvp(loss, (logs,), (jax.tree_util.tree_map(
        np.ones_like, logs),))
    self.assertAlmostEqual(float(along_ones), float(sum(
        jax.tree_util.tree_leaves(slope))))
    t = np.array([1., 20.])
    of = lambda p, temperature, t: f(p, temperature, t, z)
    for jacobian in (jax.jacfwd, jax.jacrev):
      in_p, in_temperature, in_t = jacobian(of, (0, 1, 2))(_SHARED, .1, t)
      _, derivatives = f.with_derivatives(_SHARED, .1, t, z)
      np.testing.assert_allclose(in_p['s'], derivatives.parameters['s'])
      np.testing.assert_allclose(in_temperature, derivatives.temperature)
      for i in range(2):
        np.testing.assert_allclose(in_t[i, ..., i], derivatives.t[i])
        np.testing.assert_array_equal(in_t[i, ..., 1 - i], 0.)
    for transform in (jax.jit, jax.vmap, jax.hessian,
                      lambda g: jax.jit(jax.grad(g))):
      with self.assertRaisesRegex(TypeError, 'out of `jax.jit`'):
        transform(lambda temperature: jnp.sum(f(
            _SHARED, temperature, 1., z)))(
                np.array([.1]) if transform is jax.vmap else .1)

  def test_later_times_and_other_inputs(self):
    x, y, z = data(5)
    f = differentiable(shared, x, y)
    early = f.with_derivatives(_SHARED, .1, 3., z[:1])
    evaluations = f.stats['kernel_evaluations']
    t = np.array([[3., 1e4]])
    both = f.with_derivatives(_SHARED, .1, t, z)
    self.assertEqual(f.stats['kernel_evaluations'], evaluations)
    self.assertEqual(both[0].shape, (1, 2, 3, 2))
    fresh = differentiable(shared, x, y).with_derivatives(_SHARED, .1, t, z)
    for a, b, c in zip(*map(jax.tree_util.tree_leaves, (early, both, fresh))):
      np.testing.assert_allclose(a, b[0, 0, :1], rtol=0, atol=1e-4)
      np.testing.assert_allclose(b, c, rtol=0, atol=1e-4)

  def test_many_columns(self):
    # In groups of columns, and of derivatives.
    x, y, z = data(5, outputs=4)
    t = np.array([1., 30., 1e4])
    f = lambda: differentiable(shared, x, y, rtol=1e-4)
    want = f().with_derivatives(_SHARED, .1, t, z)
    with mock.patch.object(problem_lib.Problem, 'columns_together', 2):
      grouped = f()
      got = grouped.with_derivatives(_SHARED, .1, t, z)
    self.assertLess(grouped.stats['estimated_derivative_error'], 1e-2)
    jax.tree_util.tree_map(functools.partial(
        np.testing.assert_allclose, rtol=0, atol=1e-3), got, want)

  def test_error_is_estimated(self):
    # Kernels' derivatives that are compressed too much.
    x, y, z = data(6)
    t = np.geomspace(1., 1e5, 6)
    _, want = differentiable(shared, x, y, rtol=1e-7).with_derivatives(
        _SHARED, .01, t, z)
    with mock.patch.multiple(kernel_derivatives, _ON_PAIRS=1e3, _MAX_RANK=12):
      f = differentiable(shared, x, y, rtol=1e-5)
      with self.assertWarnsRegex(UserWarning, 'error of derivatives'):
        _, got = f.with_derivatives(_SHARED, .01, t, z)
    error = max(
        float(np.max(np.abs(a - b))) * size for a, b, size in zip(
            *map(jax.tree_util.tree_leaves, (
                got.parameters, want.parameters, _SHARED)))) / rms(y)
    self.assertGreater(error, 1e-3)
    self.assertGreater(f.stats['estimated_derivative_error'], error)
    self.assertLess(f.stats['estimated_error'], 1e-3)

  @parameterized.parameters((10., 4.), (1e3, 100.))
  def test_fitted_again(self, tolerance, better):
    # With the sample and the times that are known, or with others if these are
    # for another tolerance.
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 20, 2))
    y = np.sin(2 * x[:, :1]) + .3 * rng.normal(size=(20, 1))
    t = np.geomspace(1., 1e5, 6)
    ranks, errors = [], []
    for fits in (1, 3):
      f = differentiable(shared, x, y, rtol=1e-4)
      with mock.patch.object(kernel_derivatives, '_ON_PAIRS', tolerance), (
          mock.patch.object(tangents, '_MAX_FITS', fits)), (
              warnings.catch_warnings()):
        warnings.simplefilter('ignore')
        f.with_derivatives(_SHARED, .1, t, z)
      ranks.append(f.stats['derivative_rank'])
      errors.append(f.stats['estimated_derivative_error'])
    self.assertGreater(ranks[1], ranks[0])
    self.assertLess(better * errors[1], errors[0])

  @pytest.mark.slow
  def test_single_precision(self):
    x, y, z = data(6)
    t = np.geomspace(1., 1e5, 6)
    _, want = differentiable(shared, x, y).with_derivatives(_SHARED, .1, t, z)
    jax.config.update('jax_enable_x64', False)
    try:
      with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        mean, got = differentiable(shared, x, y).with_derivatives(
            _SHARED, .1, t, z)
      self.assertEqual(mean.dtype, jnp.float32)
      for a, b in zip(*map(jax.tree_util.tree_leaves, (got, want))):
        np.testing.assert_allclose(a, b, rtol=0, atol=.02 * np.max(np.abs(b)))
    finally:
      jax.config.update('jax_enable_x64', True)

  def test_parameters_without_influence(self):
    x, y, z = data(4)
    f = differentiable(lambda p: shared(p['used']), x, y)
    _, got = f.with_derivatives(dict(used=_SHARED, unused=np.ones(2)), .1, 3.,
                                z)
    np.testing.assert_array_equal(got.parameters['unused'], np.zeros(
        (3, 2, 2)))

  def test_refusals(self):
    x, y, z = data(4)
    f = differentiable(shared, x, y)
    for T in (0., -1., np.nan):
      with self.assertRaisesRegex(ValueError, 'temperature'):
        f(_SHARED, T, 1., z)
    with self.assertRaisesRegex(ValueError, 'finite'):
      f({**_SHARED, 's': np.nan}, .1, 1., z)
    with self.assertRaisesRegex(ValueError, 'positive'):
      f({**_SHARED, 's': -1.}, .1, 1., z)
    for call in (f, f.with_derivatives):
      with self.assertRaisesRegex(TypeError, 'must be .*number'):
        call('parameters', .1, 1., z)
      with self.assertRaisesRegex(ValueError, 'not negative'):
        call(_SHARED, .1, -1., z)
      with self.assertRaisesRegex(ValueError, 'x_test'):
        call(_SHARED, .1, 1., z[:, :2])
    with self.assertRaisesRegex(TypeError, 'function of parameters'):
      differentiable(None, x, y)
    with self.assertRaisesRegex(TypeError, 'return the third'):
      differentiable(lambda p: stax.Dense(1, p), x, y)(1., .1)
    with self.assertRaisesRegex(ValueError, 'learning_rate'):
      differentiable(shared, x, y, learning_rate=0.)


if __name__ == '__main__':
  absltest.main()
