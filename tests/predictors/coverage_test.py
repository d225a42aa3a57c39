# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that intervals contain what they should, on data from the prior.

Functions are drawn from the prior of the network, and targets from these with
noise of variance T, as the posterior assumes: 200 sets of 50 samples, each an
output of one predictor. Then the posterior is calibrated.
"""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
from predict_test import description
from predict_test import network
import pytest
from scipy import stats

from nt_ndk import predict

jax.config.update('jax_enable_x64', True)

_N, _SETS, _T = 50, 200, .1
_LEVELS = np.array([.5, .9, .95])


class CoverageTest(parameterized.TestCase):

  @parameterized.parameters(('erf', 2, .9), ('relu', 1, 1.2))
  @pytest.mark.slow
  def test_coverage(self, phi, depth, s):
    kernel_fn = network(description(phi, depth, 1.5, s, 1.4, .3))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_N + 1, 5))
    c = np.asarray(kernel_fn(x, x, 'nngp', diffusion_time=(1e3, 1e3)))
    f = np.linalg.cholesky(c) @ rng.normal(size=(_N + 1, _SETS))
    noise = _T**.5 * rng.normal(size=f.shape)
    # Other outputs tell how the mean depends on targets.
    y = np.concatenate([(f + noise)[:-1], np.eye(_N)], 1)
    predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x[:-1], y, _T)
    phases = predict_fn.phases()
    t = np.append(np.geomspace(phases.start, phases.equilibrium, 6)[1:-1],
                  np.inf)
    mean, variance = (np.asarray(a)[:, 0] for a in predict_fn(
        t=t, x_test=x[-1:], get='ndk', compute_cov='diag'))
    mean, weights = mean[:, :_SETS], mean[:, _SETS:]

    # Before equilibrium intervals are those of networks, not of what is true,
    # which is off by a Gaussian of another, known variance.
    train = c[:-1, :-1] + _T * np.eye(_N)
    off = (c[-1, -1] - 2 * weights @ c[-1, :-1] +
           np.einsum('ti,ij,tj->t', weights, train, weights))
    self.assertAlmostEqual(off[-1], variance[-1], delta=1e-5 * c[-1, -1])
    self.assertGreater(np.max(np.abs(variance / off - 1)), .3)

    # The function, and one more target.
    for target, more in ((f[-1], 0.), ((f + noise)[-1], _T)):
      for m, v, true in zip(mean, variance, off):
        width = stats.norm.ppf((1 + _LEVELS) / 2) * np.sqrt(v + more)
        want = 2 * stats.norm.cdf(width / np.sqrt(true + more)) - 1
        if true == off[-1]:
          np.testing.assert_allclose(want, _LEVELS, atol=1e-4)
        hits = np.sum(np.abs(target - m)[:, None] <= width, 0)
        low, high = stats.binom.ppf([[.002], [.998]], _SETS, want)
        for bounds in zip(hits, low, high):
          self.assertBetween(*bounds)


if __name__ == '__main__':
  absltest.main()
