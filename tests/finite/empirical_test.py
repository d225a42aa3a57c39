# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of `nt_ndk.empirical`, and of kernels of networks that learn."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
from jax import random
import jax.numpy as jnp
import numpy as np
import pytest

import nt_ndk
from nt_ndk import empirical
from nt_ndk import langevin
from nt_ndk import stax
import zoo

jax.config.update('jax_enable_x64', True)


def setUpModule():
  # Many programs, each run once or twice: compilation is most of the time.
  jax.config.update('jax_disable_most_optimizations', True)


def tearDownModule():
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()  # Others test optimized programs.


def network(width=8, outputs=3):
  layer = lambda n, s: stax.Dense(n, 1.2, .3, W_init_std=1.5, W_prior_std=s,
                                  b_prior_std=s / 2)
  return stax.serial(layer(width, .8), stax.Erf(), layer(outputs, 1.3))


class EmpiricalTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.init_fn, self.apply_fn, _ = network()
    self.x1, self.x2 = zoo.inputs((4,), 3, 5)
    self.params = [self.init_fn(random.PRNGKey(i), (1, 4))[1] for i in (0, 1)]

  def test_one_time_is_the_ntk(self):
    params = self.params[0]
    got = empirical.two_time_kernel_fn(
        self.apply_fn, stax.prior_std(self.init_fn))(
            self.x1, self.x2, None, params, diffusion_time=(.7, .7))
    want = nt_ndk.empirical_kernel_fn(self.apply_fn)(
        self.x1, self.x2, ('nngp', 'ntk'), params)
    np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-12)
    np.testing.assert_allclose(got.ndk, want.ntk, rtol=1e-12)

  @parameterized.parameters(0, 2)
  def test_jacobians(self, batch_size):
    # Of one output at each time, with the response of each parameter.
    kernel_fn = empirical.two_time_kernel_fn(
        self.apply_fn, stax.prior_std(self.init_fn), vmap_axes=0,
        batch_size=batch_size)
    got = kernel_fn(self.x1, self.x2, 'ndk', *self.params,
                    diffusion_time=(.2, .9))
    want = 0.
    jacobians = [jax.jacobian(self.apply_fn)(p, x)
                 for p, x in zip(self.params, (self.x1, self.x2))]
    for a, b, s in zip(*map(jax.tree_util.tree_leaves, (
        *jacobians, stax.prior_std(self.init_fn)))):
      a, b = (j.reshape((len(j), 3, -1)) for j in (a, b))
      want += np.exp(-.7 / s**2) * np.einsum('ikp,jkp->ij', a, b) / 3
    np.testing.assert_allclose(got, want, rtol=1e-12)

  def test_flax(self):
    # A layer of Flax is that of `stax` with the multiplier in its parameters.
    module = nn.Dense(3, use_bias=False)
    params = [module.init(random.PRNGKey(i), self.x1) for i in (0, 1)]
    got = empirical.two_time_kernel_fn(module.apply, .5)(
        self.x1, self.x2, 'ndk', *params, diffusion_time=(.1, .4))
    np.testing.assert_allclose(got, np.exp(-.3 / .25) * self.x1 @ self.x2.T,
                               rtol=1e-6)

  def test_wrong_arguments(self):
    kernel_fn = empirical.two_time_kernel_fn(self.apply_fn, [1., 2., 3.])
    with self.assertRaisesRegex(ValueError, 'prior_std'):
      kernel_fn(self.x1, None, 'ndk', self.params[0])
    kernel_fn = empirical.two_time_kernel_fn(self.apply_fn, 1.)
    with self.assertRaisesRegex(ValueError, '`get`'):
      kernel_fn(self.x1, None, 'ntk', self.params[0])
    with self.assertRaisesRegex(ValueError, 'time'):
      kernel_fn(self.x1, None, 'ndk', self.params[0],
                diffusion_time=(np.ones(3), 1.))


@pytest.mark.slow
class LearningTest(parameterized.TestCase):

  def test_kernel_does_not_depend_on_data(self):
    # In wide networks; C is that of networks that do not learn, and shows it.
    init_fn, apply_fn, kernel_fn = network(1024, 1)
    x, y = zoo.inputs((4,), 3, 2)[0], jnp.array([[1.], [-1.], [1.]])
    temperature = .2
    train = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, y, temperature, loss='sum')
    t1, t2 = np.array([[0., 0., 2., 4., 6.], [0., 1., .5, 4., 3.]])
    got = train.two_time_kernel_fn(random.PRNGKey(0), 60, t1, t2, x)
    self.assertEqual(got.ndk.mean.shape, (5, 3, 3))
    far = False
    for i, times in enumerate(zip(temperature * t1, temperature * t2)):
      want = kernel_fn(x, None, ('nngp', 'ndk'), diffusion_time=times)
      z = (got.ndk.mean[i] - want.ndk) / got.ndk.standard_error[i]
      np.testing.assert_array_less(np.abs(z), 3.)
      self.assertLess(np.max(got.ndk.standard_error[i] / want.ndk), .02)
      z = (got.nngp.mean[i] - want.nngp) / got.nngp.standard_error[i]
      far |= np.max(np.abs(z)) > 10.
    self.assertTrue(far)


if __name__ == '__main__':
  absltest.main()
