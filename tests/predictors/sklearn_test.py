# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the estimators for scikit-learn's tools."""

import os
import pickle
import subprocess
import sys
import warnings

from absl.testing import absltest
from absl.testing import parameterized
from evidence_test import NetworkKernel
import jax
from jax import numpy as jnp
import numpy as np
import pytest
from sklearn import base
from sklearn import datasets
from sklearn import gaussian_process
from sklearn import model_selection
from sklearn import pipeline
from sklearn import preprocessing
from sklearn.utils import estimator_checks

from nt_ndk import predict
from nt_ndk import sklearn as nt_sklearn
from nt_ndk import stax

jax.config.update('jax_enable_x64', True)

Regressor = nt_sklearn.MarkovProximalRegressor
Classifier = nt_sklearn.MarkovProximalClassifier


def network(W_std=1.4, phi=stax.Erf):
  layer = lambda: stax.Dense(8, W_std, .3, W_init_std=1.3, W_prior_std=.9)
  return stax.serial(layer(), phi(), layer())[2]


def data(n=8, m=5, k=2, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(n, 3)), rng.normal(size=(n, k)),
          rng.normal(size=(m, 3)))


class RegressorTest(parameterized.TestCase):

  @parameterized.parameters(None, 30.)
  def test_is_the_predictor(self, time):
    x, y, z = data()
    kernel_fn = network()
    predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x, y, .1, 2.)
    ask = lambda compute_cov: predict_fn(t=time, x_test=z, get='ndk',
                                         compute_cov=compute_cov)
    model = Regressor(kernel_fn, temperature=.1, time=time, learning_rate=2.)
    self.assertIs(model.fit(x, y), model)
    mean, std = model.predict(z, return_std=True)
    want, variance = ask('diag')
    np.testing.assert_allclose(mean, want, atol=1e-5)
    np.testing.assert_allclose(std, np.tile(variance[:, None]**.5, 2),
                               atol=1e-5)
    np.testing.assert_array_equal(model.predict(z), mean)
    _, covariance = model.predict(z, return_cov=True)
    self.assertEqual(covariance.shape, (5, 5, 2))
    for i in range(2):
      np.testing.assert_allclose(covariance[..., i], ask(True).covariance,
                                 atol=1e-5)
    self.assertAlmostEqual(
        model.log_marginal_likelihood(),
        float(predict.log_marginal_likelihood(kernel_fn, x, y, .1)), places=9)

  def test_normalisation(self):
    # As if targets had been normalised, and predictions scaled back.
    x, y, z = data()
    y[:, 1] = 3.  # One of them does not vary.
    offset, scale = y.mean(0), np.array([y[:, 0].std(), 1.])
    mean, std = Regressor(network(), normalize_y=True).fit(x, y).predict(
        z, return_std=True)
    plain = Regressor(network()).fit(x, (y - offset) / scale)
    want, want_std = plain.predict(z, return_std=True)
    np.testing.assert_allclose(mean, offset + scale * want, atol=1e-12)
    np.testing.assert_allclose(std, scale * want_std, atol=1e-12)
    np.testing.assert_allclose(mean[:, 1], 3.)
    _, covariance = Regressor(network(), normalize_y=True).fit(x, y).predict(
        z, return_cov=True)
    np.testing.assert_allclose(np.diagonal(covariance).T, std**2, atol=1e-12)

  def test_normalises_like_gaussian_processes(self):
    # With the kernel of the network in both; one dimension of targets.
    x, y, z = data(k=1)
    theirs = gaussian_process.GaussianProcessRegressor(
        NetworkKernel(network(), (3,)), alpha=.2, optimizer=None,
        normalize_y=True).fit(x, y[:, 0])
    ours = Regressor(network(), temperature=.2, normalize_y=True).fit(x,
                                                                      y[:, 0])
    for options in (dict(return_std=True), dict(return_cov=True)):
      for a, b in zip(ours.predict(z, **options), theirs.predict(z, **options)):
        np.testing.assert_allclose(a, b, atol=1e-9)
    self.assertAlmostEqual(ours.log_marginal_likelihood(),
                           theirs.log_marginal_likelihood(), places=8)
    self.assertEqual(ours.sample_y(z, 3).shape, theirs.sample_y(z, 3).shape)

  def test_samples(self):
    x, y, z = data()
    model = Regressor(network()).fit(x, y)
    draws = model.sample_y(z, 4000, random_state=1)
    mean, std = model.predict(z, return_std=True)
    self.assertEqual(draws.shape, (5, 2, 4000))
    np.testing.assert_array_less(np.abs(draws.mean(-1) - mean),
                                 5 * std / 4000**.5)
    np.testing.assert_allclose(draws.std(-1), std, rtol=.06)
    _, covariance = model.predict(z, return_cov=True)
    np.testing.assert_allclose(np.cov(draws[:, 0]), covariance[..., 0],
                               atol=.06 * np.max(std)**2)

  def test_precision_is_double(self):
    x, y, z = data()
    want = Regressor(network()).fit(x, y).predict(z)
    jax.config.update('jax_enable_x64', False)
    try:
      with warnings.catch_warnings():
        warnings.simplefilter('error')
        got = Regressor(network()).fit(x, y).predict(z)
      self.assertEqual(jnp.zeros(1).dtype, jnp.float32)
    finally:
      jax.config.update('jax_enable_x64', True)
    np.testing.assert_allclose(got, want, atol=1e-10)

  def test_parameters_copies_and_pickles(self):
    x, y, z = data()
    model = Regressor(network(), temperature=.3, time=7.)
    copy = base.clone(model).set_params(time=None)
    self.assertIs(copy.get_params()['kernel_fn'], model.kernel_fn)
    self.assertEqual(copy.temperature, .3)
    with self.assertRaisesRegex(ValueError, 'not fitted'):
      copy.predict(z)
    model = Regressor(time=100.).fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(z), model.predict(z))
    # What is learned again is learned from new data.
    fresh = Regressor(time=100.).fit(x, -y)
    np.testing.assert_allclose(model.fit(x, -y).predict(z), fresh.predict(z))

  def test_images(self):
    rng = np.random.default_rng(0)
    x, y, z = (rng.normal(size=s) for s in ((5, 3, 3, 2), (5,), (2, 3, 3, 2)))
    kernel_fn = stax.serial(stax.Conv(8, (2, 2)), stax.Relu(), stax.Flatten(),
                            stax.Dense(1))[2]
    want = predict.markov_proximal_mse_ensemble(
        kernel_fn, x, y[:, None], 1e-2)(x_test=z, get='ndk')[:, 0]
    np.testing.assert_allclose(Regressor(kernel_fn).fit(x, y).predict(z), want)

  def test_refusals(self):
    x, y, z = data()
    for wrong, word in ((dict(temperature=-1.), 'temperature'),
                        (dict(time=-1.), 'Times'), (dict(rtol=0.), 'rtol'),
                        (dict(kernel_fn=lambda x1, x2, get: 0.), 'kernel_fn')):
      with self.assertRaisesRegex(ValueError, word):
        Regressor(**wrong).fit(x, y)
    with self.assertRaisesRegex(ValueError, 'At most one'):
      Regressor().fit(x, y).predict(z, return_std=True, return_cov=True)

  def test_is_not_imported_by_the_package(self):
    code = ('import sys, nt_ndk; '
            'assert not {"sklearn", "matplotlib"} & set(sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True, env={
        **os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})


class ClassifierTest(absltest.TestCase):

  def test_probabilities_are_those_of_networks(self):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 12, 3))
    y = np.array(['a', 'b', 'c'])[np.argmax(x, 1)]
    model = Classifier(network()).fit(x, y)
    self.assertEqual(list(model.classes_), ['a', 'b', 'c'])
    targets = (y[:, None] == model.classes_) - 1 / 3
    outputs = Regressor(network()).fit(x, targets)
    best = np.argmax(outputs.predict(z), 1)
    np.testing.assert_array_equal(model.predict(z), model.classes_[best])

    probability, draws = model.predict_proba(z), 20_000
    np.testing.assert_allclose(probability.sum(1), 1., rtol=1e-12)
    mean, std = outputs.predict(z, return_std=True)
    f = mean + std * rng.normal(size=(draws,) + mean.shape)
    fraction = np.mean(np.argmax(f, -1)[..., None] == np.arange(3), 0)
    np.testing.assert_array_less(
        np.abs(fraction - probability),
        4 * np.sqrt(probability * (1 - probability) / draws) + 1e-9)
    self.assertAlmostEqual(model.log_marginal_likelihood(),
                           outputs.log_marginal_likelihood(), places=9)

  @pytest.mark.slow
  def test_digits(self):
    x, y = datasets.load_digits(return_X_y=True)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(), Classifier())
    model.fit(x[:300], y[:300])
    self.assertGreater(model.score(x[300:], y[300:]), .88)
    loss = -np.log(model.predict_proba(x[300:])[np.arange(len(x) - 300),
                                                y[300:]])
    self.assertLess(np.mean(loss), 1.)


class ToolsTest(parameterized.TestCase):

  @parameterized.parameters(
      (Regressor(), ()), (Classifier(), ()),
      # At a finite time predictions of other test inputs are not the same to
      # 1e-7, beyond `rtol`.
      (Regressor(time=1000.), ('check_methods_sample_order_invariance',
                               'check_methods_subset_invariance')))
  @pytest.mark.slow
  def test_check_estimator(self, model, may_fail):
    results = estimator_checks.check_estimator(model, on_skip=None,
                                               on_fail=None)
    self.assertGreater(len(results), 45)
    failed = {r['check_name'] for r in results if r['status'] == 'failed'}
    self.assertContainsSubset(failed, may_fail)

  def test_search_over_time_and_temperature(self):
    x, y, _ = data(12, k=1)
    model = pipeline.make_pipeline(preprocessing.StandardScaler(),
                                   Regressor(network()))
    search = model_selection.GridSearchCV(model, {
        'markovproximalregressor__time': [10., None],
        'markovproximalregressor__temperature': [.1, 1.]}, cv=2).fit(x, y[:, 0])
    scores = search.cv_results_['mean_test_score']
    self.assertLen(np.unique(scores), 4)
    best = search.best_estimator_[-1]
    self.assertEqual(search.best_score_, scores.max())
    self.assertIn(best.time, (10., None))

  @pytest.mark.slow
  def test_processes(self):
    # Networks are sent there as they are, though they are functions.
    x, y, _ = data(12)
    score = lambda n_jobs: model_selection.cross_val_score(
        Regressor(network(), time=30.), x, y, cv=2, n_jobs=n_jobs)
    np.testing.assert_allclose(score(2), score(1), atol=1e-10)


if __name__ == '__main__':
  absltest.main()
