# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of learning in phases, and of draws of trajectories.

References take time in the units of the sum of squares, predictors in those of
the mean, a factor `y.size`.
"""

import functools
import os
import sys

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest
from scipy import stats

from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk import stax
from nt_ndk.predict import Phase
import reference
from reference import dense

# Neural Tangents comes after `nt_ndk`, which lets it be imported.
# isort: split
from neural_tangents import predict as nt_predict

jax.config.update('jax_enable_x64', True)

ensemble = predict.markov_proximal_mse_ensemble
N = 4
FIRST, LAST = (dict(W_init_std=1.4, W_prior_std=.9),
               dict(W_init_std=.8, W_prior_std=1.1))
ONE = np.ones(N)
HALF, REST = np.array([1., 1., 0., 0.]), np.array([0., .5, 2., 1.])


@functools.cache
def data(seed=0):
  rng = np.random.RandomState(seed)
  x, x_test = rng.normal(size=(N, 5)), rng.normal(size=(2, 5))
  return x, x_test, rng.normal(size=(N, 2)), rng.normal(size=(N, 2))


def network(activation='relu'):
  phi = dict(relu=stax.Relu, erf=stax.Erf)[activation]()
  return stax.serial(stax.Dense(8, b_std=.3, **FIRST), phi,
                     stax.Dense(1, **LAST))[2]


def kernels(activation='relu'):
  layers = [dense(b_std=.3, **FIRST), activation, dense(**LAST)]
  return lambda *args, **kwargs: reference.two_time_kernels(*args, layers,
                                                            **kwargs)


def phases():
  """Of each protocol: duration, temperature, targets, weights."""
  _, _, y, other = data()
  end = np.inf
  return dict(
      colder=((3., .1, y, ONE), (end, .01, y, ONE)),
      hotter=((8., .02, y, ONE), (end, .3, y, ONE)),
      tasks=((4., .05, y, HALF), (end, .05, other, REST)),
      pause=((2., .1, y, ONE), (1., 0., other, ONE), (end, .05, y, REST)),
      flow_first=((1., 0., y, ONE), (end, .05, y, HALF + REST)))


def schedule_of(some, size=2 * N):
  return tuple(Phase(size * d, temperature=T, y_train=y, sample_weight=a)
               for d, T, y, a in some)


def predictor(name, activation='relu', rtol=1e-5, **kwargs):
  x, _, y, _ = data()
  return ensemble(network(activation), x, y, .1, rtol=rtol,
                  schedule=schedule_of(phases()[name]), **kwargs)


def close(got, want, tol):
  np.testing.assert_allclose(got, want, rtol=0., atol=tol)


class OnePhaseTest(parameterized.TestCase):
  """What schedules must not change."""

  def setUp(self):
    super().setUp()
    self.x, self.x_test, self.y, self.other = data()
    self.t = np.array([0., .5, 10., 100., 1e3, np.inf])
    self.plain = self.make(self.y, .1)
    self.ask = functools.partial(_ask, t=self.t, x_test=self.x_test)

  def make(self, y, temperature, **kwargs):
    return ensemble(network(), self.x, y, temperature, **kwargs)

  def check(self, got, want):
    """A tenth of the tolerance, relative to targets and prior variances."""
    inputs = np.concatenate([self.x, self.x_test])
    scale = kernels()(inputs, inputs, 0., 0.).nngp.max()
    for a, b, size in zip(got, want, (1., 1., scale, scale)):
      close(a, b, 1e-6 * size)

  def test_one_phase(self):
    one = self.make(self.y, 3., learning_rate=5., schedule=[
        Phase(np.inf, .1, 1., self.y, ONE)])
    for a, b in zip(self.ask(one), self.ask(self.plain)):
      np.testing.assert_array_equal(a, b)

  def test_two_phases_alike(self):
    for duration in (7., 300.):
      two = self.plain.with_schedule((Phase(duration), Phase(np.inf)))
      self.check(self.ask(two), self.ask(self.plain))

  def test_weights_are_a_learning_rate_without_noise(self):
    two = self.make(self.y, 0., schedule=[
        Phase(np.inf, sample_weight=2 * ONE)])
    t = np.array([.5, 10., 30.])
    want = self.make(self.y, 0.)(t=2 * t, x_test=self.x_test, get='ndk',
                                 compute_cov=True)
    got = two(t=t, x_test=self.x_test, get='ndk', compute_cov=True)
    for a, b in zip(got, want):
      close(a, b, 1e-5)

  @pytest.mark.slow
  def test_learning_rates_are_time(self):
    # Twice as fast, then half as fast.
    other = self.plain.with_schedule((Phase(20., learning_rate=2.),
                                      Phase(np.inf, learning_rate=.5)))
    t = np.array([1., 20., 60., 500.])
    of_plain = np.where(t <= 20., 2 * t, 40. + .5 * (t - 20.))
    for compute_cov in (True, 'diag'):
      got = other(t=t, x_test=self.x_test, get='ndk', compute_cov=compute_cov)
      want = self.plain(t=of_plain, x_test=self.x_test, get='ndk',
                        compute_cov=compute_cov)
      for a, b in zip(got, want):
        close(a, b, 1e-5)

  def test_no_more_kernels(self):
    self.ask(self.plain)
    for p in ((Phase(20., temperature=.2), Phase(np.inf, y_train=self.other)),
              (Phase(5.), Phase(np.inf, sample_weight=HALF))):
      before = dict(self.plain.stats)
      other = self.plain.with_schedule(p)
      other(t=self.t, get='ndk', compute_cov='diag')
      self.assertEqual(other.stats['kernel_evaluations'],
                       before['kernel_evaluations'])
      self.assertEqual(other.stats['fits'], before['fits'])

  @pytest.mark.slow
  def test_gradient_flow_is_that_of_neural_tangents(self):
    t = np.array([.5, 10., 100.])
    reference_fn = nt_predict.gradient_descent_mse_ensemble(
        network(), self.x, self.y)
    # In two phases the same as in one.
    flow = self.make(self.y, 0., schedule=(Phase(7.), Phase(np.inf)))
    for x_test in (None, self.x_test):
      for late in (t, None):
        want = reference_fn(t=late, x_test=x_test, get='ntk', compute_cov=True)
        got = flow(t=late, x_test=x_test, get='ndk', compute_cov=True)
        close(got.mean, want.mean, 1e-5)
        close(got.covariance, want.covariance, 1e-5)


def _ask(predict_fn, t, x_test):
  mean, covariance = predict_fn(t=t, x_test=x_test, get='ndk', compute_cov=True)
  variance = predict_fn(t=t, x_test=x_test, get='ndk', compute_cov='diag')[1]
  return (predict_fn(t=t, get='ndk'), mean, covariance, variance)


@functools.cache
def dense_solution(name, activation, time1, time2=None):
  x, x_test, _, _ = data()
  return reference.protocol(
      kernels(activation), x, np.concatenate([x, x_test]), phases()[name],
      time1, time2, order=6)


class ReferenceTest(parameterized.TestCase):
  """An independent solution of the equations."""

  def check(self, name, activation, rtol, times):
    x, x_test, y, _ = data()
    predict_fn = predictor(name, activation, rtol)
    t = 2 * N * np.array(times)
    means, covariances = zip(*(dense_solution(name, activation, time)
                               for time in times))
    inputs = np.concatenate([x, x_test])
    got = predict_fn(t=t, x_test=inputs, get='ndk', compute_cov=True)
    size = np.sqrt(np.mean(y**2))
    close(got.mean, np.stack(means), 10 * rtol * size)
    close(predict_fn(t=t, get='ndk'), np.stack(means)[:, :N], 10 * rtol * size)
    scale = kernels(activation)(x, x, 0., 0.).nngp.max()
    close(got.covariance, np.stack(covariances), 10 * rtol * scale)
    variance = predict_fn(t=t, x_test=inputs, get='ndk',
                          compute_cov='diag').covariance
    close(variance, np.diagonal(covariances, axis1=1, axis2=2),
          10 * rtol * scale)
    if rtol < 1e-4:
      self.assertLess(predict_fn.stats['estimated_error'], 10 * rtol)

  def test_tasks(self):
    self.check('tasks', 'relu', 1e-5, (2.8, 4.5, 8.))

  def test_with_gradient_flow_between(self):
    self.check('pause', 'erf', 1e-5, (1.4, 2.5, 7.))

  @parameterized.product(
      name=list(phases()), activation=('relu', 'erf'), rtol=(1e-3, 1e-5))
  @pytest.mark.slow
  def test_all(self, name, activation, rtol):
    d = phases()[name][0][0]
    self.check(name, activation, rtol, (.7 * d, d + .5, d + 4., d + 60.))

  def test_reference_converges(self):
    x, x_test, _, _ = data()
    for a, b in zip(dense_solution('tasks', 'relu', 4.5), reference.protocol(
        kernels(), x, np.concatenate([x, x_test]), phases()['tasks'], 4.5)):
      close(a, b, 1e-8)

  def check_two_times(self, name, activation, pairs):
    inputs = np.concatenate(data()[:2])
    predict_fn = predictor(name, activation)
    t1, t2 = 2 * N * np.array(pairs).T
    full = predict_fn.two_time_covariance(t1, t2, inputs, compute_cov=True)
    want = np.stack([dense_solution(name, activation, *pair)[1]
                     for pair in pairs])
    scale = kernels(activation)(inputs, inputs, 0., 0.).nngp.max()
    close(full, want, 1e-4 * scale)
    close(predict_fn.two_time_covariance(t1, t2, inputs),
          np.diagonal(want, axis1=1, axis2=2), 1e-4 * scale)

  def test_two_times(self):
    # Within phases, across an end, from the first moment, in either order.
    self.check_two_times('tasks', 'relu', ((4.5, 2.8), (2.8, 8.), (4.5, 8.),
                                           (8., 0.)))

  @parameterized.product(name=list(phases()), activation=('relu', 'erf'))
  @pytest.mark.slow
  def test_two_times_of_all(self, name, activation):
    d = phases()[name][0][0]
    times = (0., .7 * d, d, d + .5, d + 4.)
    self.check_two_times(name, activation, [
        (a, b) for a in times for b in times if a > b])


class LateTest(parameterized.TestCase):

  @parameterized.parameters('colder', 'tasks', 'pause')
  def test_posterior_of_the_last_phase(self, name):
    x, x_test, _, _ = data()
    _, temperature, y, weight = phases()[name][-1]
    seen = weight > 0
    inputs = np.concatenate([x, x_test])
    prior = kernels()(inputs, inputs, 1e6, 1e6).nngp
    cross = prior[:, :N][:, seen]
    noisy = prior[:N, :N][np.ix_(seen, seen)] + np.diag(
        temperature / weight[seen])
    mean = cross @ np.linalg.solve(noisy, y[seen])
    covariance = prior - cross @ np.linalg.solve(noisy, cross.T)
    predict_fn = predictor(name)
    for t in (None, 1e9):
      got = predict_fn(t=t, x_test=inputs, get='ndk', compute_cov=True)
      close(got.mean, mean, 1e-8)
      close(got.covariance, covariance, 1e-8)
      close(predict_fn(t=t, get='ndk'), mean[:N], 1e-8)
    # Not the end of another phase, however long that is.
    long = predict_fn.with_schedule(
        (Phase(1e9, .2),) + schedule_of(phases()[name][-1:]))
    close(long(t=2e9, x_test=inputs, get='ndk'), mean, 1e-8)
    close(long(t=1e9 + 3e4, x_test=inputs, get='ndk'), mean, 1e-3)

  @pytest.mark.slow
  def test_a_phase_after_equilibrium(self):
    # What it begins from has no memory of when learning began.
    predict_fn = predictor('tasks')
    x, x_test, y, other = data()
    two = [predict_fn.with_schedule((Phase(duration, .2), Phase(
        np.inf, .05, y_train=other))) for duration in (2e3, 1e7)]
    since = np.array([.1, 1., 10., 100.])
    (mean, covariance), far = (p(t=d + since, x_test=x_test, get='ndk',
                                 compute_cov=True)
                               for p, d in zip(two, (2e3, 1e7)))
    close(far.mean, mean, 1e-5)
    close(far.covariance, covariance, 1e-4)

  def test_gradient_flow_at_the_end(self):
    x, x_test, y, other = data()
    predict_fn = ensemble(network(), x, y, .1, schedule=(
        Phase(30.), Phase(np.inf, temperature=0., y_train=other,
                          sample_weight=HALF)))
    close(predict_fn(t=None, get='ndk')[:2], other[:2], 1e-8)
    mean, variance = predict_fn(t=None, get='ndk', compute_cov='diag')
    close(variance[:2], 0., 1e-5)
    self.assertGreater(float(np.min(variance[2:])), 1e-3)


class WeightsTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.x, self.x_test, self.y, self.other = data()
    self.t = np.array([1., 20., 50., np.inf])

  @pytest.mark.slow
  def test_weight_zero_is_not_there(self):
    weight = np.array([1., 0., .5, 2.])
    keep = weight > 0
    size = lambda n: 2 * n
    scaled = lambda n, **kwargs: dict(
        kwargs, schedule=(Phase(30. * size(n), sample_weight=weight[:n]),
                          Phase(np.inf, temperature=.3,
                                sample_weight=weight[:n])))
    with_it = ensemble(network(), self.x, self.y, .05, rtol=4e-12,
                       **scaled(N))
    weight = weight[keep]
    without = ensemble(network(), self.x[keep], self.y[keep], .05, rtol=4e-12,
                       **scaled(N - 1))
    # As kernels are those of different fits, the same to their tolerance.
    got, want = (p(t=size(n) * self.t, x_test=np.concatenate(
        [self.x, self.x_test]), get='ndk') for p, n in (
            (with_it, N), (without, N - 1)))
    close(got, want, 1e-10)

  def test_its_target_does_not_matter(self):
    weight = np.array([1., 0., .5, 2.])
    changed = self.y.copy()
    changed[1] = 100.
    got, want = (ensemble(network(), self.x, self.y, .05, schedule=(
        Phase(30., y_train=y, sample_weight=weight),
        Phase(np.inf, sample_weight=weight)))(
            t=self.t, x_test=self.x_test, get='ndk', compute_cov=True)
                 for y in (changed, self.y))
    close(got.mean, want.mean, 1e-9)
    close(got.covariance, want.covariance, 1e-9)

  def test_it_is_predicted_like_a_test_input(self):
    weight = np.array([1., 0., .5, 2.])
    predict_fn = ensemble(network(), self.x, self.y, .05, schedule=(
        Phase(30., sample_weight=weight), Phase(np.inf, .2,
                                                sample_weight=weight)))
    ask = functools.partial(predict_fn, t=self.t, get='ndk', compute_cov=True)
    for got, want in zip(ask(), ask(x_test=self.x)):
      close(got, want, 1e-5)

  def test_small_temperature(self):
    # What is left of the equations must not be amplified.
    rng = np.random.RandomState(0)
    x, y = rng.normal(size=(30, 8)), rng.normal(size=(30, 1))
    weight = np.append(0., np.ones(29))
    predict_fn = ensemble(network(), x, y, 1e-5, schedule=(
        Phase(30., sample_weight=weight),
        Phase(np.inf, y_train=-y, sample_weight=weight)))
    t = np.array([10., 100., 1e4, 1e5])
    close(predict_fn(t=t, x_test=x, get='ndk'), predict_fn(t=t, get='ndk'),
          2e-5)

  def test_equal_weights_are_a_temperature_at_equilibrium(self):
    got = ensemble(network(), self.x, self.y, .3, schedule=[
        Phase(np.inf, sample_weight=3 * ONE)])
    want = ensemble(network(), self.x, self.y, .1)
    for a, b in zip(*(p(x_test=self.x_test, get='ndk', compute_cov=True)
                      for p in (got, want))):
      close(a, b, 1e-10)

  def test_two_samples_of_half_the_weight(self):
    x, y = (np.concatenate([a, a[:1]]) for a in (self.x, self.y))
    weight = np.array([.5, 1., 1., 1., .5])
    twice = ensemble(network(), x, y, .05, schedule=[
        Phase(np.inf, sample_weight=weight)])
    once = ensemble(network(), self.x, self.y, .05)
    for a, b in zip(twice(t=10. * self.t, x_test=self.x_test, get='ndk',
                          compute_cov=True),
                    once(t=8. * self.t, x_test=self.x_test, get='ndk',
                         compute_cov=True)):
      close(a, b, 1e-5)


class SampleTest(absltest.TestCase):

  def check(self, predict_fn, times, inputs, scale):
    count = 10000
    draws = np.asarray(predict_fn.sample(jax.random.PRNGKey(0), count, times,
                                         inputs))
    m = len(inputs)
    self.assertEqual(draws.shape, (count, len(times), m, 2))
    mean = predict_fn(t=times, x_test=inputs, get='ndk')
    covariance = predict_fn.two_time_covariance(
        times[:, None], times, inputs, compute_cov=True)
    rows = len(times) * m
    matrix = np.swapaxes(covariance, 1, 2).reshape((rows, rows))
    evals, evecs = np.linalg.eigh(matrix)
    self.assertGreater(evals[0], -1e-4 * scale)
    keep = evals > 1e-4 * evals[-1]
    for column in range(2):
      # In units in which they are independent and of variance 1.
      deviations = (draws - mean)[..., column].reshape((count, rows))
      z = deviations @ (evecs[:, keep] / np.sqrt(evals[keep]))
      rank = z.shape[1]
      chi_square = count * np.sum(np.mean(z, 0)**2)
      low, high = stats.chi2.ppf([.005, .995], rank)
      self.assertBetween(chi_square, low, high)
      left = z.T @ z / count - np.eye(rank)
      chi_square = count / 2 * np.sum(left**2)
      low, high = stats.chi2.ppf([.005, .995], rank * (rank + 1) // 2)
      # To the first order in 1 / count.
      self.assertBetween(chi_square, low, high * (1 + 2 * rank / count))
    # Outputs are independent.
    both = np.einsum('stm,stm->tm', *np.moveaxis(draws - mean, -1, 0)) / count
    variance = np.einsum('ttmm->tm', covariance)
    self.assertLess(np.max(np.abs(both) / variance) * count**.5, 5.)

  def test_draws(self):
    x, x_test, y, _ = data()
    self.check(ensemble(network(), x, y, .1),
               np.array([0., 1., 20., 300.]), np.concatenate([x, x_test]), 2.)

  @pytest.mark.slow
  def test_draws_at_eight_times_of_ten_inputs(self):
    rng = np.random.RandomState(1)
    inputs = rng.normal(size=(10, 5))
    for name in ('tasks', 'pause'):
      self.check(predictor(name), np.array(
          [0., 5., 16., 24., 33., 40., 100., 1e4]), inputs, 2.)

  def test_shapes(self):
    x, x_test, y, _ = data()
    predict_fn = ensemble(network(), x, y, .1)
    key = jax.random.PRNGKey(1)
    for t, shape in ((3., ()), (None, ()), ([[1., 2.], [2., 1.]], (2, 2))):
      draws = predict_fn.sample(key, 3, t, x_test)
      self.assertEqual(draws.shape, (3,) + shape + (2, 2))
    # The same time is the same network.
    np.testing.assert_array_equal(draws[:, 0, 0], draws[:, 1, 1])
    self.assertEqual(predict_fn.sample(key, 3, 1.).shape, (3, N, 2))
    with self.assertRaisesRegex(ValueError, 'n_samples'):
      predict_fn.sample(key, 0, 1.)

  def test_late_times_forget(self):
    x, x_test, y, _ = data()
    covariance = ensemble(network(), x, y, .1).two_time_covariance(
        np.array([1e8, 2e8, 3e8])[:, None], np.array([1e8, 2e8, 3e8]), x_test)
    close(np.where(np.eye(3, dtype=bool)[..., None], 0., covariance), 0., 1e-5)
    self.assertGreater(float(np.min(np.einsum('ttm->tm', covariance))), .01)


class DriftTest(parameterized.TestCase):
  """A readout that is frozen within a schedule."""

  def make(self, schedule, t_freeze, **kwargs):
    x, _, y, _ = data()
    return predict.representational_drift_mse_ensemble(
        network(), x, y, .1, schedule=schedule, t_freeze=t_freeze, **kwargs)

  def check(self, name, freeze, lags=(0., .7, 10.)):
    x, x_test, _, _ = data()
    inputs = np.concatenate([x, x_test])
    got = self.make(schedule_of(phases()[name]), 2 * N * freeze)(
        2 * N * np.array(lags), inputs, compute_cov=True)
    for i, lag in enumerate(lags):
      mean, covariance = reference.protocol(
          kernels(), x, inputs, phases()[name], freeze + lag, order=6,
          freeze_time=freeze)
      close(got.mean[i], mean, 1e-4)
      close(got.covariance[i], covariance, 1e-4)

  def test_reference(self):
    self.check('tasks', 6., (0., 2.))

  @parameterized.parameters(('pause', 2.5), ('pause', 3.5), ('colder', 2.),
                            ('flow_first', 1.5), ('tasks', 6.))
  @pytest.mark.slow
  def test_reference_more(self, name, freeze):
    self.check(name, freeze)

  @parameterized.parameters(False, True)
  @pytest.mark.slow
  def test_two_phases_alike(self, hidden_learning):
    inputs = np.concatenate(data()[:2])
    one, two = (self.make(schedule, 30., hidden_learning=hidden_learning)(
        np.array([0., 5., 100.]), inputs, compute_cov=True)
                for schedule in (None, (Phase(11.), Phase(np.inf))))
    for a, b in zip(one, two):
      close(a, b, 2e-5)

  def test_refusals(self):
    some = (Phase(11.), Phase(np.inf))
    with self.assertRaisesRegex(ValueError, 'last phase'):
      self.make(some, 5., hidden_learning=True)
    with self.assertRaisesRegex(ValueError, 'finite time'):
      self.make((Phase(11.), Phase(np.inf, temperature=0.)), None)


class StoppingTest(absltest.TestCase):

  def test_a_schedule(self):
    x, x_test, y, other = data()
    predict_fn = predictor('colder')
    y_test = np.zeros((2, 2))
    best = predict.optimal_stopping(predict_fn, x_test, y_test,
                                    t=np.array([3., 20., 30., 300.]))
    mean, variance = predict_fn(t=best.t, x_test=x_test, get='ndk',
                                compute_cov='diag')
    error = np.mean(mean**2, (1, 2)) + np.mean(variance, 1)
    close(best.expected_squared_error, error, 1e-6)
    self.assertEqual(best.minimum, np.min(best.expected_squared_error))


class StoreTest(absltest.TestCase):

  @pytest.mark.slow
  def test_journals_of_protocols(self):
    x, x_test, y, other = data()
    folder = self.create_tempdir().full_path
    t = np.array([1., 30., 100.])
    some = (None, (Phase(20.), Phase(np.inf, y_train=other)),
            (Phase(20., sample_weight=HALF), Phase(np.inf, y_train=other)),
            (Phase(25.), Phase(np.inf, y_train=other)))
    for _ in range(2):  # The second time from the folder.
      for schedule in some:
        got, want = (ensemble(network(), x, y, .1, schedule=schedule,
                              store_dir=store)(t=t, x_test=x_test, get='ndk')
                     for store in (folder, None))
        close(got, want, 1e-9)


class EnsembleTest(parameterized.TestCase):
  """Finite networks, of `tests/ensemble/make_protocols.py`."""

  @parameterized.parameters('switch', 'replay', 'annealing')
  def test_finite_networks(self, name):
    folder = os.path.join(os.path.dirname(os.path.dirname(
        os.path.abspath(__file__))), 'ensemble')
    sys.path.insert(0, folder)
    import make_protocols  # pylint: disable=g-import-not-at-top
    sys.path.remove(folder)
    case = make_protocols.cases()[name]
    x, y, _, x_test = make_protocols.data()
    with np.load(os.path.join(folder, 'protocols.npz')) as file:
      fields = {k: file[f'{name}/{k}'] for k in (
          'mean', 'variance', 'mean_error', 'variance_error')}
    times = make_protocols.TIMES
    scaled = tuple(p._replace(duration=p.duration * y.size)
                   for p in case.schedule)
    predict_fn = ensemble(case.network(8)[2], x, y, case.temperature,
                          schedule=scaled, rtol=1e-4)
    prediction = predict_fn(t=times * y.size, x_test=np.concatenate(
        [x, x_test]), get='ndk', compute_cov='diag')
    compared = langevin.compare(langevin.Ensemble(
        t=times, n_networks=500, **fields), tuple(prediction))
    for z in (compared.mean_z, compared.variance_z):
      self.assertLess(float(np.sqrt(np.mean(z**2))), 1.5)


class RefusalTest(absltest.TestCase):

  def test_schedules(self):
    x, _, y, _ = data()
    for schedule, words in (
        ((Phase(-1.), Phase(np.inf)), 'positive and finite'),
        ((Phase(1., sample_weight=np.zeros(N)), Phase(np.inf)), 'Leave'),
        ((Phase(1., y_train=y[:, :1]), Phase(np.inf)), 'shape')):
      with self.assertRaisesRegex(ValueError, words):
        ensemble(network(), x, y, .1, schedule=schedule)
      with self.assertRaisesRegex(ValueError, words):
        ensemble(network(), x, y, .1).with_schedule(schedule)


if __name__ == '__main__':
  absltest.main()
