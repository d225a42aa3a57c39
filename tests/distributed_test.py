# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that several processes give the numbers of one, on each of them."""

import os
import socket
import subprocess
import sys
import tempfile

from absl.testing import absltest
import jax
from jax import numpy as jnp
import numpy as np

from devices_test import data
from devices_test import network
from nt_ndk import predict
from nt_ndk._src import devices

jax.config.update('jax_enable_x64', True)

_PROCESSES = 2
_DEVICES = 2  # Of each process.
_TIMEOUT = 400


def predictor(x, y, **kwargs):
  return predict.markov_proximal_mse_ensemble(network(), x, y, temperature=1e-2,
                                              **kwargs)


def shares(n):
  """The share of this process of all arrays with several matrices."""
  return [sum(s.data.size for s in a.addressable_shards) / a.size
          for a in jax.live_arrays() if a.ndim == 2 and n == len(a) < len(a.T)]


def predictions():
  """What predictors return, and the shares of what they keep."""
  x, y, x_test = data()
  t = jnp.geomspace(1., 1e5, 4)
  predict_fn = predictor(x, y)
  out = dict(zip(('mean', 'variance'), predict_fn(
      t=t[1:3], x_test=x_test, get='ndk', compute_cov='diag')))
  out['train'] = predict_fn(t=t, get='ndk')
  out['late'] = predict_fn(t=None, x_test=x_test, get='ndk')
  out['ntk'] = predict_fn(t=t, x_test=x_test, get='ntk')
  out['two'] = predict_fn.two_time_covariance(1e4, 1e3, x_test)
  out['batches'] = predictor(x, y, batch_size=5)(t=t, x_test=x_test, get='ndk')
  return out, shares(len(x))


def message(f):
  """Of the error that is raised."""
  try:
    f()
  except ValueError as e:
    return str(e)
  return ''


def process(index, port, path):
  """What one of several processes finds."""
  jax.distributed.initialize(f'localhost:{port}', _PROCESSES, index)
  assert jax.device_count() == _PROCESSES * _DEVICES
  out, out['shares'] = predictions()
  x, y, x_test = data()
  out['devices'] = [devices.Spread(n).count for n in (24, 22)]
  out['agreed'] = devices.to_host(np.array([index, .5]))
  predict_fn = predictor(x, y)
  out['messages'] = [message(f) for f in (
      lambda: predictor(x[:23], y[:23]),
      lambda: predictor(x + index, y),
      lambda: predict_fn(t=1. + index),
      lambda: predict_fn(t=1., x_test=x_test[index:]))]
  np.savez(path, **out)


def start(index, port, path):
  flags = os.environ.get('XLA_FLAGS', '')
  return subprocess.Popen(
      [sys.executable, __file__, str(index), str(port), path],
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
      env={**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true',
           'XLA_FLAGS':
           f'{flags} --xla_force_host_platform_device_count={_DEVICES}',
           # Devices that wait for each other need a thread each.
           'NPROC': '32'})


def on_processes():
  """What each of several processes finds."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, f'{i}.npz') for i in range(_PROCESSES)]
    processes = [start(i, port, path) for i, path in enumerate(paths)]
    try:
      logs = [p.communicate(timeout=_TIMEOUT)[0][-4000:] for p in processes]
    finally:
      for p in processes:
        p.kill()
        p.wait()
    if any(p.returncode for p in processes):
      raise RuntimeError('\n\n'.join(logs))
    return [dict(np.load(path)) for path in paths]


class DistributedTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.found = on_processes()

  def test_predictions(self):
    jax.config.update('jax_disable_most_optimizations', True)
    self.addCleanup(jax.config.update, 'jax_disable_most_optimizations', False)
    want, _ = predictions()
    for found in self.found:
      for name, value in want.items():
        scale = np.max(np.abs(value))
        np.testing.assert_allclose(found[name], value, rtol=0,
                                   atol=1e-10 * scale, err_msg=name)

  def test_same_on_all(self):
    first, *others = self.found
    np.testing.assert_array_equal(first['agreed'], [0., .5])
    for other in others:
      for name in set(first) - {'shares'}:
        np.testing.assert_array_equal(first[name], other[name], err_msg=name)

  def test_shares(self):
    for found in self.found:
      self.assertNotEmpty(found['shares'])
      np.testing.assert_array_equal(found['shares'], 1 / _PROCESSES)
      # 22 samples: one device of each process.
      np.testing.assert_array_equal(found['devices'], [4, 2])

  def test_errors(self):
    for found in self.found:
      wrong, *different = found['messages']
      self.assertIn('multiple of that of processes, 2', wrong)
      self.assertIn('got 23', wrong)
      for text in different:
        self.assertIn('processes must pass the same', text)


if __name__ == '__main__':
  if len(sys.argv) == 4 and sys.argv[-1].endswith('.npz'):
    process(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
  else:
    absltest.main()
