# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the compression of two-time kernels in time."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest

from nt_ndk import batch
from nt_ndk import stax
from nt_ndk._src.kernels import evaluation as kernel_evaluation
from nt_ndk._src.kernels import family as kernel_family
from nt_ndk._src.kernels import programs
from nt_ndk._src.kernels.compressed import CompressedKernel
from nt_ndk._src.kernels.evaluation import KernelEvaluator

jax.config.update('jax_enable_x64', True)


def network(phi='relu', depth=3, s0=1., s=1., **kwargs):
  act = dict(relu=stax.Relu, erf=stax.Erf, linear=stax.Identity)[phi]
  layer = lambda: stax.Dense(8, 1.4, W_init_std=s0, W_prior_std=s, **kwargs)
  return stax.serial(*[l for _ in range(depth) for l in (layer(), act())],
                     layer())[2]


def inputs(n=30, d=10):
  """The first samples have the extreme norms, and two are near-duplicates."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(n, d))
  order = np.argsort(np.linalg.norm(x, axis=1))
  x = x[np.roll(order, 2)]
  x[4] = x[3] + 1e-2 * rng.normal(size=d)
  others = rng.permutation(np.arange(5, n))
  return np.concatenate([x[:5], x[others]])


def all_pairs(i):
  return np.stack(np.meshgrid(i, i), -1).reshape((-1, 2))


class Pairs:
  """Pairs of samples that stand for a kernel."""

  def __init__(self, kernel, pairs):
    self.kernel, self.pairs, self.in_time = kernel, pairs, np.ones(len(pairs))

  def _equal(self, tau):
    points = np.unique(self.pairs)
    return self.kernel(np.stack([points, points], 1), np.stack([tau, tau], 1))

  def log_size(self, tau):
    return np.mean(np.log(kernel_family.positive(self._equal(tau))), 1) / 2

  def values(self, tau):
    return self.kernel(self.pairs, tau)


def tabulate(kernel, scales, tau_max, tol, noise=0., known=None, count=20):
  return kernel_family.tabulate(Pairs(kernel, all_pairs(np.arange(count))),
                                scales, tau_max, 1e-4 * tol, noise, known)


def fit(kernel_fn, x, tol, factor=2.):
  kernel = KernelEvaluator(kernel_fn, x, 1).sample
  scales = kernel_family.time_scales(kernel, np.arange(3), 1e-2 * tol)
  table = tabulate(kernel, scales, factor * scales.slow, tol)
  order, _ = kernel_family.greedy(table.values, tol)
  return table.family(order), scales, kernel


class KernelFamilyTest(parameterized.TestCase):

  def check_error_on_unseen_data_and_times(self, phi, s0, tol):
    kernel_fn, x = network(phi, 2, s0), inputs()
    family, _, _ = fit(kernel_fn, x, tol)
    rng = np.random.default_rng(1)
    basis = np.stack([kernel_fn(x[20:], x[20:], 'ndk', diffusion_time=tuple(t))
                      for t in family.tau])
    for _ in range(10):
      earlier = family.tau_max * 10.**rng.uniform(-5, 0)
      lag = (family.tau_max - earlier) * 10.**rng.uniform(-6, 0)
      want, late, early = (
          np.asarray(kernel_fn(x[20:], x[20:], 'ndk', diffusion_time=t))
          for t in ((earlier + lag, earlier), (earlier + lag,) * 2,
                    (earlier,) * 2))
      got = np.tensordot(family.phi(earlier + lag, earlier), basis, 1)
      scale = np.sqrt(np.outer(np.diag(late), np.diag(early)))
      self.assertLess(np.max(np.abs(got - want) / scale), 10. * tol)

  @parameterized.parameters(('relu', 1., 1e-4), ('erf', 2., 1e-4))
  def test_error_on_unseen_data_and_times(self, phi, s0, tol):
    self.check_error_on_unseen_data_and_times(phi, s0, tol)

  @parameterized.parameters(
      *(('relu', s0, 1e-4) for s0 in (.5, 2.)),
      *(('erf', s0, 1e-4) for s0 in (.5, 1.)),
      *((phi, s0, 1e-6) for phi in ('relu', 'erf') for s0 in (.5, 1., 2.)))
  @pytest.mark.slow
  def test_error_on_unseen_data_and_times_more(self, phi, s0, tol):
    self.check_error_on_unseen_data_and_times(phi, s0, tol)

  @parameterized.parameters(('relu', 1., 9), ('relu', 2., 9), ('relu', .5, 9),
                            ('erf', 1., 9), ('erf', 2., 26), ('linear', 2., 1))
  def test_rank(self, phi, s0, rank):
    family, _, _ = fit(network(phi, 3, s0), inputs(), 1e-5)
    self.assertLessEqual(family.rank, rank)

  def test_initial_kernel_is_exact(self):
    family, _, _ = fit(network('erf', 2, 2.), inputs(), 1e-5)
    np.testing.assert_array_equal(family.tau[0], 0.)
    np.testing.assert_allclose(family.phi(0., 0.), np.eye(family.rank)[0],
                               atol=1e-6)

  @parameterized.parameters(.1, 1., 10.)
  def test_time_scales_follow_the_prior(self, s):
    x = inputs()
    unit, scaled = (fit(network('relu', 1, v, v), x, 1e-3)[1]
                    for v in (1., s))
    for a, b in zip(unit, scaled):
      self.assertBetween(b / a, s**2 / 2., s**2 * 2.)

  def test_static_and_zero_kernels_are_refused(self):
    static = lambda pairs, tau: np.ones((len(tau), len(pairs)))
    zero = lambda pairs, tau: np.zeros((len(tau), len(pairs)))
    for kernel, word in ((static, 'relax'), (zero, 'positive')):
      with self.assertRaisesRegex(ValueError, word):
        kernel_family.time_scales(kernel, np.arange(2), 1e-3)

  def test_noise_is_not_resolved(self):
    rng = np.random.RandomState(0)
    kernel = KernelEvaluator(network('relu', 1), inputs(), 1).sample
    asked = []

    def noisy(pairs, tau):
      asked.append(len(tau))
      return kernel(pairs, tau) * (
          1 + 1e-6 * rng.normal(size=(len(tau), len(pairs))))

    scales = kernel_family.TimeScales(.05, 1., 10.)
    cost = []
    for noise in (0., 1e-4):
      asked.clear()
      table = tabulate(noisy, scales, 20., 1e-4, noise, count=4)
      order, _ = kernel_family.greedy(table.values, 1e-4)
      self.assertLess(np.max(kernel_family.check(
          kernel, table.family(order), all_pairs(np.arange(4)), rng)), 1e-3)
      cost.append(max(asked))
    # Without it, every series has the most terms that there can be.
    self.assertLess(5 * cost[1], cost[0])

  def test_noise_does_not_hide_what_is_slow_to_resolve(self):
    # A series that falls little at first, and is far from rest.
    kernel_fn, x = network('relu', 2, 2.), inputs()
    kernel = KernelEvaluator(kernel_fn, x, 1).sample
    scales = kernel_family.time_scales(kernel, np.arange(3), 1e-8)
    fine, coarse = (tabulate(kernel, scales, 2 * scales.slow, 1e-4, noise,
                             count=4)
                    for noise in (0., 1.5e-8))
    self.assertEqual(fine.tau.tolist(), coarse.tau.tolist())

  def test_known_times_come_first(self):
    kernel = KernelEvaluator(network('erf', 2, 2.), inputs(), 1).sample
    scales = kernel_family.time_scales(kernel, np.arange(3), 1e-8)
    known = np.array([[0., 0.], [.3, .1], [2., 0.]])
    table = tabulate(kernel, scales, 2 * scales.slow, 1e-5, known=known)
    order, left = kernel_family.greedy(table.values, 1e-4, first=3)
    family = table.family(order)
    np.testing.assert_array_equal(family.tau[:3], known)
    self.assertGreater(family.rank, 3)
    self.assertLess(left[-1], 1e-4)
    for r, tau in enumerate(known):
      np.testing.assert_allclose(family.phi(*tau), np.eye(family.rank)[r],
                                 atol=1e-4)

  @parameterized.parameters(1e-9, 1e-5, 1e-2)
  def test_cusps_of_any_width(self, angle):
    # Inputs that are nearly parallel have theirs at lags of the squared angle.
    x = inputs(8)
    x[1] = x[0] + angle * x[2]
    family, scales, kernel = fit(network('relu', 1, 1.4), x[np.arange(20) % 8],
                                 1e-5)
    rng = np.random.default_rng(0)
    pairs = np.array([[0, 1], [1, 0], [0, 0]])
    lag = scales.lag * 10.**rng.uniform(-9, 0, 50)
    earlier = scales.slow * 10.**rng.uniform(-3, 0, 50)
    tau = np.stack([earlier + lag, earlier], 1)
    want = kernel(pairs, tau)
    got = family.phi(*tau.T) @ kernel(pairs, family.tau)
    self.assertLess(np.max(np.abs(got / want - 1)), 1e-4)


class CompressedKernelTest(parameterized.TestCase):

  def test_test_samples_one_after_the_other(self):
    # The second ones are unlike the first, and need a new fit. Of so few all
    # pairs are taken, which have the same numbers.
    kernel_fn = network('erf', 2, 2., b_std=.5, b_prior_std=2.)
    evaluator = KernelEvaluator(kernel_fn, .3 * inputs()[:3], 1)
    compressed = CompressedKernel(evaluator, 'ndk', 1e-4, 1e-16)
    like, unlike = .3 * inputs(12)[:, ::-1], 20. * inputs(12)
    compressed.include(like, {})
    fits = compressed.fits
    compressed.include(unlike, {})
    self.assertGreater(compressed.fits, fits)
    pairs = all_pairs(np.arange(3)) + [3, 0]
    errors = kernel_family.check(evaluator.joined(unlike, {}).sample,
                                 compressed.family, pairs,
                                 np.random.RandomState(5))
    self.assertLess(np.max(errors), 2e-4)
    self.assertLess(np.max(errors), 10 * compressed.error)
    # What test inputs have not been fitted on is part of the error.
    compressed.test_error = .5
    self.assertEqual(compressed.error, .5)

  def test_tighter_fits(self):
    kernel = CompressedKernel(
        KernelEvaluator(network('relu', 2), inputs(), 1), 'ndk', 1e-3, 1e-16)
    rank, error = kernel.family.rank, kernel.error
    # However little is asked for, there is one more, as long as there is any.
    for more in (1, 2):
      self.assertTrue(kernel.tighten(.999))
      self.assertEqual(kernel.family.rank, rank + more)
    self.assertLess(kernel.error, .5 * error)
    while kernel.tighten(1e-4):
      self.assertGreater(kernel.family.rank, rank)
      rank = kernel.family.rank
    # That was none.
    fits, family = kernel.fits, kernel.family
    self.assertFalse(kernel.tighten(1e-4))
    self.assertIs(kernel.family, family)
    self.assertEqual(kernel.fits, fits)


class KernelEvaluatorTest(parameterized.TestCase):

  def test_sample_is_the_kernel(self):
    x, kernel_fn = inputs(), network('relu', 1, 2.)
    pairs, tau = all_pairs(np.arange(7)), np.array([[.5, .1], [2., 0.], [1, 1]])
    got = KernelEvaluator(kernel_fn, x, 1).sample(pairs, tau)
    for row, (t, t_) in zip(got, tau):
      want = kernel_fn(x, x, 'ndk', diffusion_time=(t, t_))
      np.testing.assert_allclose(row, want[pairs[:, 0], pairs[:, 1]],
                                 rtol=1e-6, atol=1e-7)

  def test_outputs_at_several_locations(self):
    kernel_fn = stax.serial(stax.Conv(4, (3,), padding='SAME'), stax.Relu(),
                            stax.Conv(1, (1,)))[2]
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    evaluator = KernelEvaluator(kernel_fn, x, 4)
    matrix = evaluator.train_train('ndk', np.array([[.7, .2]]))
    self.assertEqual(matrix.shape, (12, 12))
    pairs = all_pairs(np.arange(12))
    np.testing.assert_allclose(
        evaluator.sample(pairs, np.array([[.7, .2]]))[0],
        matrix[pairs[:, 0], pairs[:, 1]], rtol=1e-6, atol=1e-7)
    self.assertEqual(evaluator.evaluations, 1)

  def test_copies_among_training_inputs_are_not_those_of_test_inputs(self):
    kernel_fn, x, z = network('relu', 1, 2.), inputs(9), inputs(5)[::-1]
    x = np.concatenate([x, x])
    evaluator = KernelEvaluator(kernel_fn, x, 1)
    for got, x1, x2 in (
        (evaluator.test_test(z, 'nngp', .5, .1), z, z),
        (evaluator.test_train(z, 'nngp', np.array([[.5, .1]])), z, x),
        (evaluator.train_train('nngp', np.array([[.5, .1]])), x, x)):
      np.testing.assert_allclose(got, kernel_fn(
          x1, x2, 'nngp', diffusion_time=(.5, .1)), rtol=1e-7, atol=1e-7)

  def blocks(self, x, kernel_fn, locations=1, get='ndk', size=2**13):
    """Kernels of training data in small blocks, and how many of these."""
    tau = np.array([[.5, .1], [2., 0.], [1., 1.]])
    computed = []
    put = kernel_evaluation._put  # pylint: disable=protected-access

    def count(*args):
      computed.append(args[-1])
      return put(*args)

    with mock.patch.object(kernel_evaluation, '_BLOCK_BYTES', size), (
        mock.patch.object(kernel_evaluation, '_put', count)):
      got = KernelEvaluator(kernel_fn, x, locations).train_train(get, tau)
    got = np.asarray(got).reshape((len(got), 3, -1))
    for q, (t, t_) in enumerate(tau):
      want = programs.to_matrix(
          kernel_fn(x, x, get, diffusion_time=(t, t_)))
      np.testing.assert_allclose(got[:, q], want, rtol=1e-7, atol=1e-7)
    return got, computed.count(True), computed.count(False)

  def test_symmetric_kernels(self):
    # ReLU without biases: norms and times factorise.
    _, mirrored, computed = self.blocks(inputs(80), network('relu', 2, 2.),
                                        size=2**14)
    self.assertEqual(mirrored, 6)  # 5 x 5 blocks, the first ones both ways.
    self.assertEqual(computed, 25 - 6)

  def test_kernels_that_look_symmetric_in_the_first_blocks(self):
    # The first samples share no feature with the others, whose norms differ.
    x = inputs(48)
    x[:16, 3:] = x[16:, :3] = 0.
    x /= np.linalg.norm(x, axis=1)[:, None]
    x[32:] *= 3.
    self.blocks(x, network('erf', 1, 2.), get='nngp', size=2**14)

  @parameterized.parameters('ndk', 'nngp')
  def test_kernels_that_are_not_symmetric(self, get):
    got, mirrored, _ = self.blocks(inputs(80), network('erf', 2, 2.), get=get)
    self.assertEqual(mirrored, 0)
    self.assertGreater(np.max(np.abs(got - np.transpose(got))), 1e-3)

  @parameterized.parameters(0, 40, 79)
  def test_one_sample_that_breaks_symmetry(self, where):
    x = inputs(80)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    _, mirrored, _ = self.blocks(x, network('erf', 2, 2.))
    self.assertGreater(mirrored, 0)
    x[where] *= 1.01
    _, mirrored, _ = self.blocks(x, network('erf', 2, 2.))
    self.assertEqual(mirrored, 0)

  def test_first_samples_that_see_no_others(self):
    # Kernels with these are zero, whatever the others are.
    x = inputs(80) * np.repeat([1., 0.], 5)
    x[20:] = inputs(80)[20:] * np.repeat([0., 1.], 5)
    x[:20] /= np.linalg.norm(x[:20], axis=1, keepdims=True)
    _, mirrored, _ = self.blocks(x, network('erf', 2, 2.))
    self.assertEqual(mirrored, 0)

  def test_blocks_of_test_inputs(self):
    x, kernel_fn = inputs(80), network('relu', 1, 2.)
    tau = np.array([[.5, .1], [2., 0.]])
    with mock.patch.object(kernel_evaluation, '_BLOCK_BYTES', 2**13):
      got = KernelEvaluator(kernel_fn, x[30:], 1).test_train(x[:30], 'ndk', tau)
    got = np.asarray(got).reshape((30, 2, 50))
    for q, (t, t_) in enumerate(tau):
      want = kernel_fn(x[:30], x[30:], 'ndk', diffusion_time=(t, t_))
      np.testing.assert_allclose(got[:, q], want, rtol=1e-10)

  @parameterized.parameters(1, 4)
  def test_equal_inputs(self, locations):
    # To the last bit: small temperatures amplify what tells them apart.
    x = np.random.default_rng(0).normal(size=(24, 4, 2))
    same, other = np.array([2, 11, 23]), 5
    x[same] = x[2]
    layers = [stax.Conv(4, (3,), padding='SAME'), stax.Relu()]
    layers += [stax.GlobalAvgPool()] * (locations == 1)
    kernel_fn = stax.serial(*layers)[2]
    tau = np.array([[.3, .3], [2., .1]])
    shape = (-1, locations, len(tau), 24, locations)
    with mock.patch.object(kernel_evaluation, '_BLOCK_BYTES', 2**12):
      evaluator = KernelEvaluator(kernel_fn, x, locations)
      train, test = (np.asarray(f(*args, 'ndk', tau)).reshape(shape)
                     for f, *args in ((evaluator.train_train,),
                                      (evaluator.test_train, x[2:8])))
    for i in same[1:]:
      np.testing.assert_array_equal(train[i], train[2])
      np.testing.assert_array_equal(train[..., i, :], train[..., 2, :])
      np.testing.assert_array_equal(test[..., i, :], test[..., 2, :])
    self.assertGreater(np.abs(train[other] - train[2]).max(), 0)
    np.testing.assert_allclose(test[3], train[other], rtol=1e-6)

  def test_equal_inputs_with_other_arguments(self):
    x, gain = np.ones((6, 3)), np.array([1., 1., 2., 2., 2., 3.])

    def kernel_fn(x1, x2, get, diffusion_time, gain):
      del get, diffusion_time
      return gain[0][:, None] * gain[1] * (x1 @ x2.T)

    evaluator = KernelEvaluator(kernel_fn, x, 1, gain=(gain, gain))
    np.testing.assert_allclose(evaluator.train_train('ndk', np.ones((1, 2))),
                               3 * np.outer(gain, gain))

  def test_blocks_of_images(self):
    x = np.random.default_rng(0).normal(size=(20, 4, 2))
    layers = stax.Conv(4, (3,), W_init_std=2., padding='SAME'), stax.Relu()
    flat = stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1))[2]
    everywhere = stax.serial(*layers, stax.Conv(1, (1,)))[2]
    for kernel_fn, locations in ((flat, 1), (everywhere, 4)):
      with self.subTest(locations=locations):
        _, mirrored, _ = self.blocks(x, kernel_fn, locations, size=2**12)
        self.assertGreater(mirrored, 0)

  def test_batched_kernel_function(self):
    x, kernel_fn = inputs(), network('erf', 1)
    plain, batched = (KernelEvaluator(k, x, 1) for k in
                      (kernel_fn, batch(kernel_fn, 10, device_count=0)))
    tau = np.array([[.5, .1]])
    np.testing.assert_allclose(plain.train_train('ndk', tau),
                               batched.train_train('ndk', tau), rtol=1e-12)


if __name__ == '__main__':
  absltest.main()
