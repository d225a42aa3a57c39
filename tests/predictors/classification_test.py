# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of probabilities of classes, against quadrature and draws."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
from predict_test import description
from predict_test import network
from scipy import integrate
from scipy import special
from scipy import stats

from nt_ndk import predict
from nt_ndk._src.predictors import classification

jax.config.update('jax_enable_x64', True)


def gaussians(k, m=20, seed=0):
  """Means and variances of outputs, close together and far apart."""
  rng = np.random.default_rng(seed)
  return (rng.choice([.1, 1., 3.], (m, 1)) * rng.normal(size=(m, k)),
          rng.choice([.1, 1.], m))


def one_hot(index, k):
  return np.eye(k)[index] - 1 / k


class ProbabilityTest(parameterized.TestCase):

  def test_two_classes(self):
    mean, variance = gaussians(2, 200)
    mean = np.concatenate([mean, [[30., 0.], [1e4, 0.]]])
    variance = np.append(variance, [1., 1.])
    got = classification.log_probabilities(mean, variance)
    margin = (mean[:, 0] - mean[:, 1]) / np.sqrt(2 * variance)
    np.testing.assert_allclose(got, special.log_ndtr(
        np.stack([margin, -margin], -1)), rtol=1e-12, atol=1e-14)

  def test_three_classes_by_quadrature(self):
    # A double integral over the differences from one output.
    mean, variance = gaussians(3, 6)
    got = np.exp(classification.log_probabilities(mean, variance))
    for m, v, p in zip(mean, variance, got):
      density = stats.multivariate_normal(cov=v * (np.eye(2) + 1.))
      a, b = m[0] - m[1], m[0] - m[2]
      reach = 9 * v**.5
      want, error = integrate.dblquad(
          lambda y, x: density.pdf((x - a, y - b)), 0., max(0., a + 2 * reach),
          0., max(0., b + 2 * reach), epsabs=1e-9, epsrel=1e-9)
      self.assertAlmostEqual(p[0], want, delta=1e-8 + error)

  @parameterized.parameters(3, 10, 40)
  def test_probabilities_add_up(self, k):
    mean, variance = gaussians(k, 12)
    logs = classification.log_probabilities(mean, variance)
    np.testing.assert_allclose(np.exp(logs).sum(-1), 1., rtol=1e-13)
    # Equal outputs, which have no chance beside another one: exact in logs.
    mean = np.append(np.zeros(k - 1), 60.)[None]
    logs = classification.log_probabilities(mean, np.ones(1))[0]
    self.assertLess(np.ptp(logs[:-1]), 1e-9 * abs(logs[0]))
    low = k * special.log_ndtr(-60 / 2**.5)
    self.assertBetween(logs[0], low, special.log_ndtr(-60 / 2**.5))

  @parameterized.parameters(3, 40, 300)
  def test_a_wide_and_fine_grid(self, k):
    # Of one output beside others that are equal, above, or of all kinds.
    rng = np.random.default_rng(2)
    z, step = np.linspace(-15., 45., 12_001, retstep=True)
    for gaps in (np.zeros(k - 1), np.full(k - 1, -6.),
                 rng.normal(size=k - 1) - 2., -20. * (np.arange(k - 1) == 0)):
      got = classification.log_probability_of_largest(
          np.append(0., -gaps)[None], np.ones(1), np.zeros((1, 1), int))[0]
      want = special.logsumexp(
          stats.norm.logpdf(z) + np.sum([special.log_ndtr(z + g) for g in gaps],
                                        0)) + np.log(step)
      self.assertAlmostEqual(got, want, delta=1e-11 * max(1., abs(want)))

  def test_ten_classes_by_draws(self):
    mean, variance = gaussians(10, 8)
    got = np.exp(classification.log_probabilities(mean, variance))
    draws, count = 200_000, np.zeros((8, 10))
    rng = np.random.default_rng(1)
    for m, v, c in zip(mean, variance, count):
      f = m + v**.5 * rng.normal(size=(draws, 10))
      c += np.bincount(np.argmax(f, 1), minlength=10)
    z = (count / draws - got) / np.sqrt(got * (1 - got) / draws + 1e-9)
    self.assertLess(np.sqrt(np.mean(z**2)), 1.3)
    self.assertLess(np.max(np.abs(z)), 4.5)

  def test_without_variance(self):
    got = classification.log_probabilities(
        np.array([[0., 1., 0.], [2., 2., 2.]]), np.zeros(2))
    np.testing.assert_allclose(np.exp(got), [[0., 1., 0.], 3 * [1 / 3]],
                               atol=1e-12)

  def test_what_is_a_class(self):
    classes = classification.of_targets
    np.testing.assert_array_equal(
        classes(one_hot([2, 0, 1], 3)).label, [2, 0, 1])
    np.testing.assert_array_equal(
        classes(np.array([[3.], [5.], [3.]])).label, [-1, 1, -1])
    self.assertEqual(classes(np.array([[3.], [5.]])).middle, 4.)
    np.testing.assert_array_equal(
        classes(np.array([[.1, .3], [.2, .1]])).label, [1, 0])
    for y in (np.ones((3, 1)), np.arange(3.)[:, None], np.ones((3, 2)),
              np.random.default_rng(0).normal(size=(4, 3)),
              np.array([[1., 1., 0.], [1., 0., 0.]]), np.zeros((2, 2, 1))):
      self.assertIsNone(classes(y))


class LearningTest(absltest.TestCase):

  def test_ten_classes_along_learning(self):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(20, 12)), rng.normal(size=(15, 12))
    label = lambda x: np.argmax(x[:, :10], 1)
    predict_fn = predict.markov_proximal_mse_ensemble(
        network(description('relu', 1, 1.5)), x, one_hot(label(x), 10), .1)
    t = np.array([1., 300., 1e4])
    best = predict.optimal_stopping(predict_fn, z, one_hot(label(z), 10), t=t)
    mean, variance = predict_fn(t=t, x_test=z, get='ndk', compute_cov='diag')
    draws = 20_000
    f = mean[:, None] + np.sqrt(variance)[:, None, :, None] * rng.normal(
        size=(3, draws, 15, 10))
    right = np.mean(np.argmax(f, -1) == label(z), 1)  # Of times and inputs.
    error = np.sqrt(right * (1 - right) / draws) + 1e-9
    z_error = (best.classification_error[:3] - (1 - right.mean(1))) / (
        np.sqrt(np.sum(error**2, 1)) / 15)
    self.assertLess(np.max(np.abs(z_error)), 3.)
    seen = np.all(right > 1e-2)
    self.assertTrue(seen)
    z_loss = (best.negative_log_likelihood[:3] + np.mean(np.log(right), 1)) / (
        np.sqrt(np.sum((error / right)**2, 1)) / 15)
    self.assertLess(np.max(np.abs(z_loss)), 3.)


if __name__ == '__main__':
  absltest.main()
