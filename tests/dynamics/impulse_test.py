# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of gradient flow at one diffusion time."""

from absl.testing import absltest
import jax
import numpy as np
import scipy.linalg

from nt_ndk._src.dynamics.impulse import Impulse

jax.config.update('jax_enable_x64', True)


class Two:
  """`exp(-(t - t'))` and `exp(-t')`, of two matrices."""

  def phi(self, tau, tau_):
    return np.stack([np.exp(tau_ - tau), np.exp(-tau_) + 0 * tau], -1)


class ImpulseTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    first, second, test = rng.normal(size=(3, 5, 5))
    self.matrices = [a @ a.T for a in (first, second)]
    self.factors = np.concatenate(self.matrices, 1)
    self.test = np.concatenate([test, test @ first], 1)
    self.rho = rng.normal(size=(5, 2))

  def make(self, weight, duration=1., rho=None):
    return Impulse(Two(), self.factors, np.asarray(weight, float), .3, duration,
                   self.rho if rho is None else rho)

  def test_matrix_exponential(self):
    weight = np.array([1., .5, 0., 2., 1.])
    flow = self.make(weight)
    kernel = self.matrices[0] + np.exp(-.3) * self.matrices[1]
    for t in (0., 1e-9, .1, 3.):
      want = scipy.linalg.expm(-t * kernel * weight) @ self.rho
      np.testing.assert_allclose(flow.solution(np.array([t]))[0], want,
                                 atol=1e-10)
    # What is learned is what is missing less.
    np.testing.assert_allclose(flow.integral(self.factors, np.array([.1]))[0],
                               self.rho - flow.solution(np.array([.1]))[0],
                               atol=1e-10)

  def test_what_is_left_later(self):
    flow = self.make(np.ones(5), 2.)
    impulse = flow.gain(2.) @ self.rho
    at = lambda a, tau: (np.exp(.3 - tau) * a[:, :5] +
                         np.exp(-.3) * a[:, 5:]) @ impulse
    tau = np.array([.3, 1.])
    for factors, matrices in ((None, self.factors), (self.test, self.test)):
      got = flow.beyond(tau, factors)
      for value, t in zip(got, tau):
        np.testing.assert_allclose(value, at(matrices, t), atol=1e-12)

  def test_end(self):
    weight = np.array([1., 0., 1., 3., .1])
    left = self.make(weight).solution(np.array([np.inf]))[0]
    np.testing.assert_allclose(left[weight > 0], 0., atol=1e-10)
    self.assertGreater(np.min(np.abs(left[1])), 1e-3)

  def test_singular(self):
    self.factors[:, 0] = self.factors[:, 1]
    self.factors[:, 5] = self.factors[:, 6]
    self.factors[0] = self.factors[1]
    flow = self.make(np.ones(5))
    self.assertTrue(np.all(np.isfinite(flow.gain(1e3))))
    with self.assertRaisesRegex(ArithmeticError, 'finite time'):
      flow.gain(np.inf)


if __name__ == '__main__':
  absltest.main()
