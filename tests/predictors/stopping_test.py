# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of early stopping."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
from predict_test import data
from predict_test import description
from predict_test import network
import pytest

from nt_ndk import predict

# Neural Tangents comes after `nt_ndk`, which lets it be imported.
# isort: split
from neural_tangents import predict as nt_predict

jax.config.update('jax_enable_x64', True)


def problem(n=12, noise=0., phi='relu', seed=0, m=40, **kwargs):
  """Two classes; `noise` is the fraction of wrong training labels."""
  rng = np.random.default_rng(seed)
  x, z = rng.normal(size=(n, 6)), rng.normal(size=(m, 6))
  y, w = np.sign(x[:, :1]), np.sign(z[:, :1])
  y[rng.uniform(size=n) < noise] *= -1
  return network(description(phi, 1, **kwargs)), x, y, z, w


class OptimalStoppingTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    kernel_fn, x, y, cls.z, cls.w = problem(8, s0=.5, m=12)
    cls.y = y
    cls.predict_fn = staticmethod(predict.markov_proximal_mse_ensemble(
        kernel_fn, x, y, 1e-2))
    cls.best = predict.optimal_stopping(cls.predict_fn, cls.z, cls.w)

  def test_errors_are_those_of_the_predictor(self):
    best = self.best
    some = [0, 7, 20, 33]
    mean, variance = self.predict_fn(t=best.t[some], x_test=self.z, get='ndk',
                                     compute_cov='diag')
    bias = np.mean((mean - self.w)**2, (1, 2))
    np.testing.assert_allclose(best.bias_squared[some], bias, rtol=1e-4)
    np.testing.assert_allclose(best.variance[some], np.mean(variance, 1),
                               rtol=1e-3)
    np.testing.assert_array_equal(best.expected_squared_error,
                                  best.bias_squared + best.variance)

    # Both errors, by networks drawn from the Gaussian.
    rng = np.random.default_rng(1)
    draws = 40_000
    f = mean[..., 0] + np.sqrt(variance) * rng.normal(
        size=(draws,) + variance.shape)
    square = np.mean((f - self.w[:, 0])**2, -1)
    wrong = np.mean(f * self.w[:, 0] < 0, -1)
    for got, sample in ((best.expected_squared_error, square),
                        (best.classification_error, wrong)):
      error = 4 * sample.std(0) / draws**.5 + 1e-4
      np.testing.assert_array_less(np.abs(got[some] - sample.mean(0)), error)

  def test_minimum_and_gains(self):
    best = self.best
    self.assertEqual(best.minimum, best.expected_squared_error.min())
    self.assertEqual(best.t[-1], np.inf)
    self.assertLess(best.t_optimal, np.inf)
    self.assertEqual(best.phase, 'gradient-driven')
    self.assertGreater(best.gain_over_nngp, 0.)
    self.assertTrue(np.all(np.diff(best.t) > 0))
    end, ntk = (self.predict_fn(t=None, x_test=self.z, get=get,
                                compute_cov='diag') for get in ('ndk', 'ntk'))
    for gain, last in ((best.gain_over_nngp, end), (best.gain_over_ntk, ntk)):
      error = np.mean((last.mean - self.w)**2) + np.mean(last.covariance)
      self.assertAlmostEqual(gain, error - best.minimum, places=9)

  @pytest.mark.slow
  def test_phases(self):
    # A wide initialisation leaves a variance that only diffusion takes away.
    kernel_fn, x, y, z, w = problem(s0=3.)
    late = predict.optimal_stopping(predict.markov_proximal_mse_ensemble(
        kernel_fn, x, y, .1), z, w)
    self.assertEqual(late.phase, 'equilibrium')
    self.assertEqual(late.t_optimal, np.inf)
    self.assertEqual(late.gain_over_nngp, 0.)
    # With wrong labels and a small initialisation, it is best to stop early.
    kernel_fn, x, y, z, w = problem(s0=.3, noise=.3)
    predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x, y, 1e-3)
    early = predict.optimal_stopping(predict_fn, z, w)
    self.assertEqual(early.phase, 'gradient-driven')
    self.assertLess(early.t_optimal, predict_fn.phases().diffusive)
    self.assertGreater(early.gain_over_ntk, 0.)
    self.assertGreater(early.gain_over_nngp, 0.)

  def test_given_times(self):
    t = np.array([300., 3.])
    best = predict.optimal_stopping(self.predict_fn, self.z, self.w, t=t)
    np.testing.assert_array_equal(best.t, [3., 300., np.inf])

  def test_outputs_of_any_kind(self):
    x, y, z = data()
    predict_fn = predict.markov_proximal_mse_ensemble(
        network(description()), x, y, 1e-2)
    w = np.array([[1., 0.], [0., 1.], [0., 1.]])
    best = predict.optimal_stopping(predict_fn, z, w, t=[50.])
    mean, variance = predict_fn(t=50., x_test=z, get='ndk', compute_cov='diag')
    rng = np.random.default_rng(0)
    f = mean + np.sqrt(variance)[:, None] * rng.normal(size=(100_000, 3, 2))
    wrong = np.mean(np.argmax(f, -1) != np.argmax(w, -1))
    self.assertAlmostEqual(best.classification_error[0], wrong, delta=5e-3)
    best = predict.optimal_stopping(predict_fn, z, w + .1 * z[:, :2], t=[50.])
    self.assertIsNotNone(best.classification_error)
    best = predict.optimal_stopping(predict_fn, z, 0. * w, t=[50.])
    self.assertIsNone(best.classification_error)

  def test_refusals(self):
    theirs = nt_predict.gradient_descent_mse_ensemble(
        network(description()), *data()[:2])
    with self.assertRaisesRegex(ValueError, 'markov_proximal'):
      predict.optimal_stopping(theirs, self.z, self.w)
    for y, t, word in ((self.w[1:], None, 'shape'), (self.w * np.nan, None,
                                                     'finite'),
                       (self.w, [[1.]], '1D'), (self.w, [-1.], 'negative')):
      with self.assertRaisesRegex(ValueError, word):
        predict.optimal_stopping(self.predict_fn, self.z, y, t=t)


if __name__ == '__main__':
  absltest.main()
