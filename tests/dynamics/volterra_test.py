# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the Volterra solver on equations with known solutions.

With the kernel `G exp(-(t - t'))`, `G` a matrix with eigenvalues `g`, and the
right-hand side 1, the integral is `c / (c + 1) (1 - exp(-(c + 1) t))` in each
eigenvector, `c = gamma g` (one linear layer, in diffusion time).
"""

import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import numpy as jnp
import numpy as np
import scipy.special

from nt_ndk._src.dynamics import volterra

jax.config.update('jax_enable_x64', True)


class Memory:
  """`exp(-(t - t'))`, or with a cusp, `exp(-(t - t')) (1 - b sqrt(t - t'))`."""

  tau_max = 60.

  def __init__(self, cusp=0., cusp_width=.1):
    self.cusp, self.cusp_width = cusp, cusp_width

  def at_earlier(self, tau_):
    return np.ones(np.shape(tau_) + (1, 1))

  def at_later(self, tau, tau_):
    lag = np.maximum(tau - tau_, 0.)
    return (np.exp(-lag) * (1 - self.cusp * np.sqrt(lag)))[..., None]

  def phi(self, tau, tau_):
    return np.einsum('...b,...br->...r', self.at_later(tau, tau_),
                     self.at_earlier(tau_))


def solver(g, gamma=1., cusp=0., columns=1, **kwargs):
  """A problem in a random basis: `G = U diag(g) U^T`, the solution is `U f`."""
  g = np.asarray(g, float)
  u = np.linalg.qr(np.random.default_rng(0).normal(size=(len(g),) * 2))[0]
  matrix = jnp.asarray(u * g @ u.T)
  y = jnp.asarray(u @ np.ones((len(g), columns)))
  return volterra.VolterraSolver(
      Memory(cusp), matrix, y, gamma, **kwargs), matrix, u


def turning(g, journal=None):
  """One matrix that gives way to another, of the same eigenvalues."""
  class Turning(Memory):
    def at_earlier(self, tau_):
      return np.broadcast_to(np.eye(2), np.shape(tau_) + (2, 2))

    def at_later(self, tau, tau_):
      late = (tau / self.tau_max)**2 + 0. * tau_
      return super().at_later(tau, tau_) * np.stack([1. - late, late], -1)

  rng, n = np.random.default_rng(0), len(g)
  bases = [np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2)]
  factors = jnp.asarray(np.concatenate([u * g @ u.T for u in bases], 1))
  return volterra.VolterraSolver(Turning(), factors, jnp.asarray(rng.normal(
      size=(n, 1))), 1., rtol=1e-6, journal=journal)


def exact(g, gamma, t):
  c = gamma * np.asarray(g)
  return c / (c + 1) * -np.expm1(-(c + 1) * np.asarray(t)[:, None])


class VolterraTest(parameterized.TestCase):

  @parameterized.product(gamma=[1., 1e3], rtol=[1e-3, 1e-5, 1e-7, 1e-9])
  def test_tolerance_on_a_stiff_spectrum(self, gamma, rtol):
    g = np.logspace(-4, 3, 15)
    solve, matrix, u = solver(g, gamma, rtol=rtol, max_step=1.)
    solve.extend(20.)
    t = np.unique(np.append(np.geomspace(1e-4 / gamma, 20., 300),
                            solve.ends[1:]))
    want = exact(g, gamma, t) @ u.T
    y = np.asarray(u @ np.ones(len(g)))
    for got in (y - solve.solution(t)[..., 0],
                solve.integral(matrix, t)[..., 0]):
      error = np.sqrt(np.mean((got - want)**2, 1)).max()
      self.assertLess(error, rtol)
    self.assertLess(error, .3 * max(solve.errors))

  @parameterized.parameters((-4, 3, 1e3), (-6, 3, 1e5), (-8, 2, 1e6))
  def test_rounding_errors_do_not_add_up(self, low, high, gamma):
    # Images of a solution are those of its values, whatever it was guessed
    # from: small temperatures amplify the difference from panel to panel.
    g = np.logspace(low, high, 30)
    solve, matrix, _ = solver(g, gamma, rtol=1e-5, max_step=1.)
    solve.extend(20.)
    points = 1 + len(solve._points)
    values = np.asarray(solve._rho[:points, :, 0])
    images = np.asarray(solve._images[:points, 0, :, 0])
    size = g.max() * np.abs(values).max(1)[:, None]
    np.testing.assert_array_less(np.abs(images - values @ matrix) / size, 1e-14)

  def test_one_product_solves_what_the_preconditioner_solves(self):
    # There is one matrix, and its eigenvectors are known.
    solve, _, _ = solver(np.geomspace(1e-4, 1e4, 40), rtol=1e-4)
    solve.extend(.3)
    self.assertEqual(solve.stats['products'], solve.stats['panels'])

  @parameterized.product(cusp=(0., .5), columns=(1, 3),
                         accuracy=((3, 3e-3), (1, 3e-2)))
  def test_moments_are_the_integral(self, cusp, columns, accuracy):
    # Of a few points of each panel, for errors of kernels: two digits.
    points, tol = accuracy
    solve, matrix, _ = solver(np.logspace(-3, 2, 12), 10., cusp, columns,
                              rtol=1e-6, max_step=1.)
    solve.extend(20.)
    y = solve.solution(np.zeros(1))[0]
    for panels in (1, 3, len(solve.ends) - 1):
      end = solve.ends[panels]
      tau, measure = solve.moments(panels, points)
      self.assertEqual(measure.shape, tau.shape + y.shape)
      integral = np.tensordot(Memory(cusp).phi(end, tau)[:, 0],
                              matrix @ measure, 1)
      want = y - solve.solution(np.array([end]))[0]
      self.assertLess(np.max(np.abs(integral - want)) / np.max(np.abs(want)),
                      tol)

  @parameterized.parameters((2, 3.), (3, 5.), (5, 9.))
  def test_order(self, stages, order):
    # Radau IIA with s stages is of order 2 s - 1 at ends of panels.
    g, steps = [.5, 1., 3.], .5 / 2.**np.arange(2 if stages == 5 else 4)
    errors = []
    for step in steps:
      solve, _, u = solver(g, rtol=1e-13, stages=stages, fixed_step=step)
      solve.extend(2.)
      got = u @ np.ones(3) - solve.solution(solve.ends[-1:])[0, :, 0]
      want = u @ exact(g, 1., solve.ends[-1:])[0]
      errors.append(np.abs(got - want).max())
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    self.assertBetween(slope, order - .3, order + .3)

  def test_cusp_keeps_the_order(self):
    # One equation with a square-root cusp, by resolved panels and by coarse
    # ones: with stages s the cusp leaves an order of at least s.
    steps, ends = (.5, .25, .125), []
    for step in steps + (1 / 64,):
      solve, _, _ = solver([2.], cusp=.5, rtol=1e-13, stages=3,
                           fixed_step=step)
      solve.extend(2.)
      ends.append(float(solve.solution(np.array([2.]))[0, 0, 0]))
    errors = np.abs(np.array(ends[:-1]) - ends[-1])
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    self.assertGreater(slope, 3.)
    self.assertLess(errors[-1], 1e-6)

  def test_functions_of_earlier_times(self):
    # Within panels they are interpolated: to far below the tolerance.
    wave = lambda tau_: 1 + .5 * np.cos(3 * np.asarray(tau_))[..., None]

    class Exact(Memory):
      def at_later(self, tau, tau_):
        return super().at_later(tau, tau_) * wave(tau_)

    class Interpolated(Memory):
      def at_earlier(self, tau_):
        return wave(tau_)[..., None]

    solutions = []
    for kernel in (Exact(), Interpolated()):
      solve = volterra.VolterraSolver(kernel, jnp.ones((1, 1)),
                                      jnp.ones((1, 1)), 1., rtol=1e-6)
      solve.extend(8.)
      solutions.append(solve.solution(np.linspace(0., 8., 20)))
    np.testing.assert_allclose(*solutions, rtol=0, atol=1e-9)

  @parameterized.parameters(1e-5, 1e-7, 1e-9)
  def test_cusp_alone(self, rtol):
    # rho + int (t - t')^(1/2) rho = 1 is solved by a Mittag-Leffler series.
    # The cusp lies next to panels and inside them.
    class Root(Memory):
      def at_later(self, tau, tau_):
        return np.sqrt(np.maximum(tau - tau_, 0.))[..., None]

    solve = volterra.VolterraSolver(Root(), jnp.ones((1, 1)), jnp.ones((1, 1)),
                                    1., rtol=rtol, max_step=.5)
    solve.extend(2.)
    t = np.linspace(.1, 2., 40)
    k = np.arange(60)
    z = -scipy.special.gamma(1.5) * t[:, None]**1.5
    want = np.sum(z**k / scipy.special.gamma(1.5 * k + 1), 1)
    np.testing.assert_allclose(solve.solution(t)[:, 0, 0], want, rtol=0,
                               atol=.1 * rtol)

  @parameterized.parameters(.01, .1, 1.)
  def test_slow_learning_starts_within_the_cusp(self, gamma):
    # The solution changes little, but is not smooth: a first panel as long as
    # that allows could miss the cusp.
    def solution(rtol):
      solve = volterra.VolterraSolver(
          Memory(cusp=.5, cusp_width=.03), jnp.ones((1, 1)), jnp.ones((1, 1)),
          gamma, rtol=rtol, max_step=2.)
      solve.extend(3.)
      return solve.solution(np.linspace(0., 3., 61))[:, 0, 0]

    np.testing.assert_allclose(solution(1e-5), solution(1e-10), rtol=0,
                               atol=1e-7)

  def test_extension_is_the_same_solution(self):
    at_once, _, _ = solver([.1, 10.], rtol=1e-6)
    in_parts, _, _ = solver([.1, 10.], rtol=1e-6)
    at_once.extend(3.)
    for t in (1e-3, .4, 3.):
      in_parts.extend(t)
    np.testing.assert_array_equal(at_once.ends, in_parts.ends)
    t = np.linspace(0., 3., 20)
    np.testing.assert_array_equal(at_once.solution(t), in_parts.solution(t))

  @parameterized.parameters((-6, 6, 1.), (-3, 3, 1e5))
  def test_panels_grow_with_time(self, low, high, gamma):
    # With modes of all sizes the solution looks alike on all scales of time.
    g = np.logspace(low, high, 4 * (high - low) + 1)
    solve, matrix, u = solver(g, gamma, rtol=1e-5, max_step=1.)
    solve.extend(.1)
    decades = np.log10(solve.ends[-1] / solve.ends[1])
    self.assertLess(solve.stats['panels'], 3.3 * decades)
    t = np.geomspace(1e-9, .1, 300)
    want = exact(g, gamma, t) @ u.T
    error = np.mean((solve.integral(matrix, t)[..., 0] - want)**2, 1)**.5
    self.assertLess(error.max(), 1e-6)

  @parameterized.parameters(1., 30.)
  def test_panel_that_left_an_error_is_taken_back(self, size):
    # No length of the next panel removes what a stiff equation makes of it.
    right_panel, rtol, calls = volterra.VolterraSolver._solve, 1e-6, []

    def wrong_once(*args):
      panel = right_panel(*args)
      calls.append(panel)
      if len(calls) == 6:
        error = u[:, -1:] * size * len(u)**.5 * rtol
        panel.x[-1] += error
        panel.images[-1, 0] += matrix @ error
      return panel

    g, records = np.logspace(-4, 3, 15), []
    solve, matrix, u = solver(g, 1e3, rtol=rtol, max_step=1., journal=records)
    with mock.patch.object(volterra.VolterraSolver, '_solve', wrong_once):
      solve.extend(3.)
    right, _, _ = solver(g, 1e3, rtol=rtol, max_step=1.)
    right.extend(3.)
    self.assertLen(records, 1 + solve.stats['panels'])
    self.assertLess(max(solve.errors), rtol)
    t = np.geomspace(1e-6, 3., 100)
    np.testing.assert_allclose(solve.integral(matrix, t),
                               right.integral(matrix, t), rtol=0, atol=rtol)
    # Those who read the journal take it back too.
    for kept in (6, 7):
      resumed, _, _ = solver(g, 1e3, rtol=rtol, max_step=1.,
                             journal=records[:kept])
      resumed.extend(3.)
      np.testing.assert_array_equal(resumed.ends, solve.ends)
      np.testing.assert_array_equal(resumed.integral(matrix, t),
                                    solve.integral(matrix, t))

  @parameterized.parameters(0, 3, -2)
  @mock.patch.object(volterra, '_DIRECTLY', 0)
  def test_goes_on_where_another_was_stopped(self, panels):
    # There are new modes underway.
    make = functools.partial(turning, np.geomspace(1e-12, 1e3, 100))
    records = []
    whole = make(records)
    whole.extend(Memory.tau_max)
    self.assertGreater(whole.stats['eigendecompositions'], 1)
    stopped = make(records[:panels])
    self.assertLen(stopped.ends, 1 + len(records[:panels]))
    stopped.extend(Memory.tau_max)
    np.testing.assert_array_equal(stopped.ends, whole.ends)
    self.assertEqual(stopped.errors, whole.errors)
    t = np.linspace(0., Memory.tau_max, 20)
    np.testing.assert_array_equal(stopped.solution(t), whole.solution(t))

  @mock.patch.object(volterra, '_TOO_MANY', np.inf)
  def test_leading_modes_together(self):
    # Those that learn are few, and turn: what couples them is solved for.
    g, t = np.geomspace(1e-12, 1e3, 100), np.linspace(0., Memory.tau_max, 20)
    found = []
    for some in (volterra._SOME_ITERATIONS, np.inf):
      with mock.patch.object(volterra, '_SOME_ITERATIONS', some):
        solve = turning(g)
        solve.extend(Memory.tau_max)
      found.append((solve.stats['products'], solve.solution(t)))
    (products, got), (more, want) = found
    self.assertLess(2 * products, more)
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-6)

  def test_couplings_of_what_is_not_symmetric(self):
    # At two different times kernels of inputs of different sizes are not.
    rng = np.random.default_rng(0)
    evecs, root = rng.normal(size=(6, 2)), rng.uniform(size=6)
    matrices = rng.normal(size=(3, 6, 6))
    got = volterra._couplings(evecs, np.concatenate(matrices, 1), root)
    want = [(root[:, None] * evecs).T @ k @ (root[:, None] * evecs)
            for k in matrices]
    np.testing.assert_allclose(got, want, rtol=1e-12)

  @parameterized.product(small=(True, False), weighted=(True, False))
  @mock.patch.object(volterra, 'BLOCKS', 4)
  def test_a_part_of_the_modes(self, small, weighted):
    # A power law, as kernels have.
    g, t = 1e4 / np.arange(1., 201.)**2, np.geomspace(1e-4, 5., 20)
    weight = np.linspace(0., 2., 200) if weighted else None
    found = []
    for most in (200, 199):
      with mock.patch.multiple(
          volterra, ALL_MODES=most, is_small=lambda _: small, _TOO_MANY=np.inf,
          of_kind=np.asarray if small else jnp.asarray):
        solve, _, _ = solver(g, 10., rtol=1e-7, weight=weight, max_step=.5)
        solve.extend(5.)
      found.append((solve.stats['products'], solve.solution(t)))
      self.assertEqual(len(solve._modes.evecs.T) == 200, most == 200)
    (with_all, want), (products, got) = found
    # All matrices are multiples of one, which all modes solve exactly.
    self.assertLess(products, with_all + 2 * solve.stats['panels'])
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-7)

  @mock.patch.multiple(volterra, ALL_MODES=99, BLOCKS=1, _SOME_ITERATIONS=100,
                       _TOO_MANY=np.inf)
  def test_more_modes_where_few_do_not_do(self):
    # Matrices that do not commute at all, and no modes that stand out.
    g, t = np.geomspace(1e-6, 1e3, 100), np.linspace(0., Memory.tau_max, 20)
    solve = turning(g)
    solve.extend(Memory.tau_max)
    self.assertIsNone(solve._modes.rest)
    with mock.patch.object(volterra, 'ALL_MODES', 100):
      want = turning(g)
      want.extend(Memory.tau_max)
    np.testing.assert_allclose(solve.solution(t), want.solution(t), rtol=0,
                               atol=3e-6)

  @parameterized.parameters(True, False)
  def test_follows_a_solution_of_other_targets(self, alike):
    # Fast modes alone, whose panels slow ones can share; not the other way.
    g, t = np.geomspace(1e-3, 1e3, 80), np.linspace(0., Memory.tau_max, 20)
    parts = np.split(turning(g)._factors, 2, 1)
    factors, kernel = np.concatenate(parts, 1), turning(g)._kernel
    evals, evecs = np.linalg.eigh(parts[0])
    slow, fast = evecs[:, :1], evecs[:, -1:]
    new = lambda y, like: volterra.VolterraSolver(kernel, factors, y, 1.,
                                                  rtol=1e-6, like=like)
    y = slow if alike else slow + fast
    first, want = (new(y, None) for y in (slow + fast if alike else slow, y))
    for solve in (first, want):
      solve.extend(Memory.tau_max)
    memory, later = first._images, np.array([2 * Memory.tau_max])
    before = first.beyond(later)
    got = new(y, first)
    got.take_memory(first)
    got.extend(Memory.tau_max)
    self.assertIsNone(first._kept)
    self.assertTrue(np.shares_memory(memory, got._images))
    self.assertEqual(np.array_equal(got.ends, first.ends), alike)
    np.testing.assert_allclose(got.solution(t), want.solution(t), rtol=0,
                               atol=1e-6 * np.max(np.abs(y)))
    # What was taken is found again.
    np.testing.assert_allclose(first.beyond(later), before, rtol=1e-12)

  def test_settles_at_its_limit(self):
    g, gamma, rtol = np.array([.1, 3.]), 1e2, 1e-6
    _, matrix, u = solver(g, gamma, rtol=rtol)
    limit = jnp.asarray(u @ (1 / (1 + gamma * g)))[:, None]
    solve, _, _ = solver(g, gamma, rtol=rtol, max_step=1.,
                         limit=lambda: (limit, matrix), limit_from=.1)
    solve.extend(50.)
    self.assertTrue(solve.settled)
    self.assertLess(solve.ends[-1], 30.)
    self.assertLess(
        np.abs(solve.integral(matrix, solve.ends[-1:])[0] -
               gamma * matrix @ limit).max(), 3 * rtol)

  def test_unsolved_equations_are_no_solution(self):
    without_preconditioner = lambda residual, **_: residual
    with mock.patch.multiple(volterra, _MAX_ITERATIONS=1, _MAX_PANELS=30,
                             _DIRECTLY=0,
                             _precondition=without_preconditioner):
      solve, _, _ = solver([1., 1e3], rtol=1e-6)
      with self.assertRaisesRegex(ArithmeticError, 'rtol'):
        solve.extend(1.)

  @parameterized.parameters(1, 3)
  def test_numpy_and_jax_do_the_same(self, columns):
    # On a CPU all is NumPy but products with large matrices, which are JAX; on
    # accelerators all is JAX.
    g, gamma, t = np.geomspace(1e-3, 1e3, 30), 1e2, np.geomspace(1e-6, 3., 40)
    solve, matrix, u = solver(g, gamma, rtol=1e-7, max_step=1., columns=columns)
    solve.extend(3.)  # Directly, since samples are few.
    found = [(solve.integral(matrix, t), solve.solution(t))]
    for host, small in ((True, True), (True, False), (False, False)):
      with mock.patch.multiple(
          volterra, _DIRECTLY=0, on_host=lambda _, h=host: h,
          is_small=lambda _, s=small: s,
          of_kind=np.asarray if small else jnp.asarray):
        solve, matrix, u = solver(g, gamma, rtol=1e-7, max_step=1.,
                                  columns=columns)
        solve.extend(3.)
        found.append((solve.integral(matrix, t), solve.solution(t)))
        self.assertEqual(isinstance(solve._rho, np.ndarray), host)
        self.assertEqual(isinstance(solve._factors, np.ndarray), small)
    for others in found[1:]:
      for one, other in zip(found[0], others):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8 * np.max(one))

  @parameterized.parameters(True, False)
  def test_kernels_that_are_not_finite(self, host):
    with mock.patch.multiple(
        volterra, on_host=lambda _: host, is_small=lambda _: host,
        of_kind=np.asarray if host else jnp.asarray):
      matrix = jnp.eye(4).at[1, 2].set(jnp.nan)
      solve = volterra.VolterraSolver(Memory(), matrix, jnp.ones((4, 1)), 1.,
                                      rtol=1e-5)
      with self.assertRaisesRegex(ArithmeticError, 'finite'):
        solve.extend(1.)

  def test_starts_at_the_right_hand_side(self):
    solve, matrix, _ = solver([1., 2.], rtol=1e-5)
    solve.extend(1.)
    np.testing.assert_array_equal(solve.solution(np.zeros(1))[0], solve._y)
    np.testing.assert_array_equal(solve.integral(matrix, np.zeros(1)), 0.)


class PhasesTest(parameterized.TestCase):
  """Solutions that begin where others end, and weights of samples."""

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    self.factors, self.y = root @ root.T, rng.normal(size=(6, 2))
    self.t = np.array([1e-3, .1, 1., 2., 2.1, 5., 20.])

  def solve(self, rows, weight):
    """Two phases, of other right-hand sides and `gamma`, and their results."""
    factors, y = self.factors[np.ix_(rows, rows)], self.y[rows]
    options = dict(rtol=1e-11, max_step=1., weight=weight)
    first = volterra.VolterraSolver(Memory(), factors, y, 3., stop=2.,
                                    **options)
    first.extend(2.)
    second = volterra.VolterraSolver(
        Memory(), factors, -2 * y, .5, start=2., before=first.beyond, **options)
    second.extend(20.)
    self.assertEqual(first.ends[-1], 2.)
    other = self.factors[:, rows]
    early = self.t <= 2.
    learned = np.concatenate([
        first.integral(other, self.t[early]),
        second.integral(other, self.t[~early]) +
        first.beyond(self.t[~early], other)])
    rho = np.concatenate([first.solution(self.t[early]),
                          second.solution(self.t[~early])])
    right = np.where(early[:, None, None], y, -2 * y)
    return learned, right - rho

  @parameterized.parameters(0, 100)  # Directly, or by iterations.
  def test_an_exact_solution(self, directly):
    # In each mode, f' = gamma g a (y - f) - f.
    with mock.patch.object(volterra, '_DIRECTLY', directly):
      weight = np.array([1., .2, 3., .5, 1., 2.])
      learned, on_training = self.solve(np.arange(6), weight)
    root = weight**.5
    evals, evecs = np.linalg.eigh(root[:, None] * self.factors * root)

    def end(f, y, gamma, t):
      """Where all modes of `root * f` are after a time."""
      rate = gamma * evals[:, None] + 1
      late = gamma * evals[:, None] / rate * (evecs.T @ (root[:, None] * y))
      f = evecs.T @ (root[:, None] * f)
      return evecs @ (late + (f - late) * np.exp(-rate * t)) / root[:, None]

    for t, got, same in zip(self.t, learned, on_training):
      want = end(0 * self.y, self.y, 3., min(t, 2.))
      if t > 2:
        want = end(want, -2 * self.y, .5, t - 2)
      np.testing.assert_allclose(got, want, atol=1e-9)
      np.testing.assert_allclose(same, want, atol=1e-9)

  @parameterized.parameters(0, 100)
  def test_weight_zero_is_not_there(self, directly):
    weight = np.array([1., 0., 3., .5, 0., 2.])
    keep = np.flatnonzero(weight)
    with mock.patch.object(volterra, '_DIRECTLY', directly):
      all_of = self.solve(np.arange(6), weight)
      without = self.solve(keep, weight[keep])
    np.testing.assert_allclose(all_of[0], without[0], atol=1e-10)
    # It is predicted like a test input, at points and between them.
    np.testing.assert_allclose(all_of[1], all_of[0], atol=1e-9)


if __name__ == '__main__':
  absltest.main()
