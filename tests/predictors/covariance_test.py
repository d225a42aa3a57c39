# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the covariance of `nt_ndk.predict`, at one and at two times.

Errors are relative to the largest variance without data (`scale`). Predictors
take time in the units of Neural Tangents (mean loss); the references take that
of the theory (sum loss): `t * learning_rate / y.size`.
"""

import collections
import functools
import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
from predict_test import data
from predict_test import description
from predict_test import image_data
from predict_test import residual_cnn
from predict_test import rms
import pytest

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.base import memory
from nt_ndk._src.dynamics import resolvent
from nt_ndk._src.predictors import spans
import reference
from reference import dense

# Neural Tangents comes after `nt_ndk`, which lets it be imported.
# isort: split
from neural_tangents import predict as nt_predict

jax.config.update('jax_enable_x64', True)

ensemble = predict.markov_proximal_mse_ensemble


def network(layers):
  """Kernel function of a description, which may name linear activations."""
  phi = dict(relu=stax.Relu, erf=stax.Erf, linear=stax.Identity)
  return stax.serial(*(phi[layer]() if isinstance(layer, str)
                       else stax.Dense(8, **layer) for layer in layers))[2]


def kernels_of(layers):
  return lambda *args, **kwargs: reference.two_time_kernels(
      *args, layers, **kwargs)


def free_variance(layers, x):
  """Largest variance of the network without data."""
  return max(reference.two_time_kernels(x, x, tau, tau, layers).nngp.max()
             for tau in (0., 1e6))


def close(got, want, atol):
  np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def diagonal(covariance):
  return np.diagonal(covariance, axis1=-2, axis2=-1)


class SolvableTest(parameterized.TestCase):

  def check_one_sample_without_hidden_layer(self, temperature):
    x, y, s = np.array([[1., 2., -1.]]), np.array([[.8]]), .7
    kernel_fn = stax.Dense(1, 1.4, W_init_std=1.3, W_prior_std=s)[2]
    predict_fn = ensemble(kernel_fn, x, y, temperature, rtol=1e-7)
    g = 1.4**2 * 2.
    t = np.concatenate([[0.], np.geomspace(1e-3, 20. * s**2 / temperature, 8)])
    want = reference.scalar_variance(g, temperature, t, 1.3, s)
    scale = 1.3**2 * g
    got = predict_fn(t=t, get='ndk', compute_cov=True).covariance
    close(got[:, 0, 0], want, 1e-6 * scale)
    got = predict_fn(t=t, x_test=-.5 * x, get='ndk', compute_cov='diag')
    close(got.covariance[:, 0], want / 4., 1e-6 * scale)

    # With itself later, correlation is lost at the rate of learning.
    lag = np.array([0., 1e-3, .1, .3, .5, .1, .2, .02, .5 / temperature])
    want *= np.exp(-(g + temperature / s**2) * lag)
    got = predict_fn.two_time_covariance(t + lag, t)
    close(got[:, 0], want, 1e-6 * scale)
    got = predict_fn.two_time_covariance(t, t + lag, -.5 * x, compute_cov=True)
    close(got[:, 0, 0], want / 4., 1e-6 * scale)

  @parameterized.parameters([1e-2])
  def test_one_sample_without_hidden_layer(self, temperature):
    self.check_one_sample_without_hidden_layer(temperature)

  @parameterized.parameters(1e-4, 1.)
  @pytest.mark.slow
  def test_one_sample_without_hidden_layer_more(self, temperature):
    self.check_one_sample_without_hidden_layer(temperature)

  def check_linear_model(self, temperature, s0, s):
    x, y, z = data(5)
    layers = [dense(1.4, W_init_std=s0, W_prior_std=s)]
    predict_fn = ensemble(network(layers), x, y, temperature, rtol=1e-6)
    scale = free_variance(layers, np.concatenate([x, z]))
    t = np.array([.3, 4., .6 / temperature, 9. / temperature])
    want = lambda inputs, t1, t2: reference.linear_covariance(
        x, inputs, inputs, temperature, t1, t2, 1.4, s0, s)
    for x_test, inputs in ((None, x), (z, z)):
      got = predict_fn(t=t * y.size, x_test=x_test, get='ndk', compute_cov=True)
      close(got.covariance, [want(inputs, a, a) for a in t], 1e-5 * scale)
      got = predict_fn.two_time_covariance(
          t * y.size, t[1] * y.size, x_test, compute_cov=True)
      close(got, [want(inputs, a, t[1]) for a in t], 1e-5 * scale)

  @parameterized.parameters([(.3, .5, .8)])
  def test_linear_model(self, temperature, s0, s):
    self.check_linear_model(temperature, s0, s)

  @parameterized.parameters([(1e-4, 2., 1.)])
  @pytest.mark.slow
  def test_linear_model_more(self, temperature, s0, s):
    self.check_linear_model(temperature, s0, s)


class LimitsTest(parameterized.TestCase):
  """Neural Tangents' predictors at both ends of time and temperature.

  Covariance of all inputs, and variance on the training inputs.
  """

  def check_start(self, kernel_fn, predict_fn, x, z):
    inputs = np.concatenate([x, z])
    want = kernel_fn(inputs, None, 'nngp')
    got = predict_fn(t=[.1, 0.], x_test=inputs, get='ndk', compute_cov=True)
    np.testing.assert_array_equal(got.mean[1], 0.)
    close(got.covariance[1], want, 1e-9 * want.max())
    self.assertGreater(np.abs(got.covariance[0] - want).max(), 1e-6)
    got = predict_fn(t=[0.], get='ndk', compute_cov='diag')
    close(got.covariance[0], np.diag(want)[:len(x)], 1e-9 * want.max())

  def check_gradient_flow(self, kernel_fn, predict_fn, x, y, z, t, rtol):
    inputs = np.concatenate([x, z])
    theirs = nt_predict.gradient_descent_mse_ensemble(kernel_fn, x, y)
    scale = kernel_fn(inputs, None, 'nngp').max()
    want = theirs(t=t, x_test=inputs, get='ntk', compute_cov=True)
    got = predict_fn(t=t, x_test=inputs, get='ndk', compute_cov=True)
    close(got.mean, want.mean, rtol * rms(y))
    close(got.covariance, want.covariance, rtol * scale)
    got = predict_fn(t=t, get='ndk', compute_cov='diag')
    close(got.covariance, diagonal(want.covariance)[:, :len(x)], rtol * scale)

  def check_equilibrium(self, kernel_fn, predict_fn, x, y, z, temperature,
                        rtol=1e-5):
    inputs = np.concatenate([x, z])
    prior = kernel_fn(inputs, None, 'nngp', diffusion_time=(1e6, 1e6))
    scale = prior.max()
    train, cross = prior[:len(x), :len(x)], prior[:, :len(x)]
    want = nt_predict.gp_inference(
        train, y, diag_reg=temperature, diag_reg_absolute_scale=True)(
            'nngp', cross, prior)
    close(want.covariance, reference.gp_covariance(
        train, temperature, cross, prior), 1e-9 * scale)
    late = [40. * y.size / temperature]
    for t, mean_tol, tol in [(None, 1e-8, 1e-8),
                             (late, 10. * rtol, 10. * rtol)]:
      got = predict_fn(t=t, x_test=inputs, get='ndk', compute_cov=True)
      close(got.mean.reshape(want.mean.shape), want.mean, mean_tol * rms(y))
      close(got.covariance.reshape(prior.shape), want.covariance, tol * scale)
      got = predict_fn(t=t, get='ndk', compute_cov='diag')
      close(got.covariance.reshape(-1), np.diag(want.covariance)[:len(x)],
            tol * scale)

  def check_dense(self, temperature):
    x, y, z = data(5)
    kernel_fn = network(description('erf', 2, 1.5, .9, b=.2))
    predict_fn = ensemble(kernel_fn, x, y, temperature)
    self.check_start(kernel_fn, predict_fn, x, z)
    self.check_equilibrium(kernel_fn, predict_fn, x, y, z, temperature)

  @parameterized.parameters([.3])
  def test_dense(self, temperature):
    self.check_dense(temperature)

  @parameterized.parameters([1e-3])
  @pytest.mark.slow
  def test_dense_more(self, temperature):
    self.check_dense(temperature)

  def check_gradient_flow_at(self, temperature, rtol):
    x, y, z = data(5)
    kernel_fn = network(description('erf', 2, 1.5, .9, b=.2))
    predict_fn = ensemble(kernel_fn, x, y, temperature, rtol=1e-6)
    t = np.array([0., .1, 3., 40., 1e3, 1e5])
    self.check_gradient_flow(kernel_fn, predict_fn, x, y, z, t, rtol)

  @parameterized.parameters([(1e-12, 1e-5)])
  def test_gradient_flow(self, temperature, rtol):
    self.check_gradient_flow_at(temperature, rtol)

  @parameterized.parameters([(0., 1e-12)])
  @pytest.mark.slow
  def test_gradient_flow_more(self, temperature, rtol):
    self.check_gradient_flow_at(temperature, rtol)

  @parameterized.parameters(None, 3.)
  def test_zero_temperature(self, t):
    # Temperature zero may be Neural Tangents' code; here is another.
    x, y, z = data(5)
    layers = description('erf', 2, 1.5, .9, b=.2)
    predict_fn = ensemble(network(layers), x, y, 0.)
    initial = lambda a, b: reference.two_time_kernels(a, b, 0., 0., layers)
    for x_test, inputs in ((None, x), (z, z)):
      weights = reference.gradient_flow_weights(
          initial(x, x).ndk, initial(inputs, x).ndk, np.inf if t is None else t)
      want = reference.conditioned_covariance(
          weights, initial(x, x).nngp, initial(inputs, x).nngp,
          initial(inputs, inputs).nngp)
      got = predict_fn(t=t and t * y.size, x_test=x_test, get='ndk',
                       compute_cov=True)
      close(got.covariance, want, 1e-9)

  @pytest.mark.slow
  def test_cnn(self):
    # One predictor, over all decades of time: gradient flow to equilibrium.
    x, y, z = image_data()
    kernel_fn, temperature = residual_cnn(1.5, .9), 1e-9
    predict_fn = ensemble(kernel_fn, x, y, temperature)
    t = np.array([.1, 3., 40., 1e3])
    self.check_gradient_flow(kernel_fn, predict_fn, x, y, z, t, 1e-4)
    self.check_start(kernel_fn, predict_fn, x, z)
    self.check_equilibrium(kernel_fn, predict_fn, x, y, z, temperature)

  @pytest.mark.slow
  def test_axes_that_are_not_independent(self):
    rng = np.random.default_rng(3)
    x, y, z = (rng.normal(size=(n, 3, 2)) for n in (3, 3, 2))
    inputs = np.concatenate([x, z])
    conv = functools.partial(stax.Conv, 2, (2,), None, 'SAME', 1.3,
                             W_init_std=1.5, W_prior_std=.9)
    kernel_fn = stax.serial(conv(), stax.Relu(), conv())[2]
    temperature, t = 1e-2, np.array([0., .4, 20., 300., 40. * 18. / 1e-2])
    flat = lambda k: np.moveaxis(np.asarray(k), -3, -2).reshape(
        k.shape[:-4] + (3 * k.shape[-4], 3 * k.shape[-3]))
    prior = flat(kernel_fn(inputs, None, 'nngp', diffusion_time=(1e6, 1e6)))
    want = reference.gp_covariance(
        prior[:9, :9], temperature, prior[:, :9], prior)

    predict_fn = ensemble(kernel_fn, x, y, temperature)
    got = predict_fn(t=t, x_test=inputs, get='ndk', compute_cov=True).covariance
    self.assertEqual(got.shape, (5, 5, 5, 3, 3))
    close(got[0], kernel_fn(inputs, None, 'nngp'), 1e-9)
    got = flat(got)
    close(got[-1], want, 1e-4 * prior.max())
    self.assertGreater(np.linalg.eigvalsh(got).min(), -1e-12)
    diag = predict_fn(t=t, get='ndk', compute_cov='diag').covariance
    self.assertEqual(diag.shape, (5, 3, 3))
    close(diag.reshape(5, 9), diagonal(got)[:, :9], 1e-4 * prior.max())
    diag = predict_fn(t=t, x_test=z, get='ndk', compute_cov='diag').covariance
    close(diag.reshape(5, 6), diagonal(got)[:, 9:], 1e-4 * prior.max())

    two_time = functools.partial(predict_fn.two_time_covariance, x_test=inputs)
    one = two_time(t[3], t[2], compute_cov=True)
    self.assertEqual(one.shape, (5, 5, 3, 3))
    close(flat(one), flat(two_time(t[2], t[3], compute_cov=True)).T, 1e-5)
    close(flat(two_time(t[2], t[2], compute_cov=True)), got[2], 1e-5)
    close(two_time(t[3], t[2]).reshape(-1), diagonal(flat(one)), 1e-9)

    # Without noise.
    cold = ensemble(kernel_fn, x, y, 1e-10)
    t = np.array([.4, 20., 300.])
    want = nt_predict.gradient_descent_mse_ensemble(kernel_fn, x, y)(
        t=t, x_test=inputs, get='ntk', compute_cov=True)
    got = cold(t=t, x_test=inputs, get='ndk', compute_cov=True)
    close(got.mean, want.mean, 1e-4 * rms(y))
    close(got.covariance, want.covariance, 1e-4 * prior.max())


Case = collections.namedtuple(
    'Case', ['n', 'phi', 'depth', 's0', 's', 'b', 'temperature'])

CASES = dict(
    relu1=Case(5, 'relu', 1, 1., 1., None, 1e-3),
    relu2=Case(3, 'relu', 2, 2., 1., None, .02),
    relu3=Case(4, 'relu', 3, .6, 1.2, .3, 1.),
    erf1=Case(6, 'erf', 1, .5, 1., .3, 1e-5),
    erf2=Case(4, 'erf', 2, 2., 1., None, .1),
    linear2=Case(3, 'linear', 2, 1.6, .8, .4, 1e-2),
)

# Those of quick tests.
QUICK = ['relu1', 'erf2']
SLOW = [name for name in CASES if name not in QUICK]

LEARNING_RATE = 3.

Problem = collections.namedtuple(
    'Problem', ['x', 'y', 'z', 'inputs', 'layers', 'kernels', 'temperature',
                's', 't', 'scale'])


@functools.lru_cache(None)
def problem(name):
  """Data and network of a case, and theory times to look at."""
  case = CASES[name]
  x, y, z = data(case.n, 2)
  layers = description(case.phi, case.depth, case.s0, case.s, b=case.b)
  t = np.concatenate([
      [.05, .7, 8.], case.s**2 / case.temperature * np.array([.2, 2.1, 9.])])
  inputs = np.concatenate([x, z])
  return Problem(x, y, z, inputs, layers, kernels_of(layers), case.temperature,
                 case.s, np.sort(t), free_variance(layers, inputs))


@functools.lru_cache(None)
def truth(name):
  """Mean and covariance for all inputs, by brute force."""
  p = problem(name)
  _, mean = reference.volterra_mean(
      lambda *args: p.kernels(*args).ndk, p.x, p.y, p.inputs, p.temperature,
      p.t, prior_std=p.s)
  _, covariance = reference.volterra_covariance(
      p.kernels, p.x, p.inputs, p.temperature, p.t, p.s)
  return mean, covariance


@functools.lru_cache(None)
def predictor_of(name, rtol):
  p = problem(name)
  return ensemble(network(p.layers), p.x, p.y, p.temperature, LEARNING_RATE,
                  rtol=rtol)


def predictor(name, rtol=1e-6):
  return predictor_of(name, rtol)


def their_time(name, t):
  return np.asarray(t) * problem(name).y.size / LEARNING_RATE


class BruteForceTest(parameterized.TestCase):

  def check_mean_and_covariance(self, name):
    p, n = problem(name), CASES[name].n
    t = their_time(name, p.t)
    mean, covariance = truth(name)
    got = predictor(name)(t=t, get='ndk', compute_cov='diag')
    close(got.mean, mean[:, :n], 1e-5 * rms(p.y))
    close(got.covariance, diagonal(covariance)[:, :n], 1e-5 * p.scale)
    got = predictor(name)(t=t, x_test=p.inputs, get='ndk', compute_cov=True)
    close(got.mean, mean, 1e-5 * rms(p.y))
    close(got.covariance, covariance, 1e-5 * p.scale)
    close(got.covariance, np.swapaxes(got.covariance, 1, 2), 1e-14 * p.scale)
    self.assertGreaterEqual(
        np.linalg.eigvalsh(got.covariance).min(), -1e-12 * p.scale)

  @parameterized.parameters(*QUICK)
  def test_mean_and_covariance(self, name):
    self.check_mean_and_covariance(name)

  @parameterized.parameters(*SLOW)
  @pytest.mark.slow
  def test_mean_and_covariance_more(self, name):
    self.check_mean_and_covariance(name)

  @parameterized.parameters('relu', 'erf')
  @pytest.mark.slow
  def test_single_precision(self, phi):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 1))
    layers = [dense(1.3, W_init_std=2.), phi, dense(1.3, W_init_std=2.)]

    def covariance(modes):
      with mock.patch.object(spans, '_SINGLE_FROM', (1e-5, modes)):
        return np.asarray(ensemble(network(layers), x[:8], y[:8], 1e-3)(
            t=8 * np.geomspace(1e-2, 1e4, 4), x_test=x[8:], get='ndk',
            compute_cov=True).covariance)

    single, double = covariance(1), covariance(9)
    scale = free_variance(layers, x)
    close(single, double, 1e-6 * scale)
    self.assertGreater(np.max(np.abs(single - double)), 1e-13 * scale)

  @pytest.mark.slow
  def test_bases_of_modes_serve_several_times(self):
    # One basis while boundary layers are not thinner than the time or modes
    # hardly turn, another one later.
    p = problem('erf2')
    ask = dict(x_test=p.inputs, get='ndk', compute_cov='diag')
    t = their_time('erf2', np.geomspace(1e-5, p.t[4], 12))
    make = resolvent.make_basis
    with mock.patch.object(resolvent, 'make_basis', side_effect=make) as bases:
      got = predictor('erf2')(t=t, **ask).covariance
    self.assertBetween(bases.call_count, 2, 5)
    for i in (3, 6, 9):
      alone = ensemble(network(p.layers), p.x, p.y, p.temperature,
                       LEARNING_RATE, rtol=1e-6)(t=t[i], **ask).covariance
      close(got[i], alone, 2e-6 * p.scale)

  @pytest.mark.slow
  def test_grids_are_refined_at_once(self):
    # One late time, without earlier ones whose grids were finer.
    p = problem('erf2')
    fine, coarse = (ensemble(network(p.layers), p.x, p.y, p.temperature,
                             LEARNING_RATE, rtol=rtol) for rtol in (1e-8, 1e-5))
    ask = dict(t=their_time('erf2', p.t[4]), x_test=p.inputs, get='ndk',
               compute_cov='diag')
    close(coarse(**ask).covariance, fine(**ask).covariance, 1e-5 * p.scale)
    self.assertLess(coarse.stats['estimated_covariance_error'], 3e-5)

  @parameterized.parameters('relu', 'erf')
  @pytest.mark.slow
  def test_grids_are_chosen_for_predictions_with_data_nearby(self, phi):
    rng = np.random.default_rng(0)
    x, y, z = (rng.normal(size=s) for s in ((60, 10), (60, 1), (20, 10)))
    near = [4, 11]
    z[near] = x[:2] + 1e-2 * z[near]
    order, hardest = [], resolvent.EndTime.hardest

    def record(*args):
      order.append(hardest(*args))
      return order[-1]

    predict_fn = ensemble(network(description(phi, 2, 2.)), x, y, 1e-2,
                          rtol=1e-4)
    with mock.patch.object(resolvent.EndTime, 'hardest', record):
      predict_fn(t=60 * np.array([1., 500.]), x_test=z, get='ndk',
                 compute_cov='diag')
    self.assertLen(order, 2)
    for some in order:
      self.assertSameElements(some[-2:], near)

  def check_two_times(self, name):
    p = problem(name)
    pairs = [(p.t[1], p.t[2]), (p.t[3], p.t[1]),
             (p.t[4] + .1 / p.scale, p.t[4])]
    want = [reference.volterra_covariance_two_times(
        p.kernels, p.x, p.inputs, p.temperature, *pair, p.s)[1]
            for pair in pairs]
    two_time = predictor(name).two_time_covariance
    t1, t2 = their_time(name, pairs).T
    got = two_time(t1, t2, p.inputs, compute_cov=True)
    close(got, want, 1e-5 * p.scale)
    close(two_time(t2, t1, p.inputs, compute_cov=True),
          np.swapaxes(got, 1, 2), 1e-5 * p.scale)
    close(two_time(t1, t2), diagonal(got)[:, :len(p.x)], 1e-5 * p.scale)

  @parameterized.parameters(['erf2'])
  def test_two_times(self, name):
    self.check_two_times(name)

  @parameterized.parameters('relu1', *SLOW)
  @pytest.mark.slow
  def test_two_times_more(self, name):
    self.check_two_times(name)

  @parameterized.parameters(*QUICK)
  @pytest.mark.slow
  def test_two_times_broadcast(self, name):
    p = problem(name)
    t = their_time(name, [0., p.t[2], p.t[4]])
    two_time = functools.partial(
        predictor(name).two_time_covariance, x_test=p.inputs)
    grid = np.asarray(two_time(t[:, None], t, compute_cov=True))
    self.assertEqual(grid.shape, (3, 3) + 2 * (len(p.inputs),))
    close(grid, np.transpose(grid, (1, 0, 3, 2)), 1e-5 * p.scale)
    want = predictor(name)(
        t=t, x_test=p.inputs, get='ndk', compute_cov=True).covariance
    close(np.einsum('ttij->tij', grid), want, 1e-5 * p.scale)
    diag = two_time(t[2], t[:2, None])
    self.assertEqual(diag.shape, (2, 1, len(p.inputs)))
    close(diag[:, 0], diagonal(grid[2, :2]), 1e-7 * p.scale)
    self.assertEqual(two_time(t[2], t[1]).shape, (len(p.inputs),))
    # All times and inputs together have a covariance too.
    joint = grid.transpose(0, 2, 1, 3).reshape(2 * (3 * len(p.inputs),))
    self.assertGreater(np.linalg.eigvalsh(joint)[0], -1e-5 * p.scale)

  def check_tolerance(self, name, rtol):
    p, n = problem(name), CASES[name].n
    t = their_time(name, p.t)
    predict_fn = predictor(name, rtol)
    for x_test, rows in ((None, slice(n)), (p.inputs, slice(None))):
      mean, covariance = truth(name)
      want = diagonal(covariance)[:, rows]
      got = predict_fn(t=t, x_test=x_test, get='ndk', compute_cov='diag')
      estimates = predict_fn.stats
      errors = dict(
          mean=np.abs(got.mean - mean[:, rows]).max() / rms(p.y),
          covariance=np.abs(got.covariance - want).max() / p.scale)
      estimates = dict(
          mean=predict_fn.stats['estimated_error'],
          covariance=predict_fn.stats['estimated_covariance_error'])
      for key, error in errors.items():
        with self.subTest(of=key, train=x_test is None):
          self.assertLess(error, 10. * rtol)
      for key, estimate in estimates.items():
        with self.subTest(estimate_of=key, train=x_test is None):
          self.assertLess(errors[key], 10. * estimate)
          self.assertLess(estimate, 100. * rtol)

  @parameterized.product(name=['erf2'], rtol=[1e-6])
  def test_tolerance(self, name, rtol):
    self.check_tolerance(name, rtol)

  @parameterized.parameters(
      ('erf2', 1e-3), ('erf2', 1e-5), ('erf2', 1e-7),
      ('relu1', 1e-3), ('relu1', 1e-5), ('relu1', 1e-7))
  @pytest.mark.slow
  def test_tolerance_more(self, name, rtol):
    self.check_tolerance(name, rtol)


class ConvergenceTest(parameterized.TestCase):
  """Order of the equations for one mode, whose covariance has a kink."""

  @parameterized.parameters(2, 3)
  def test_order(self, stages):
    g, temperature, s0, s, tau = 1.3, .7, 1.6, .8, .9
    want = reference.scalar_variance(g, temperature, tau / temperature, s0, s)

    class Decay:
      """Memory of differences in time, and of time zero."""
      cusp_width = early_width = 1e3

      def at_earlier(self, tau_):
        return tau_

      def phi(self, tau, tau_):
        return np.exp(-np.stack(np.broadcast_arrays(
            tau - tau_, tau + tau_), -1) / s**2)

      def phi_rows(self, tau, tau_, at_earlier=None):
        del at_earlier
        return self.phi(tau, tau_[:, None])

    ndk, nngp = np.array([g, 0.]), g * np.array([s**2, s0**2 - s**2])

    def variance(panels):
      step = tau / panels
      mesh = resolvent._FineMesh(tau, step, 2.5, 1e3, step, impulse=False)
      younger, older = (mesh.product_weights(Decay(), mesh.ages, side)
                        for side in (False, True))
      kernel = lambda c: Decay().phi(tau, tau - mesh.ages) @ c
      equations = np.tensordot(ndk, younger, 1)
      equations += temperature * np.eye(len(mesh.ages))
      b = np.linalg.solve(equations, kernel(ndk))
      weighted = mesh.weights * b
      return (Decay().phi(tau, tau) @ nngp - 2. * weighted @ kernel(nngp) +
              weighted @ np.tensordot(nngp, younger + older, 1) @ b)

    with mock.patch.object(resolvent, '_STAGES', stages):
      errors = [abs(variance(panels) - want) for panels in (4, 8, 16)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    close(orders, 2. * stages - 1., .3)


class PropertiesTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.x, cls.y, cls.z = data(5)
    cls.kernel_fn = staticmethod(network(description('relu', 1, 1.5)))
    cls.predict_fn = staticmethod(ensemble(cls.kernel_fn, cls.x, cls.y, .1))
    cls.t = np.array([.3, 8., 60., 700.])

  @pytest.mark.slow
  def test_does_not_depend_on_targets(self):
    ask = dict(x_test=self.z, get='ndk', compute_cov='diag')
    want = self.predict_fn(t=self.t, **ask)
    for y, t in [(30. * np.cos(self.y) + 9., self.t),
                 (self.y[:, :1], self.t / 2.)]:
      got = ensemble(self.kernel_fn, self.x, 2. * y, .1)(t=t, **ask)
      close(got.covariance, want.covariance, 1e-6)
      self.assertGreater(rms(got.mean - want.mean[..., :y.shape[1]]), 1e-3)

  def test_no_times(self):
    none = np.zeros(0)
    self.assertEqual(self.predict_fn.sample(
        jax.random.PRNGKey(0), 3, none, self.z).shape, (3, 0, 3, 2))
    self.assertEqual(self.predict_fn.two_time_covariance(
        none[:, None], self.t, self.z).shape, (0, 4, 3))

  def test_memory_is_asked_for_first(self):
    times = np.geomspace(1., 1e3, 40)
    self.predict_fn(t=times[:1], x_test=self.z, get='ndk')
    with mock.patch.object(memory, 'available', return_value=10**5):
      for question in (
          lambda: self.predict_fn.sample(jax.random.PRNGKey(0), 3, times,
                                         self.z),
          lambda: self.predict_fn.two_time_covariance(
              times[:, None], times, self.z, compute_cov=True)):
        with self.assertRaisesRegex(MemoryError, '40 times are .* GB in memory,'
                                    ' but there are 0.00 GB.* fewer times'):
          question()

  def test_learning_rate_rescales_time(self):
    # Both are new: what a predictor has been asked before changes its grids.
    ask = dict(x_test=self.z, get='ndk', compute_cov='diag')
    slow, fast = (ensemble(self.kernel_fn, self.x, self.y, .1, rate)
                  for rate in (1., 8.))
    close(fast(t=self.t / 8., **ask).covariance,
          slow(t=self.t, **ask).covariance, 1e-6)
    close(fast.two_time_covariance(self.t / 8., 1. / 8., self.z),
          slow.two_time_covariance(self.t, 1., self.z), 1e-6)

  def test_size_of_weights_is_temperature(self):
    # Where nonlinearities are homogeneous and there are no biases.
    a, layers, t = .8, 3, self.t[1::2]
    ask = dict(x_test=self.z, get='ndk', compute_cov='diag')
    for phi in ('relu', 'erf'):
      small = ensemble(network(description(phi, layers - 1, 1.5 * a, a)),
                       self.x, self.y, .1)(t=t, **ask)
      hot = ensemble(network(description(phi, layers - 1, 1.5)), self.x, self.y,
                     .1 / a**(2 * layers))(t=t * a**(2 * layers - 2), **ask)
      off = (np.max(np.abs(small.mean - hot.mean)),
             np.max(np.abs(small.covariance / a**(2 * layers) -
                           hot.covariance)))
      if phi == 'relu':
        self.assertLess(max(off), 1e-4)
      else:
        self.assertGreater(min(off), 1e-2)

  def test_shapes_and_order_of_times(self):
    t = np.array([[8., 0., 700.], [60., 1e4, .3]])
    for x_test, m, compute_cov in ((None, 5, True), (self.z, 3, 'diag')):
      shape = (m, m) if compute_cov is True else (m,)
      ask = functools.partial(
          self.predict_fn, x_test=x_test, get='ndk', compute_cov=compute_cov)
      got = ask(t=t)
      self.assertIsInstance(got, predict.Gaussian)
      self.assertEqual(got.mean.shape, (2, 3, m, 2))
      self.assertEqual(got.covariance.shape, (2, 3) + shape)
      one = ask(t=8.)
      self.assertEqual(one.covariance.shape, shape)
      close(one.covariance, got.covariance[0, 0], 1e-6)
      self.assertEqual(ask(t=None).covariance.shape, shape)
      self.assertEqual(ask(t=np.zeros((0,))).covariance.shape, (0,) + shape)

  def test_first_question_is_time_zero(self):
    predict_fn = ensemble(self.kernel_fn, self.x, self.y, .1)
    got = predict_fn(t=0., x_test=self.z, get='ndk', compute_cov='diag')
    np.testing.assert_array_equal(got.mean, np.zeros((3, 2)))
    close(got.covariance, np.diag(self.kernel_fn(self.z, None, 'nngp')), 1e-9)

  @parameterized.parameters((np.array([.3, 50.]),), (None,))
  @pytest.mark.slow
  def test_get(self, t):
    theirs = nt_predict.gradient_descent_mse_ensemble(
        self.kernel_fn, self.x, self.y)
    for x_test in (None, self.z):
      full, diag = (self.predict_fn(t=t, x_test=x_test, compute_cov=compute_cov)
                    for compute_cov in (True, 'diag'))
      for name in ('ndk', 'ntk', 'nngp'):
        a, b = getattr(full, name), getattr(diag, name)
        close(diagonal(a.covariance), b.covariance, 1e-12)
        close(a.mean, b.mean, 1e-12)
        if name != 'ndk':
          want = theirs(t=t, x_test=x_test, get=name, compute_cov=True)
          close(a.covariance, want.covariance, 1e-10)
          close(a.mean, want.mean, 1e-10)

  @parameterized.parameters('maybe', 2, None)
  def test_refuses(self, compute_cov):
    with self.assertRaisesRegex((TypeError, ValueError), 'compute_cov'):
      self.predict_fn(t=1., x_test=self.z, get='ndk', compute_cov=compute_cov)

  @parameterized.parameters(
      (-1., 1.), (1., np.nan), (None, 1.), (1., np.inf),
      (np.ones(2), np.ones(3)))
  def test_refuses_times(self, t1, t2):
    with self.assertRaises((TypeError, ValueError)):
      self.predict_fn.two_time_covariance(t1, t2)


@pytest.mark.slow
class PositiveTest(parameterized.TestCase):

  @parameterized.parameters(1e-2, 1e-7)
  def test_duplicates_and_small_temperature(self, temperature):
    x, y, z = data()
    x, y = np.concatenate([x, x[:2]]), np.concatenate([y, y[:2] + .5])
    inputs = np.concatenate([x, z[:2], z[:1], x[:1] + 1e-6])
    layers = description('relu', 1, 1.5)
    scale = free_variance(layers, inputs)
    predict_fn = ensemble(network(layers), x, y, temperature)
    t = y.size * np.concatenate(
        [[0., .1, 3.], np.array([1e-3, .1, 1., 4., 30.]) / temperature])
    got = predict_fn(t=t, get='ndk', compute_cov=True).covariance
    self.assertGreaterEqual(np.linalg.eigvalsh(got).min(), -1e-12 * scale)
    train = diagonal(got)
    for times in (t, None):
      got = predict_fn(t=times, x_test=inputs, get='ndk', compute_cov=True)
      got = np.asarray(got.covariance)
      self.assertTrue(np.isfinite(got).all())
      close(got, np.swapaxes(got, -1, -2), 1e-14 * scale)
      self.assertGreaterEqual(np.linalg.eigvalsh(got).min(), -1e-12 * scale)
      for a, b, tol in [(0, 4, 1e-9), (1, 5, 1e-9), (6, 8, 1e-9), (0, 9, 1e-4)]:
        close(got[..., a, :], got[..., b, :], tol * scale)
        close(got[..., a, a], got[..., b, b], tol * scale)
      if times is not None:
        close(diagonal(got)[:, :6], train, 1e-5 * scale)
        if temperature > 1e-4:
          _, want = reference.volterra_covariance(
              kernels_of(layers), x, inputs, temperature, t[[2, 5]] / y.size)
          close(got[[2, 5]], want, 1e-4 * scale)


@pytest.mark.slow
class EquilibriumTest(parameterized.TestCase):

  @parameterized.parameters('relu', 'erf')
  def test_two_times(self, phi):
    # The equilibrium is reversible. So the covariance depends on the lag only,
    # is even, and its slope at zero is the noise of f.
    temperature, s = .4, .9
    x, y, z = data(4)
    layers = description(phi, 1, 1.3, s)
    scale = free_variance(layers, np.concatenate([x, z]))
    predict_fn = ensemble(network(layers), x, y, temperature, rtol=1e-7)
    late = 25. * s**2 / temperature
    noise = temperature * kernels_of(layers)(z, z, 1e6, 1e6).ndk
    h = 4e-4 / noise.max()
    lags = np.array([0., h, 4. * h, .03, .3, 2.])
    two_time = lambda t1, t2: np.asarray(predict_fn.two_time_covariance(
        y.size * t1, y.size * t2, z, compute_cov=True))
    got = two_time(late + lags, late)
    close(got, np.swapaxes(got, 1, 2), 1e-6 * scale)
    close(two_time(late, late + lags), got, 1e-6 * scale)
    close(two_time(1.5 * late, 1.5 * late - lags), got, 1e-6 * scale)
    close(got[0], predict_fn(
        t=None, x_test=z, get='ndk', compute_cov=True).covariance, 1e-6 * scale)
    # The next term is of order h (erf) or its root (relu).
    slopes = (got[1:3] - got[0]) / lags[1:3, None, None]
    slope = 2. * slopes[0] - slopes[1]
    if phi == 'erf':
      slope = (4. * slopes[0] - slopes[1]) / 3.
    close(slope, -noise, 1e-2 * noise.max())
    variance = diagonal(got)
    self.assertTrue(np.all(np.diff(variance, axis=0) < 0.))
    # Before equilibrium none of this holds.
    early = two_time(.3 + lags, .3) - two_time(.8 + lags, .8)
    self.assertGreater(np.abs(early).max(), 1e-2 * scale)


def load_ensemble(name):
  """A stored ensemble of finite networks, and its infinite counterpart."""
  path = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..',
                      'ensemble', name + '.npz')
  with np.load(path) as file:
    stored = dict(file)
  layers = []
  for c, s0, s in zip(stored['W_std'], stored['W_init_std'],
                      stored['W_prior_std']):
    layers += [dense(c, None, s0, s), str(stored['activation'])]
  stored['x'] = np.concatenate([stored['x_train'], stored['x_test']]).astype(
      np.float64)
  for key in ('x_train', 'y_train'):
    stored[key] = stored[key].astype(np.float64)
  return stored, network(layers[:-1])


def mean_scores(stored_mean, mean, variance, networks):
  """Deviations in units of the standard error of a mean."""
  return (stored_mean - mean) / np.sqrt(variance / networks)


def covariance_scores(stored_covariance, covariance, variance1, variance2,
                      networks):
  """Deviations in units of the standard error of a covariance."""
  return (stored_covariance - covariance) / np.sqrt(
      (variance1 * variance2 + covariance**2) / (networks - 1.))


@pytest.mark.slow
class FiniteNetworksTest(parameterized.TestCase):
  """Predictions against networks that were trained by Langevin dynamics."""

  def check(self, scores):
    self.assertLess(rms(scores), 1.6)
    self.assertLess(np.abs(scores).max(), 4.5)

  @parameterized.parameters('relu', 'erf')
  def test_ensemble(self, name):
    stored, kernel_fn = load_ensemble(name)
    x, y, networks = stored['x_train'], stored['y_train'], stored['networks']
    predict_fn = ensemble(kernel_fn, x, y, float(stored['temperature']))
    t = stored['times'] * y.size
    mean, variance = predict_fn(
        t=t, x_test=stored['x'], get='ndk', compute_cov='diag')
    self.check(mean_scores(stored['mean'], mean[..., 0], variance, networks))

    # Variances, and covariances between two times of the same output.
    covariance = predict_fn.two_time_covariance(t[:, None], t, stored['x'])
    scores = covariance_scores(
        np.einsum('siti->sti', stored['covariance']), covariance,
        variance[:, None], variance, networks)
    with self.subTest('variance'):
      self.check(np.einsum('tti->ti', scores))
    with self.subTest('two times'):
      self.check(scores[np.triu_indices(len(t), 1)])

    # Covariances between inputs.
    full = predict_fn(
        t=t, x_test=stored['x'], get='ndk', compute_cov=True).covariance
    scores = covariance_scores(
        np.einsum('titj->tij', stored['covariance']), full,
        variance[:, :, None], variance[:, None], networks)
    rows, columns = np.triu_indices(len(stored['x']), 1)
    with self.subTest('inputs'):
      self.check(scores[:, rows, columns])


if __name__ == '__main__':
  absltest.main()
