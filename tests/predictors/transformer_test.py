# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of predictors of a transformer block; its kernels are in `zoo`."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
from predict_test import rms
import pytest

from nt_ndk import predict
import reference
import zoo

jax.config.update('jax_enable_x64', True)

T = 1e-2


@functools.lru_cache(None)
def problem(masked):
  """12 sequences and 4 to test on, and a predictor."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(16, 5, 3))
  y = np.sum(x[:, 0] * x[:, 1], -1)[:, None]
  kwargs = {}
  if masked:
    x[::2, 3:] = 9.
    kwargs['mask_constant'] = 9.
  kernel_fn = zoo.transformer(8, 1)[0][2]
  predict_fn = predict.markov_proximal_mse_ensemble(
      kernel_fn, x[:12], y[:12], T, rtol=1e-4, **kwargs)
  return x, y, functools.partial(kernel_fn, **kwargs), predict_fn


class TransformerTest(parameterized.TestCase):

  @parameterized.parameters(False, True)
  @pytest.mark.slow
  def test_learning_curve(self, masked):
    x, y, kernel_fn, predict_fn = problem(masked)
    y, scale = y[:12], rms(y[:12])
    late = np.asarray(kernel_fn(x, None, 'nngp', diffusion_time=(1e3, 1e3)))
    want = reference.gp_mean(late[:12, :12], y, T, late[12:, :12])
    got = predict_fn(None, x[12:], 'ndk', compute_cov=True)
    np.testing.assert_allclose(got.mean, want, atol=1e-7 * scale)
    np.testing.assert_allclose(got.covariance, reference.gp_covariance(
        late[:12, :12], T, late[12:, :12], late[12:, 12:]), atol=1e-7)

    # Gradient flow first: weights have not diffused far.
    t = np.array([.3, 3., 100., 2e4])
    curve = predict_fn(t, x[12:], 'ndk')
    ntk = np.asarray(kernel_fn(x, None, 'ntk'))
    weights = [reference.gradient_flow_weights(
        ntk[:12, :12], ntk[12:, :12], a / y.size) for a in t[:2]]
    np.testing.assert_allclose(curve[:2], weights @ y, atol=2e-2 * scale)
    self.assertGreater(rms(weights[1] @ y), .1 * scale)
    self.assertGreater(rms(curve[2] - want), 1e-2 * scale)
    np.testing.assert_allclose(curve[3], want, atol=1e-3 * scale)
    self.assertLess(predict_fn.stats['estimated_error'], 1e-2)


if __name__ == '__main__':
  absltest.main()
