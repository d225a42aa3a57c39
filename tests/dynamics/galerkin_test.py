# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of steps in time, of rough paths, and of nonlinear equations."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate

from nt_ndk._src.dynamics import galerkin
from nt_ndk._src.dynamics import paths
from nt_ndk._src.dynamics.steps import FROM_MOMENTS
from nt_ndk._src.dynamics.steps import Scale
from nt_ndk._src.dynamics.steps import Steps

jax.config.update('jax_enable_x64', True)


class Decays:
  """Sum of exponentials in the lag, times powers of it."""

  tau_max = 100.
  cusp_width = 1.

  def __init__(self, *functions):
    self._functions = functions

  def at_earlier(self, tau_):
    count = len(self._functions)
    return np.broadcast_to(np.eye(count), np.shape(tau_) + (count, count))

  def phi(self, tau, tau_):
    lag = np.asarray(tau) - tau_
    return np.stack([f(lag) for f in self._functions], -1)

  at_later = phi


def exponential(lag):
  return np.exp(-lag)


def steps(growth, first, longest, end, temperature=1.):
  s = np.append(0., np.concatenate(Scale(growth, first, longest).divide(
      np.array([end]))))
  return Steps(s, temperature * s)


def solve(gradient, size, grid, g, start, data, temperature=0., tol=1e-9):
  """Solution at ends of steps, `[N, rows, k, draws]`."""
  weights = grid.weights(Decays(exponential))
  keys = jax.random.split(jax.random.PRNGKey(0), start.shape[-1])
  equations = galerkin.Equations(gradient, jnp.asarray(size), weights,
                                 jnp.asarray(start), keys, 1, tol)
  return np.stack([equations.step(jnp.asarray(g[j]), data, temperature, j)
                   for j in range(len(grid))])


def squared(f, y):
  return f - y


def logistic(f, y):
  return -y * jax.nn.sigmoid(-y * f)


class StepsTest(parameterized.TestCase):

  @parameterized.parameters(exponential, np.sqrt)
  def test_weights_integrate(self, phi):
    grid = steps(.5, .1, .4, 2.)
    weights = grid.weights(Decays(phi))[..., 0]
    # Of 1, and of s, at ends of steps.
    values = np.stack([np.ones((len(grid), 2)), grid.inside(
        np.array([1 / 3, 1.]))[0]])
    out = np.einsum('jib,fib->fj', weights[:, 1], values)
    for f, power in zip(out, (0, 1)):
      for end, value in zip(grid.s[1:], f):
        exact = integrate.quad(lambda s: phi(end - s) * s**power, 0, end,
                               epsabs=1e-12)[0]
        self.assertAlmostEqual(value, exact, delta=1e-5 * max(exact, .1))
    # At the other point, from the average over the first step.
    h = grid.s[1]
    end, point = weights[0, 1].sum(), weights[0, 0].sum()
    average = integrate.dblquad(lambda u, s: phi(s - u), 0, h, 0,
                                lambda s: s)[0] / h
    self.assertAlmostEqual(point, 4 / 3 * average - end / 3, delta=1e-6)

  def test_ends_and_numbers_of_steps(self):
    scale = Scale(.5, 1e-3, .2)
    ends = np.array([1e-4, 2e-3, .1, 3.])
    parts = scale.divide(ends)
    self.assertEqual(sum(map(len, parts)) % 2, 0)
    np.testing.assert_array_equal([p[-1] for p in parts], ends)
    s = np.append(0., np.concatenate(parts))
    h = np.diff(s)
    self.assertGreater(h.min(), 0.)
    # As long as they may be, for times of their ends.
    allowed = np.clip(.5 * s[1:], 1e-3, .2)
    np.testing.assert_array_less(h, 1.3 * allowed)


class PathsTest(absltest.TestCase):

  def covariances(self, grid, many, matrices=None):
    """Of all ends of steps, that of draws and the exact one."""
    if matrices is None:
      roots = np.random.default_rng(0).normal(size=(3, 4, 4))
      matrices = roots @ roots.swapaxes(1, 2)
    kernel = Decays(*(lambda lag, p=p: np.exp(-p * lag) for p in (1, 3, 9)))
    p = len(matrices[0])
    with mock.patch.object(paths, '_ALL', 0 if many else 2000):
      law = paths.Paths(kernel, np.concatenate(list(matrices), 1), p, grid,
                        1e-16)
    n = len(law.tau)
    out = np.zeros((n, p, n * p + len(grid) * p))
    for j, one in enumerate(law.ends()):
      if j:
        out[j] = one.gain @ out[one.given].reshape((-1, out.shape[-1]))
      out[j][:, j * p:(j + 1) * p] += one.root
    averages = np.zeros((len(grid),) + out.shape[1:])
    for j, one in enumerate(law.averages()):
      averages[j] = one.gain @ out[one.given].reshape((-1, out.shape[-1]))
      averages[j][:, (n + j) * p:(n + j + 1) * p] += one.root
    times = np.arange(n)
    return (out, averages, law._among(times, law._factors),  # pylint: disable=protected-access
            law)

  def test_all_earlier_times_are_exact(self):
    grid = steps(.5, .1, .4, 4.)
    out, averages, exact, _ = self.covariances(grid, many=False)
    flat = out.reshape((-1, out.shape[-1]))
    np.testing.assert_allclose(flat @ flat.T, exact, atol=1e-7)
    # Variance of an average over the last step, of each exponential.
    h, size = grid.lengths[-1], np.trace(averages[-1] @ averages[-1].T)
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(3, 4, 4))
    expected = sum(np.trace(a @ a.T) * 2 / (q * h)**2 * (q * h + np.expm1(
        -q * h)) for q, a in zip((1, 3, 9), roots))
    self.assertAlmostEqual(size / expected, 1, delta=1e-6)

  def test_a_few_earlier_times_are_nearly_so(self):
    grid = steps(.5, .01, .1, 5.)
    out, _, exact, law = self.covariances(grid, many=True)
    flat = out.reshape((-1, out.shape[-1]))
    size = np.sqrt(np.diagonal(exact))
    errors = (flat @ flat.T - exact) / size / size[:, None]
    self.assertAlmostEqual(np.sqrt(np.mean(errors**2)), law.error, delta=1e-9)
    self.assertLess(law.error, 2e-3)
    self.assertLess(np.max(np.abs(errors)), 2e-2)
    self.assertLess(np.max(np.abs(np.diagonal(errors))), 2e-3)

  def test_one_output_has_no_modes_to_leave_out(self):
    grid = steps(.5, .01, .1, 5.)
    out, _, exact, _ = self.covariances(grid, True, [np.ones((1, 1))] * 3)
    flat = out.reshape((-1, out.shape[-1]))
    np.testing.assert_allclose(np.diagonal(flat @ flat.T), np.diagonal(exact),
                               rtol=1e-2)

  def test_few_modes_of_earlier_times_are_enough(self):
    x = np.random.default_rng(0).uniform(-2, 2, 40)
    lag = x - x[:, None]
    matrices = [np.exp(-(lag / width)**2) for width in (4., 2., 1.)]
    grid = steps(.5, .01, .1, 5.)
    out, averages, exact, law = self.covariances(grid, True, matrices)
    # Only the last time is looked at with all of them.
    self.assertLess(law._modes.shape[1], 21)  # pylint: disable=protected-access
    flat = out.reshape((-1, out.shape[-1]))
    # All have the same variance.
    errors = (flat @ flat.T - exact) / 3
    self.assertLess(np.sqrt(np.mean(errors**2)), 1.5 * law.error)
    self.assertLess(law.error, 2e-3)
    self.assertLess(np.max(np.abs(np.diagonal(errors))), 5e-3)
    # Averages are between the ends.
    size = np.trace(averages[-1] @ averages[-1].T) / 40
    h = grid.lengths[-1]
    expected = sum(2 / (q * h)**2 * (q * h + np.expm1(-q * h))
                   for q in (1, 3, 9))
    self.assertAlmostEqual(size / expected, 1, delta=2e-3)


class EquationsTest(parameterized.TestCase):

  def test_order(self):
    """Of the response to a loss that is not quadratic, and stiff."""
    size, y, end = 5., 1., 2.
    exact = integrate.solve_ivp(
        lambda _, f: -f - size * np.asarray(logistic(f, y)), (0, end), [0.],
        rtol=1e-11, atol=1e-11).y[0, -1]
    errors = []
    for count in (8, 16, 32):
      s = np.linspace(0, end, count + 1)
      grid = Steps(s, s)
      f = solve(logistic, size * np.eye(1), grid,
                np.zeros((count, 2, 1, 1, 1)), np.zeros((1, 1, 1)), y)
      errors.append(abs(f[-1, 0, 0, 0] - exact))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    self.assertLess(errors[-1], 1e-4)
    np.testing.assert_array_less(2.5, orders)

  @parameterized.parameters(.3, 30.)
  def test_stationary_variance_is_exact(self, length):
    """Of any length of steps, slow or fast beside the loss and the kernel."""
    T, size = .2, np.diag([3., .3])
    count, draws = max(int(3 / length), 4), 10_000
    s = length / T * np.arange(count + 1)
    grid = Steps(s, T * s)
    law = paths.Paths(Decays(exponential), size, 2, grid, 1e-16)
    rng = np.random.default_rng(0)
    ends = np.empty((count + 1, 2, draws))
    for j, one in enumerate(law.ends()):
      ends[j] = one.root @ rng.normal(size=(2, draws))
      if j:
        ends[j] += one.gain @ ends[one.given].reshape((-1, draws))
    averages = np.stack([
        one.gain @ ends[one.given].reshape((-1, draws)) +
        one.root @ rng.normal(size=(2, draws)) for one in law.averages()])
    g = np.einsum('ab,jbrd->jard', FROM_MOMENTS,
                  np.stack([averages, ends[1:]], 1))[:, :, :, None]
    # From the posterior on.
    f = solve(squared, size, grid, g, ends[0][:, None], 0., T)
    variance = np.var(f[-1, :, 0], -1)
    posterior = T * np.diagonal(size) / (np.diagonal(size) + T)
    # Standard errors are 1.4%.
    np.testing.assert_allclose(variance, posterior, rtol=.045)

  @parameterized.parameters((4, 0), (12, 12))
  def test_preconditioner_is_exact(self, modes, most):
    """Where all directions but those of modes have the same size."""
    rng = np.random.default_rng(0)
    n, k = 12, 3
    vectors = np.linalg.qr(rng.normal(size=(n, 4)))[0]
    matrices = [(vectors * rng.uniform(1, 5, 4)) @ vectors.T + c * np.eye(n)
                for c in (.3, .1)]
    factors = jnp.asarray(np.concatenate(matrices, 1))
    phi = rng.normal(size=(2, 2, 2)) + 2 * np.eye(2)[..., None]
    h = rng.uniform(0, 1, (k, n))
    with mock.patch.multiple(galerkin, _ALL=most, _MODES=modes):
      of_modes = galerkin._modes.__wrapped__(  # pylint: disable=protected-access
          factors, jnp.ones(2))
      matrix, inverse = galerkin._own.__wrapped__(  # pylint: disable=protected-access
          phi, factors, of_modes, jnp.asarray(h))
    x = rng.normal(size=(k, 2, n, 5))
    right = x + np.einsum('ambn,kbnd->kamd', matrix.reshape((2, n, 2, n)),
                          h[:, None, :, None] * x)
    np.testing.assert_allclose(inverse(jnp.asarray(right, jnp.float32)), x,
                               atol=1e-4)

  def test_large_jumps_are_solved_for(self):
    """A label that is wrong after all: no curvature where Newton begins."""
    s = np.array([0., 50.])
    f = solve(logistic, 10. * np.eye(1), Steps(s, 0 * s),
              np.full((1, 2, 1, 1, 1), 10.), np.full((1, 1, 1), 10.), -1.)
    self.assertTrue(np.all(np.isfinite(f)))
    self.assertLess(f[0, 0, 0, 0], 0.)

  def test_roots(self):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 3, 5))
    matrices = np.einsum('ijb,kjb->ikb', a, a)
    root = galerkin.root(jnp.asarray(matrices))
    np.testing.assert_allclose(np.einsum('ijb,kjb->ikb', root, root), matrices,
                               rtol=1e-9)
    # Softmax: no variance of the sum.
    p = np.array([.5, .3, .2])
    h = jnp.asarray(np.diag(p) - np.outer(p, p))[..., None]
    root = galerkin.root(h)
    np.testing.assert_allclose(np.einsum('ijb,kjb->ikb', root, root), h,
                               atol=1e-12)


if __name__ == '__main__':
  absltest.main()
