# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of weight decay without noise."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk.predict import Phase
import reference

jax.config.update('jax_enable_x64', True)

ensemble = predict.markov_proximal_mse_ensemble
N, OUTPUTS = 4, 2


def data():
  rng = np.random.RandomState(0)
  return (rng.normal(size=(N, 5)), rng.normal(size=(2, 5)),
          rng.normal(size=(N, OUTPUTS)))


def network(activation, readout_bias=None, **kwargs):
  phi = dict(relu=stax.Relu, erf=stax.Erf)[activation]()
  return stax.serial(stax.Dense(8, b_std=.3, W_init_std=1.4, W_prior_std=.9,
                                **kwargs), phi,
                     stax.Dense(1, b_std=readout_bias, W_init_std=.8))[2]


def kernels(activation, decay, readout_bias=0.):
  """The same from `m = s0^2 exp(-decay (t + t'))`, `r = exp(-decay |t - t'|)`.

  Args:
    activation: name in `reference.MOMENTS`.
    decay: weight decay.
    readout_bias: multiplier of the bias of the readout.
  """
  moments = reference.MOMENTS[activation]

  def kernel(x1, x2, t1, t2):
    t1, t2 = np.asarray(t1, float), np.asarray(t2, float)
    m = lambda a, b, s0: s0**2 * np.exp(-decay * (a + b))
    r = np.exp(-decay * np.abs(t1 - t2))
    c = x1 @ x2.T / x1.shape[1]
    q1, q2 = ((x**2).sum(1) / x.shape[1] for x in (x1, x2))
    ndk = r * (c + .3**2)
    c, q1, q2 = (m(a, b, 1.4) * q + m(a, b, .3) for q, a, b in (
        (c, t1, t2), (q1[:, None], t1, t1), (q2, t2, t2)))
    K, slope = moments(q1, q2, c)
    ndk = m(t1, t2, .8) * slope * ndk + r * (K + readout_bias**2)
    nngp = m(t1, t2, .8) * K + m(t1, t2, readout_bias)
    shape = np.broadcast_shapes(np.shape(nngp), np.shape(ndk))
    return reference.TwoTime(*(np.broadcast_to(k, shape) for k in (nngp, ndk)),
                             None, None)

  return kernel


class WeightDecayTest(parameterized.TestCase):

  def check(self, activation, decay, readout_bias, times, rtol=1e-4):
    x, x_test, y = data()
    inputs = np.concatenate([x, x_test])
    predict_fn = ensemble(network(activation, readout_bias or None), x, y, 0.,
                          weight_decay=decay, rtol=rtol)
    got = predict_fn(t=y.size * np.array(times), x_test=inputs, get='ndk',
                     compute_cov=True)
    for i, t in enumerate(times):
      # Diffusion time is time itself.
      mean, covariance = reference.protocol(
          kernels(activation, decay, readout_bias), x, inputs,
          [(np.inf, 1., y, np.ones(N))], t, order=6, prior_std=decay**-.5)
      np.testing.assert_allclose(got.mean[i], mean, atol=10 * rtol, rtol=0.)
      np.testing.assert_allclose(got.covariance[i], covariance,
                                 atol=10 * rtol, rtol=0.)
    np.testing.assert_allclose(
        predict_fn(t=y.size * np.array(times), get='ndk'), got.mean[:, :N],
        atol=rtol)
    self.assertLess(predict_fn.stats['estimated_error'], 10 * rtol)

  def test_reference(self):
    self.check('relu', .2, 0., (.3, 6.))

  @parameterized.product(activation=('relu', 'erf'), decay=(.2, .01),
                         readout_bias=(0., .5))
  @pytest.mark.slow
  def test_reference_more(self, activation, decay, readout_bias):
    self.check(activation, decay, readout_bias, (.3, 2., .4 / decay, 4 / decay))

  def test_outputs_decay(self):
    x, x_test, y = data()
    predict_fn = ensemble(network('erf'), x, y, 0., weight_decay=.2)
    for inputs in (x_test, None):
      mean, variance = predict_fn(t=1e6, x_test=inputs, get='ndk',
                                  compute_cov='diag')
      np.testing.assert_allclose(mean, 0., atol=1e-3)
      np.testing.assert_allclose(variance, 0., atol=1e-3)

  def test_frozen_features_end_at_ridge_regression(self):
    # Of a linear model the decay is the ridge; no noise is left of readouts.
    x, x_test, y = data()
    inputs, decay = np.concatenate([x, x_test]), .1
    kernel_fn = network('relu', trainable=False)
    K = kernel_fn(inputs, inputs, 'nngp', diffusion_time=(0., 0.)) / .8**2
    want = K[:, :N] @ np.linalg.solve(K[:N, :N] + decay * np.eye(N), y)
    predict_fn = ensemble(kernel_fn, x, y, 0., weight_decay=decay)
    mean, variance = predict_fn(t=1e5, x_test=inputs, get='ndk',
                                compute_cov='diag')
    np.testing.assert_allclose(mean, want, atol=1e-3)
    np.testing.assert_allclose(variance, 0., atol=1e-3)

  def test_little_decay_is_gradient_flow(self):
    x, x_test, y = data()
    t = np.array([1., 10., 50.])
    got = ensemble(network('relu'), x, y, 0., weight_decay=1e-7)(
        t=t, x_test=x_test, get='ndk', compute_cov=True)
    want = ensemble(network('relu'), x, y, 0.)(
        t=t, x_test=x_test, get='ndk', compute_cov=True)
    for a, b in zip(got, want):
      np.testing.assert_allclose(a, b, atol=1e-3)

  def test_schedule(self):
    x, x_test, y = data()
    t = np.array([1., 30., 100.])
    predict_fn = ensemble(network('relu'), x, y, 0., weight_decay=.05)
    two = predict_fn.with_schedule((Phase(20.), Phase(np.inf)))
    for a, b in zip(*(p(t=t, x_test=x_test, get='ndk', compute_cov=True)
                      for p in (predict_fn, two))):
      np.testing.assert_allclose(a, b, atol=1e-4)

  def test_refusals(self):
    x, x_test, y = data()
    with self.assertRaisesRegex(ValueError, 'W_prior_std'):
      ensemble(network('relu'), x, y, .1, weight_decay=.1)
    with self.assertRaisesRegex(ValueError, 'weight_decay'):
      ensemble(network('relu'), x, y, 0., weight_decay=-1.)
    predict_fn = ensemble(network('relu'), x, y, 0., weight_decay=.1)
    for t in (None, np.inf):
      with self.assertRaisesRegex(ValueError, 'no equilibrium'):
        predict_fn(t=t, x_test=x_test, get='ndk')
    with self.assertRaisesRegex(ValueError, 'no phase may have'):
      predict_fn.with_schedule((Phase(1., .2), Phase(np.inf)))
    with self.assertRaisesRegex(ValueError, 'positive temperature'):
      predict.optimal_stopping(predict_fn, x_test, y[:2])
    kernel_fn = stax.serial(stax.Dense(8, parameterization='standard'),
                            stax.Relu(), stax.Dense(1))[2]
    with self.assertRaisesRegex(ValueError, 'parameterization'):
      ensemble(kernel_fn, x, y, 0., weight_decay=.1)
    for wrapped in (lambda *a, **k: network('relu')(*a, **k),):
      with self.assertRaisesRegex(ValueError, '`nt_ndk.stax`'):
        ensemble(wrapped, x, y, 0., weight_decay=.1)


if __name__ == '__main__':
  absltest.main()
