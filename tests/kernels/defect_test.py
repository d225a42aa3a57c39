# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of what errors of kernels make of integrals."""

from absl.testing import absltest
import numpy as np

from nt_ndk._src.dynamics.measure import Measure
from nt_ndk._src.dynamics.measure import most
from nt_ndk._src.dynamics.measure import together
from nt_ndk._src.kernels import defect


def measure(points, n=6, k=2, seed=0):
  rng = np.random.default_rng([points, seed])
  return Measure(np.sort(rng.uniform(size=points)),
                 rng.normal(size=(points, n, k)))


class DefectTest(absltest.TestCase):

  def test_largest_error_of_sums(self):
    # Of kernels whose errors are products of functions of the two times.
    measures = [measure(4), measure(7), measure(1)]
    later = [1., 2., 5.]
    shape = np.random.default_rng(1).normal(size=(3, 6))
    errors = lambda tau: (np.sin(tau[:, 0]) * np.exp(-tau[:, 1]))[
        :, None, None] * shape
    want = max(np.max(np.abs(np.sin(end) * shape @ np.einsum(
        'q,qnk->nk', np.exp(-m.tau), m.vectors)))
               for end, m in zip(later, measures))
    self.assertAlmostEqual(
        defect.largest(list(zip(later, measures)), errors), want, places=13)

  def test_an_error_at_one_time_of_one_input(self):
    later, rows = np.arange(1., 6.), 30
    measures = [measure(9, seed=i) for i in range(5)]
    for end, m in zip(later, measures):
      def errors(tau, end=end):
        out = np.zeros((len(tau), rows, 6))
        out[(tau[:, 0] == end), 17, 2] = 1.
        return out
      self.assertAlmostEqual(
          defect.largest(list(zip(later, measures)), errors),
          np.max(np.abs(np.sum(m.vectors[:, 2], 0))), places=13)

  def test_measures(self):
    a, b = measure(3), measure(4)
    both = together([a, b])
    function = lambda m: np.einsum('q,qnk->nk', np.cos(m.tau), m.vectors)
    np.testing.assert_allclose(function(both), function(a) + function(b),
                               rtol=1e-13)

  def test_most_of_nothing(self):
    # Of targets that are zero.
    zero = Measure(np.arange(3.), np.zeros((3, 2, 1)))
    np.testing.assert_array_equal(most(zero).tau, zero.tau)

  def test_most_of_a_measure(self):
    # Masses that fall geometrically; what is left out is a few percent at most.
    rng = np.random.default_rng(0)
    size = 2.**-rng.permutation(20)
    full = Measure(np.arange(20.), size[:, None, None] * rng.choice(
        [-1., 1.], size=(20, 5, 2)))
    some = most(full)
    self.assertLess(len(some.tau), 8)
    self.assertTrue(np.all(np.diff(some.tau) > 0))
    left = np.sum(np.abs(full.vectors), 0) - np.sum(np.abs(some.vectors), 0)
    self.assertLess(np.max(left) / np.sum(size), .05)
    np.testing.assert_array_equal(some.vectors,
                                  full.vectors[some.tau.astype(int)])


if __name__ == '__main__':
  absltest.main()
