# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""The references check themselves before they judge anything else."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

import reference
from reference import dense


def data(n=4, m=3, features=6, outputs=2, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(n, features)), rng.normal(size=(n, outputs)),
          rng.normal(size=(m, features)))


def net(phi, depth=1, s0=1., s=1., c=1.4, b=None):
  layer = dense(W_std=c, W_init_std=s0, W_prior_std=s,
                b_std=b, b_init_std=s0, b_prior_std=s)
  return [layer, phi] * depth + [layer]


def kernels_of(layers):
  return lambda *args, **kwargs: reference.two_time_kernels(
      *args, layers, **kwargs)


def ndk_of(layers):
  return lambda *args: reference.two_time_kernels(*args, layers).ndk


def nngp_at(layers, tau):
  return lambda a, b: reference.two_time_kernels(a, b, tau, tau, layers).nngp


def close(got, want, atol):
  np.testing.assert_allclose(got, want, rtol=0, atol=atol)


# Activation, depth, s0, s, standard deviation of the bias.
NETWORKS = dict(
    relu1=('relu', 1, 1., 1., None),
    relu2=('relu', 2, .6, 1.2, .3),
    relu3=('relu', 3, 2., 1., None),
    erf1=('erf', 1, .5, 1., .4),
    erf3=('erf', 3, 1., .8, None),
    linear2=('linear', 2, 2., 1., .3),
)


def network(name):
  phi, depth, s0, s, b = NETWORKS[name]
  return net(phi, depth, s0, s, 1.4 / max(s0, s), b), s


def on_a_grid(kernels, x_train, x_test, temperature, time, cells,
              freeze_time=None, hidden_learns=True):
  """Mean weights and covariance on a uniform grid, by the midpoint rule.

  Two-time kernels at all pairs of midpoints and one linear system. Converges
  slowly, but there is nothing to it.

  Returns:
    Weights of the targets, `(m, n)`; covariance of `f` at `time` on test
    data, `(m, m)`; covariance of `f` at `time` on test data with `f` at all
    midpoints on train data, `(m, cells, n)`.
  """
  n, m = len(x_train), len(x_test)
  h = time / cells
  middle = (np.arange(cells) + .5) * h
  s, at = middle[:, None, None], np.array(time)

  def evaluate(x1, x2, t1, t2):
    tau1, tau2 = temperature * t1, temperature * t2
    if freeze_time is None:
      return kernels(x1, x2, tau1, tau2)
    tau0 = temperature * freeze_time
    return kernels(
        x1, x2, tau1, tau2,
        readout_time=(np.minimum(tau1, tau0), np.minimum(tau2, tau0)),
        readout_response=np.where(t2 < freeze_time, 1., 0.))

  learns = np.ones(cells)
  if not hidden_learns:
    learns = np.where(middle < freeze_time, 1., 0.)

  train = evaluate(x_train, x_train, s[:, None], s)          # (t, s, n, n)
  past = h * learns * (np.tri(cells, k=-1) + .5 * np.eye(cells))
  flat = lambda k: np.swapaxes(k, 1, 2).reshape(cells * n, cells * n)
  volterra = np.eye(cells * n) + flat(past[..., None, None] * train.ndk)
  row = evaluate(x_test, x_train, at, s)                     # (s, m, n)
  row_ndk = np.moveaxis(h * learns[:, None, None] * row.ndk, 0, 1)
  b = np.linalg.solve(volterra.T, row_ndk.reshape(m, -1).T).T

  c = flat(train.nngp)
  c_row = np.moveaxis(row.nngp, 0, 1).reshape(m, -1)
  c_test = evaluate(x_test, x_test, at, at).nngp
  covariance = reference.conditioned_covariance(b, c, c_row, c_test)
  two_times = np.linalg.solve(volterra, (c_row - b @ c).T).T
  return (b.reshape(m, cells, n).sum(1), covariance,
          two_times.reshape(m, cells, n))


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

  @parameterized.parameters('relu', 'erf', 'linear')
  def test_readout_clock(self, phi):
    x, _, z = data()
    layers = net(phi, 2, 1.3, .8)
    tau1, tau2, readout = .9, .4, (.5, .3)
    kernels = lambda **kwargs: reference.two_time_kernels(
        x, z, tau1, tau2, layers, **kwargs)
    for got, want in zip(kernels(readout_time=(tau1, tau2)), kernels()):
      np.testing.assert_array_equal(got, want)

    # The last hidden layer, from a readout of unit variance and no response.
    hidden, backward, _, _ = reference.two_time_kernels(
        x, z, tau1, tau2, layers[:-1] + [dense()], readout_time=(0., 0.),
        readout_response=0.)
    scale = 1.4**2 * reference.m(*readout, 1.3, .8)
    response = 1.4**2 * reference.r(*readout, .8)
    got = kernels(readout_time=readout)
    close(got.nngp, scale * hidden, 1e-13)
    close(got.ndk, scale * backward + response * hidden, 1e-13)
    got = kernels(readout_time=readout, readout_response=0.)
    close(got.ndk, scale * backward, 1e-13)


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
  @pytest.mark.slow
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


class VolterraCovarianceTest(parameterized.TestCase):

  def check_scalar(self, temperature, s):
    x = np.array([[1., 2., -1.]])
    kernels = kernels_of([dense(W_std=1.4, W_init_std=1.1, W_prior_std=s)])
    t = np.concatenate([[0.], np.geomspace(1e-2, 5. * s**2 / temperature, 4)])
    train, test = reference.volterra_covariance(
        kernels, x, 2. * x, temperature, t, s)
    want = reference.scalar_variance(1.4**2 * 2., temperature, t, 1.1, s)
    close(train[:, 0, 0], want, 1e-11)
    close(test[:, 0, 0], 4. * want, 1e-11)

    rate = 1.4**2 * 2. + temperature / s**2
    for i, lag in [(0, .2), (2, .3), (3, 1e-5), (4, 2.)]:
      want_two = want[i] * np.exp(-rate * lag)
      for times in [(t[i] + lag, t[i]), (t[i], t[i] + lag)]:
        train, test = reference.volterra_covariance_two_times(
            kernels, x, 2. * x, temperature, *times, s)
        close(train[0, 0], want_two, 1e-11)
        close(test[0, 0], 4. * want_two, 1e-11)

  @parameterized.product(temperature=[1e-2], s=[.7, 1.4])
  def test_scalar(self, temperature, s):
    self.check_scalar(temperature, s)

  @parameterized.product(temperature=[1e-4, 1.], s=[.7, 1.4])
  @pytest.mark.slow
  def test_scalar_more(self, temperature, s):
    self.check_scalar(temperature, s)

  @parameterized.parameters((1e-4, 2., 1.), (.1, 1., 1.), (1., .5, 1.))
  def test_linear_model(self, temperature, s0, s):
    x, _, z = data()
    kernels = kernels_of([dense(W_std=1.4, W_init_std=s0, W_prior_std=s)])
    want = lambda *args: reference.linear_covariance(
        x, *args, 1.4, s0, s)
    times = [.4, 3., .8 / temperature]
    for got, inputs in zip(reference.volterra_covariance(
        kernels, x, z, temperature, times, s), (x, z)):
      for t, value in zip(times, got):
        close(value, want(inputs, inputs, temperature, t, t), 1e-10)
    for pair in [(3., 2.9), (.4, .8 / temperature), (3., 0.)]:
      for got, inputs in zip(reference.volterra_covariance_two_times(
          kernels, x, z, temperature, *pair, s), (x, z)):
        close(got, want(inputs, inputs, temperature, *pair), 1e-10)

  @parameterized.parameters('relu1', 'erf1', 'linear2')
  def test_on_a_grid(self, name):
    layers, s = network(name)
    x, _, z = data(n=3, m=2)
    temperature, t = .5, 1.
    x_all = np.concatenate([x, z])
    cells, early = [50, 150], .25
    grids = [on_a_grid(kernels_of(layers), x, x_all, temperature, t, c)
             for c in cells]
    train, test = reference.volterra_covariance(
        kernels_of(layers), x, z, temperature, [t], s)
    two_times, _ = reference.volterra_covariance_two_times(
        kernels_of(layers), x, z, temperature, t, early, s)
    for want, got in [
        ([grid[1][:3, :3] for grid in grids], train[0]),
        ([grid[1][3:, 3:] for grid in grids], test[0]),
        ([grid[2][:3, int(early * c)] for grid, c in zip(grids, cells)],
         two_times)]:
      errors = [abs(w - got).max() for w in want]
      self.assertLess(errors[1], 3e-4)
      self.assertLess(errors[1], .2 * errors[0])

  @parameterized.parameters(
      ('relu1', 1e-3), ('relu2', .3), ('relu3', .02),
      ('erf1', 1e-3), ('erf3', .3), ('linear2', .02))
  @pytest.mark.slow
  def test_starts_converges_and_ends(self, name, temperature):
    layers, s = network(name)
    x, _, z = data()
    kernels = kernels_of(layers)
    t = [0., .3, .7 / temperature, 40. * s**2 / temperature]
    solve = lambda **kwargs: reference.volterra_covariance(
        kernels, x, z, temperature, t, s, **kwargs)
    coarse, fine = solve(order=6), solve()
    initial, prior = nngp_at(layers, 0.), nngp_at(layers, 1e6 * s**2)
    for a, b, inputs in zip(coarse, fine, (x, z)):
      close(a, b, 1e-7)
      close(b[0], initial(inputs, inputs), 1e-14)
      close(b[-1], reference.gp_covariance(
          prior(x, x), temperature, prior(inputs, x), prior(inputs, inputs)),
            1e-10)

  @parameterized.parameters('relu1', 'erf1', 'relu3')
  @pytest.mark.slow
  def test_two_times_and_positive_semidefinite(self, name):
    layers, s = network(name)
    x, _, z = data(n=3, m=2)
    temperature = .05
    x_all = np.concatenate([x, z])
    times = [.5, .6, 12.]
    two = lambda a, b, **kwargs: reference.volterra_covariance_two_times(
        kernels_of(layers), x, x_all, temperature, a, b, s, **kwargs)
    joint = np.block([[two(a, b, order=6)[1] for b in times] for a in times])
    close(joint, joint.T, 1e-7)
    self.assertGreater(np.linalg.eigvalsh(joint)[0], -1e-7)
    self.assertLess(np.linalg.eigvalsh(joint)[0], .1)

    train, test = two(12., .6)
    close(test[:3, :3], train, 1e-12)
    close(two(12., .6, order=6)[1], test, 1e-7)
    equal, _ = reference.volterra_covariance(
        kernels_of(layers), x, z, temperature, [12.], s)
    close(two(12., 12.)[0], equal[0], 1e-14)
    close(two(12. + 1e-9, 12.)[0], equal[0], 1e-7)

  def check_two_times_at_equilibrium(self, name):
    # The equilibrium is reversible. So the covariance is even in the lag, a sum
    # of decaying exponentials, and its slope at zero is the noise of f.
    layers, s = network(name)
    x, _, z = data(n=3, m=2)
    temperature, t = .4, 20. * s**2 / .4
    lags = s**2 / temperature * np.array([0., 1e-6, .03, .3, 1.])
    got = np.stack([reference.volterra_covariance_two_times(
        kernels_of(layers), x, z, temperature, t + lag, t, s, order=6)[1]
                    for lag in lags])
    close(got, got.transpose(0, 2, 1), 1e-7)
    slopes = np.diff(got, axis=0) / np.diff(lags)[:, None, None]
    noise = temperature * kernels_of(layers)(z, z, 1e3, 1e3).ndk
    close(slopes[0], -noise, 5e-3 * noise.max())
    slopes = slopes.diagonal(axis1=1, axis2=2)
    self.assertTrue(np.all(slopes < 0.) and np.all(np.diff(slopes, axis=0) > 0))

  @parameterized.parameters(['relu2'])
  def test_two_times_at_equilibrium(self, name):
    self.check_two_times_at_equilibrium(name)

  @parameterized.parameters(['erf3'])
  @pytest.mark.slow
  def test_two_times_at_equilibrium_more(self, name):
    self.check_two_times_at_equilibrium(name)

  @parameterized.parameters('relu2', 'erf1', 'linear2', 'relu3')
  def test_gradient_flow(self, name):
    layers, s = network(name)
    x, _, z = data()
    temperature, times = 1e-14, [.2, 2., 300.]
    initial = reference.two_time_kernels
    theta = lambda a: initial(a, x, 0., 0., layers).ndk
    c = nngp_at(layers, 0.)
    for got, inputs in zip(reference.volterra_covariance(
        kernels_of(layers), x, z, temperature, times, s), (x, z)):
      for t, value in zip(times, got):
        weights = reference.gradient_flow_weights(theta(x), theta(inputs), t)
        close(value, reference.conditioned_covariance(
            weights, c(x, x), c(inputs, x), c(inputs, inputs)), 1e-6)


class DriftTest(parameterized.TestCase):

  @parameterized.product(name=['relu2', 'erf1', 'linear2'],
                         hidden_learns=[False, True])
  def test_starts_from_the_predictor(self, name, hidden_learns):
    layers, s = network(name)
    x, y, z = data()
    kernels = kernels_of(layers)
    temperature, freeze = .02, 30.
    times = [freeze, freeze * (1. + 1e-10)]
    want = reference.volterra_mean(
        ndk_of(layers), x, y, z, temperature, times[:1], prior_std=s)
    got = reference.drift_mean(kernels, x, y, z, temperature, times, freeze,
                               hidden_learns, s)
    for a, b in zip(got, want):
      close(a, np.repeat(b, 2, 0), 1e-8)
    want = reference.volterra_covariance(kernels, x, z, temperature, times[:1],
                                         s)
    got = reference.drift_covariance(kernels, x, z, temperature, times, freeze,
                                     hidden_learns, s)
    for a, b in zip(got, want):
      close(a, np.repeat(b, 2, 0), 1e-8)

  def check_equilibrium(self, name, hidden_learns):
    # Drift without a signal: the stationary free network with its readout
    # fixed, conditioned on noisy observations before. With a signal: the
    # posterior is stationary in the hidden weights as well.
    layers, s = network(name)
    x, y, z = data()
    kernels = kernels_of(layers)
    temperature = .05
    freeze = 25. * s**2 / temperature
    lags = np.array([.1, 1.5]) * s**2
    times = freeze + lags / temperature
    means = reference.drift_mean(kernels, x, y, z, temperature, times, freeze,
                                 hidden_learns, s, order=6)
    covariances = reference.drift_covariance(
        kernels, x, z, temperature, times, freeze, hidden_learns, s, order=6)
    tau = 1e3 * s**2
    prior = nngp_at(layers, tau)
    for mean, covariance, inputs in zip(means, covariances, (x, z)):
      for i, lag in enumerate(lags):
        cross = prior(inputs, x) if hidden_learns else kernels(
            inputs, x, tau + lag, tau, readout_time=(tau, tau)).nngp
        close(mean[i], reference.gp_mean(prior(x, x), y, temperature, cross),
              1e-7)
        close(covariance[i], reference.gp_covariance(
            prior(x, x), temperature, cross, prior(inputs, inputs)), 1e-7)

  @parameterized.product(name=['linear2'], hidden_learns=[False, True])
  def test_equilibrium(self, name, hidden_learns):
    self.check_equilibrium(name, hidden_learns)

  @parameterized.product(name=['relu2', 'erf3'], hidden_learns=[False, True])
  @pytest.mark.slow
  def test_equilibrium_more(self, name, hidden_learns):
    self.check_equilibrium(name, hidden_learns)

  @parameterized.product(name=['relu1', 'erf1'], hidden_learns=[False, True])
  def test_on_a_grid_and_converged(self, name, hidden_learns):
    layers, s = network(name)
    x, y, z = data(n=3, m=2)
    kernels = kernels_of(layers)
    temperature, t, freeze = .8, 1., .4
    grids = [on_a_grid(kernels, x, z, temperature, t, cells, freeze,
                       hidden_learns) for cells in (50, 150)]
    solve = lambda **kwargs: (
        reference.drift_mean(kernels, x, y, z, temperature, [t], freeze,
                             hidden_learns, s, **kwargs)
        + reference.drift_covariance(kernels, x, z, temperature, [t], freeze,
                                     hidden_learns, s, **kwargs))
    got = solve()
    for a, b in zip(solve(order=6), got):
      close(a, b, 1e-7)
    for k, value in [(0, got[1]), (1, got[3])]:
      want = [grid[k] @ y if k == 0 else grid[k] for grid in grids]
      errors = [abs(w - value[0]).max() for w in want]
      self.assertLess(errors[1], 3e-4)
      self.assertLess(errors[1], .2 * errors[0])

    # Before the readout is frozen nothing is special.
    want = reference.volterra_covariance(kernels, x, z, temperature, [.3], s)
    early = reference.drift_covariance(kernels, x, z, temperature, [.3], freeze,
                                       hidden_learns, s)
    for a, b in zip(early, want):
      close(a, b, 1e-9)

  @parameterized.parameters('relu2', 'erf1')
  def test_gradient_flow(self, name):
    layers, s = network(name)
    x, y, z = data()
    kernels = kernels_of(layers)
    temperature, freeze, t = 1e-14, .2, 1.
    theta = lambda a, response: kernels(
        a, x, 0., 0., readout_response=response).ndk
    c = nngp_at(layers, 0.)
    before = reference.gradient_flow_weights(theta(x, 1.), theta(x, 1.), freeze)
    for inputs, mean, covariance in zip(
        (x, z),
        reference.drift_mean(kernels, x, y, z, temperature, [t], freeze, True,
                             s),
        reference.drift_covariance(kernels, x, z, temperature, [t], freeze,
                                   True, s)):
      weights = reference.gradient_flow_weights(
          theta(x, 1.), theta(inputs, 1.), freeze)
      weights = weights + reference.gradient_flow_weights(
          theta(x, 0.), theta(inputs, 0.), t - freeze) @ (np.eye(4) - before)
      close(mean[0], weights @ y, 1e-6)
      close(covariance[0], reference.conditioned_covariance(
          weights, c(x, x), c(inputs, x), c(inputs, inputs)), 1e-6)

  def test_never_trained(self):
    layers, s = network('relu2')
    x, y, z = data()
    kernels, temperature, times = kernels_of(layers), .1, [0., 2.]
    for mean in reference.drift_mean(kernels, x, y, z, temperature, times, 0.,
                                     False, s):
      close(mean, 0., 0.)
    _, got = reference.drift_covariance(kernels, x, z, temperature, times, 0.,
                                        False, s)
    for t, value in zip(times, got):
      close(value, kernels(z, z, .1 * t, .1 * t, readout_time=(0., 0.)).nngp,
            1e-15)


class DiffusiveLimitTest(parameterized.TestCase):

  @parameterized.parameters(*NETWORKS)
  @pytest.mark.slow
  def test_starts_converges_and_ends(self, name):
    layers, s = network(name)
    x, y, z = data()
    kernels = kernels_of(layers)
    tau = s**2 * np.array([0., 1e-3, .1, 1., 40.])
    solve = lambda **kwargs: reference.diffusive_limit(
        kernels, x, y, z, tau, s, **kwargs)
    train, mean, covariance = solve()
    for a, b in zip(solve(order=8), (train, mean, covariance)):
      close(a, b, 5e-7)
    close(train, np.broadcast_to(y, train.shape), 1e-12)

    c = nngp_at(layers, 0.)
    weights = np.linalg.solve(kernels(x, x, 0., 0.).ndk,
                              kernels(x, z, 0., 0.).ndk).T
    close(mean[0], weights @ y, 1e-12)
    close(covariance[0], reference.conditioned_covariance(
        weights, c(x, x), c(z, x), c(z, z)), 1e-12)
    c = nngp_at(layers, 1e6 * s**2)
    close(mean[-1], reference.gp_mean(c(x, x), y, 0., c(z, x)), 1e-9)
    close(covariance[-1], reference.gp_covariance(
        c(x, x), 0., c(z, x), c(z, z)), 1e-9)
    for value in covariance:
      self.assertGreater(np.linalg.eigvalsh(value)[0], 0.)

  @parameterized.parameters(.5, 1., 2.)
  def test_linear_model(self, s0):
    # The part of the weights that the data fix, and free diffusion of the rest.
    x, y, z = data()
    kernels = kernels_of([dense(1.4, W_init_std=s0, W_prior_std=1.2)])
    tau = np.array([0., .3, 2.])
    _, mean, covariance = reference.diffusive_limit(
        kernels, x, y, z, tau, prior_std=1.2)
    c = lambda a, b: 1.4**2 / 6. * a @ b.T
    free = reference.gp_covariance(c(x, x), 0., c(z, x), c(z, z))
    want = reference.gp_mean(c(x, x), y, 0., c(z, x))
    for i, variance in enumerate(reference.m(tau, tau, s0, 1.2)):
      close(mean[i], want, 1e-12)
      close(covariance[i], variance * free, 1e-12)

  def check_limit_of_small_temperature(self, name):
    # The difference is of first order in temperature.
    layers, s = network(name)
    x, y, z = data()
    kernels = kernels_of(layers)
    tau = s**2 * np.array([.05, .8])
    limit = reference.diffusive_limit(kernels, x, y, z, tau, s)[1:]
    ratios = []
    for temperature in [1e-5, 1e-6]:
      _, mean = reference.volterra_mean(
          ndk_of(layers), x, y, z, temperature, tau / temperature, order=8,
          prior_std=s)
      train, test = reference.volterra_covariance(
          kernels, x, z, temperature, tau / temperature, s, order=6)
      close(train / temperature, np.broadcast_to(np.eye(4), train.shape), 1e-2)
      ratios.append([abs(mean - limit[0]).max() / temperature,
                     abs(test - limit[1]).max() / temperature])
    self.assertLess(np.max(ratios), 1e3)
    np.testing.assert_allclose(ratios[0], ratios[1], rtol=.1)

  @parameterized.parameters('relu2', 'erf1')
  def test_limit_of_small_temperature(self, name):
    self.check_limit_of_small_temperature(name)

  @parameterized.parameters('relu1', 'relu3', 'erf3', 'linear2')
  @pytest.mark.slow
  def test_limit_of_small_temperature_more(self, name):
    self.check_limit_of_small_temperature(name)


if __name__ == '__main__':
  absltest.main()
