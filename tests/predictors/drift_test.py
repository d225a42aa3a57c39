# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of representational drift: the readout is frozen, the rest goes on.

Covariances are relative to the largest variance without data (`scale`).
Predictors take time since the readout was frozen, in the units of Neural
Tangents; the references take the time since learning began, in those of the
theory.
"""

import collections
import functools

from absl.testing import absltest
from absl.testing import parameterized
from covariance_test import close
from covariance_test import covariance_scores
from covariance_test import diagonal
from covariance_test import free_variance
from covariance_test import kernels_of
from covariance_test import load_ensemble
from covariance_test import mean_scores
from covariance_test import network
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
import reference

jax.config.update('jax_enable_x64', True)

ensemble = predict.markov_proximal_mse_ensemble


def drift(*args, **kwargs):
  return predict.representational_drift_mse_ensemble(*args, **kwargs)


LEARNING_RATE = 3.

# Activation, depth, s0, s, standard deviation of the bias; temperature, and
# theory time of the freeze.
Case = collections.namedtuple(
    'Case', ['phi', 'depth', 's0', 's', 'b', 'temperature', 'freeze'])

CASES = dict(
    relu2=Case('relu', 2, 1.5, .9, .3, .05, 20.),
    erf1=Case('erf', 1, .7, 1., None, .3, 2.),
    linear1=Case('linear', 1, 1.5, 1., None, 1e-3, 700.),
)

Problem = collections.namedtuple(
    'Problem', ['x', 'y', 'inputs', 'layers', 'kernels', 'temperature', 's',
                'freeze', 'times', 'scale'])


@functools.lru_cache(None)
def problem(name):
  """Data and network of a case, and theory times since the freeze."""
  case = CASES[name]
  x, y, z = data(4, 2)
  inputs = np.concatenate([x, z])
  layers = description(case.phi, case.depth, case.s0, case.s, b=case.b)
  times = np.concatenate([
      [0., .5], case.s**2 / case.temperature * np.array([.1, 1., 6.])])
  return Problem(x, y, inputs, layers, kernels_of(layers), case.temperature,
                 case.s, case.freeze, np.sort(times),
                 free_variance(layers, inputs))


def their_time(p, t):
  return np.asarray(t) * p.y.size / LEARNING_RATE


@functools.lru_cache(None)
def predictor(name, freeze, hidden_learning=False, rtol=1e-5):
  """Drift after theory time `freeze`."""
  p = problem(name)
  if freeze is not None:
    freeze = their_time(p, freeze)
  return drift(network(p.layers), p.x, p.y, p.temperature, freeze,
               hidden_learning, LEARNING_RATE, rtol=rtol)


class EquilibriumTest(parameterized.TestCase):

  def formula(self, name, lags):
    """Conditioning of the stationary network on noisy targets in the past."""
    p = problem(name)
    tau = 1e6
    prior = p.kernels(p.inputs, p.inputs, tau, tau).nngp
    n = len(p.x)
    mean, covariance = [], []
    for lag in lags:
      cross = p.kernels(p.inputs, p.x, tau + lag, tau,
                        readout_time=(tau, tau)).nngp
      mean.append(reference.gp_mean(prior[:n, :n], p.y, p.temperature, cross))
      covariance.append(reference.gp_covariance(
          prior[:n, :n], p.temperature, cross, prior))
    return np.array(mean), np.array(covariance)

  def check_formula(self, name):
    p, n = problem(name), 4
    predict_fn = predictor(name, None)
    mean, covariance = self.formula(name, p.temperature * p.times)
    t = their_time(p, p.times)
    got = predict_fn(t=t, x_test=p.inputs, compute_cov=True)
    close(got.mean, mean, 1e-6 * rms(p.y))
    close(got.covariance, covariance, 1e-6 * p.scale)
    close(predict_fn(t=t), mean[:, :n], 1e-6 * rms(p.y))
    got = predict_fn(t=t, compute_cov='diag')
    close(got.mean, mean[:, :n], 1e-6 * rms(p.y))
    close(got.covariance, diagonal(covariance)[:, :n], 1e-6 * p.scale)
    self.assertGreater(np.abs(mean[1] - mean[0]).max(), 1e-5)

    # Infinitely late, and the posterior to begin with.
    mean, covariance = self.formula(name, [1e6])
    got = predict_fn(t=None, x_test=p.inputs, compute_cov=True)
    close(got.mean, mean[0], 1e-6 * rms(p.y))
    close(got.covariance, covariance[0], 1e-6 * p.scale)
    got = predict_fn(t=0., x_test=p.inputs, compute_cov='diag')
    want = ensemble(network(p.layers), p.x, p.y, p.temperature)(
        t=None, x_test=p.inputs, get='ndk', compute_cov='diag')
    close(got.mean, want.mean, 1e-8 * rms(p.y))
    close(got.covariance, want.covariance, 1e-8 * p.scale)

  @parameterized.parameters(['erf1'])
  def test_formula(self, name):
    self.check_formula(name)

  @parameterized.parameters('relu2', 'linear1')
  @pytest.mark.slow
  def test_formula_more(self, name):
    self.check_formula(name)

  def check_hidden_learning_stays_at_the_posterior(self, name):
    p = problem(name)
    prior = p.kernels(p.inputs, p.inputs, 1e6, 1e6).nngp
    train, cross = prior[:4, :4], prior[:, :4]
    mean = reference.gp_mean(train, p.y, p.temperature, cross)
    covariance = reference.gp_covariance(train, p.temperature, cross, prior)
    predict_fn = predictor(name, None, True)
    got = predict_fn(t=their_time(p, p.times), x_test=p.inputs,
                     compute_cov=True)
    for value in (*zip(*got), predict_fn(None, p.inputs, True)):
      close(value[0], mean, 1e-8 * rms(p.y))
      close(value[1], covariance, 1e-8 * p.scale)
    got = predict_fn(their_time(p, p.times), compute_cov='diag')
    close(got.covariance, len(p.times) * [np.diag(covariance)[:4]],
          1e-8 * p.scale)

  @parameterized.parameters(['erf1'])
  def test_hidden_learning_stays_at_the_posterior(self, name):
    self.check_hidden_learning_stays_at_the_posterior(name)

  @parameterized.parameters('relu2', 'linear1')
  @pytest.mark.slow
  def test_hidden_learning_stays_at_the_posterior_more(self, name):
    self.check_hidden_learning_stays_at_the_posterior(name)

  def test_odd_activation_forgets_everything(self):
    p = problem('erf1')
    predict_fn = predictor('erf1', None)
    mean = predict_fn(t=their_time(p, p.times), x_test=p.inputs)
    decay = [rms(value) for value in mean]
    self.assertTrue(np.all(np.diff(decay) < 0.), decay)
    self.assertLess(decay[-1], .01 * decay[0])
    got = predict_fn(t=None, x_test=p.inputs, compute_cov=True)
    close(got.mean, 0., 1e-8)
    close(got.covariance, p.kernels(p.inputs, p.inputs, 1e6, 1e6).nngp, 1e-8)

  def test_relu_keeps_the_norm(self):
    # Kernel of mean activations: proportional to the norms of both inputs.
    x, y, z = data(4)
    y, temperature = np.abs(y), .1
    layers = description('relu', 1, 1.3, .9)
    predict_fn = drift(network(layers), x, y, temperature)
    norm = np.linalg.norm
    prior = kernels_of(layers)(x, x, 1e6, 1e6).nngp
    weights = (1.4 * .9)**4 / (2. * np.pi) / x.shape[1] * np.linalg.solve(
        prior + temperature * np.eye(4), y)
    for x_test, inputs in ((None, x), (z, z), (-z, z)):
      close(predict_fn(t=None, x_test=x_test),
            norm(inputs, axis=1)[:, None] * (norm(x, axis=1) @ weights), 1e-6)
    self.assertGreater(rms(norm(x, axis=1) @ weights), .1)

  @pytest.mark.slow
  def test_cnn(self):
    # Kernel of the last hidden layer, from the network without its readout.
    s0, s, temperature, scale = 1.5, .9, .1, (1.2 * .9)**2
    x, y, z = image_data()
    inputs = np.concatenate([x, z])
    kernel_fn = residual_cnn(s0, s)
    conv = functools.partial(stax.Conv, 4, (3, 3), None, 'SAME', 1.3,
                             W_init_std=s0, W_prior_std=s)
    hidden_fn = stax.serial(
        conv(), stax.FanOut(2),
        stax.parallel(stax.serial(stax.Relu(), conv()), stax.Identity()),
        stax.FanInSum(), stax.Relu(), stax.GlobalAvgPool(), stax.Flatten())[2]
    lag = .4
    hidden = lambda tau: scale * np.asarray(hidden_fn(
        inputs, inputs, 'nngp', diffusion_time=(100. + tau, 100.)))
    prior, cross = hidden(0.), hidden(lag)[:, :4]
    close(prior, kernel_fn(inputs, inputs, 'nngp', diffusion_time=(100., 100.)),
          1e-9)
    predict_fn = drift(kernel_fn, x, y, temperature)
    got = predict_fn(
        t=lag / temperature * y.size, x_test=inputs, compute_cov=True)
    close(got.mean, reference.gp_mean(prior[:4, :4], y, temperature, cross),
          1e-6)
    close(got.covariance, reference.gp_covariance(
        prior[:4, :4], temperature, cross, prior), 1e-6)


@functools.lru_cache(None)
def answer(name, freeze, hidden_learning):
  """Mean and covariance of all inputs at the times of the problem."""
  p = problem(name)
  return predictor(name, freeze, hidden_learning)(
      t=their_time(p, p.times), x_test=p.inputs, compute_cov=True)


@functools.lru_cache(None)
def truth(name, freeze, hidden_learning):
  """The same and infinitely late, by brute force."""
  p = problem(name)
  times = freeze + np.append(p.times, 30. * p.s**2 / p.temperature)
  args = (p.temperature, times, freeze, hidden_learning, p.s)
  return (reference.drift_mean(p.kernels, p.x, p.y, p.inputs, *args)[1],
          reference.drift_covariance(p.kernels, p.x, p.inputs, *args)[1])


class FiniteTimeTest(parameterized.TestCase):

  def check_brute_force(self, name, hidden_learning):
    p = problem(name)
    mean, covariance = truth(name, p.freeze, hidden_learning)
    got = answer(name, p.freeze, hidden_learning)
    mean_error = np.abs(got.mean - mean[:-1]).max() / rms(p.y)
    error = np.abs(got.covariance - covariance[:-1]).max() / p.scale
    self.assertLess(mean_error, 1e-4)
    self.assertLess(error, 1e-5)
    stats = predictor(name, p.freeze, hidden_learning).stats
    self.assertLess(mean_error, 10. * stats['estimated_error'])
    self.assertLess(error, 10. * stats['estimated_covariance_error'])
    close(got.covariance, np.swapaxes(got.covariance, 1, 2), 1e-13 * p.scale)
    self.assertGreater(np.linalg.eigvalsh(got.covariance).min(),
                       -1e-12 * p.scale)

  @parameterized.product(name=['erf1'], hidden_learning=[False, True])
  def test_brute_force(self, name, hidden_learning):
    self.check_brute_force(name, hidden_learning)

  @parameterized.product(name=['relu2', 'linear1'],
                         hidden_learning=[False, True])
  @pytest.mark.slow
  def test_brute_force_more(self, name, hidden_learning):
    self.check_brute_force(name, hidden_learning)

  @parameterized.parameters(False, True)
  def test_training_inputs(self, hidden_learning):
    p = problem('erf1')
    mean, covariance = truth('erf1', p.freeze, hidden_learning)
    got = predictor('erf1', p.freeze, hidden_learning)(
        t=their_time(p, p.times), compute_cov='diag')
    close(got.mean, mean[:-1, :4], 1e-4 * rms(p.y))
    close(got.covariance, diagonal(covariance)[:-1, :4], 1e-5 * p.scale)

  def check_starts_at_the_predictor(self, name):
    p = problem(name)
    want = ensemble(network(p.layers), p.x, p.y, p.temperature, LEARNING_RATE)(
        t=their_time(p, p.freeze), x_test=p.inputs, get='ndk', compute_cov=True)
    for hidden_learning in (False, True):
      got = answer(name, p.freeze, hidden_learning)
      close(got.mean[0], want.mean, 1e-4 * rms(p.y))
      close(got.covariance[0], want.covariance, 1e-5 * p.scale)
      # And just after.
      got = predictor(name, p.freeze, hidden_learning)(
          t=[1e-9], x_test=p.inputs)
      close(got[0], want.mean, 1e-4 * rms(p.y))

  @parameterized.parameters(['erf1'])
  def test_starts_at_the_predictor(self, name):
    self.check_starts_at_the_predictor(name)

  @parameterized.parameters(['relu2'])
  @pytest.mark.slow
  def test_starts_at_the_predictor_more(self, name):
    self.check_starts_at_the_predictor(name)

  @parameterized.parameters(False, True)
  def test_late_freeze_is_equilibrium(self, hidden_learning):
    p = problem('erf1')
    late = 25. * p.s**2 / p.temperature
    got, want = (answer('erf1', freeze, hidden_learning)
                 for freeze in (late, None))
    close(got.mean, want.mean, 1e-4 * rms(p.y))
    close(got.covariance, want.covariance, 1e-4 * p.scale)

  def check_infinitely_late(self, name, hidden_learning):
    p = problem(name)
    mean, covariance = truth(name, p.freeze, hidden_learning)
    got = predictor(name, p.freeze, hidden_learning)(
        t=None, x_test=p.inputs, compute_cov=True)
    close(got.mean, mean[-1], 1e-4 * rms(p.y))
    close(got.covariance, covariance[-1], 1e-4 * p.scale)

  @parameterized.parameters(('erf1', False), ('erf1', True))
  def test_infinitely_late(self, name, hidden_learning):
    self.check_infinitely_late(name, hidden_learning)

  @parameterized.parameters(('relu2', False), ('linear1', True))
  @pytest.mark.slow
  def test_infinitely_late_more(self, name, hidden_learning):
    self.check_infinitely_late(name, hidden_learning)

  def test_nothing_learned(self):
    p = problem('erf1')
    got = answer('erf1', 0., False)
    np.testing.assert_array_equal(got.mean, np.zeros((5, 6, 2)))
    want = [p.kernels(p.inputs, p.inputs, tau, tau, readout_time=(0., 0.)).nngp
            for tau in p.temperature * p.times]
    close(got.covariance, want, 1e-6 * p.scale)
    close(predictor('erf1', 0.)(t=None), 0., 1e-9)

  @pytest.mark.slow
  def test_only_hidden_weights_learn(self):
    p = problem('erf1')
    mean, covariance = truth('erf1', 0., True)
    got = answer('erf1', 0., True)
    self.assertGreater(np.abs(mean[1:]).max(), .1)
    close(got.mean, mean[:-1], 1e-4 * rms(p.y))
    close(got.covariance, covariance[:-1], 1e-4 * p.scale)

  def check_shapes_and_order_of_times(self, name, hidden_learning):
    p = problem(name)
    predict_fn = predictor(name, p.freeze, hidden_learning)
    t = their_time(p, [[6., 0., .5], [1., 30., .01]])
    mean = predict_fn(t=t, x_test=p.inputs)
    self.assertEqual(mean.shape, (2, 3, 6, 2))
    full = predict_fn(t=t, x_test=p.inputs, compute_cov=True)
    self.assertEqual(full.covariance.shape, (2, 3, 6, 6))
    close(full.mean, mean, 1e-4)
    one = predict_fn(t=t[1, 0], x_test=p.inputs, compute_cov='diag')
    self.assertEqual(one.covariance.shape, (6,))
    close(one.covariance, diagonal(full.covariance)[1, 0], 1e-5 * p.scale)
    close(one.mean, mean[1, 0], 1e-4)
    self.assertEqual(predict_fn(t=None).shape, (4, 2))
    # Targets scale the mean alone.
    scaled = drift(network(p.layers), p.x, -2. * p.y, p.temperature,
                   their_time(p, p.freeze), hidden_learning, LEARNING_RATE)
    got = scaled(t=t, x_test=p.inputs, compute_cov=True)
    close(got.mean, -2. * mean, 1e-4)
    close(got.covariance, full.covariance, 1e-5 * p.scale)

  @parameterized.parameters([('erf1', False)])
  def test_shapes_and_order_of_times(self, name, hidden_learning):
    self.check_shapes_and_order_of_times(name, hidden_learning)

  @parameterized.product(name=['linear1'], hidden_learning=[False, True])
  @pytest.mark.slow
  def test_shapes_and_order_of_times_more(self, name, hidden_learning):
    self.check_shapes_and_order_of_times(name, hidden_learning)


class FiniteNetworksTest(parameterized.TestCase):

  def check_ensemble(self, branch, hidden_learning):
    stored, kernel_fn = load_ensemble('relu')
    x, y, networks = stored['x_train'], stored['y_train'], stored['networks']
    freeze = float(stored['freeze_time'])
    predict_fn = drift(
        kernel_fn, x, y, float(stored['temperature']), freeze * y.size,
        hidden_learning)
    mean, covariance = predict_fn(
        t=(stored['drift_times'] - freeze) * y.size, x_test=stored['x'],
        compute_cov=True)
    variance = diagonal(covariance)
    got = np.einsum('titj->tij', stored[f'{branch}_covariance'])
    scores = dict(
        mean=mean_scores(
            stored[f'{branch}_mean'], mean[..., 0], variance, networks),
        covariance=covariance_scores(
            got, covariance, variance[:, :, None], variance[:, None],
            networks))
    scores['variance'] = diagonal(scores['covariance'])
    for name, value in scores.items():
      with self.subTest(name):
        self.assertLess(rms(value), 1.6)
        self.assertLess(np.abs(value).max(), 4.5)

  @parameterized.parameters([('forget', False)])
  def test_ensemble(self, branch, hidden_learning):
    self.check_ensemble(branch, hidden_learning)

  @parameterized.parameters([('hidden', True)])
  @pytest.mark.slow
  def test_ensemble_more(self, branch, hidden_learning):
    self.check_ensemble(branch, hidden_learning)


class RefusalsTest(parameterized.TestCase):

  def two_readouts():  # pylint: disable=no-method-argument
    return stax.serial(
        stax.Dense(8), stax.Relu(), stax.FanOut(2),
        stax.parallel(stax.Dense(1), stax.Dense(1)), stax.FanInSum())

  @parameterized.named_parameters(
      ('no_hidden_layer', stax.Dense(1)),
      ('no_hidden_weights', stax.serial(stax.Relu(), stax.Dense(1))),
      ('two_readouts', two_readouts()),
      ('two_readouts_of_unlike_depth', stax.serial(
          stax.Dense(8), stax.Relu(), stax.FanOut(2),
          stax.parallel(stax.Dense(1), stax.serial(
              stax.Dense(8), stax.Relu(), stax.Dense(1))), stax.FanInSum())))
  def test_network(self, net):
    x, y, z = data()
    with self.assertRaises(ValueError):
      drift(net[2], x, y, .1, 10.)(1., z)

  @parameterized.named_parameters(
      ('temperature', 'temperature', dict(temperature=-1.)),
      ('no_temperature', 'temperature', dict(temperature=0.)),
      ('freeze', 't_freeze', dict(t_freeze=-1.)),
      ('nan', 't_freeze', dict(t_freeze=np.nan)),
      ('many', 't_freeze', dict(t_freeze=np.ones(2))))
  def test_problem(self, word, kwargs):
    x, y, _ = data()
    with self.assertRaisesRegex((TypeError, ValueError), word):
      drift(network(description()), x, y,
            **{**dict(temperature=.1), **kwargs})(1.)

  @parameterized.named_parameters(
      ('negative', dict(t=-1.)), ('nan', dict(t=[1., np.nan])),
      ('compute_cov', dict(t=1., compute_cov='all')),
      ('x_test', dict(t=1., x_test=np.ones((2, 5)))),
      ('keyword', dict(t=1., tempurature=1.)))
  def test_question(self, kwargs):
    with self.assertRaises((TypeError, ValueError)):
      predictor('erf1', CASES['erf1'].freeze)(**kwargs)


if __name__ == '__main__':
  absltest.main()
