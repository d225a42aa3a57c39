# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of pictures: what is drawn are the numbers of predictors."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # pylint: disable=g-import-not-at-top,wrong-import-position
import numpy as np
from predict_test import data
from predict_test import description
from predict_test import network
import pytest

from nt_ndk import plot
from nt_ndk import predict
from nt_ndk import stax

jax.config.update('jax_enable_x64', True)


def line(ax, label):
  """Of the curve with a label, its coordinates."""
  lines = {l.get_label(): l for l in ax.get_lines()}
  return lines[label].get_data()


class PicturesTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    x, y, cls.z = data(6, m=4)
    cls.w = np.random.default_rng(3).normal(size=(4, 2))
    cls.kernel_fn = staticmethod(network(description('erf', 1, 1.5)))
    cls.predict_fn = staticmethod(predict.markov_proximal_mse_ensemble(
        cls.kernel_fn, x, y, .1))
    cls.t = np.array([.3, 30., 3000.])

  def tearDown(self):
    super().tearDown()
    plt.close('all')

  def test_learning_curve(self):
    ax = plot.learning_curve(self.predict_fn, self.z, self.w, self.t, 2.)
    mean, covariance = self.predict_fn(t=self.t, x_test=self.z, get='ndk',
                                       compute_cov=True)
    times, curve = line(ax, 'test, a network')
    np.testing.assert_array_equal(times, self.t)
    # Errors of single networks, drawn at each time.
    rng, draws = np.random.default_rng(0), 20_000
    band = ax.collections[0].get_paths()[0].vertices
    for i in range(3):
      f = np.stack([rng.multivariate_normal(mean[i, :, c], covariance[i], draws)
                    for c in range(2)], -1)
      errors = np.mean((f - self.w)**2, (1, 2))
      std = errors.std()
      self.assertAlmostEqual(curve[i], errors.mean(), delta=4 * std / draws**.5)
      top = np.max(band[np.isclose(band[:, 0], self.t[i]), 1])
      self.assertAlmostEqual((top - curve[i]) / 2, std, delta=.04 * std)
    _, dotted = line(ax, 'test, mean predictor')
    np.testing.assert_allclose(dotted, np.mean((mean - self.w)**2, (1, 2)))

    # Dashed: what both ends make of the same data.
    best = predict.optimal_stopping(self.predict_fn, self.z, self.w, self.t)
    dashed = sorted(l.get_ydata()[0] for l in ax.get_lines()
                    if l.get_linestyle() == '--')
    np.testing.assert_allclose(dashed, sorted([
        best.minimum + best.gain_over_ntk, best.minimum + best.gain_over_nngp]),
        rtol=1e-6)
    (time,), (value,) = line(ax, f'best, {curve.min():.3g}')
    self.assertEqual(value, curve.min())
    self.assertEqual(time, self.t[np.argmin(curve)])

  def test_learning_curve_of_the_mean(self):
    _, ax = plt.subplots()
    self.assertIs(plot.learning_curve(self.predict_fn, self.z, self.w, self.t,
                                      n_std=0, ax=ax), ax)
    mean = self.predict_fn(t=self.t, x_test=self.z, get='ndk')
    np.testing.assert_allclose(line(ax, 'test, mean predictor')[1],
                               np.mean((mean - self.w)**2, (1, 2)))
    onset = self.predict_fn.phases().diffusive
    self.assertIn('diffusive', [a.get_text() for a in ax.texts])
    self.assertTrue(any(np.isclose(p.get_x(), onset) for p in ax.patches))

  def test_two_time_kernel(self):
    tau = np.linspace(0., 1., 5)
    for get in ('ndk', 'nngp'):
      ax = plot.two_time_kernel(self.kernel_fn, self.z[:1], self.z[1:2], tau,
                                get)
      values = ax.collections[0].get_array().reshape((5, 5))
      want = self.kernel_fn(self.z[:1], self.z[1:2], get,
                            diffusion_time=(.75, .25))[0, 0]
      self.assertAlmostEqual(values[3, 1], want, places=12)
      self.assertEqual(np.ma.is_masked(values[1, 3]), get == 'ndk')

  @pytest.mark.slow
  def test_trajectories(self):
    ax = plot.trajectories(self.predict_fn, self.z[:2], self.t, 3, output=1)
    mean, variance = self.predict_fn(t=self.t, x_test=self.z[:2], get='ndk',
                                     compute_cov='diag')
    for i in range(2):
      np.testing.assert_allclose(line(ax, f'input {i}')[1], mean[:, i, 1])
      band = ax.collections[i].get_paths()[0].vertices
      np.testing.assert_allclose(
          np.max(band[np.isclose(band[:, 0], 30.), 1]),
          mean[1, i, 1] + 2 * variance[1, i]**.5)
    draws = self.predict_fn.sample(jax.random.PRNGKey(0), 3, self.t, self.z[:2])
    got = [l.get_ydata() for l in ax.get_lines() if l.get_linewidth() < 1]
    np.testing.assert_allclose(
        got, np.moveaxis(draws[..., 1], 2, 0).reshape((6, 3)))

  def test_calibration(self):
    # Targets at a known number of standard deviations.
    mean, variance = self.predict_fn(x_test=self.z, get='ndk',
                                     compute_cov='diag')
    off = np.sqrt(variance + .1)[:, None] * np.array([[.5, -1.5]])
    ax = plot.calibration(self.predict_fn, self.z, mean + off, noise=.1)
    levels, fraction = line(ax, 'equilibrium')
    for level, want in ((.37, 0.), (.39, .5), (.86, .5), (.87, 1.)):
      self.assertEqual(fraction[np.argmin(np.abs(levels - level))], want)
    ax = plot.calibration(self.predict_fn, self.z, self.w, self.t)
    self.assertLen(ax.get_legend().get_texts(), 3)

  def test_refusals(self):
    zero = predict.markov_proximal_mse_ensemble(self.kernel_fn, *data()[:2], 0.)
    with self.assertRaisesRegex(ValueError, 'positive temperature'):
      plot.learning_curve(zero, self.z, self.w)
    for call, word in (
        (lambda: plot.learning_curve(self.predict_fn, self.z, self.w[:2],
                                     self.t), 'y_test'),
        (lambda: plot.learning_curve(self.predict_fn, self.z, self.w, [0., 1.]),
         'positive times'),
        (lambda: plot.calibration(self.predict_fn, self.z, self.w[:2]),
         'y_test'),
        (lambda: plot.two_time_kernel(self.kernel_fn, self.z, self.z, [0., 1.]),
         'one input'),
        (lambda: plot.two_time_kernel(self.kernel_fn, self.z[:1], self.z[:1],
                                      [1., 0.]), 'increasing'),
        (lambda: plot.two_time_kernel(
            stax.serial(stax.Conv(4, (2, 2)), stax.Relu())[2],
            *np.ones((2, 1, 3, 3, 1)), [0., 1.]), 'without pixels')):
      with self.assertRaisesRegex(ValueError, word):
        call()


if __name__ == '__main__':
  absltest.main()
