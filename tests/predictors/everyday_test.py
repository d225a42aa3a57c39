# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests on data other than normalised images: one variable, biases, scales."""

import functools
from unittest import mock
import warnings

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.dynamics import volterra
from nt_ndk._src.kernels import compressed
from nt_ndk._src.predictors import problem as problem_lib
import reference

jax.config.update('jax_enable_x64', True)

ACTIVATIONS = dict(relu=stax.Relu, erf=stax.Erf)
RTOL = 1e-5


def layers(phi, bias, s0):
  layer = reference.dense(1.5, bias, W_init_std=s0)
  return [layer, phi, layer, phi, layer]


def network(phi, bias, s0):
  return stax.serial(*(ACTIVATIONS[l]() if isinstance(l, str)
                       else stax.Dense(8, **l)
                       for l in layers(phi, bias, s0)))[2]


@functools.lru_cache(None)
def data(n, d):
  """Inputs, targets with noise, test inputs."""
  rng = np.random.default_rng([n, d])
  x = (rng.uniform(-np.pi, np.pi, (n + 8, d)) if d < 4 else
       rng.normal(size=(n + 8, d)))
  y = np.sin(x.sum(1, keepdims=True)) + .1 * rng.normal(size=(n + 8, 1))
  return x[:n], y[:n], x[n:]


def times(phi, bias, s0, x, relative):
  """Temperature, and times from the first learning to equilibrium."""
  kernels = lambda t: reference.two_time_kernels(x, x, t, t,
                                                 layers(phi, bias, s0))
  temperature = relative * np.mean(np.diag(kernels(50.).nngp))
  return temperature, np.geomspace(.3 / np.trace(kernels(0.).ndk),
                                   20. / temperature, 7)


def solved(phi, bias, s0, d, relative, n=8, rtol=RTOL):
  """Prediction, truth by brute force, and the predictor."""
  x, y, z = data(n, d)
  temperature, t = times(phi, bias, s0, x, relative)
  want = reference.volterra_mean(
      lambda *args: reference.two_time_kernels(
          *args, layers(phi, bias, s0)).ndk, x, y, z, temperature, t)
  predict_fn = predict.markov_proximal_mse_ensemble(
      network(phi, bias, s0), x, y, temperature, rtol=rtol)
  got = [np.asarray(predict_fn(t=t * y.size, x_test=x_test, get='ndk'))
         for x_test in (z, None)]
  size = np.sqrt(np.mean(y**2))
  return max(np.max(np.abs(a - b)) / size
             for a, b in zip(got, want[::-1])), predict_fn


class EverydayTest(parameterized.TestCase):

  def check(self, *args, **kwargs):
    error, predict_fn = solved(*args, **kwargs)
    rtol = kwargs.get('rtol', RTOL)
    self.assertLess(error, 10 * rtol)
    stats = predict_fn.stats
    self.assertLess(stats['estimated_error'], 100 * rtol)
    self.assertLess(stats['panels'], 60)

  @parameterized.parameters(
      ('relu', .05, 1., 1, 1e-4), ('erf', 1., 1.5, 1, 1e-4),
      ('relu', 1., 1.5, 8, 1e-4))
  def test_brute_force(self, *args):
    self.check(*args)

  @parameterized.product(
      phi=['relu', 'erf'], bias=[None, .05], s0=[1., 1.5], d=[1, 3],
      relative=[1e-2, 1e-4])
  @pytest.mark.slow
  def test_brute_force_more(self, **kwargs):
    self.check(**kwargs)

  @parameterized.parameters(('relu', .05, 1.5, 8, 1e-4),
                            ('erf', .05, 1.5, 1, 1e-2))
  @pytest.mark.slow
  def test_other_tolerances(self, *args):
    for rtol in (1e-3, 1e-7):
      with self.subTest(rtol=rtol):
        self.check(*args, rtol=rtol)

  @parameterized.parameters(('relu', None, 1.5, 8, 1e-4, 1e-7),
                            ('relu', None, 1., 8, 1e-2, 1e-7),
                            ('erf', .05, 1.5, 8, 1e-2, 3e-7))
  def test_estimate_between_points(self, phi, bias, s0, d, relative, most):
    # Of test inputs, at many times, against a hundredth of the tolerance.
    x, y, z = data(8, d)
    temperature, t = times(phi, bias, s0, x, relative)
    t, mean = np.geomspace(t[0], t[-1], 60) * y.size, {}
    for rtol in (1e-9, 1e-7):
      predict_fn = predict.markov_proximal_mse_ensemble(
          network(phi, bias, s0), x, y, temperature, rtol=rtol)
      mean[rtol] = predict_fn(t=t, x_test=z, get='ndk')
    error = np.max(np.abs(mean[1e-7] - mean[1e-9])) / np.sqrt(np.mean(y**2))
    self.assertLess(error, most)
    self.assertLess(error, predict_fn.stats['estimated_error'])
    self.assertLess(predict_fn.stats['estimated_error'], 100 * error)

  def test_estimate_when_settled(self):
    # Just after training outputs are taken to be at their limit, test outputs
    # are further from theirs.
    x, y, z = data(8, 8)
    temperature, t = times('erf', None, 1., x, 1e-2)
    make = lambda rtol: predict.markov_proximal_mse_ensemble(
        network('erf', None, 1.), x, y, temperature, rtol=rtol)
    extend = volterra.VolterraSolver.extend
    with mock.patch.object(volterra.VolterraSolver, 'extend', autospec=True,
                           side_effect=extend) as spy:
      predict_fn = make(RTOL)
      predict_fn(t=t[-1] * y.size, get='ndk')
    solver = spy.call_args[0][0]
    self.assertTrue(solver.settled)
    t = 1.001 * solver.ends[-1] * y.size / temperature
    error = np.max(np.abs(predict_fn(t=t, x_test=z, get='ndk') -
                          make(RTOL / 100)(t=t, x_test=z, get='ndk')))
    error /= np.sqrt(np.mean(y**2))
    estimate = predict_fn.stats['estimated_error']
    self.assertBetween(error, .1 * RTOL, estimate)
    self.assertLess(estimate, 2 * RTOL)

  def test_float32_says_what_it_cannot_do(self):
    # In one variable without biases kernels have rank 2: all other directions
    # are rounding errors, which a small temperature amplifies.
    x, y, z = data(5, 1)
    kernel_fn = stax.serial(*(a for _ in range(3) for a in (
        stax.Dense(8, 1.5, W_init_std=1.5), stax.Relu())), stax.Dense(8))[2]
    temperature = 1e-4 * float(np.mean(np.diag(kernel_fn(x, x, 'nngp'))))
    t = np.geomspace(1e-3, 20. / temperature, 20) * y.size
    self.addCleanup(jax.config.update, 'jax_enable_x64', True)
    mean = {}
    for double in (True, False):
      jax.config.update('jax_enable_x64', double)
      with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x, y,
                                                          temperature)
        mean[double] = np.asarray(predict_fn(t=t, x_test=z, get='ndk'))
    error = np.max(np.abs(mean[True] - mean[False])) / np.sqrt(np.mean(y**2))
    self.assertGreater(error, .02)
    self.assertTrue(any(
        'estimated error of the mean' in str(w.message) and
        'jax_enable_x64' in str(w.message) for w in caught))

  def test_warns_of_mean_and_covariance(self):
    x, y, z = data(5, 3)
    predict_fn = predict.markov_proximal_mse_ensemble(
        network('erf', .05, 1.), x, y, .1)
    with mock.patch.multiple(problem_lib, WORTH=1e-9, _MATTERS=1e-12):
      with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for _ in range(2):
          predict_fn(t=10., x_test=z, get='ndk', compute_cov='diag')
    names = [str(w.message).split(' is ')[0] for w in caught]
    self.assertEqual(names, [f'The estimated error of the {name}'
                             for name in ('mean predictor', 'covariance')])

  @parameterized.parameters(('relu', .05, 1., 1e-6), ('erf', .05, 1.5, 1e-6))
  def test_small_temperatures_do_not_stall(self, phi, bias, s0, relative):
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      error, predict_fn = solved(phi, bias, s0, 1, relative, 5)
    self.assertLess(predict_fn.stats['panels'], 60)
    self.assertLess(error, 3 * predict_fn.stats['estimated_error'] + 1e-4)

  @parameterized.parameters('relu', 'erf')
  def test_scale_of_targets(self, phi):
    x, y, z = data(8, 3)
    temperature, t = times(phi, .05, 1.5, x, 1e-3)
    want, *others = (
        np.asarray(predict.markov_proximal_mse_ensemble(
            network(phi, .05, 1.5), x, scale * y, temperature)(
                t=t * y.size, x_test=z, get='ndk')) / scale
        for scale in (1., 1e-8, 1e4))
    for other in others:
      np.testing.assert_allclose(other, want, rtol=0, atol=1e-6)

  def test_scale_of_inputs(self):
    # Without biases outputs of ReLU networks are proportional to inputs.
    x, y, z = data(8, 3)
    temperature, t = times('relu', None, 1.5, x, 1e-3)
    want, *others = (
        np.asarray(predict.markov_proximal_mse_ensemble(
            network('relu', None, 1.5), scale * x, y, scale**2 * temperature)(
                t=t / scale**2 * y.size, x_test=scale * z, get='ndk'))
        for scale in (1., 1e-6, 1e3))
    for other in others:
      np.testing.assert_allclose(other, want, rtol=0, atol=1e-6)

  @pytest.mark.slow
  def test_wide_range_of_kernels(self):
    # Kernels of 1e38: 16 layers of W_std = 16.
    layer = lambda: stax.Dense(1, 16., W_init_std=1.2)
    kernel_fn = stax.serial(*(make() for _ in range(15)
                              for make in (layer, stax.Relu)), layer())[2]
    x, y, z = data(8, 3)
    late = np.diag(kernel_fn(x, None, 'nngp', diffusion_time=(50., 50.)))
    temperature = 1e-2 * np.mean(late)
    predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x, y,
                                                      temperature, rtol=1e-4)
    got = predict_fn(t=30. / temperature * y.size, x_test=z, get='ndk')
    want = predict_fn(t=None, x_test=z, get='ndk')
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-3)


class FitsTest(parameterized.TestCase):

  def test_kernels_are_not_computed_twice(self):
    # Test inputs far from the training data need more pairs of times.
    x, y, z = data(2, 8)
    predict_fn = predict.markov_proximal_mse_ensemble(
        network('erf', 1., 1.5), x, y, 1e-4, rtol=1e-6)
    predict_fn(t=1e5, get='ndk')
    before = dict(predict_fn.stats)
    predict_fn(t=1e5, x_test=30. * z, get='ndk')
    stats = predict_fn.stats
    self.assertGreater(stats['fits'], before['fits'])
    self.assertGreater(stats['rank'], before['rank'])
    self.assertEqual(stats['kernel_evaluations'] - stats['rank'],
                     before['kernel_evaluations'] - before['rank'])

  def test_kernels_that_are_not_finite(self):
    x, y, z = data(8, 3)
    x = x * np.where(np.arange(8) == 5, 1e160, 1.)[:, None]
    predict_fn = predict.markov_proximal_mse_ensemble(
        network('relu', None, 1.5), x, y, .1)
    with self.assertRaisesRegex(ValueError, 'must be positive and finite'):
      predict_fn(t=1., x_test=z, get='ndk')

  @parameterized.parameters((30, 'erf', .05, 60), (6, 'relu', 1., 100),
                            (13, 'relu', .05, 100), (9, 'erf', .05, 200))
  def test_estimate_of_contradicting_targets(self, seed, phi, bias, n):
    # Of equal and opposite inputs: what one of them makes of errors of kernels,
    # at one of many times, is not that of others.
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n // 2, 3))
    x = np.concatenate([x, x[:n // 4], -x[n // 4:]])
    y, z = rng.normal(size=(n, 1)), rng.normal(size=(20, 3))
    t = np.geomspace(1e-3, 200., 30) * y.size
    means, errors = [], []
    for rtol in (RTOL, 1e-2 * RTOL):
      predict_fn = predict.markov_proximal_mse_ensemble(
          network(phi, bias, 1.5), x, y, .1, rtol=rtol)
      means.append(np.concatenate([predict_fn(t=t, x_test=a, get='ndk')
                                   for a in (z, None)], 1))
      errors.append(predict_fn.stats['estimated_error'])
    self.assertLess(errors[1], RTOL)
    error = np.max(np.abs(means[0] - means[1])) / np.sqrt(np.mean(y**2))
    self.assertLess(error, min(errors[0] + errors[1], 10 * RTOL))

  def test_some_samples_stand_for_all(self):
    # What errors of kernels lead to is known from a part of the samples, as of
    # very many, so that the first fit will do. Else it is found out after it.
    x, y, z = data(100, 8)
    temperature, t = times('relu', 1., 1.5, x[:50], 1e-4)
    fits, means = [], []
    for many in (20, 2048):
      with mock.patch.multiple(compressed, _FEW_WEIGHTS=20, _MANY_WEIGHTS=many,
                               _SOME_WEIGHTS=40):
        predict_fn = predict.markov_proximal_mse_ensemble(
            network('relu', 1., 1.5), x, y, temperature, rtol=RTOL)
        means.append(predict_fn(t=t * y.size, x_test=z, get='ndk'))
        fits.append(predict_fn.stats['fits'])
    self.assertLess(fits[0], fits[1])
    size = np.sqrt(np.mean(y**2))
    np.testing.assert_allclose(*means, rtol=0, atol=10 * RTOL * size)

  @parameterized.parameters((5, 1., 1e-4, 1.2), (2, .05, 1e-6, 3.))
  @pytest.mark.slow
  def test_tables_of_many_rows(self, blocks, bias, relative, most):
    # A part of the eigenvectors does, or is found to be too small a part.
    x, y, z = data(400, 8)
    temperature, t = times('relu', bias, 1.5, x[:50], relative)
    found = []
    for modes in (400, 0):
      products, extend = [], volterra.VolterraSolver.extend

      def spy(self, *args):
        extend(self, *args)
        products.append(self.stats['products'])

      with mock.patch.multiple(volterra, ALL_MODES=modes, BLOCKS=blocks,
                               _TOO_MANY=np.inf):
        with mock.patch.object(volterra.VolterraSolver, 'extend', spy):
          predict_fn = predict.markov_proximal_mse_ensemble(
              network('relu', bias, 1.5), x, y, temperature, rtol=RTOL)
          out = predict_fn(t=np.geomspace(t[0], t[-1], 7) * y.size, x_test=z,
                           get='ndk')
      found.append((max(products), np.asarray(out)))
    (with_all, want), (with_some, got) = found
    self.assertLess(with_some, most * with_all)
    np.testing.assert_allclose(got, want, rtol=0, atol=RTOL)


if __name__ == '__main__':
  absltest.main()
