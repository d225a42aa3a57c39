# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of draws of networks that learn with any loss."""

import json
import os
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import random
import jax.numpy as jnp
import numpy as np
import pytest

from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk import stax

jax.config.update('jax_enable_x64', True)

PHI = dict(relu=stax.Relu, erf=stax.Erf)


def network(phi, init_std=1.6, prior_std=.9, multipliers=(1., 1.), b_std=.2):
  stds = dict(W_init_std=init_std, W_prior_std=prior_std)
  return stax.serial(
      stax.Dense(64, multipliers[0], b_std, **stds), PHI[phi](),
      stax.Dense(1, multipliers[1], **stds))


def data(n=20, m=6, seed=0):
  rng = np.random.RandomState(seed)
  x, z = rng.randn(n, 10), rng.randn(m, 10)
  return x, np.sin(x[:, :1]) + .3 * rng.randn(n, 1), z


def squared(f, y):
  return .5 * jnp.sum((f - y)**2)


def logistic(f, y, factor=1.):
  return factor * jnp.sum(jax.nn.softplus(-y * f))


def cross_entropy(f, y):
  return -jnp.sum(jax.nn.log_softmax(f)[jnp.arange(len(y)), y])


def rms(a):
  return float(np.sqrt(np.mean(np.square(a))))


def deviations(draws, prediction):
  """Root mean square of mean and variance, in standard errors."""
  out = langevin.compare(draws, tuple(map(np.asarray, prediction)))
  return rms(out.mean_z), rms(out.variance_z)


def posterior_moments(kernel, likelihood, size=9., points=161):
  """Mean and variance of the first output, of one or of two, by quadrature."""
  n = len(kernel)
  grid = np.linspace(-size, size, points) * np.sqrt(np.diagonal(kernel).max())
  f = np.stack(np.meshgrid(*n * [grid], indexing='ij'), -1)
  log = -.5 * np.einsum('...i,ij,...j', f, np.linalg.inv(kernel), f)
  log = log + likelihood(f)
  p = np.exp(log - log.max())
  p /= p.sum()
  mean = np.tensordot(p, f, n)
  return mean, np.tensordot(p, f**2, n) - mean**2


class SquaredLossTest(parameterized.TestCase):

  def check(self, phi, temperature, n, draws, times, x_test, key=1):
    x, y, z = data(n)
    z = z if x_test else None
    _, _, kernel_fn = network(phi)
    exact = predict.markov_proximal_mse_ensemble(kernel_fn, x, y, temperature,
                                                 learning_rate=n)
    sample_fn = predict.markov_proximal_ensemble(squared, kernel_fn, x, y,
                                                 temperature)
    some = sample_fn(random.PRNGKey(key), draws, times, z)
    mean, variance = deviations(some, exact(
        t=times, x_test=z, get='ndk', compute_cov='diag'))
    self.assertBetween(mean, .4, 1.5)
    self.assertBetween(variance, .4, 1.5)
    self.assertLess(sample_fn.stats['estimated_error'], 1e-2)
    return some

  def test_closed_form(self):
    self.check('relu', .1, 4, 300, np.array([.03, 1., 100.]), True)

  @parameterized.product(phi=('relu', 'erf'), temperature=(.1, 1e-3),
                         x_test=(True, False))
  @pytest.mark.slow
  def test_closed_form_all_along(self, phi, temperature, x_test):
    times = np.append(0., np.geomspace(1e-2, 10 / temperature, 9))
    some = self.check(phi, temperature, 20, 4000, times, x_test)
    self.assertEqual(some.draws.shape[:2], (4000, 10))

  @pytest.mark.slow
  def test_schedule(self):
    """Temperature, targets and weights of samples change."""
    x, y, z = data(6)
    weight = np.array([1., 0., 2., .5, 1., 1.])
    schedule = (predict.Phase(20., temperature=.3, sample_weight=weight),
                predict.Phase(5., learning_rate=2., y_train=-y),
                predict.Phase(np.inf, temperature=.03))
    _, _, kernel_fn = network('relu')
    times = np.array([1., 20., 20.5, 25., 26., 200.])
    exact = predict.markov_proximal_mse_ensemble(
        kernel_fn, x, y, .1, 6., schedule=tuple(
            p._replace(learning_rate=6 * (p.learning_rate or 1.))
            for p in schedule))(
                t=times, x_test=z, get='ndk', compute_cov='diag')
    some = predict.markov_proximal_ensemble(
        squared, kernel_fn, x, y, .1, schedule=schedule)(
            random.PRNGKey(0), 3000, times, z)
    mean, variance = deviations(some, exact)
    self.assertBetween(mean, .4, 1.5)
    self.assertBetween(variance, .4, 1.5)

  @pytest.mark.slow
  def test_without_noise(self):
    """Each network follows gradient flow, of the NTK."""
    x, y, z = data(4)
    _, _, kernel_fn = network('erf')
    times = np.array([.1, 1., 10.])
    some = predict.markov_proximal_ensemble(squared, kernel_fn, x, y, 0.)(
        random.PRNGKey(0), 200, times, z)
    mean, variance = deviations(some, predict.markov_proximal_mse_ensemble(
        kernel_fn, x, y, 0., 4.)(t=times, x_test=z, get='ndk',
                                 compute_cov='diag'))
    self.assertBetween(mean, .2, 1.7)
    self.assertBetween(variance, .2, 1.7)


class PosteriorTest(parameterized.TestCase):

  def check(self, n, draws, factor=4., temperature=.5):
    _, _, kernel_fn = network('relu')
    x = data(n, seed=1)[0]
    y = np.array([1., -1.])[:n, None]
    sample_fn = predict.markov_proximal_ensemble(
        lambda f, y: logistic(f, y, factor), kernel_fn, x, y, temperature)
    some = sample_fn(random.PRNGKey(0), draws)
    kernel = np.asarray(kernel_fn(x, x, 'nngp', diffusion_time=(1e9, 1e9)))
    mean, variance = posterior_moments(
        kernel, lambda f: -factor / temperature * np.sum(
            np.logaddexp(0., -y[:, 0] * f), -1))
    z = (some.mean[:, 0] - mean) / some.mean_error[:, 0]
    np.testing.assert_array_less(np.abs(z), 3.)
    z = (some.variance[:, 0] - variance) / some.variance_error[:, 0]
    np.testing.assert_array_less(np.abs(z), 3.)
    # It is not the prior.
    self.assertGreater(abs(mean[0]), 10 * some.mean_error[0, 0])

  def test_one_sample(self):
    self.check(1, 1500)

  @parameterized.parameters((1, 4., .5), (2, 4., .5), (2, 4., .02))
  @pytest.mark.slow
  def test_quadrature(self, n, factor, temperature):
    self.check(n, 8000, factor, temperature)


class FiniteNetworksTest(parameterized.TestCase):

  @parameterized.parameters('logistic', 'softmax')
  @pytest.mark.slow
  def test_stored(self, name):
    stored = np.load(os.path.join(os.path.dirname(__file__), '..', 'ensemble',
                                  f'{name}.npz'))
    case = json.loads(str(stored['case']))
    x, n = np.asarray(stored['x'], float), case['n_train']
    _, _, kernel_fn = network(case['activation'], case['init_std'],
                              case['prior_std'], case['multipliers'], None)
    schedule = [predict.Phase(
        duration, temperature=T, y_train=np.array(y).reshape(
            (n, 1) if name == 'logistic' else (n,)), sample_weight=a)
                for duration, T, y, a in case['phases']]
    schedule[-1] = schedule[-1]._replace(duration=np.inf)
    loss = (cross_entropy if name == 'softmax' else
            lambda f, y: logistic(f, y, case['factor']))
    some = predict.markov_proximal_ensemble(
        loss, kernel_fn, x[:n], schedule[0].y_train, 1., schedule=schedule,
        output_shape=(case['outputs'],))(
            random.PRNGKey(3), 4000, np.array(case['times']), x)
    finite = langevin.Ensemble(t=some.t, n_networks=1000, **{
        f'{what}{error}': stored[f'{what}{error}']
        for what in ('mean', 'variance') for error in ('', '_error')})
    comparison = langevin.compare(finite, some)
    self.assertBetween(rms(comparison.mean_z), .4, 1.5)
    self.assertBetween(rms(comparison.variance_z), .4, 1.5)


class LossTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.x, cls.y, cls.z = data(5, 3)
    cls.kernel_fn = staticmethod(network('erf')[2])

  def sample(self, loss, y=None, T=.1, count=20, t=1., x_test=None, **kwargs):
    y = self.y if y is None else y
    return predict.markov_proximal_ensemble(
        loss, self.kernel_fn, self.x, y, T, **kwargs)(
            random.PRNGKey(0), count, t, x_test)

  def test_units(self):
    """A multiple of the loss is a multiple of time and of temperature."""
    one = self.sample(squared, t=2.)
    half = self.sample(lambda f, y: .5 * squared(f, y), T=.05, t=4.)
    np.testing.assert_allclose(one.draws, half.draws, atol=2e-3)
    rate = self.sample(squared, t=1., learning_rate=2.)
    np.testing.assert_allclose(one.draws, rate.draws, atol=1e-9)

  def test_sample_of_weight_zero(self):
    """What it is called changes nothing; its output is predicted."""
    weight = np.array([1., 1., 0., 1., 1.])
    schedule = (predict.Phase(np.inf, sample_weight=weight),)
    other = self.y + 7. * (weight == 0)[:, None]
    one, two = (self.sample(squared, y, schedule=schedule).draws
                for y in (self.y, other))
    np.testing.assert_allclose(one, two, atol=1e-3)

  @parameterized.parameters(
      lambda f, y: jnp.sum(jnp.where(
          jnp.abs(f - y) < .3, .5 * (f - y)**2, .3 * jnp.abs(f - y) - .045)),
      lambda f, y: .5 * jnp.sum(jnp.maximum(0., 1. - jnp.sign(y) * f)**2),
      # Not convex: Student's t.
      lambda f, y: jnp.sum(jnp.log1p((f - y)**2)))
  @pytest.mark.slow
  def test_robust_losses(self, loss):
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Curvature jumps: the error is larger.
      some = self.sample(loss, T=.01, t=np.array([0., .3, 1e3]))
    self.assertTrue(np.all(np.isfinite(some.draws)))
    # Training data are learned.
    value = [float(loss(some.mean[i], self.y)) for i in (0, 2)]
    self.assertLess(value[1], .5 * value[0])

  def test_labels_and_shapes(self):
    labels = np.array([0, 1, 2, 1, 0])
    t = np.array([[0., 1.], [10., np.inf]])
    some = self.sample(cross_entropy, labels, t=t, x_test=self.z,
                       output_shape=(3,))
    self.assertEqual(some.draws.shape, (20, 2, 2, 3, 3))
    self.assertEqual(some.mean.shape, (2, 2, 3, 3))
    np.testing.assert_array_equal(some.t, t)

  @pytest.mark.slow
  def test_labels_are_learned(self):
    labels = np.array([0, 1, 2, 1, 0])
    some = self.sample(cross_entropy, labels, t=100., output_shape=(3,))
    np.testing.assert_array_equal(np.argmax(some.mean, -1), labels)

  @pytest.mark.slow
  def test_draws_are_those_of_their_number(self):
    few, many = (self.sample(squared, count=c, t=np.array([.1, 10.]))
                 for c in (10, 40))
    np.testing.assert_allclose(few.draws, many.draws[:10], atol=2e-3)

  def test_memory_is_bounded(self):
    one, two = (self.sample(squared, count=40, max_bytes=b)
                for b in (2**30, 2e5))
    np.testing.assert_allclose(one.draws, two.draws, atol=2e-3)

  @pytest.mark.slow
  def test_inputs_that_are_zero(self):
    x = self.x.copy()
    x[2] = 0.
    _, _, kernel_fn = network('relu', b_std=None)
    some = predict.markov_proximal_ensemble(squared, kernel_fn, x, self.y, .1)(
        random.PRNGKey(0), 20, np.array([1., 10.]))
    np.testing.assert_allclose(some.draws[:, :, 2], 0., atol=1e-4)
    self.assertTrue(np.all(np.isfinite(some.draws)))

  def test_bad_input(self):
    coupled = lambda f, y: jnp.sum(f - y)**2
    for loss, kwargs, message in (
        (coupled, {}, 'sum over samples'),
        (lambda f, y: (f - y)**2, {}, 'must return a number'),
        (lambda f, y: jnp.sum(jnp.sqrt(f)), {}, 'finite'),
        (cross_entropy, dict(y=np.arange(5)), 'output_shape'),
        (lambda f: jnp.sum(f), {}, 'JAX function'),  # pylint: disable=unnecessary-lambda
        (squared, dict(count=1), 'at least 2'),
        (squared, dict(T=0., t=None), 'temperature'),
        (squared, dict(T=-1.), 'temperature'),
        (squared, dict(rtol=0.), 'rtol')):
      with self.assertRaisesRegex(ValueError, message):
        self.sample(loss, **kwargs)
    with self.assertRaisesRegex(TypeError, 'markov_proximal_mse_ensemble'):
      self.sample('mean')


class LangevinTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.x, self.y, self.z = data(4, 2)
    self.network = network('relu')[:2]

  def train(self, loss, y=None, t=2., **kwargs):
    return langevin.markov_proximal_ensemble(
        *self.network, self.x, self.y if y is None else y, .1, loss=loss,
        **kwargs)(random.PRNGKey(0), 6, np.array([t]), self.z)

  def check(self, **kwargs):
    one, two = (self.train(loss, t=1.5, step_size=.02, **kwargs)
                for loss in ('sum', squared))
    np.testing.assert_allclose(one.mean, two.mean, atol=1e-8)

  def test_squared_loss_is_that_of_sums(self):
    self.check(schedule=(predict.Phase(1., sample_weight=[1., 0., 2., .5]),
                         predict.Phase(np.inf, temperature=.3)))

  @pytest.mark.slow
  def test_squared_loss_is_that_of_sums_of_minibatches_and_pairs(self):
    self.check(batch_size=2)
    self.network = stax.serial(stax.Dense(64), stax.Relu(), stax.Dense(1))[:2]
    self.check(antithetic=True)

  @pytest.mark.slow
  def test_labels(self):
    labels = np.array([0, 1, 1, 0])
    self.network = stax.serial(stax.Dense(64), stax.Relu(), stax.Dense(2))[:2]
    some = self.train(cross_entropy, labels)
    self.assertEqual(some.mean.shape, (1, 2, 2))
    with self.assertRaisesRegex(ValueError, 'proximal'):
      self.train(squared, proximal=True, step_size=.1)


class SinglePrecisionTest(absltest.TestCase):

  @pytest.mark.slow
  def test_runs(self):
    x, y, z = data(5, 3)
    times = np.array([.1, 10.])
    jax.config.update('jax_enable_x64', False)
    try:
      with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        single = predict.markov_proximal_ensemble(
            squared, network('relu')[2], x, y, .1)(
                random.PRNGKey(0), 400, times, z)
    finally:
      jax.config.update('jax_enable_x64', True)
    mean, variance = deviations(single, predict.markov_proximal_mse_ensemble(
        network('relu')[2], x, y, .1, 5.)(
            t=times, x_test=z, get='ndk', compute_cov='diag'))
    self.assertBetween(mean, .2, 1.7)
    self.assertBetween(variance, .2, 1.7)


if __name__ == '__main__':
  absltest.main()
