# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the fast `arctan2`."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk import stax
from nt_ndk._src.base.arctan import arctan2

jax.config.update('jax_enable_x64', True)


def points(count=20_000):
  """In all directions, and close to the axes and the diagonals."""
  rng = np.random.default_rng(0)
  close = 10.**rng.uniform(-17, 0, count) * rng.choice([-1, 1], count)
  angle = np.concatenate([
      rng.uniform(-np.pi, np.pi, count),
      np.pi / 4 * rng.integers(-4, 5, count) + close])
  radius = 10.**rng.uniform(-100, 100, angle.size)
  y, x = radius * np.sin(angle), radius * np.cos(angle)
  axes = np.array([[0, 1], [0, -1], [1, 0], [-1, 0], [0, -1e-300],
                   [1e-300, 0], [1, 1], [-1, -1]]).T
  return np.concatenate([np.stack([y, x]), axes], 1)


class ArctanTest(parameterized.TestCase):

  @parameterized.parameters(np.float64, np.float32)
  def test_angles(self, dtype):
    y, x = points()
    if dtype == np.float32:
      scale = np.hypot(y, x)
      y, x = (y / scale).astype(dtype), (x / scale).astype(dtype)
    got, want = arctan2(y, x), np.arctan2(y.astype(float), x.astype(float))
    self.assertEqual(got.dtype, dtype)
    np.testing.assert_allclose(got, want, rtol=2.5 * np.finfo(dtype).eps,
                               atol=np.finfo(dtype).tiny)

  def test_few_angles_are_those_of_jax(self):
    y, x = points()[:, :100]
    np.testing.assert_array_equal(arctan2(y, x), jnp.arctan2(y, x))

  def test_shapes(self):
    y, x = points()[:, :1000]
    got = arctan2(y[:, None], x)
    np.testing.assert_allclose(got, np.arctan2(y[:, None], x), rtol=1e-15)

  @parameterized.parameters(0, 1)
  def test_derivatives(self, argnum):
    y, x = np.random.default_rng(0).normal(size=(2, 1000))
    got, want = (jax.grad(lambda *a, f=f: jnp.sum(f(*a)**2), argnum)(y, x)
                 for f in (arctan2, jnp.arctan2))
    np.testing.assert_allclose(got, want, rtol=1e-13)

  @parameterized.parameters(np.float64, np.float32)
  def test_arc_cosine_kernel(self, dtype):
    """Cho and Saul, NIPS 2009, equation 6, through Neural Tangents."""
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(dtype)
    kernel_fn = stax.serial(stax.Dense(1), stax.Relu())[2]
    norm = np.linalg.norm(x, axis=1)
    x64 = x.astype(float)
    cosine = np.clip(x64 @ x64.T / np.outer(norm, norm), -1, 1)
    theta = np.arccos(cosine)
    want = np.outer(norm, norm) / (2 * np.pi * 5) * (
        np.sin(theta) + (np.pi - theta) * cosine)
    np.testing.assert_allclose(kernel_fn(x, None, 'nngp'), want, rtol=1e-13 if
                               dtype == np.float64 else 1e-5)


if __name__ == '__main__':
  absltest.main()
