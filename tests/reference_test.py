# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""The references check themselves before they judge anything else."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

import reference
from reference import dense


def data(n=4, m=3, features=6, outputs=2, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(n, features)), rng.normal(size=(n, outputs)),
          rng.normal(size=(m, features)))


def net(phi, depth=1, s0=1., s=1., c=1.4):
  layer = dense(W_std=c, W_init_std=s0, W_prior_std=s)
  return [layer, phi] * depth + [layer]


def ndk_of(layers):
  return lambda *args: reference.two_time_kernels(*args, layers).ndk


class TwoTimeKernelsTest(parameterized.TestCase):

  @parameterized.parameters('relu', 'erf')
  def test_moments_are_gaussian_expectations(self, phi):
    rng = np.random.default_rng(1)
    q1, q2, c = 1.3, .7, .4
    cov = np.array([[q1, c], [c, q2]])
    u = rng.multivariate_normal([0., 0.], cov, 1_000_000)
    if phi == 'relu':
      f, df = np.maximum(u, 0.), (u > 0.).astype(float)
    else:
      from scipy import special
      f, df = special.erf(u), 2. / np.pi**.5 * np.exp(-u**2)
    got = reference.MOMENTS[phi](q1, q2, c)
    for want, value in zip((f, df), got):
      sample = want[:, 0] * want[:, 1]
      self.assertLess(abs(sample.mean() - value), 5e-3 * sample.std())

  @parameterized.product(phi=['relu', 'erf', 'linear'], depth=[1, 3])
  def test_fluctuation_dissipation(self, phi, depth):
    x, _, z = data()
    layers = net(phi, depth, 1.2, 1.2)
    kernels = lambda tau: reference.two_time_kernels(x, z, 1.5, tau, layers)
    h = 1e-3
    slope = (8. * (kernels(.6 + h).nngp - kernels(.6 - h).nngp)
             - (kernels(.6 + 2 * h).nngp - kernels(.6 - 2 * h).nngp)) / 12. / h
    np.testing.assert_allclose(kernels(.6).ndk, slope, rtol=1e-9, atol=1e-10)


class VolterraTest(parameterized.TestCase):

  @parameterized.product(temperature=[1e-5, 1e-2, 1.], s=[.7, 1.])
  def test_scalar(self, temperature, s):
    x, y = np.array([[1., 2., -1.]]), np.array([[.8]])
    layers = [dense(W_std=1.4, W_init_std=1.3, W_prior_std=s)]
    g = 1.4**2 * 2.
    t = np.concatenate([[0.], np.geomspace(1e-3, 10. * s**2 / temperature, 9)])
    train, test = reference.volterra_mean(
        ndk_of(layers), x, y, 2. * x, temperature, t, prior_std=s)
    want = reference.scalar_mean(g, .8, temperature, t, s)
    np.testing.assert_allclose(train[:, 0, 0], want, rtol=0, atol=5e-9)
    np.testing.assert_allclose(test[:, 0, 0], 2. * want, rtol=0, atol=5e-9)

  @parameterized.parameters(
      ('relu', 1, 1., 1., 1e-3), ('relu', 2, .6, 1.2, 1.),
      ('erf', 2, 2., 1., 1e-2), ('erf', 1, 1., 2., 1e-5))
  def test_converged_and_ends_at_the_gaussian_process(
      self, phi, depth, s0, s, temperature):
    x, y, z = data()
    layers = net(phi, depth, s0, s)
    t = np.array([.3, 20., .7 / temperature, 40. * s**2 / temperature])
    solve = lambda **kwargs: reference.volterra_mean(
        ndk_of(layers), x, y, z, temperature, t, prior_std=s, **kwargs)
    coarse, fine = solve(), solve(order=12, refine=1.4)
    for a, b in zip(coarse, fine):
      np.testing.assert_allclose(a, b, rtol=0, atol=2e-9)

    tau = 1e6 * s**2
    prior = lambda x1: reference.two_time_kernels(x1, x, tau, tau, layers).nngp
    for mean, inputs in zip(fine, (x, z)):
      want = reference.gp_mean(prior(x), y, temperature, prior(inputs))
      np.testing.assert_allclose(mean[-1], want, rtol=0, atol=2e-9)


if __name__ == '__main__':
  absltest.main()
