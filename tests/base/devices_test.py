# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that batches and several devices give the numbers of one."""

import functools
import glob
import os
import re
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import numpy as jnp
from jax import random
import numpy as np
import pytest

import nt_ndk
from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.dynamics import volterra
from nt_ndk._src.predictors import posterior

jax.config.update('jax_enable_x64', True)

_DEVICES = 'device_count'
# Samples; no other axis is a multiple of them.
_LARGE = 104


def network(phi=stax.Erf):
  layer = lambda width: stax.Dense(width, 1.3, .2, W_init_std=1.4)
  return stax.serial(layer(8), phi(), layer(1))[2]


def spy(see):
  """A layer that shows kernels and leaves them as they are."""

  @stax.layer
  def Spy():
    init_fn = lambda rng, input_shape: (input_shape, ())
    apply_fn = lambda params, inputs, **kwargs: inputs

    def kernel_fn(k, **kwargs):
      see(k)
      return k

    return init_fn, apply_fn, kernel_fn

  return Spy()


def data(n=24, m=5):
  x = random.normal(random.PRNGKey(0), (n + m, 6))
  x /= jnp.linalg.norm(x, axis=1, keepdims=True) / 6**.5
  return x[:n], jnp.sin(x[:n, :1]), x[n:]


# As many samples are solved for, whose equations are not solved directly.
@mock.patch.object(volterra, '_DIRECTLY', 0)
def trajectories(**kwargs):
  """Everything that predictors return, for one problem."""
  x, y, x_test = data()
  make = lambda phi: predict.markov_proximal_mse_ensemble(
      network(phi), x, y, temperature=1e-2, **kwargs)
  t = jnp.geomspace(1., 1e5, 7)
  predict_fn = make(stax.Erf)
  out = dict(zip(('mean', 'variance'), predict_fn(
      t=t[2::3], x_test=x_test, get='ndk', compute_cov='diag')))
  out['train'] = predict_fn(t=t, get='ndk')
  out['late'] = predict_fn(t=None, x_test=x_test, get='ndk')
  out['two'] = predict_fn.two_time_covariance(1e4, 1e3, x_test)
  out['relu'] = make(stax.Relu)(t=t, x_test=x_test, get='ndk')
  # Devices that share an array, rather than keep copies of it.
  out[_DEVICES] = max(len(a.sharding.device_set) for a in jax.live_arrays()
                      if not a.is_fully_replicated or jax.device_count() == 1)
  return out


# As of so many samples that there is no room for all rows of a matrix.
@mock.patch.object(volterra, '_DIRECTLY', 0)
@mock.patch.object(volterra, 'ALL_MODES', 0)
@mock.patch.object(posterior, 'ALL_MODES', 0)
def large():
  """Means along learning, and mean and variance at its end."""
  x, y, x_test = data(_LARGE)
  # Rounding errors decide when iterations and panels end.
  predict_fn = predict.markov_proximal_mse_ensemble(network(), x, y, 1e-2,
                                                    rtol=1e-8)
  out = dict(zip(('late', 'late_variance'), predict_fn(
      t=None, x_test=x_test, get='ndk', compute_cov='diag')))
  t = jnp.geomspace(1., 1e5, 5)
  out['mean'] = predict_fn(t=t, x_test=x_test, get='ndk')
  out['train'] = predict_fn(t=t, get='ndk')
  return out


def on_devices(count, folder, what='trajectories', flags=''):
  """The same in another process, on simulated devices."""
  path = os.path.join(folder, f'{count}.npz')
  flags = f'{os.environ.get("XLA_FLAGS", "")} {flags}'
  subprocess.run(
      [sys.executable, __file__, what, path], check=True,
      env={**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true',
           'XLA_FLAGS':
           f'{flags} --xla_force_host_platform_device_count={count}',
           # Devices that wait for each other need a thread each.
           'NPROC': '32'})
  return dict(np.load(path))


def setUpModule():
  # Many programs, each run once or twice: compilation is most of the time.
  jax.config.update('jax_disable_most_optimizations', True)


def tearDownModule():
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()  # Others test optimized programs.


class DevicesTest(parameterized.TestCase):

  @pytest.mark.slow
  def test_several_devices(self):
    with tempfile.TemporaryDirectory() as folder:
      one = on_devices(1, folder)
      for count in (2, 4, 8):
        several = on_devices(count, folder)
        self.assertEqual(several.pop(_DEVICES), count)
        for name, got in several.items():
          scale = np.max(np.abs(one[name]))
          np.testing.assert_allclose(got, one[name], rtol=0, atol=1e-10 * scale,
                                     err_msg=f'{name} on {count} devices')

  @pytest.mark.slow
  def test_no_device_has_all_rows(self):
    with tempfile.TemporaryDirectory() as folder:
      one = on_devices(1, folder, 'large')
      several = on_devices(
          8, folder, 'large',
          f'--xla_dump_to={folder}/programs --xla_dump_hlo_as_text')
      for name, want in one.items():
        np.testing.assert_allclose(several[name], want, rtol=0, err_msg=name,
                                   atol=1e-9 * np.max(np.abs(want)))
      shapes = set()
      for path in glob.glob(f'{folder}/programs/*after_optimizations.txt'):
        with open(path, encoding='utf-8') as f:
          shapes |= set(re.findall(r'f(?:32|64)\[([0-9,]+)\]', f.read()))
    shapes = [tuple(map(int, shape.split(','))) for shape in shapes]
    # Rows of one device, and of all.
    shapes = [shape for shape in shapes if all(shape)]
    rows = lambda shape: sum(size % _LARGE == 0 for size in shape)
    self.assertTrue(any(_LARGE // 8 in shape and rows(shape) == 1
                        for shape in shapes))
    self.assertEmpty([shape for shape in shapes if rows(shape) > 1 or
                      any(size % _LARGE**2 == 0 for size in shape)])

  def check_batches(self, batch_size):
    # 24 and 5 samples: batches that do not fit, and one for all.
    want, got = trajectories(), trajectories(batch_size=batch_size)
    for name in set(want) - {_DEVICES}:
      np.testing.assert_allclose(
          got[name], want[name], rtol=0,
          atol=1e-10 * np.max(np.abs(want[name])), err_msg=name)

  @parameterized.parameters([7])
  def test_batches(self, batch_size):
    self.check_batches(batch_size)

  @parameterized.parameters([100])
  @pytest.mark.slow
  def test_batches_more(self, batch_size):
    self.check_batches(batch_size)

  def test_batches_are_what_is_computed(self):
    shapes = set()
    _, _, spied = stax.serial(
        stax.Dense(1, W_init_std=1.4),
        spy(lambda k: shapes.add(k.nngp.shape[:2])))
    x, y, x_test = data()
    predict_fn = predict.markov_proximal_mse_ensemble(
        spied, x, y, temperature=1e-2, batch_size=6)
    predict_fn(t=10., x_test=x_test, compute_cov=True)
    self.assertLessEqual(max(max(shape) for shape in shapes), 6)
    self.assertIn((6, 6), shapes)

  @parameterized.parameters(
      'markov_proximal_mse_ensemble', 'diffusive_limit_mse_ensemble',
      'representational_drift_mse_ensemble')
  @pytest.mark.slow
  def test_products_in_full_precision(self, name):
    # Accelerators else round factors in single precision, without a word.
    seen = set()
    dense = functools.partial(stax.Dense, W_init_std=1.4)
    kernel_fn = stax.serial(
        dense(8),
        spy(lambda _: seen.add(jax.config.jax_default_matmul_precision)),
        stax.Erf(), dense(1))[2]
    x, y, x_test = data()
    temperature = () if name.startswith('diffusive') else (1e-2,)
    predict_fn = getattr(predict, name)(kernel_fn, x, y, *temperature)
    asked = [lambda: predict_fn(10., x_test, compute_cov='diag')]
    if hasattr(predict_fn, 'phases'):
      asked += [predict_fn.phases,
                lambda: predict_fn.two_time_covariance(10., 5., x_test)]
    for ask in asked:
      jax.clear_caches()
      ask()
    self.assertEqual(seen, {'highest'})
    self.assertIsNone(jax.config.jax_default_matmul_precision)

  @parameterized.parameters(-1, 2.5, True, 'many')
  def test_wrong_batch_size(self, batch_size):
    x, y, _ = data()
    with self.assertRaisesRegex(ValueError, 'batch_size'):
      predict.markov_proximal_mse_ensemble(network(), x, y, 1e-2,
                                           batch_size=batch_size)

  def test_batches_of_batches(self):
    x, y, _ = data()
    with self.assertRaisesRegex(ValueError, '`nt_ndk.batch`'):
      predict.diffusive_limit_mse_ensemble(
          nt_ndk.batch(network(), 6), x, y, batch_size=6)


if __name__ == '__main__':
  if len(sys.argv) == 3 and sys.argv[-1].endswith('.npz'):
    np.savez(sys.argv[-1], **dict(large=large, trajectories=trajectories)[
        sys.argv[1]]())
  else:
    absltest.main()
