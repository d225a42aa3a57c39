# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the limit of vanishing temperature at fixed diffusion time."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
from predict_test import data
from predict_test import description
from predict_test import network
from predict_test import rms
import pytest

from nt_ndk import predict
import reference

# Neural Tangents comes after `nt_ndk`, which lets it be imported.
# isort: split
from neural_tangents import predict as nt_predict

jax.config.update('jax_enable_x64', True)

CASES = (('relu', 1, 1.6, .8, None), ('erf', 2, 2., 1., .3))


class DiffusiveLimitTest(parameterized.TestCase):

  def check_from_the_ntk_to_the_nngp(self, phi, depth, s0, s, b):
    x, y, z = data()
    kernel_fn = network(description(phi, depth, s0, s, b=b))
    predict_fn = predict.diffusive_limit_mse_ensemble(kernel_fn, x, y)
    ntk = nt_predict.gradient_descent_mse_ensemble(kernel_fn, x, y)(
        t=None, x_test=z, get='ntk', compute_cov=True)
    late = (1e6, 1e6)
    prior = lambda a, b: kernel_fn(a, b, 'nngp', diffusion_time=late)
    nngp = nt_predict.gp_inference(prior(x, x), y)(
        get='nngp', k_test_train=prior(z, x), k_test_test=prior(z, z))
    got = predict_fn(np.array([0., 1e-7, 1e6]), z, True)
    scale = np.diag(ntk.covariance).max()
    for i, (want, tol) in enumerate([(ntk, 1e-9), (ntk, 2e-3), (nngp, 1e-9)]):
      np.testing.assert_allclose(got.mean[i], want.mean, rtol=0,
                                 atol=tol * rms(want.mean))
      np.testing.assert_allclose(got.covariance[i], want.covariance, rtol=0,
                                 atol=tol * scale)
    equilibrium = predict_fn(None, z, 'diag')
    np.testing.assert_allclose(equilibrium.covariance,
                               np.diag(nngp.covariance), rtol=0, atol=1e-9)

  @parameterized.parameters([CASES[0]])
  def test_from_the_ntk_to_the_nngp(self, phi, depth, s0, s, b):
    self.check_from_the_ntk_to_the_nngp(phi, depth, s0, s, b)

  @parameterized.parameters([CASES[1]])
  @pytest.mark.slow
  def test_from_the_ntk_to_the_nngp_more(self, phi, depth, s0, s, b):
    self.check_from_the_ntk_to_the_nngp(phi, depth, s0, s, b)

  def check_brute_force(self, phi, depth, s0, s, b):
    x, y, z = data()
    layers = description(phi, depth, s0, s, b=b)
    kernels = lambda *args, **kw: reference.two_time_kernels(
        *args, layers, **kw)
    tau = np.array([1e-2, .3, 2.]) * s**2
    _, mean, covariance = reference.diffusive_limit(kernels, x, y, z, tau,
                                                    prior_std=s)
    predict_fn = predict.diffusive_limit_mse_ensemble(network(layers), x, y)
    got = predict_fn(tau, z, True)
    np.testing.assert_allclose(got.mean, mean, rtol=0,
                               atol=1e-4 * rms(y))
    np.testing.assert_allclose(got.covariance, covariance, rtol=0,
                               atol=1e-4 * covariance.max())
    # The training data stay learned.
    train = predict_fn(tau, compute_cov='diag')
    np.testing.assert_allclose(train.mean, np.broadcast_to(y, (3,) + y.shape),
                               rtol=0, atol=1e-4 * rms(y))
    np.testing.assert_allclose(train.covariance, 0., atol=1e-4)

  @parameterized.parameters([CASES[0]])
  def test_brute_force(self, phi, depth, s0, s, b):
    self.check_brute_force(phi, depth, s0, s, b)

  @parameterized.parameters([CASES[1]])
  @pytest.mark.slow
  def test_brute_force_more(self, phi, depth, s0, s, b):
    self.check_brute_force(phi, depth, s0, s, b)

  @pytest.mark.slow
  def test_small_temperatures_tend_to_it_at_first_order(self):
    x, y, z = data()
    kernel_fn = network(description('erf', 1, 1.5, 1.))
    tau = np.array([.3, 2.])
    want = predict.diffusive_limit_mse_ensemble(kernel_fn, x, y, rtol=1e-7)(
        tau, z, 'diag')
    ratios = []
    for temperature in (1e-3, 1e-4):
      got = predict.markov_proximal_mse_ensemble(
          kernel_fn, x, y, temperature, rtol=1e-7)(
              t=tau * y.size / temperature, x_test=z, get='ndk',
              compute_cov='diag')
      ratios.append([np.abs(a - b).max() / temperature
                     for a, b in zip(got, want)])
    for coarse, fine in zip(*ratios):
      self.assertBetween(coarse / fine, .8, 1.25)
      self.assertGreater(fine, 1e-2)

  def test_refusals(self):
    x, y, z = data()
    kernel_fn = network(description())
    predict_fn = predict.diffusive_limit_mse_ensemble(kernel_fn, x, y)
    with self.assertRaisesRegex(ValueError, 'negative'):
      predict_fn(-1., z)
    with self.assertRaisesRegex(ValueError, 'compute_cov'):
      predict_fn(1., z, 'full')
    with self.assertRaisesRegex(ValueError, 'x_test'):
      predict_fn(1., z[:, 1:])
    doubled = predict.diffusive_limit_mse_ensemble(
        kernel_fn, np.concatenate([x, x]), np.concatenate([y, 1. + y]))
    for tau in (0., 1., None):
      with self.assertRaisesRegex(ArithmeticError, 'duplicated'):
        doubled(tau, z)


if __name__ == '__main__':
  absltest.main()
