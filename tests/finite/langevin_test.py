# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of `nt_ndk.langevin`: finite networks whose statistics are known."""

import os
import subprocess
import sys
import tempfile
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
from flax import nnx
import jax
from jax import random
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from scipy import stats

from nt_ndk import langevin
from nt_ndk import linen as nt_linen
from nt_ndk import nnx as nt_nnx
from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.base import checkpoint as checkpoint_lib
from nt_ndk._src.base.moments import Moments

jax.config.update('jax_enable_x64', True)
matplotlib.use('Agg')

S0, S, W_STD = 1.5, .7, 1.2
X, Y = jnp.array([[1.3]]), jnp.array([[.8]])


def one_weight(**kwargs):
  """A linear network of one weight."""
  init_fn, apply_fn, _ = stax.Dense(1, W_STD, W_init_std=S0, W_prior_std=S)
  return langevin.markov_proximal_ensemble(init_fn, apply_fn, X, Y, .3,
                                           **kwargs)


def closed_form(t, temperature=.3):
  """Mean and variance of its output (THEORY, section 4)."""
  gram, kappa = (W_STD * X[0, 0])**2, temperature / S**2
  rate = gram + kappa
  end = temperature * gram / rate
  return (gram * Y[0, 0] / rate * -jnp.expm1(-rate * t),
          end + (S0**2 * gram - end) * jnp.exp(-2 * rate * t))


def z_scores(ensemble, mean, variance):
  return ((ensemble.mean - mean) / ensemble.mean_error,
          (ensemble.variance - variance) / ensemble.variance_error)


class LangevinTest(parameterized.TestCase):

  def test_one_weight(self):
    t = jnp.array([0., 5., .3, 1.])
    ensemble = one_weight(step_size=.05)(random.PRNGKey(0), 20000, t)
    self.assertEqual(ensemble.mean.shape, (4, 1, 1))
    for z in z_scores(ensemble, *(a[:, None, None] for a in closed_form(t))):
      np.testing.assert_array_less(np.abs(z), 4.)

  def test_units_of_time(self):
    # Twice the outputs, and half the rate: the same steps.
    init_fn, apply_fn, _ = stax.Dense(2, W_STD, W_init_std=S0, W_prior_std=S)
    run = lambda t, **kwargs: langevin.markov_proximal_ensemble(
        init_fn, apply_fn, X, jnp.array([[.8, -.5]]), .3, **kwargs)(
            random.PRNGKey(0), 5, t)
    want = run(1.5, loss='sum', step_size=.1)
    for got in (run(3., step_size=.2), run(1., step_size=.2 / 3,
                                           learning_rate=3.)):
      np.testing.assert_allclose(got.mean, want.mean, rtol=1e-12)

  @pytest.mark.slow
  def test_second_order(self):
    # The variance has a sampling error of 0.2%.
    t = 8.
    errors = []
    init_fn, apply_fn, _ = stax.Dense(1, W_STD, W_init_std=S0, W_prior_std=S)
    mean, variance = closed_form(t)
    for step_size in (.35, .175):
      # Large targets have a precise mean, beside the same variance.
      ensemble = langevin.markov_proximal_ensemble(
          init_fn, apply_fn, X, 100. * Y, .3, step_size=step_size)(
              random.PRNGKey(1), 400000, t)
      errors.append([ensemble.mean[0, 0] / (100. * mean) - 1,
                     ensemble.variance[0, 0] / variance - 1])
    order = np.log2(np.divide(*errors))
    np.testing.assert_array_less(np.abs(errors[1]), .05)
    np.testing.assert_array_less(1.4, order)
    np.testing.assert_array_less(order, 2.6)

  @parameterized.parameters(.3, 1.)
  @pytest.mark.slow
  def test_posterior_of_a_deep_linear_network(self, temperature):
    init_fn, apply_fn, _ = stax.serial(
        stax.Dense(1, W_prior_std=.9), stax.Dense(1, 1.2, W_prior_std=1.3))
    y = jnp.array([[1.1]])
    ensemble = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, X, y, temperature, step_size=.02)(
            random.PRNGKey(2), 4000, 60.)
    # Its posterior, integrated over both weights.
    w = np.linspace(-8., 8., 1601)
    v, w = w[:, None], w[None]
    f = 1.2 * v * w * 1.3
    weight = (np.exp(-(f - 1.1)**2 / (2 * temperature)) *
              stats.norm.pdf(w, scale=.9) * stats.norm.pdf(v, scale=1.3))
    weight /= np.sum(weight)
    mean = np.sum(weight * f)
    for z in z_scores(ensemble, mean, np.sum(weight * (f - mean)**2)):
      self.assertLess(np.abs(z[0, 0]), 4.)

  @pytest.mark.slow
  def test_no_noise_is_gradient_flow(self):
    init_fn, apply_fn, kernel_fn = stax.Dense(2, W_init_std=S0)
    x = random.normal(random.PRNGKey(3), (3, 4))
    y = jnp.sin(x[:, :2])
    t = jnp.array([1., 20.])
    ensemble = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, y, 0., step_size=.02)(
            random.PRNGKey(4), 1000, t, x + 1.)
    mean, variance = predict.gradient_descent_mse_ensemble(kernel_fn, x, y)(
        t=t, x_test=x + 1., get='ntk', compute_cov=True)
    variance = jnp.diagonal(variance, axis1=-2, axis2=-1)[..., None]
    for z in z_scores(ensemble, mean, variance):
      np.testing.assert_array_less(np.abs(z), 4.)

  def test_minibatches(self):
    # Without noise they end where all data do, if all can be fitted.
    init_fn, apply_fn, _ = stax.Dense(1)
    x = random.normal(random.PRNGKey(5), (4, 16))
    y = jnp.sin(x[:, :1])
    make = lambda **kwargs: langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, y, 0., loss='sum', step_size=.05, **kwargs)(
            random.PRNGKey(0), 3, jnp.array([.2, 60.]))
    full, mini = make(), make(batch_size=2)
    self.assertGreater(np.max(np.abs(full.mean[0] - mini.mean[0])), 1e-3)
    np.testing.assert_allclose(mini.mean[1], full.mean[1], atol=1e-3)

  def check_every_library(self, library):
    normal = nn.initializers.normal(S0)
    apply_fn = None
    if library == 'stax':
      init_fn, apply_fn, _ = stax.Dense(1, 1., W_init_std=S0, W_prior_std=S)
    elif library == 'linen':
      module = nn.Dense(1, use_bias=False, kernel_init=normal)
      init_fn, apply_fn = module.init, module.apply
    else:
      init_fn = lambda rngs: nnx.Linear(
          1, 1, use_bias=False, kernel_init=normal, param_dtype=jnp.float64,
          rngs=rngs)
    t = jnp.array([0., .5, 5.])
    ensemble = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, W_STD * X, Y, .3, prior_std=S, step_size=.05)(
            random.PRNGKey(0), 4000, t)
    for z in z_scores(ensemble, *(a[:, None, None] for a in closed_form(t))):
      np.testing.assert_array_less(np.abs(z), 4.)

  @parameterized.parameters('linen', 'nnx')
  def test_every_library(self, library):
    self.check_every_library(library)

  @parameterized.parameters(['stax'])
  @pytest.mark.slow
  def test_every_library_more(self, library):
    self.check_every_library(library)

  def check_frozen_layer(self, library, **kwargs):
    # Linear regression on one feature of a random size, which stays.
    s0 = .6
    first, last = (dict(W_std=W_STD, W_init_std=s0, W_prior_std=.1,
                        trainable=False), dict(W_init_std=1.2, W_prior_std=S))
    apply_fn = prior_std = None
    if library == 'nnx':
      init_fn = lambda rngs: nnx.Sequential(
          nt_nnx.Dense(1, 1, **first, rngs=rngs),
          nt_nnx.Dense(1, 1, **last, rngs=rngs))
    elif library == 'linen':
      module = nn.Sequential([nt_linen.Dense(1, **first),
                              nt_linen.Dense(1, **last)])
      init_fn, apply_fn = module.init, module.apply
    else:
      if library == 'tree':  # Which layer it is a tree of numbers may say.
        first['trainable'], prior_std = True, [(0., None), (S, None)]
      init_fn, apply_fn, _ = stax.serial(stax.Dense(1, **first),
                                         stax.Dense(1, **last))
    t, temperature = jnp.array([0., .6, 5.]), .3
    ensemble = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, X, Y, temperature, step_size=.05,
        prior_std=prior_std, **kwargs)(random.PRNGKey(3), 4000, t)
    feature = s0 * np.linspace(-6., 6., 2001)
    weight = stats.norm.pdf(feature, scale=s0)
    weight /= np.sum(weight)
    gram = (W_STD * feature * X[0, 0])**2
    rate = gram + temperature / S**2
    decay = np.exp(-rate * t[:, None])
    mean = gram * Y[0, 0] / rate * (1 - decay)
    end = temperature * gram / rate
    variance = end + (1.2**2 * gram - end) * decay**2 + mean**2
    mean = np.sum(weight * mean, -1)
    variance = np.sum(weight * variance, -1) - mean**2
    for z in z_scores(ensemble, mean[:, None, None], variance[:, None, None]):
      np.testing.assert_array_less(np.abs(z), 4.)

  @parameterized.parameters('linen', 'nnx')
  def test_frozen_layer(self, library):
    self.check_frozen_layer(library)

  @parameterized.parameters('stax', 'tree')
  @pytest.mark.slow
  def test_frozen_layer_more(self, library):
    self.check_frozen_layer(library)

  @pytest.mark.slow
  def test_frozen_layer_and_antithetic_networks(self):
    # Pairs have readouts of both signs, whether these learn or not.
    y, t = jnp.array([[1.], [.3]]), jnp.array([.3, 1.])
    x = jnp.array([[1., .5], [-.3, 1.]])
    for learns in ((True, False), (False, True)):
      init_fn, apply_fn, _ = stax.serial(
          stax.Dense(4, trainable=learns[0]), stax.Erf(),
          stax.Dense(1, trainable=learns[1]))
      one, two = (langevin.markov_proximal_ensemble(
          init_fn, apply_fn, x, y, .2, loss='sum', antithetic=antithetic)(
              random.PRNGKey(0), 2000, t) for antithetic in (False, True))
      z = (one.mean - two.mean) / np.hypot(one.mean_error, two.mean_error)
      np.testing.assert_array_less(np.abs(z), 4.)
      np.testing.assert_array_less(two.mean_error, .7 * one.mean_error)

  @pytest.mark.slow
  def test_frozen_layer_of_the_proximal_chain(self):
    init_fn, apply_fn, _ = stax.serial(
        stax.Dense(1, W_init_std=.6, trainable=False),
        stax.Dense(1, W_init_std=1.2, W_prior_std=S))
    run = lambda **kwargs: langevin.markov_proximal_ensemble(
        init_fn, apply_fn, X, Y, .3, step_size=.02, **kwargs)(
            random.PRNGKey(3), 4000, jnp.array([.6, 2.]))
    one, two = run(), run(proximal=True)
    z = (one.mean - two.mean) / np.hypot(one.mean_error, two.mean_error)
    np.testing.assert_array_less(np.abs(z), 4.)

  def check_frozen_readout(self, hidden_learning):
    # The hidden weights of a linear network forget at the rate of their prior.
    layer = stax.Dense(1, W_init_std=1.2, W_prior_std=.8)
    init_fn, apply_fn, _ = stax.serial(layer, stax.Identity(), layer)
    temperature, y = .4, jnp.array([[1.5]])
    t = jnp.array([3., 4., 5.])
    ensemble = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, X, y, temperature, step_size=.05)(
            random.PRNGKey(6), 20000, t, t_freeze=3.,
            hidden_learning=hidden_learning)
    start, *later = ensemble.mean[:, 0, 0]
    error = 4 * np.max(ensemble.mean_error)
    forgotten = start * np.exp(-temperature * (t[1:] - 3.) / .8**2)
    self.assertGreater(start, 10 * error)
    if hidden_learning:
      np.testing.assert_array_less(forgotten + error, later)
    else:
      np.testing.assert_allclose(later, forgotten, atol=error)

  @parameterized.parameters([False])
  def test_frozen_readout(self, hidden_learning):
    self.check_frozen_readout(hidden_learning)

  @parameterized.parameters([True])
  @pytest.mark.slow
  def test_frozen_readout_more(self, hidden_learning):
    self.check_frozen_readout(hidden_learning)


class AntitheticTest(parameterized.TestCase):

  @parameterized.parameters(
      {}, dict(proximal=True), dict(max_bytes=3 * 10**4))
  def test_linear_network(self, **kwargs):
    # The mean has no spread: what is left is the size of steps.
    t = jnp.array([0., .32, 4.])
    step_size = .01
    ensemble = one_weight(step_size=step_size, antithetic=True, **kwargs)(
        random.PRNGKey(0), 2000, t)
    mean, variance = closed_form(t)
    np.testing.assert_allclose(
        ensemble.mean[:, 0, 0], mean, atol=2e-2 if 'proximal' in kwargs else
        1e-4)
    np.testing.assert_allclose(ensemble.mean_error, 0., atol=1e-12)
    z = (ensemble.variance[:, 0, 0] - variance) / ensemble.variance_error[
        :, 0, 0]
    np.testing.assert_array_less(np.abs(z), 4.)

  @pytest.mark.slow
  def test_finite_width(self):
    init_fn, apply_fn, _ = stax.serial(stax.Dense(4, 1.5), stax.Erf(),
                                       stax.Dense(1))
    x = random.normal(random.PRNGKey(0), (3, 2))
    one, two = (langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, jnp.sin(2 * x[:, :1]), .2,
        antithetic=antithetic)(
            random.PRNGKey(1), 8000, jnp.array([1., 6., 40.]), t_freeze=6.)
                for antithetic in (True, False))
    for a, b, a_error, b_error in (
        (one.mean, two.mean, one.mean_error, two.mean_error),
        (one.variance, two.variance, one.variance_error, two.variance_error)):
      np.testing.assert_array_less(np.abs(a - b) / np.hypot(a_error, b_error),
                                   4.)
    np.testing.assert_array_less(one.mean_error[:2], .6 * two.mean_error[:2])

  @pytest.mark.slow
  def test_error_of_the_variance(self):
    ensemble_fn = one_weight(step_size=.2, antithetic=True)
    runs = [ensemble_fn(random.PRNGKey(i), 100, .5) for i in range(200)]
    np.testing.assert_allclose(
        np.mean([r.variance_error for r in runs]),
        np.std([r.variance for r in runs]), rtol=.2)

  def test_refusals(self):
    with self.assertRaisesRegex(ValueError, 'even, got 5'):
      one_weight(antithetic=True)(random.PRNGKey(0), 5, 1.)
    init_fn, apply_fn, _ = stax.serial(stax.Dense(1), stax.Relu())
    with self.assertRaisesRegex(ValueError, 'change sign'):
      langevin.markov_proximal_ensemble(init_fn, apply_fn, X, Y, .3,
                                        antithetic=True)
    module = nn.Dense(1)
    with self.assertRaisesRegex(ValueError, '`readout`'):
      langevin.markov_proximal_ensemble(
          module.init, module.apply, X, Y, .3, prior_std=1., antithetic=True)


class ProximalTest(parameterized.TestCase):

  def check_recursion_of_a_linear_model(self, step_size):
    # THEORY, section 9: mean and covariance at every step.
    s0, s, temperature = 1.4, .6, .5
    init_fn, apply_fn, _ = stax.Dense(1, W_init_std=s0, W_prior_std=s)
    x = random.normal(random.PRNGKey(0), (2, 3))
    y = jnp.array([[.7], [-1.2]])
    t = step_size * np.arange(5)
    ensemble = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, y, temperature, loss='sum', proximal=True,
        step_size=step_size)(random.PRNGKey(1), 20000, t)
    J, strength = np.asarray(x) / 3**.5, 1 / step_size
    inverse = np.linalg.inv(
        (strength + temperature / s**2) * np.eye(3) + J.T @ J)
    mean, cov = np.zeros(3), s0**2 * np.eye(3)
    for j in range(5):
      for z in z_scores(ensemble, (J @ mean)[:, None],
                        np.diag(J @ cov @ J.T)[:, None]):
        np.testing.assert_array_less(np.abs(z[j]), 4., f'step {j}')
      mean = inverse @ (strength * mean + J.T @ y[:, 0])
      cov = strength**2 * inverse @ cov @ inverse + 2 * temperature * inverse

  @parameterized.parameters([.3])
  def test_recursion_of_a_linear_model(self, step_size):
    self.check_recursion_of_a_linear_model(step_size)

  @parameterized.parameters([2.])
  @pytest.mark.slow
  def test_recursion_of_a_linear_model_more(self, step_size):
    self.check_recursion_of_a_linear_model(step_size)

  @pytest.mark.slow
  def test_large_strength_is_langevin(self):
    init_fn, apply_fn, _ = stax.serial(stax.Dense(4), stax.Erf(), stax.Dense(1))
    x = random.normal(random.PRNGKey(0), (3, 2))
    y = jnp.sin(2 * x[:, :1])
    make = lambda **kwargs: langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, y, .2, **kwargs)(
            random.PRNGKey(1), 2000, jnp.array([1., 6.]))
    one, two = make(), make(proximal=True, step_size=.1)
    np.testing.assert_array_less(
        np.abs(one.mean - two.mean) / np.hypot(one.mean_error, two.mean_error),
        4.)
    np.testing.assert_array_less(
        np.abs(one.variance - two.variance) /
        np.hypot(one.variance_error, two.variance_error), 4.)


class EnsembleTest(parameterized.TestCase):

  def run_small(self, max_bytes=2**30, checkpoint=None):
    init_fn, apply_fn, _ = stax.serial(stax.Dense(16), stax.Relu(),
                                       stax.Dense(1))
    x = random.normal(random.PRNGKey(0), (3, 2))
    return langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, jnp.sin(x[:, :1]), .1, max_bytes=max_bytes,
        step_size=.02)(random.PRNGKey(1), 7, jnp.array([1., 12., 4.]),
                       checkpoint=checkpoint)

  def test_new_style_keys(self):
    # Of the same bits as old ones.
    run = lambda key: one_weight(step_size=.1)(key, 3, 1.).mean
    np.testing.assert_array_equal(run(random.key(3)), run(random.PRNGKey(3)))

  def test_memory_does_not_matter(self):
    want, got = self.run_small(), self.run_small(max_bytes=1)
    for a, b in zip(want, got):
      np.testing.assert_allclose(a, b, rtol=1e-8)

  @pytest.mark.slow
  def test_killed_and_resumed(self):
    want = self.run_small(max_bytes=1)
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, 'ensemble.msgpack')
      keep = checkpoint_lib.Checkpoint.keep
      kills = 0
      with mock.patch.object(checkpoint_lib, '_EVERY', 0.):
        for after in (1, 2, 5, 12, 100):
          count = 0

          def killed(self, *args, after=after, **kwargs):
            nonlocal count
            keep(self, *args, **kwargs)
            count += 1
            if count == after:
              raise KeyboardInterrupt

          with mock.patch.object(checkpoint_lib.Checkpoint, 'keep', killed):
            try:
              got = self.run_small(max_bytes=1, checkpoint=path)
            except KeyboardInterrupt:
              kills += 1
      self.assertEqual(kills, 4)
      for a, b in zip(want, got):
        np.testing.assert_array_equal(a, b)
      with self.assertRaisesRegex(ValueError, 'another problem'):
        one_weight(step_size=.1)(random.PRNGKey(0), 2, 1., checkpoint=path)

  @pytest.mark.slow
  def test_killed_at_random(self):
    script = """if True:
      import sys
      from jax import random
      import jax.numpy as jnp
      import numpy as np
      from nt_ndk import langevin, stax
      from nt_ndk._src.base import checkpoint
      checkpoint._EVERY = 0.
      init_fn, apply_fn, _ = stax.serial(stax.Dense(8), stax.Erf(),
                                         stax.Dense(1))
      x = random.normal(random.PRNGKey(0), (3, 2))
      ensemble = langevin.markov_proximal_ensemble(
          init_fn, apply_fn, x, jnp.sin(x[:, :1]), .1, max_bytes=1,
          step_size=.01)(random.PRNGKey(1), 300, jnp.array([1., 6., 4.]),
                         checkpoint=sys.argv[1] or None)
      np.save(sys.argv[2], np.stack(ensemble[1:5]))
    """
    folder = self.create_tempdir().full_path
    path, results, kills = os.path.join(folder, 'run'), [], 0
    rng = np.random.default_rng()
    for name, kill in (('', False), *3 * [(path, True)], (path, False)):
      result = os.path.join(folder, f'{len(results)}.npy')
      seen = os.path.exists(path) and os.stat(path).st_mtime_ns
      process = subprocess.Popen([sys.executable, '-c', script, name, result])
      while kill and process.poll() is None:
        if os.path.exists(path) and os.stat(path).st_mtime_ns != seen:
          time.sleep(rng.uniform(0., .3))
          process.kill()
          kill = False
        time.sleep(.01)
      kills += process.wait() < 0
      if os.path.exists(result):
        results.append(np.load(result))
    self.assertGreater(kills, 0)
    np.testing.assert_array_equal(results[0], results[-1])
    self.assertGreater(len(results), 1)

  def test_moments(self):
    samples = np.random.default_rng(0).gamma(2., size=(50, 3))
    parts = [Moments.of(a) for a in np.split(samples, [7, 8, 30])]
    joined = parts[0].joined(parts[1]).joined(parts[2].joined(parts[3]))
    whole = Moments.of(samples)
    for a, b in zip(joined, whole):
      np.testing.assert_allclose(a, b, rtol=1e-12)
    np.testing.assert_allclose(whole.variance, np.var(samples, 0, ddof=1))
    np.testing.assert_allclose(whole.mean_error, stats.sem(samples))

  def test_error_of_the_variance(self):
    # Of samples that are not Gaussian, from many repetitions.
    samples = np.random.default_rng(1).gamma(2., size=(400, 5000))
    moments = Moments.of(samples)
    np.testing.assert_allclose(np.mean(moments.variance_error),
                               np.std(moments.variance), rtol=.1)


class ComparisonTest(parameterized.TestCase):

  def made_up(self, bias, rng, error=1e-3):
    """An ensemble with a bias of mean and variance, and errors."""
    shape = 6, 4, 2
    noisy = lambda value: value + error * rng.normal(size=shape)
    errors = np.full(shape, error)
    return langevin.Ensemble(np.arange(6.), noisy(1. + bias), noisy(2. + bias),
                             errors, errors, 10)

  def test_made_up_ensembles(self):
    rng = np.random.default_rng(0)
    widths = np.array([16, 64, 256, 2**16])
    ensembles = [self.made_up(3. * w**-.8, rng) for w in widths]
    prediction = np.ones((6, 4, 2)), np.full((6, 4), 2.)
    for statistic in ('mean', 'variance'):
      scan = langevin.width_scan(widths, ensembles, prediction, statistic)
      np.testing.assert_array_equal(scan.resolved, [True, True, True, False])
      np.testing.assert_allclose(scan.bias[:3], 3. * widths[:3]**-.8, rtol=.02)
      self.assertAlmostEqual(scan.slope, -.8, delta=.02)
    right = langevin.compare(self.made_up(0., rng), prediction)
    for z in (right.mean_z, right.variance_z):
      self.assertAlmostEqual(np.sqrt(np.mean(z**2)), 1., delta=.25)
    self.assertIsNone(langevin.compare(ensembles[0], prediction[0]).variance_z)

  @pytest.mark.slow
  def test_finite_width(self):
    # Corrections of the order of the inverse of the width.
    x = random.normal(random.PRNGKey(7), (3, 3))
    y, t = jnp.array([[1.], [-1.], [1.]]), jnp.array([0., 3., 30.])
    stds = dict(W_init_std=1.5, W_prior_std=1.)
    make = lambda width: stax.serial(
        stax.Dense(width, 1.5, **stds), stax.Erf(), stax.Dense(1, **stds))
    widths = 1, 4
    ensembles = [langevin.markov_proximal_ensemble(
        *make(width)[:2], x, y, .3)(random.PRNGKey(width), 6000, t)
                 for width in widths]
    prediction = predict.markov_proximal_mse_ensemble(make(1)[2], x, y, .3)(
        t=t, get='ndk', compute_cov='diag')
    scan = langevin.width_scan(widths, ensembles, prediction)
    self.assertTrue(np.all(scan.resolved))
    self.assertBetween(scan.slope, -1.3, -.4)

  def test_plot(self):
    ensemble = self.made_up(0., np.random.default_rng(0))
    axes = langevin.plot(ensemble, (np.ones((6, 4, 2)), np.full((6, 4), 2.)),
                         labels=('a', 'b', 'c'))
    for ax, value in zip(axes, (1., 2.)):
      curves = [l for l in ax.lines if l.get_linestyle() == '-']
      self.assertLen(curves, 3)
      for curve in curves:
        np.testing.assert_array_equal(curve.get_ydata(), value)

  def test_wrong_shapes(self):
    ensemble = self.made_up(0., np.random.default_rng(0))
    with self.assertRaisesRegex(ValueError, 'same `t`'):
      langevin.compare(ensemble, np.ones((5, 4, 2)))
    with self.assertRaisesRegex(ValueError, 'compute_cov="diag"'):
      langevin.compare(ensemble, (np.ones((6, 4, 2)), np.ones((6, 4, 4))))
    with self.assertRaisesRegex(ValueError, 'one ensemble for each'):
      langevin.width_scan([1, 2], [ensemble], np.ones((6, 4, 2)))
    with self.assertRaisesRegex(ValueError, 'compute_cov="diag"'):
      langevin.width_scan([1], [ensemble], np.ones((6, 4, 2)), 'variance')


class RefusalsTest(parameterized.TestCase):

  @parameterized.parameters(
      dict(loss='median'), dict(step_size=-1.), dict(proximal=True),
      dict(batch_size=2), dict(batch_size=.5), dict(learning_rate=0.),
      dict(max_bytes=0))
  def test_wrong_arguments(self, **kwargs):
    with self.assertRaisesRegex(ValueError, next(iter(kwargs)).split('=')[0]):
      one_weight(**kwargs)

  def test_nothing_learns(self):
    init_fn, apply_fn, _ = stax.Dense(1, trainable=False)
    with self.assertRaisesRegex(ValueError, 'trainable'):
      langevin.markov_proximal_ensemble(init_fn, apply_fn, X, Y, .3)

  def test_large_steps(self):
    with self.assertRaisesRegex(ValueError, '`step_size` must be at most 0.3'):
      one_weight(step_size=2.)(random.PRNGKey(0), 2, 1.)

  @pytest.mark.slow
  def test_no_minimum(self):
    # Gauss-Newton steps overshoot where outputs saturate.
    init_fn, apply_fn, _ = stax.serial(stax.Dense(1, 20.), stax.Erf(),
                                       stax.Dense(1))
    with self.assertRaisesRegex(FloatingPointError, 'smaller `step_size`'):
      langevin.markov_proximal_ensemble(
          init_fn, apply_fn, X, 10. * Y, .3, proximal=True, step_size=100.)(
              random.PRNGKey(0), 20, 1000.)

  def test_wrong_targets(self):
    init_fn, apply_fn, _ = stax.Dense(2)
    with self.assertRaisesRegex(ValueError, 'shape of the outputs'):
      langevin.markov_proximal_ensemble(init_fn, apply_fn, X, Y, .3)

  def test_unknown_readout(self):
    module = nn.Dense(1)
    with self.assertRaisesRegex(ValueError, '`readout`'):
      langevin.markov_proximal_ensemble(
          module.init, module.apply, X, Y, .3, prior_std=1.)(
              random.PRNGKey(0), 2, 1., t_freeze=.5)

  def test_proximal_times(self):
    with self.assertRaisesRegex(ValueError, 'multiples'):
      one_weight(proximal=True, step_size=.3)(random.PRNGKey(0), 2, 1.)

  def test_no_time(self):
    with self.assertRaisesRegex(ValueError, 'at least one time'):
      one_weight()(random.PRNGKey(0), 2, jnp.zeros(0))

  def test_one_network(self):
    with self.assertRaisesRegex(ValueError, 'n_networks'):
      one_weight()(random.PRNGKey(0), 1, 1.)


if __name__ == '__main__':
  absltest.main()
