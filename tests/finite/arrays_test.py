# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of what functions of finite networks take: arrays of any kind, keys."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
from jax import random
import jax.numpy as jnp
import numpy as np
import pytest

from nt_ndk import empirical
from nt_ndk import langevin
from nt_ndk import monte_carlo
from nt_ndk import stax

jax.config.update('jax_enable_x64', True)

X = np.random.RandomState(0).randint(0, 4, size=(4, 3)).astype(float)
Y = np.array([[0], [1], [1], [0]], float)
INIT_FN, APPLY_FN, _ = stax.serial(
    stax.Dense(8, W_prior_std=.8), stax.Relu(), stax.Dense(1))
KEY = random.PRNGKey(0)

ARRAYS = dict(big_endian=lambda a: a.astype('>f8'),
              lists=lambda a: a.tolist())
MORE_ARRAYS = dict(
    rows=list, objects=lambda a: a.astype(object),
    float16=lambda a: a.astype(np.float16),
    bfloat16=lambda a: jnp.asarray(a, jnp.bfloat16))


def ensemble(x=X, y=Y, x_test=None, init_fn=INIT_FN, apply_fn=APPLY_FN, key=KEY,
             antithetic=True, **kwargs):
  return langevin.markov_proximal_ensemble(
      init_fn, apply_fn, x, y, .1, step_size=.05, antithetic=antithetic,
      **kwargs)(
          key, 4, [2.], x_test).mean


def sampled(x=X, init_fn=INIT_FN, key=KEY):
  return monte_carlo.two_time_kernel_fn(init_fn, APPLY_FN, key, 4)(
      x, x, 'ndk', (.1, .3)).mean


def of_parameters(x=X):
  _, params = INIT_FN(KEY, X.shape)
  return empirical.two_time_kernel_fn(APPLY_FN, stax.prior_std(INIT_FN))(
      x, x, 'ndk', params, diffusion_time=(.1, .3))


@functools.lru_cache(None)
def expected():
  return ensemble(), sampled(), of_parameters()


class InputsTest(parameterized.TestCase):

  def check(self, convert):
    x, y = convert(X), convert(Y)
    for one, other in zip((ensemble(x, y, x), sampled(x), of_parameters(x)),
                          expected()):
      np.testing.assert_allclose(one, other, rtol=1e-6)

  @parameterized.named_parameters(ARRAYS.items())
  def test_arrays(self, convert):
    self.check(convert)

  @parameterized.named_parameters(MORE_ARRAYS.items())
  @pytest.mark.slow
  def test_more_arrays(self, convert):
    self.check(convert)

  def test_integers(self):
    # Networks of opposite signs learn opposite targets.
    np.testing.assert_allclose(
        ensemble(X.astype(np.uint8), Y.astype(np.uint8)), expected()[0],
        rtol=1e-6)

  def test_boolean_targets(self):
    np.testing.assert_allclose(ensemble(y=Y > 0), expected()[0], rtol=1e-6)

  @parameterized.parameters((lambda a: a + 0j, 'got complex128'),
                            (lambda a: a.astype(str), 'real numbers'),
                            (lambda a: np.ma.array(a, mask=a > 0), 'masked'))
  def test_bad_arrays(self, convert, message):
    for f in (lambda x: ensemble(x), lambda x: ensemble(X, Y, x), sampled,
              of_parameters):
      with self.assertRaisesRegex(TypeError, message):
        f(convert(X))
    with self.assertRaisesRegex(TypeError, message):
      ensemble(y=convert(Y))

  def test_keys(self):
    for f in (ensemble, sampled):
      np.testing.assert_array_equal(f(key=random.key(0)), f(key=KEY))

  def test_wrapped_functions(self):
    wrapped = functools.partial(jax.jit(INIT_FN, static_argnums=1))
    got = (ensemble(init_fn=wrapped, apply_fn=jax.jit(APPLY_FN)),
           sampled(init_fn=wrapped))
    for one, other in zip(got, expected()):
      np.testing.assert_allclose(one, other, rtol=1e-10)

  def test_wrapped_modules(self):
    model = nn.Dense(1, param_dtype=float)
    want, got = (ensemble(init_fn=wrap(model.init), apply_fn=wrap(model.apply),
                          prior_std=1., antithetic=False)
                 for wrap in (lambda f: f, jax.jit))
    np.testing.assert_allclose(got, want, rtol=1e-10)


if __name__ == '__main__':
  absltest.main()
