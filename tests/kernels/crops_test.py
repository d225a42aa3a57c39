# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of images in place of images, where times are chosen."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.kernels import compressed
from nt_ndk._src.kernels import crops
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.sample import Training

jax.config.update('jax_enable_x64', True)

_TIMES = np.geomspace(1., 1e6, 7)


def images(n, size, seed=0):
  return np.random.default_rng(seed).normal(size=(n, size, size, 2))


def network(*last):
  conv = lambda: stax.Conv(1, (3, 3), padding='SAME', W_init_std=1.5)
  return stax.serial(conv(), stax.Relu(), *last,
                     stax.Dense(1, W_init_std=1.5))[2]


def training(kernel_fn, x):
  return Training(KernelEvaluator(kernel_fn, x, 1), 'ndk', 0.)


class CropsTest(parameterized.TestCase):

  def test_middle(self):
    x = np.arange(49.).reshape((1, 7, 7, 1))
    np.testing.assert_array_equal(crops.crop(x, 3)[0, :, :, 0],
                                  x[0, 2:5, 2:5, 0])
    np.testing.assert_array_equal(crops.crop(x, 9), x)

  @parameterized.named_parameters(
      ('pooled', (stax.GlobalAvgPool(),), 4),
      ('flattened', (stax.Flatten(),), 4),
      ('windows that need eight pixels',
       (stax.AvgPool((8, 8)), stax.Flatten()), 8),
      ('windows that need all pixels',
       (stax.AvgPool((12, 12)), stax.Flatten()), None))
  def test_smallest_that_networks_take(self, last, size):
    small = crops.cropped(training(network(*last), images(3, 12)))
    self.assertEqual(small and small[1], size)

  def test_none_of_vectors(self):
    kernel_fn = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))[2]
    self.assertIsNone(crops.cropped(training(kernel_fn, np.ones((3, 5)))))

  def test_none_where_middles_are_zero(self):
    x = images(3, 6)
    x[:, 1:5, 1:5] = 0.
    self.assertIsNone(crops.cropped(training(network(stax.Flatten()), x)))

  def _predict(self, x, y, rtol):
    predict_fn = predict.markov_proximal_mse_ensemble(
        network(stax.GlobalAvgPool()), x[:-2], y, 1e-3, rtol=rtol)
    return predict_fn(_TIMES, x[-2:], 'ndk'), predict_fn.stats

  @parameterized.named_parameters(
      ('of middles like the rest', False), ('of middles like no other', True))
  @pytest.mark.slow
  def test_predictions(self, flat):
    # Where all middles are multiples of one image, they tell too little: that
    # must be noticed.
    x = images(8, 8)
    if flat:
      x[:, 2:6, 2:6] = x[:1, 2:6, 2:6] * np.sign(x[:, :1, :1, :1])
    y = np.random.default_rng(1).normal(size=(6, 1))
    with self.subTest('on whole images'), absltest.mock.patch.object(
        compressed, 'cropped', lambda training: None):
      wanted, _ = self._predict(x, y, 1e-7)
    found, stats = self._predict(x, y, 1e-5)
    error = np.max(np.abs(found - wanted)) / np.sqrt(np.mean(y**2))
    self.assertLess(error, 1e-4)
    self.assertLess(error, stats['estimated_error'])


if __name__ == '__main__':
  absltest.main()
