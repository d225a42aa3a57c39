# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of predictors of networks some of whose layers are frozen.

Covariances are relative to the largest variance without data. Predictors take
time in the units of Neural Tangents; the references take that of the theory.
"""

from absl.testing import absltest
from absl.testing import parameterized
from covariance_test import close
from covariance_test import diagonal
from covariance_test import free_variance
from covariance_test import kernels_of
from covariance_test import network
import jax
from jax import numpy as jnp
from jax import random
import numpy as np
from predict_test import data
from predict_test import image_data
from predict_test import rms
import pytest

from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk import stax
import reference
from reference import dense

# Neural Tangents comes after `nt_ndk`, which lets it be imported.
# isort: split
from neural_tangents import predict as nt_predict

jax.config.update('jax_enable_x64', True)

ensemble = predict.markov_proximal_mse_ensemble


def layer(trainable, c=1.3, b=.4, s0=1.4, s=.8):
  return dense(c, b, s0, s, s0, s, trainable=trainable)


NETWORKS = dict(
    features=[layer(False), 'erf', layer(True)],
    readout=[layer(True), 'relu', layer(False)],
    embedding=[layer(False), 'relu', layer(True), 'erf', layer(True, b=None)],
    middle=[layer(True), 'erf', layer(False), 'relu', layer(True)],
    both_ends=[layer(False), 'erf', layer(True), 'relu', layer(False)])
T, S = .1, .8


def late_kernels(layers, inputs):
  """Under the prior: all, and what is left of it between times far apart."""
  kernels = kernels_of(layers)
  return [kernels(inputs, inputs, 1e6, t).nngp for t in (1e6, 1e3)]


def late_predictor(layers, x, y, inputs, temperature=T):
  """Each choice of the frozen weights has a posterior of its own."""
  everything, common = late_kernels(layers, inputs)
  learned, n = everything - common, len(x)
  noisy = learned[:n, :n] + temperature * np.eye(n)
  gain = np.linalg.solve(noisy, learned[:n]).T
  between = gain @ common[:n]
  return gain @ y, (learned - gain @ learned[:n] + common - between -
                    between.T + gain @ common[:n, :n] @ gain.T)


class ReferenceTest(parameterized.TestCase):
  """Equations of the predictor, solved with kernels of the reference."""

  def check_brute_force(self, name):
    layers, (x, y, z) = NETWORKS[name], data(4)
    kernels, inputs = kernels_of(layers), np.concatenate([x, z])
    scale = free_variance(layers, inputs)
    times = np.array([.4, 3., 40.])
    train, test = reference.volterra_mean(
        lambda *args: kernels(*args).ndk, x, y, z, T, times, prior_std=S)
    covariance = reference.volterra_covariance(kernels, x, z, T, times[1:], S)
    predict_fn = ensemble(network(layers), x, y, T)
    for x_test, mean, want in ((None, train, covariance[0]),
                               (z, test, covariance[1])):
      got = predict_fn(times * y.size, x_test, 'ndk', compute_cov=True)
      close(got.mean, mean, 1e-4 * rms(y))
      close(got.covariance[1:], want, 1e-5 * scale)
    want = reference.volterra_covariance_two_times(
        kernels, x, z, T, times[1], times[0], S)[1]
    got = predict_fn.two_time_covariance(
        times[1] * y.size, times[0] * y.size, z, compute_cov=True)
    close(got, want, 1e-5 * scale)

  @parameterized.parameters(*NETWORKS)
  @pytest.mark.slow
  def test_brute_force(self, name):
    self.check_brute_force(name)


class EquilibriumTest(parameterized.TestCase):

  def check_posterior(self, name):
    layers, (x, y, z) = NETWORKS[name], data(4)
    inputs = np.concatenate([x, z])
    mean, covariance = late_predictor(layers, x, y, inputs)
    scale = free_variance(layers, inputs)
    predict_fn = ensemble(network(layers), x, y, T)
    got = predict_fn(None, inputs, 'ndk', compute_cov=True)
    close(got.mean, mean, 1e-8)
    close(got.covariance, covariance, 1e-8 * scale)
    got = predict_fn(None, get='ndk', compute_cov='diag')
    close(got.mean, mean[:4], 1e-8)
    close(got.covariance, np.diag(covariance)[:4], 1e-8 * scale)

  @parameterized.parameters('readout', 'both_ends')
  def test_posterior(self, name):
    self.check_posterior(name)

  @parameterized.parameters('features', 'embedding', 'middle')
  @pytest.mark.slow
  def test_posterior_more(self, name):
    self.check_posterior(name)

  def check_end_of_the_trajectory(self, name):
    # Resolvents know nothing of posteriors.
    layers, (x, y, z) = NETWORKS[name], data(4)
    mean, covariance = late_predictor(layers, x, y, np.concatenate([x, z]))
    predict_fn = ensemble(network(layers), x, y, T)
    late = .7 * predict_fn.phases().equilibrium
    got = predict_fn(late, z, 'ndk', compute_cov=True)
    close(got.mean, mean[4:], 1e-4 * rms(y))
    close(got.covariance, covariance[4:, 4:],
          1e-5 * free_variance(layers, np.concatenate([x, z])))

  @parameterized.parameters(['readout'])
  def test_end_of_the_trajectory(self, name):
    self.check_end_of_the_trajectory(name)

  @parameterized.parameters('features', 'both_ends')
  @pytest.mark.slow
  def test_end_of_the_trajectory_more(self, name):
    self.check_end_of_the_trajectory(name)

  @pytest.mark.slow
  def test_no_noise(self):
    # The end of the diffusive limit, and what all frozen weights share: the
    # training targets are learned.
    layers, (x, y, z) = NETWORKS['readout'], data(4)
    inputs = np.concatenate([x, z])
    mean, covariance = late_predictor(layers, x, y, inputs, 0.)
    scale = free_variance(layers, inputs)
    close(covariance[:4], 0., 1e-8)
    predict_fn = predict.diffusive_limit_mse_ensemble(network(layers), x, y)
    got = predict_fn(None, z, True)
    close(got.mean, mean[4:], 1e-7)
    close(got.covariance, covariance[4:, 4:], 1e-7 * scale)
    tau = np.array([.3, 1.])
    _, mean, covariance = reference.diffusive_limit(
        kernels_of(layers), x, y, z, tau, S)
    got = predict_fn(tau, z, True)
    close(got.mean, mean, 1e-4 * rms(y))
    close(got.covariance, covariance, 1e-4 * scale)

  @pytest.mark.slow
  def test_gradient_flow(self):
    # Neural Tangents, with the kernels of the layers that learn.
    x, y, z = data(4)
    layers = NETWORKS['embedding']
    got = ensemble(network(layers), x, y, 0.)(7., z, 'ndk', compute_cov=True)
    kernels = kernels_of(layers)
    inputs = np.concatenate([x, z])
    start = kernels(inputs, inputs, 0., 0.)
    weights = reference.gradient_flow_weights(
        start.ndk[:4, :4], start.ndk[4:, :4], 7. / y.size)
    close(got.mean, weights @ y, 1e-10)
    close(got.covariance, reference.conditioned_covariance(
        weights, start.nngp[:4, :4], start.nngp[4:, :4], start.nngp[4:, 4:]),
          1e-10)
    self.assertGreater(rms(weights @ y), .1)
    # That is the one of a network with gradients stopped.
    want = nt_predict.gradient_descent_mse_ensemble(
        network(layers), x, y)(7., z, 'ntk')
    close(want, got.mean, 1e-10)


class ClosedFormTest(parameterized.TestCase):

  @parameterized.parameters((.3, .5, .8), (.01, 2., 1.))
  @pytest.mark.slow
  def test_random_features(self, temperature, s0, s):
    # Bayesian linear regression, in a root of the kernel of the features.
    x, y, z = data(5)
    hidden = [layer(False), 'relu', layer(False), 'erf']
    inputs = np.concatenate([x, z])
    kernel = reference.two_time_kernels(inputs, inputs, 0., 0., hidden).nngp
    values, vectors = np.linalg.eigh(kernel)
    features = vectors * np.sqrt(len(inputs) * np.maximum(values, 0.))
    t = np.array([.3, 4., .6 / temperature, 9. / temperature])
    close(features @ features.T / len(inputs), kernel, 1e-12)
    want = lambda t1, t2: reference.linear_covariance(
        features[:5], features, features, temperature, t1, t2, 1.4, s0, s)
    gram = 1.4**2 * kernel
    rates, modes = np.linalg.eigh(gram[:5, :5])
    rate = rates + temperature / s**2
    mean = [gram[:, :5] @ modes @ ((modes.T @ y) * (
        -np.expm1(-rate * a) / rate)[:, None]) for a in t]

    predict_fn = ensemble(network(hidden + [dense(
        1.4, None, s0, s)]), x, y, temperature, rtol=1e-6)
    got = predict_fn(t * y.size, inputs, 'ndk', compute_cov=True)
    scale = max(s0, s)**2 * gram.max()
    close(got.mean, mean, 1e-5 * rms(y))
    close(got.covariance, [want(a, a) for a in t], 1e-5 * scale)
    got = predict_fn.two_time_covariance(t * y.size, t[1] * y.size, inputs,
                                         compute_cov=True)
    close(got, [want(a, t[1]) for a in t], 1e-5 * scale)

  def test_frozen_readout_of_a_linear_network(self):
    # That of the hidden layer alone, times the readout as it is drawn.
    (x, y, z), temperature, s0, s = data(5), .3, .5, .8
    predict_fn = ensemble(
        network([dense(1.3, None, s0, s), 'linear',
                 dense(1.1, None, 1.7, .6, trainable=False)]), x, y,
        temperature, rtol=1e-6)
    t = np.array([.3, 4., .6 / temperature, 9. / temperature])
    inputs = np.concatenate([x, z])
    c = 1.3 * 1.1 * 1.7
    gram = c**2 * inputs @ inputs.T / x.shape[1]
    rates, modes = np.linalg.eigh(gram[:5, :5])
    rate = rates + temperature / s**2
    got = predict_fn(t * y.size, inputs, 'ndk', compute_cov=True)
    close(got.mean, [gram[:, :5] @ modes @ ((modes.T @ y) * (
        -np.expm1(-rate * a) / rate)[:, None]) for a in t], 1e-5 * rms(y))
    close(got.covariance, [reference.linear_covariance(
        x, inputs, inputs, temperature, a, a, c, s0, s) for a in t],
          1e-5 * gram.max())


class DriftTest(parameterized.TestCase):

  def check_brute_force(self, name, hidden_learning):
    layers, (x, y, z) = NETWORKS[name], data(4)
    inputs = np.concatenate([x, z])
    freeze, lag = 5., np.array([.5, 4.])
    args = T, freeze + lag, freeze, hidden_learning, S
    mean = reference.drift_mean(kernels_of(layers), x, y, inputs, *args)[1]
    covariance = reference.drift_covariance(kernels_of(layers), x, inputs,
                                            *args)[1]
    predict_fn = predict.representational_drift_mse_ensemble(
        network(layers), x, y, T, freeze * y.size, hidden_learning)
    got = predict_fn(lag * y.size, inputs, True)
    close(got.mean, mean, 1e-4 * rms(y))
    close(got.covariance, covariance, 1e-5 * free_variance(layers, inputs))

  @parameterized.product(name=['embedding', 'readout'],
                         hidden_learning=[False, True])
  @pytest.mark.slow
  def test_brute_force(self, name, hidden_learning):
    self.check_brute_force(name, hidden_learning)

  @parameterized.product(name=['readout', 'both_ends', 'embedding'],
                         hidden_learning=[False, True])
  @pytest.mark.slow
  def test_late_freeze_is_equilibrium(self, name, hidden_learning):
    layers, (x, y, z) = NETWORKS[name], data(4)
    lag = np.array([0., 1., 8.]) * y.size
    late = 20. * S**2 / T * y.size
    got, want = (predict.representational_drift_mse_ensemble(
        network(layers), x, y, T, freeze, hidden_learning)(lag, z, True)
                 for freeze in (late, None))
    close(got.mean, want.mean, 1e-4 * rms(y))
    close(got.covariance, want.covariance,
          1e-4 * free_variance(layers, np.concatenate([x, z])))

  def test_frozen_readout_at_equilibrium(self):
    # The readout need not be frozen twice: what has been learned is forgotten
    # at the rate of the hidden layer, up to what frozen weights are.
    (x, y, z), layers = data(4), NETWORKS['readout']
    everything, common = late_kernels(layers, np.concatenate([x, z]))
    noisy = (everything - common)[:4, :4] + T * np.eye(4)
    lag = np.array([0., .5, 2.])
    learned = [kernels_of(layers)(z, x, 1e6 + T * a, 1e6).nngp - common[4:, :4]
               for a in lag]
    got = predict.representational_drift_mse_ensemble(network(layers), x, y, T)(
        lag * y.size, z)
    close(got, learned @ np.linalg.solve(noisy, y), 1e-7)
    got = predict.representational_drift_mse_ensemble(network(layers), x, y, T)(
        None, z)
    close(got, 0., 1e-8)


class SharingTest(absltest.TestCase):

  def test_programs(self):
    # Networks that differ in what is frozen share programs, not numbers.
    x, y, z = data(4)
    mean = {}
    for name in 2 * ('learns', 'features', 'readout', 'learns'):
      layers = [layer(name != 'features'), 'erf', layer(name != 'readout')]
      got = ensemble(network(layers), x, y, T)(None, z, 'ndk')
      close(got, late_predictor(layers, x, y, np.concatenate([x, z]))[0][4:],
            1e-8)
      mean[name] = got
    self.assertGreater(np.abs(mean['learns'] - mean['features']).max(), .01)
    self.assertGreater(np.abs(mean['learns'] - mean['readout']).max(), .01)


class FiniteNetworksTest(parameterized.TestCase):
  """Networks that learn, from the start to equilibrium."""

  @parameterized.parameters(('features', stax.Relu), ('readout', stax.Relu),
                            ('embedding', stax.Erf))
  @pytest.mark.slow
  def test_ensemble(self, name, phi):
    flags = dict(features=(False, True), readout=(True, False),
                 embedding=(False, True, True))[name]
    stds = dict(W_init_std=1.4, W_prior_std=.8, b_init_std=.7, b_prior_std=1.2)
    layers = []
    for i, trainable in enumerate(flags):
      last = i == len(flags) - 1
      layers += [stax.Dense(1 if last else 128, 1.3, .3, trainable=trainable,
                            **stds)] + ([] if last else [phi()])
    init_fn, apply_fn, kernel_fn = stax.serial(*layers)
    x, y, z = data(3, 2, outputs=1)
    inputs, temperature = np.concatenate([x, z]), .2
    t = np.array([0., .5, 2., 20.]) * y.size
    got = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, y, temperature)(
            random.PRNGKey(1), 400, jnp.asarray(t), inputs)
    want = ensemble(kernel_fn, x, y, temperature)(t, inputs, 'ndk', 'diag')
    comparison = langevin.compare(got, want)
    for z in comparison.mean_z, comparison.variance_z:
      self.assertLess(rms(z), 1.6)
      self.assertLess(np.abs(z).max(), 4.5)
    late = np.abs(want.mean[-1]).max() / got.mean_error[-1].max()
    self.assertGreater(late, 10.)


class KindsOfNetworksTest(parameterized.TestCase):

  @pytest.mark.slow
  def test_images(self):
    # Convolutions that are not trained: features of a linear regression.
    x, y, z = image_data()
    conv = lambda trainable: stax.Conv(4, (3, 3), padding='SAME', W_std=1.3,
                                       b_std=.2, W_init_std=1.2,
                                       trainable=trainable)
    hidden = [conv(False), stax.Relu(), stax.Flatten()]
    kernel_fn = stax.serial(*hidden, stax.Dense(1, 1.1, W_prior_std=.7))[2]
    features = stax.serial(*hidden)[2](np.concatenate([x, z]), None, 'nngp')
    gram = (1.1 * .7)**2 * np.asarray(features)
    got = ensemble(kernel_fn, x, y, T)(None, z, 'ndk', compute_cov='diag')
    close(got.mean, reference.gp_mean(gram[:4, :4], y, T, gram[4:, :4]), 1e-8)
    close(got.covariance, np.diag(reference.gp_covariance(
        gram[:4, :4], T, gram[4:, :4], gram[4:, 4:])), 1e-8)

  @pytest.mark.slow
  def test_float32(self):
    layers, (x, y, z) = NETWORKS['readout'], data(4)
    mean, covariance = late_predictor(layers, x, y, np.concatenate([x, z]))
    jax.config.update('jax_enable_x64', False)
    try:
      with self.assertWarnsRegex(UserWarning, 'float32'):
        predict_fn = ensemble(network(layers), *(
            a.astype(np.float32) for a in (x, y)), T)
      got = predict_fn(None, z.astype(np.float32), 'ndk', compute_cov='diag')
    finally:
      jax.config.update('jax_enable_x64', True)
    close(got.mean, mean[4:], 1e-3)
    close(got.covariance, diagonal(covariance)[4:], 1e-3)

  def test_refusals(self):
    x, y, _ = data(4)
    frozen = network([layer(False), 'erf', layer(False)])
    with self.assertRaisesRegex(ValueError, 'trainable'):
      ensemble(frozen, x, y, T)
    with self.assertRaisesRegex(ValueError, 'trainable'):
      predict.diffusive_limit_mse_ensemble(frozen, x, y)
    with self.assertRaisesRegex(ValueError, 'trainable'):
      predict.representational_drift_mse_ensemble(
          network(NETWORKS['features']), x, y, T)


if __name__ == '__main__':
  absltest.main()
