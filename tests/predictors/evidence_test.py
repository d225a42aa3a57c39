# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the evidence, against SciPy, scikit-learn and the posterior."""

import itertools

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import numpy as jnp
import numpy as np
from predict_test import data
from predict_test import description
from predict_test import image_data
from predict_test import network
from predict_test import PROBLEMS
from predict_test import residual_cnn
import pytest
from scipy import stats
from sklearn import gaussian_process
from sklearn.gaussian_process import kernels

from nt_ndk import predict
from nt_ndk import stax

jax.config.update('jax_enable_x64', True)

evidence = predict.log_marginal_likelihood
_LATE = (1e3, 1e3)


def one_variable(n=15):
  x = np.linspace(-3., 3., n)[:, None]
  return network(description('relu', 2, 1.5, .9, 1.5, .3)), x, np.sin(x)


def problems():
  """20 problems: network, inputs, targets and temperature."""
  for phi in ('relu', 'erf'):
    for depth in (1, 3):
      for temperature in (1e-4, .1, 10.):
        x, y, _ = data(12, outputs=3, seed=depth)
        yield (network(description(phi, depth, 1.4, .8, 1.3, .2)), x, y,
               temperature)
  for temperature in (1e-4, 1e-2, 1., 100.):
    yield *one_variable(), temperature
  for temperature in (1e-4, .1, 10., 1e3):
    x, y, _ = image_data(6)
    yield residual_cnn(1.5, .9), 10. * x, y, temperature


class NetworkKernel(kernels.Kernel):
  """That of a network at equilibrium, for scikit-learn."""

  def __init__(self, kernel_fn, shape):
    self.kernel_fn = kernel_fn
    self.shape = shape

  def __call__(self, x, y=None, eval_gradient=False):
    x, y = (np.reshape(a, (len(a),) + self.shape) for a in (
        x, x if y is None else y))
    out = np.array(self.kernel_fn(x, y, 'nngp', diffusion_time=_LATE))
    return (out, np.zeros(out.shape + (0,))) if eval_gradient else out

  def diag(self, x):
    return np.diag(self(x)).copy()

  def is_stationary(self):
    return False


class EvidenceTest(parameterized.TestCase):

  def test_scipy_and_scikit_learn(self):
    self.check_references(itertools.islice(problems(), 1, 16, 5))

  @pytest.mark.slow
  def test_scipy_and_scikit_learn_more(self):
    self.assertLen(list(problems()), 20)
    self.check_references(problems())

  def check_references(self, some, rtol=1e-10):
    for kernel_fn, x, y, temperature in some:
      c = np.asarray(kernel_fn(x, None, 'nngp', diffusion_time=_LATE))
      got = evidence(kernel_fn, x, y, temperature)
      want = np.sum(stats.multivariate_normal.logpdf(
          y.T, cov=c + temperature * np.eye(len(y))))
      np.testing.assert_allclose(got, want, rtol=rtol)
      theirs = gaussian_process.GaussianProcessRegressor(
          NetworkKernel(kernel_fn, x.shape[1:]), alpha=temperature,
          optimizer=None).fit(x.reshape((len(x), -1)),
                              y).log_marginal_likelihood()
      np.testing.assert_allclose(got, theirs, rtol=rtol)

  def test_ill_conditioned_kernels(self):
    # Of these, all methods have the rounding errors of the kernel.
    self.check_references([(*one_variable(40), 1e-8)], 1e-6)

  def test_is_that_of_the_posterior(self):
    self.check_posterior('dense')

  @pytest.mark.slow
  def test_is_that_of_the_posterior_of_images(self):
    self.check_posterior('cnn')

  def check_posterior(self, problem):
    # What is learned of one more sample, whose prediction is the posterior.
    kernel_fn, x, y, _ = PROBLEMS[problem]()
    predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x[:-1], y[:-1],
                                                      .3)
    mean, variance = predict_fn(x_test=x[-1:], get='ndk', compute_cov='diag')
    want = np.sum(stats.norm.logpdf(y[-1:], mean, np.sqrt(variance + .3)))
    got = evidence(kernel_fn, x, y, .3) - evidence(kernel_fn, x[:-1], y[:-1],
                                                   .3)
    np.testing.assert_allclose(got, want, rtol=1e-9)

  def test_outputs_that_are_correlated(self):
    # Pixels of an image without pooling, and targets with channels in front.
    x, _, _ = image_data(4)
    kernel_fn = stax.serial(stax.Conv(8, (2, 2), None, 'SAME', W_prior_std=.8),
                            stax.Relu(), stax.Conv(1, (1, 1)))[2]
    y = np.random.default_rng(0).normal(size=(4, 2, 3, 3))
    c = np.asarray(kernel_fn(x, None, 'nngp', diffusion_time=_LATE))
    c = c.transpose((0, 2, 4, 1, 3, 5)).reshape((36, 36))
    got = evidence(kernel_fn, x, y, .2, trace_axes=1)
    want = np.sum(stats.multivariate_normal.logpdf(
        np.moveaxis(y, 1, 0).reshape((2, 36)), cov=c + .2 * np.eye(36)))
    np.testing.assert_allclose(got, want, rtol=1e-10)
    with self.assertRaisesRegex(ValueError, 'as many entries'):
      evidence(kernel_fn, x, y, .2)

  def test_derivatives(self):
    self.check_derivatives('relu', 1)

  @parameterized.product(phi=('relu', 'erf'), depth=(1, 2))
  @pytest.mark.slow
  def test_derivatives_more(self, phi, depth):
    self.check_derivatives(phi, depth)

  def check_derivatives(self, phi, depth):
    x, y, _ = data(10, outputs=2)
    # Equal, opposite and proportional inputs, and a row of zeros.
    x[3], x[5], x[7], x[9] = x[2], -x[4], 2 * x[6], 0.

    def f(p, x, y):
      temperature, s0, s, W_std, b_std = p
      layers = description(phi, depth, s0, s, W_std, b_std)
      return evidence(network(layers), x, y, temperature)

    def differences(g, p, h=1e-3):
      """Central differences of fourth order."""
      steps = h * np.eye(len(p))
      values = jax.jit(jax.vmap(g))(p + np.concatenate(
          [steps, -steps, 2 * steps, -2 * steps])).reshape((4, -1))
      return (8 * (values[0] - values[1]) - values[2] + values[3]) / (12 * h)

    p = jnp.array([.3, 1.4, .8, 1.3, .4])
    value, (in_p, in_x, in_y) = jax.jit(jax.value_and_grad(f, (0, 1, 2)))(
        p, x, y)
    np.testing.assert_allclose(value, f(p, x, y), rtol=1e-12)
    want = differences(lambda p: f(p, x, y), p)
    np.testing.assert_allclose(in_p, want, rtol=1e-6, atol=1e-8)
    self.assertEqual(in_p[1], 0.)  # Forgotten.
    self.assertGreater(np.min(np.abs(np.delete(in_p, 1))), .1)
    np.testing.assert_allclose(
        in_y[0], differences(lambda a: f(p, x, jnp.asarray(y).at[0].set(a)),
                             y[0]), rtol=1e-6)
    for i in (0, 9):
      np.testing.assert_allclose(
          in_x[i], differences(lambda a: f(p, jnp.asarray(x).at[i].set(a), y),
                               x[i]), rtol=1e-6, atol=1e-8)
    self.assertTrue(np.all(np.isfinite(in_x)))

  @pytest.mark.slow
  def test_second_derivatives(self):
    x, y, _ = data(5, outputs=2)
    f = lambda p: evidence(network(description('erf', 1, 1.3, *p[1:])), x, y,
                           p[0])
    p, h = jnp.array([.3, .8, 1.3, .4]), 1e-4
    slope = jax.jit(jax.vmap(jax.grad(f)))(
        p + h * np.concatenate([np.eye(4), -np.eye(4)]))
    second = jax.jit(jax.hessian(f))(p)
    np.testing.assert_allclose(second, (slope[:4] - slope[4:]) / (2 * h),
                               rtol=1e-5)

  def test_zeros_without_biases(self):
    # Outputs that are always zero, of which targets are noise alone.
    x, y, _ = data(6, outputs=1)
    x[4:] = 0.
    f = lambda t, s, x: evidence(network(description('relu', 1, s=s)), x, y, t)
    gradients = jax.jit(jax.grad(f, (0, 1, 2)))(.1, .9, x)
    for g in gradients:
      self.assertTrue(np.all(np.isfinite(g)))
    noise = stats.norm.logpdf(y[4:], scale=.1**.5).sum()
    np.testing.assert_allclose(
        f(.1, .9, x), noise + evidence(network(description('relu', 1, s=.9)),
                                       x[:4], y[:4], .1), rtol=1e-12)

  @parameterized.parameters('hidden', 'readout')
  def test_frozen_layers(self, which):
    # Given what frozen weights make, a Gaussian; averaged over draws of that.
    layer = lambda trainable: stax.Dense(
        8, 1.2, .3, W_init_std=1.3, W_prior_std=.8, trainable=trainable)
    kernel_fn = stax.serial(layer(which != 'hidden'), stax.Relu(),
                            layer(which != 'readout'))[2]
    x, y, _ = data(4, outputs=2)
    c, fixed = (np.asarray(kernel_fn(x, x, 'nngp', diffusion_time=t))
                for t in (_LATE, (2e3, 1e3)))
    if which == 'hidden':
      np.testing.assert_allclose(fixed, 0., atol=1e-12)
    rng, draws = np.random.default_rng(0), 4000
    means = rng.multivariate_normal(np.zeros(4), fixed, (draws, 2),
                                    method='eigh')
    density = stats.multivariate_normal(cov=c - fixed + .2 * np.eye(4))
    each = sum(density.logpdf(y.T[i] - means[:, i]) for i in range(2))
    self.assertAlmostEqual(float(evidence(kernel_fn, x, y, .2)), each.mean(),
                           delta=4 * each.std() / draws**.5 + 1e-9)

  def test_single_precision(self):
    kernel_fn, x, y = one_variable()
    want = evidence(kernel_fn, x, y, .01)
    jax.config.update('jax_enable_x64', False)
    try:
      got = evidence(kernel_fn, x, y, .01)
      self.assertEqual(got.dtype, jnp.float32)
      np.testing.assert_allclose(got, want, rtol=1e-3)
    finally:
      jax.config.update('jax_enable_x64', True)

  def test_refusals(self):
    x, y, _ = data(4, outputs=1)
    kernel_fn = network(description())
    for T in (0., -1., np.nan):
      with self.assertRaisesRegex(ValueError, 'temperature'):
        evidence(kernel_fn, x, y, T)
      self.assertTrue(np.isnan(jax.jit(
          lambda T: evidence(kernel_fn, x, y, T))(T)))
    for wrong, word in ((dict(y_train=y[1:]), 'as many samples'),
                        (dict(y_train=y[:, 0]), 'shape'),
                        (dict(x_train=np.nan * x), 'finite'),
                        (dict(trace_axes=()), 'as many entries')):
      with self.assertRaisesRegex(ValueError, word):
        evidence(**{**dict(kernel_fn=kernel_fn, x_train=x,
                           y_train=np.tile(y, 2), temperature=1.), **wrong})
    with self.assertRaisesRegex(TypeError, 'diag_reg'):
      evidence(kernel_fn, x, y, .1, diag_reg=1.)
    # Equal inputs with different targets, and next to no noise.
    x[1] = x[0]
    with self.assertRaisesRegex(ArithmeticError, 'singular'):
      evidence(kernel_fn, x, y, 1e-15)
    self.assertTrue(np.isnan(jax.jit(
        lambda T: evidence(kernel_fn, x, y, T))(1e-15)))


if __name__ == '__main__':
  absltest.main()
