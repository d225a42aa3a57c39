# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of `nt_ndk.predict`: learning under noise and weight decay.

Predictors take time in the units of Neural Tangents (mean loss); the
references take that of the theory (sum loss): `t * learning_rate / y.size`.
"""

import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import numpy as jnp
import numpy as np
import pytest

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.kernels import compressed
import reference
from reference import dense

# Neural Tangents comes after `nt_ndk`, which lets it be imported.
# isort: split
from neural_tangents import predict as nt_predict
from neural_tangents import stax as nt_stax

jax.config.update('jax_enable_x64', True)

ensemble = predict.markov_proximal_mse_ensemble


def rms(y):
  return np.sqrt(np.mean(np.square(y)))


def data(n=4, m=3, features=6, outputs=2, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(n, features)), rng.normal(size=(n, outputs)),
          rng.normal(size=(m, features)))


def image_data(n=4, m=2, size=3, outputs=2, seed=1):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(n, size, size, 2)), rng.normal(size=(n, outputs)),
          rng.normal(size=(m, size, size, 2)))


def description(phi='relu', depth=1, s0=1., s=1., c=1.4, b=None):
  layer = dense(c, b, s0, s, s0, s)
  return [layer, phi] * depth + [layer]


def network(layers):
  phi = dict(relu=stax.Relu, erf=stax.Erf)
  return stax.serial(*(phi[layer]() if isinstance(layer, str)
                       else stax.Dense(8, **layer) for layer in layers))[2]


def residual_cnn(s0=1., s=1.):
  conv = functools.partial(stax.Conv, 4, (3, 3), None, 'SAME', 1.3,
                           W_init_std=s0, W_prior_std=s)
  block = stax.serial(
      stax.FanOut(2),
      stax.parallel(stax.serial(stax.Relu(), conv()), stax.Identity()),
      stax.FanInSum())
  return stax.serial(
      conv(), block, stax.Relu(), stax.GlobalAvgPool(), stax.Flatten(),
      stax.Dense(1, 1.2, W_init_std=s0, W_prior_std=s))[2]


PROBLEMS = dict(
    dense=lambda: (network(description('erf', 2, 1.5, .9, b=.2)), *data(5)),
    cnn=lambda: (residual_cnn(1.5, .9), *image_data()))


class TrajectoryTest(parameterized.TestCase):

  def check_one_sample_without_hidden_layer(self, temperature, rtol):
    x, y, s = np.array([[1., 2., -1.]]), np.array([[.8]]), .7
    kernel_fn = stax.Dense(1, 1.4, W_init_std=1.3, W_prior_std=s)[2]
    t = np.concatenate([[0.], np.geomspace(1e-3, 20. * s**2 / temperature, 12)])
    predict_fn = ensemble(kernel_fn, x, y, temperature, rtol=rtol)
    want = reference.scalar_mean(1.4**2 * 2., .8, temperature, t, s)
    atol = 10. * rtol * rms(y)
    np.testing.assert_allclose(
        predict_fn(t=t, get='ndk')[:, 0, 0], want, rtol=0, atol=atol)
    np.testing.assert_allclose(
        predict_fn(t=t, x_test=-x, get='ndk')[:, 0, 0], -want, rtol=0,
        atol=atol)

  @parameterized.product(temperature=[1e-4, .1, 1.], rtol=[1e-5])
  def test_one_sample_without_hidden_layer(self, temperature, rtol):
    self.check_one_sample_without_hidden_layer(temperature, rtol)

  @parameterized.product(temperature=[1e-4, .1, 1.], rtol=[1e-3, 1e-7])
  @pytest.mark.slow
  def test_one_sample_without_hidden_layer_more(self, temperature, rtol):
    self.check_one_sample_without_hidden_layer(temperature, rtol)

  def check_brute_force(self, phi, depth, s0, s, temperature, b=None):
    x, y, z = data()
    layers = description(phi, depth, s0, s, b=b)
    kernel = lambda *args: reference.two_time_kernels(*args, layers).ndk
    t = np.concatenate([
        [.05, .7, 8.], s**2 / temperature * np.array([.2, 2.1, 4.7, 9.])])
    want = reference.volterra_mean(kernel, x, y, z, temperature, t, prior_std=s)
    kernel_fn = network(layers)
    for rtol in (1e-3, 1e-5, 1e-7):
      predict_fn = ensemble(kernel_fn, x, y, temperature, rtol=rtol)
      for x_test, mean in zip((None, z), want):
        got = predict_fn(t=t * y.size, x_test=x_test, get='ndk')
        error = np.abs(got - mean).max() / rms(y)
        self.assertLess(error, 10. * rtol, f'{rtol=}, {x_test is None=}')

  @parameterized.parameters(
      [dict(phi='erf', depth=1, s0=1., s=1., temperature=1e-1)])
  def test_brute_force(self, phi, depth, s0, s, temperature, b=None):
    self.check_brute_force(phi, depth, s0, s, temperature, b)

  @parameterized.parameters(
      dict(phi='relu', depth=1, s0=1., s=1., temperature=1e-3),
      dict(phi='relu', depth=2, s0=.6, s=1.2, temperature=1.),
      dict(phi='relu', depth=1, s0=1.6, s=.8, temperature=1e-5),
      dict(phi='erf', depth=2, s0=2., s=1., temperature=1e-2),
      dict(phi='erf', depth=1, s0=.5, s=1., temperature=1e-5, b=.3))
  @pytest.mark.slow
  def test_brute_force_more(self, phi, depth, s0, s, temperature, b=None):
    self.check_brute_force(phi, depth, s0, s, temperature, b)

  def check_zero_temperature_is_gradient_flow(self, problem):
    kernel_fn, x, y, z = PROBLEMS[problem]()
    t = np.array([0., .1, 3., 40., 1e3, 1e5])
    want_fn = nt_predict.gradient_descent_mse_ensemble(kernel_fn, x, y)
    for temperature, atol in ((0., 1e-6), (1e-12, 1e-4)):
      predict_fn = ensemble(kernel_fn, x, y, temperature)
      for x_test in (None, z):
        want = want_fn(t=t, x_test=x_test, get='ntk')
        got = predict_fn(t=t, x_test=x_test, get='ndk')
        np.testing.assert_allclose(got, want, rtol=0, atol=atol * rms(y))
    for x_test in (None, z):
      np.testing.assert_allclose(
          ensemble(kernel_fn, x, y, 0.)(t=None, x_test=x_test, get='ndk'),
          want_fn(t=None, x_test=x_test, get='ntk'), rtol=0, atol=1e-6)

  @parameterized.parameters(['dense'])
  def test_zero_temperature_is_gradient_flow(self, problem):
    self.check_zero_temperature_is_gradient_flow(problem)

  @parameterized.parameters(['cnn'])
  @pytest.mark.slow
  def test_zero_temperature_is_gradient_flow_more(self, problem):
    self.check_zero_temperature_is_gradient_flow(problem)

  def check_equilibrium_is_the_gaussian_process(self, problem, temperature):
    kernel_fn, x, y, z = PROBLEMS[problem]()
    rtol = 1e-5
    prior = functools.partial(kernel_fn, get='nngp', diffusion_time=(1e6, 1e6))
    inference = nt_predict.gp_inference(
        prior(x, None), y, diag_reg=temperature,
        diag_reg_absolute_scale=True)
    predict_fn = ensemble(kernel_fn, x, y, temperature, rtol=rtol)
    late = 40. * y.size / temperature
    for x_test in (None, z):
      k = prior(x, None) if x_test is None else prior(x_test, x)
      want = inference(get='nngp', k_test_train=k)
      np.testing.assert_allclose(
          want, reference.gp_mean(prior(x, None), y, temperature, k),
          rtol=0, atol=1e-9)
      np.testing.assert_allclose(
          predict_fn(t=None, x_test=x_test, get='ndk'), want,
          rtol=0, atol=1e-10 * rms(y))
      np.testing.assert_allclose(
          predict_fn(t=late, x_test=x_test, get='ndk'), want,
          rtol=0, atol=10. * rtol * rms(y))

  @parameterized.parameters([('cnn', 1e-2)])
  def test_equilibrium_is_the_gaussian_process(self, problem, temperature):
    self.check_equilibrium_is_the_gaussian_process(problem, temperature)

  @parameterized.parameters(('dense', 1e-3), ('dense', .3))
  @pytest.mark.slow
  def test_equilibrium_is_the_gaussian_process_more(self, problem, temperature):
    self.check_equilibrium_is_the_gaussian_process(problem, temperature)

  def check_training_inputs_as_test_inputs(self, temperature):
    # Slow learning: a small error of the residual adds up over long times.
    x, y, _ = data()
    rtol = 1e-5
    predict_fn = ensemble(
        network(description('erf', 1, .5, 1., b=.3)), x, y, temperature,
        rtol=rtol)
    t = np.linspace(.1, 12., 37) * y.size / temperature
    np.testing.assert_allclose(
        predict_fn(t=t, x_test=x, get='ndk'), predict_fn(t=t, get='ndk'),
        rtol=0, atol=10. * rtol * rms(y))

  @parameterized.parameters([1e-3])
  def test_training_inputs_as_test_inputs(self, temperature):
    self.check_training_inputs_as_test_inputs(temperature)

  @parameterized.parameters(1e-1, 1e-5)
  @pytest.mark.slow
  def test_training_inputs_as_test_inputs_more(self, temperature):
    self.check_training_inputs_as_test_inputs(temperature)

  def check_duplicated_inputs(self, temperature):
    # A small temperature amplifies what tells them apart.
    x, y, z = data()
    x, y = np.concatenate([x, x[:2]]), np.concatenate([y, y[:2] + .5])
    layers = description()
    kernel = lambda *args: reference.two_time_kernels(*args, layers).ndk
    t = np.array([.5, 10., 100., 2e3, 20. / temperature])
    want = reference.volterra_mean(kernel, x, y, z, temperature, t)
    predict_fn = ensemble(network(layers), x, y, temperature)
    for x_test, mean in zip((None, z), want):
      got = predict_fn(t=t * y.size, x_test=x_test, get='ndk')
      np.testing.assert_allclose(got, mean, rtol=0, atol=1e-4 * rms(y))
    got = predict_fn(t=None, get='ndk')
    self.assertTrue(np.isfinite(got).all())
    np.testing.assert_allclose(got[:2], got[4:], rtol=0, atol=1e-6)

  @parameterized.parameters([1e-8])
  def test_duplicated_inputs(self, temperature):
    self.check_duplicated_inputs(temperature)

  @parameterized.parameters([1e-2])
  @pytest.mark.slow
  def test_duplicated_inputs_more(self, temperature):
    self.check_duplicated_inputs(temperature)

  def test_test_inputs_unlike_the_training_inputs(self):
    # Kernels over time are fitted anew when new inputs need it.
    x, y, z = data()
    z, layers, temperature = 4. * z, description('erf', 1, 2., 1.), 1e-2
    kernel = lambda *args: reference.two_time_kernels(*args, layers).ndk
    t = np.array([1., 30., 200.])
    _, want = reference.volterra_mean(kernel, x, y, z, temperature, t)
    predict_fn = ensemble(network(layers), x, y, temperature)
    before = predict_fn(t=t * y.size, get='ndk')
    got = predict_fn(t=t * y.size, x_test=z, get='ndk')
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * rms(y))
    np.testing.assert_allclose(predict_fn(t=t * y.size, get='ndk'), before,
                               rtol=0, atol=1e-4 * rms(y))

  @pytest.mark.slow
  def test_nearly_duplicated_inputs(self):
    # More pairs of samples than the kernels are fitted on. What tells near
    # duplicates apart must be right to a tiny part of their kernel.
    x, y, z = data(7)
    x[-1] = x[0] + 1e-3 * z[0]
    temperature, s = 2e-6, 1.6
    kernel_fn = network(description('erf', 1, .6, s, .7, b=1.))
    predict_fn = ensemble(kernel_fn, 16. * x, y, temperature)
    got, want = (predict_fn(t=t, x_test=16. * z, get='ndk')
                 for t in (7. * s**2 / temperature * y.size, None))
    self.assertGreater(np.abs(want).max(), 10. * rms(y))
    np.testing.assert_allclose(got, want, rtol=0,
                               atol=1e-3 * np.abs(want).max())

  @parameterized.parameters(1e-2, 1e-6)
  def test_float32_warns_and_keeps_its_word(self, temperature):
    x, y, z = data()
    t = y.size * np.geomspace(.01, 1e3 / temperature, 20)
    kernel_fn = network(description(s0=2.))
    exact_fn = ensemble(kernel_fn, x, y, temperature)
    want = exact_fn(t=t, x_test=z, get='ndk')
    jax.config.update('jax_enable_x64', False)
    try:
      with self.assertWarnsRegex(UserWarning, 'float32.*0.001'):
        predict_fn = ensemble(kernel_fn, x, y, temperature)
      got = predict_fn(t=t, x_test=z, get='ndk')
    finally:
      jax.config.update('jax_enable_x64', True)
    self.assertEqual(got.dtype, jnp.float32)
    error = np.abs(got - want).max() / rms(y)
    self.assertLess(error, 10. * 1e-3)
    # What is said of the error is not that of a bound on rounding.
    self.assertLess(error, predict_fn.stats['estimated_error'])
    self.assertLess(predict_fn.stats['estimated_error'], 100. * error)
    # Kernels are not fitted again to less than their rounding errors.
    self.assertLess(predict_fn.stats['kernel_evaluations'],
                    2 * exact_fn.stats['kernel_evaluations'])

  def test_memory_of_the_past_matters(self):
    # Neither the NTK nor the NNGP predictor explains the middle of learning.
    x, y, z = data()
    predict_fn = ensemble(network(description(s0=2., s=1.)), x, y, 1e-2)
    mid, late = predict_fn(t=y.size * np.array([30., 4e3]), x_test=z, get='ndk')
    ntk, nngp = predict_fn(t=None, x_test=z, get=('ntk', 'nngp'))
    for a, b in [(mid, ntk), (mid, nngp), (mid, late), (late, ntk)]:
      self.assertGreater(rms(a - b), 1e-3 * rms(y))


class InterfaceTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.x, cls.y, cls.z = data()
    cls.kernel_fn = staticmethod(network(description(s0=1.5)))
    cls.predict_fn = staticmethod(ensemble(cls.kernel_fn, cls.x, cls.y, 1e-2))

  def test_shapes_and_order_of_times(self):
    t = np.array([[3., 0., 900.], [40., 1e4, .2]])
    for x_test, rows in ((None, 4), (self.z, 3)):
      got = self.predict_fn(t=t, x_test=x_test, get='ndk')
      self.assertEqual(got.shape, (2, 3, rows, 2))
      np.testing.assert_array_equal(got[0, 1], 0.)
      for index in np.ndindex(t.shape):
        one = self.predict_fn(t=t[index], x_test=x_test, get='ndk')
        self.assertEqual(one.shape, (rows, 2))
        np.testing.assert_allclose(one, got[index], rtol=0, atol=1e-12)
      self.assertEqual(
          self.predict_fn(t=None, x_test=x_test, get='ndk').shape, (rows, 2))
      self.assertEqual(
          self.predict_fn(t=np.zeros((0,)), x_test=x_test, get='ndk').shape,
          (0, rows, 2))
      self.assertEqual(
          self.predict_fn(t=[1, 2], x_test=x_test, get='ndk').shape,
          (2, rows, 2))

  def test_train_predictions_are_predictions(self):
    for t in (5., 300., None):
      train = self.predict_fn(t=t, get='ndk')
      np.testing.assert_allclose(
          train, self.predict_fn(t=t, x_test=self.x, get='ndk'),
          rtol=0, atol=1e-4)
      self.assertGreater(rms(train - self.y), 1e-3)

  def test_outputs_are_independent_and_linear_in_targets(self):
    t = np.array([3., 500.])
    both = self.predict_fn(t=t, x_test=self.z, get='ndk')
    for c in range(2):
      single = ensemble(self.kernel_fn, self.x, 2. * self.y[:, c:c + 1], 1e-2)(
          t=t / 2., x_test=self.z, get='ndk')
      np.testing.assert_allclose(single, 2. * both[..., c:c + 1],
                                 rtol=0, atol=1e-4)

  def test_learning_rate_rescales_time(self):
    t = np.array([.1, 7., 2e3])
    fast = ensemble(self.kernel_fn, self.x, self.y, 1e-2, learning_rate=10.)
    get = ('ndk', 'ntk')
    slow, fast = (fn(t=s, x_test=self.z, get=get)
                  for fn, s in ((self.predict_fn, t), (fast, t / 10.)))
    np.testing.assert_allclose(fast.ndk, slow.ndk, rtol=0, atol=1e-5)
    np.testing.assert_allclose(fast.ntk, slow.ntk, rtol=0, atol=1e-9)

  @parameterized.parameters((2.,), (np.array([.3, 50.]),), (None,))
  def test_get(self, t):
    theirs = nt_predict.gradient_descent_mse_ensemble(
        self.kernel_fn, self.x, self.y)
    for x_test in (None, self.z):
      every = self.predict_fn(t=t, x_test=x_test)
      self.assertCountEqual(every._fields, ('ndk', 'ntk', 'nngp'))
      pair = self.predict_fn(t=t, x_test=x_test, get=('nngp', 'ndk'))
      self.assertEqual(pair._fields, ('nngp', 'ndk'))
      for name in every._fields:
        one = self.predict_fn(t=t, x_test=x_test, get=name)
        np.testing.assert_allclose(getattr(every, name), one, atol=1e-12)
        if name in pair._fields:
          np.testing.assert_allclose(getattr(pair, name), one, atol=1e-12)
        if name != 'ndk':
          np.testing.assert_allclose(
              one, theirs(t=t, x_test=x_test, get=name), rtol=0, atol=1e-10)

  def test_covariance_after_mean_of_gradient_flow(self):
    ask = dict(t=None, x_test=self.z, get='ntk')
    predict_fn = ensemble(self.kernel_fn, self.x, self.y, 1e-2)
    mean = predict_fn(**ask)
    got = predict_fn(compute_cov=True, **ask)
    want = nt_predict.gradient_descent_mse_ensemble(
        self.kernel_fn, self.x, self.y)(compute_cov=True, **ask)
    for a, b in ((mean, want.mean), (got.mean, want.mean),
                 (got.covariance, want.covariance)):
      np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)

  def test_order_of_calls_and_cache(self):
    t = np.array([2., 60., 4e3])
    want = ensemble(self.kernel_fn, self.x, self.y, 1e-2)(
        t=t, x_test=self.z, get='ndk')
    predict_fn = ensemble(self.kernel_fn, self.x, self.y, 1e-2)
    for i in (0, 2, 1):  # Extends the trajectory, then falls inside it.
      np.testing.assert_allclose(
          predict_fn(t=t[i], x_test=self.z, get='ndk'), want[i],
          rtol=0, atol=1e-4)
    predict_fn(t=None, x_test=self.z, get='ndk')
    evaluations = predict_fn.stats['kernel_evaluations']
    self.assertGreater(evaluations, 0)
    for x_test in (None, self.z, self.z[:1] + 1.):
      predict_fn(t=np.linspace(0., 4e3, 7), x_test=x_test, get='ndk')
      self.assertEqual(predict_fn.stats['kernel_evaluations'], evaluations)
    np.testing.assert_allclose(
        predict_fn(t=t, x_test=self.z, get='ndk'), want, rtol=0, atol=1e-4)

  def test_stats(self):
    self.predict_fn(t=10., get='ndk')
    stats = self.predict_fn.stats
    for name in ('kernel_evaluations', 'rank', 'panels'):
      self.assertGreater(stats[name], 0)
    fine = ensemble(self.kernel_fn, self.x, self.y, 1e-2, rtol=1e-8)
    for x_test in (None, self.z):
      got, want = (np.asarray(f(t=10., x_test=x_test, get='ndk'))
                   for f in (self.predict_fn, fine))
      error = np.max(np.abs(got - want)) / np.sqrt(np.mean(self.y**2))
      self.assertBetween(stats['estimated_error'], error, 1e-4)


class DiagRegTest(absltest.TestCase):

  def test_temperature_of_a_relative_diag_reg(self):
    # README tells users of Neural Tangents which temperature is theirs.
    x, y, z = data()
    kernel_fn = network(description(s0=2.))
    late = dict(diffusion_time=(1e9, 1e9))
    kernel = kernel_fn(x, None, 'nngp', **late)
    want = nt_predict.gp_inference(kernel, y, diag_reg=.1)(
        get='nngp', k_test_train=kernel_fn(z, x, 'nngp', **late))
    temperature = .1 * np.mean(np.diagonal(kernel))
    got = ensemble(kernel_fn, x, y, temperature)(t=None, x_test=z, get='ndk')
    np.testing.assert_allclose(got, want, atol=1e-10)


class RefusalsTest(parameterized.TestCase):

  @parameterized.named_parameters(
      ('temperature_negative', 'temperature', dict(temperature=-1e-3)),
      ('temperature_nan', 'temperature', dict(temperature=np.nan)),
      ('learning_rate', 'learning_rate', dict(learning_rate=0.)),
      ('rtol', 'rtol', dict(rtol=0.)),
      ('nan_in_x', 'x_train', dict(x=lambda x: x * np.nan)),
      ('inf_in_x', 'x_train', dict(x=lambda x: x / 0.)),
      ('nan_in_y', 'y_train', dict(y=lambda y: y * np.nan)),
      ('rows', 'y_train|x_train', dict(y=lambda y: y[:-1])),
      ('empty', 'y_train|x_train|empty|sample',
       dict(x=lambda x: x[:0], y=lambda y: y[:0])),
      ('diag_reg', 'temperature', dict(diag_reg=1e-4)),
      ('weight_decay', 'W_prior_std', dict(weight_decay=.1)),
      ('static_kernel', 'diffusion_time', dict(kernel_fn=nt_stax.serial(
          nt_stax.Dense(4), nt_stax.Relu(), nt_stax.Dense(1))[2])))
  @np.errstate(divide='ignore')
  def test_problem(self, word, kwargs):
    x, y, _ = data()
    kwargs = dict(kwargs)
    args = dict(temperature=1e-2)
    x, y = kwargs.pop('x', np.array)(x), kwargs.pop('y', np.array)(y)
    kernel_fn = kwargs.pop('kernel_fn', network(description()))
    with self.assertRaisesRegex((ValueError, TypeError), word):
      ensemble(kernel_fn, x, y, **{**args, **kwargs})(t=1., get='ndk')

  @parameterized.named_parameters(
      ('get', 'get|ndkk', dict(t=1., get='ndkk')),
      ('get_that_is_no_name', 'get', dict(t=1., get=3)),
      ('t_that_is_no_number', r'\bt\b', dict(t='late', get='ndk')),
      ('get_in_tuple', 'get|ndkk', dict(t=1., get=('ndk', 'ndkk'))),
      ('negative_t', r'\bt\b|time', dict(t=-1., get='ndk')),
      ('negative_in_t', r'\bt\b|time', dict(t=np.array([1., -1.]), get='ndk')),
      ('nan_t', r'\bt\b|time', dict(t=np.nan, get='ndk')),
      ('nan_in_x_test', 'x_test', dict(
          t=1., x_test=np.full((1, 6), np.nan), get='ndk')),
      ('features', '', dict(t=1., x_test=np.ones((2, 5)), get='ndk')),
      ('keyword', 'tempurature', dict(t=1., get='ndk', tempurature=1.)))
  def test_question(self, word, kwargs):
    x, y, _ = data()
    predict_fn = ensemble(network(description()), x, y, 1e-2)
    with self.assertRaisesRegex((ValueError, TypeError), word):
      predict_fn(**kwargs)

  @pytest.mark.slow
  def test_wrapped_kernel_fn(self):
    x, y, z = data()
    kernel_fn = network(description())
    ask = dict(t=1., x_test=z, get='ndk')
    wrapped = lambda *args, **kwargs: kernel_fn(*args, **kwargs)
    np.testing.assert_allclose(ensemble(wrapped, x, y, 1e-2)(**ask),
                               ensemble(kernel_fn, x, y, 1e-2)(**ask),
                               rtol=0, atol=1e-9)
    deaf = lambda *args, diffusion_time, **kwargs: kernel_fn(
        *args, diffusion_time=(0., 0.), **kwargs)
    with self.assertRaisesRegex(ValueError, 'does not depend'):
      ensemble(deaf, x, y, 1e-2)

  def test_times_that_do_not_broadcast(self):
    x, y, _ = data()
    predict_fn = ensemble(network(description()), x, y, 1e-2)
    with self.assertRaisesRegex(ValueError, 'broadcast'):
      predict_fn.two_time_covariance([1., 2.], [1., 2., 3.])

  def test_traced(self):
    x, y, z = (jnp.asarray(a) for a in data())
    kernel_fn = network(description())
    predict_fn = ensemble(kernel_fn, x, y, 1e-2)
    for word, f, a in (
        ('temperature', lambda a: ensemble(kernel_fn, x, y, a)(t=1.), 1e-2),
        ('x_train', lambda a: ensemble(kernel_fn, a, y, 1e-2)(t=1.), x),
        ('y_train', lambda a: ensemble(kernel_fn, x, a, 1e-2)(t=1.), y),
        ('t', lambda a: predict_fn(t=a), 1.),
        ('x_test', lambda a: predict_fn(t=1., x_test=a), z)):
      with self.subTest(word), self.assertRaisesRegex(
          TypeError, f'`{word}`.*`jax.jit`'):
        jax.jit(f)(a)

  @parameterized.parameters(0., 1e-16, 1e-15)
  @pytest.mark.slow
  def test_duplicates_without_noise(self, temperature):
    # Two answers for one question.
    x, y, z = data()
    predict_fn = ensemble(network(description()), np.concatenate([x, x]),
                          np.concatenate([y, -y]), temperature)
    for x_test in (None, z):
      with self.assertRaisesRegex(ArithmeticError, 'duplicated'):
        predict_fn(t=None, x_test=x_test, get='ndk')
    if not temperature:
      got = predict_fn(t=30., x_test=z, get='ndk')
      np.testing.assert_allclose(got, 0., atol=1e-6)

  @parameterized.parameters((1.02, 1e-3), (1.0002, 1e-5))
  def test_warns_if_matrices_are_wrong(self, factor, least):
    # Errors are measured with exact kernels, whatever the solver was given.
    x, y, z = data()
    kernel_fn, t = network(description()), 300.
    want = ensemble(kernel_fn, x, y, 1e-2)(t=t, x_test=z, get='ndk')
    right = compressed.CompressedKernel._train_train
    wrong = lambda *args: factor * right(*args)
    with mock.patch.object(compressed.CompressedKernel, '_train_train', wrong):
      predict_fn = ensemble(kernel_fn, x, y, 1e-2)
      with self.assertWarnsRegex(UserWarning, 'estimated error'):
        got = predict_fn(t=t, x_test=z, get='ndk')
    error = np.abs(got - want).max() / rms(y)
    self.assertGreater(error, least)
    self.assertGreater(predict_fn.stats['estimated_error'], error)

  def test_duplicates_with_little_noise(self):
    x, y, z = data()
    predict_fn = ensemble(network(description()), np.concatenate([x, x]),
                          np.concatenate([y, -y]), 1e-13)
    with self.assertWarnsRegex(UserWarning, 'estimated error.*duplicated'):
      got = predict_fn(t=None, x_test=z, get='ndk')
    error = predict_fn.stats['estimated_error']
    self.assertLess(error, 1.)
    np.testing.assert_allclose(got, 0., atol=error * rms(y))


if __name__ == '__main__':
  absltest.main()
