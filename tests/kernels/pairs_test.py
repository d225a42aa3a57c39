# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of samples, and pairs of samples, that stand for all."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from nt_ndk._src.kernels import pairs


def data(n=200, d=5):
  """Inputs, a small and a large one, and pairs of nearly equal directions."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(n, d))
  x *= rng.uniform(.5, 2., size=(n, 1)) / np.linalg.norm(x, axis=1,
                                                         keepdims=True)
  x[17] *= 1e-2
  x[23] *= 1e2
  x[60] = 1.5 * x[50] + 1e-3
  x[61:64] = 1.5 * x[51:54] + 1e-2
  x[90] = -.8 * x[80]
  x[91:94] = -.8 * x[81:84] + 1e-2
  x[120] = x[110]
  return x


class PairsTest(parameterized.TestCase):

  def test_extremes(self):
    x = data()
    small, large, nearest, opposite = pairs.extremes(x, x)
    self.assertEqual([small[0], large[0]], [17, 23])
    # Equal inputs are like an input with itself.
    self.assertEqual(set(nearest[:2]), {50, 60})
    self.assertEqual(set(opposite[:2]), {80, 90})
    for order in (small, large, nearest, opposite):
      self.assertEqual(sorted(order), list(range(len(x))))

  def test_extremes_of_test_inputs(self):
    x = data()
    z = np.stack([x[3] + 1., -2 * x[4], 1.1 * x[5], 1e-3 * x[6], 1e4 * x[7]])
    small, large, _, opposite = pairs.extremes(z, x)
    self.assertEqual([small[0], large[0], opposite[0]], [3, 4, 1])

  def test_extremes_of_a_pool(self):
    x = np.random.default_rng(0).normal(size=(1500, 2))
    orders = pairs.extremes(x, x)
    self.assertEqual(orders.shape, (4, 1000))
    self.assertLen(set(orders[0]), 1000)

  @parameterized.parameters(range(4))
  def test_pairs_of_all_kinds(self, seed):
    # Those that are nearly parallel and opposite, whatever is drawn.
    x = data()
    for chosen in (
        np.concatenate(pairs.training_pairs(x, 1, np.random.RandomState(seed))),
        pairs.test_pairs(x, x, np.random.RandomState(seed))):
      chosen = {tuple(pair) for pair in chosen}
      for i in (50, 51, 52, 53, 80, 81, 82, 83):
        self.assertTrue(chosen & {(i, i + 10), (i + 10, i)}, i)


if __name__ == '__main__':
  absltest.main()
