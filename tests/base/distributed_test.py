# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that several processes give the numbers of one, on each of them."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from devices_test import data
from devices_test import large
from devices_test import network
import jax
from jax import numpy as jnp
import numpy as np
import pytest

from nt_ndk import predict
from nt_ndk._src.base import devices
from nt_ndk._src.dynamics import volterra

jax.config.update('jax_enable_x64', True)

_PROCESSES, _MORE = 2, 4
# Of each process. With more than one on CPUs, JAX 0.5.3 mixes up messages.
_DEVICES = 2 if jax.__version_info__ >= (0, 10) else 1
_TIMEOUT = 400


def predictor(x, y, **kwargs):
  return predict.markov_proximal_mse_ensemble(network(), x, y, temperature=1e-2,
                                              **kwargs)


def shares(n):
  """The share of this process of all arrays with several matrices."""
  return [sum(s.data.size for s in a.addressable_shards) / a.size
          for a in jax.live_arrays() if a.ndim == 2 and n == len(a) < len(a.T)]


def parts(n):
  """Numbers of rows that devices of this process hold, of `n`."""
  spread = devices.Spread(n)(np.zeros(n))
  return [len(s.data) for s in spread.addressable_shards]


# As many samples are solved for, whose equations are not solved directly.
@mock.patch.object(volterra, '_DIRECTLY', 0)
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
  out['parts'], out['fewer'] = parts(24), parts(22)
  out['agreed'] = devices.to_host(np.array([index, .5]))
  predict_fn = predictor(x, y)
  out['messages'] = [message(f) for f in (
      lambda: predictor(x[:23], y[:23]),
      lambda: predictor(x + index, y),
      lambda: predict_fn(t=1. + index),
      lambda: predict_fn(t=1., x_test=x_test[index:]))]
  np.savez(path, **out)


def process_of_more(index, port, path):
  """What one of more processes finds of more samples."""
  jax.distributed.initialize(f'localhost:{port}', _MORE, index)
  np.savez(path, **large())


def start(path, *args, devices_each=_DEVICES):
  flags = os.environ.get('XLA_FLAGS', '')
  return subprocess.Popen(
      [sys.executable, path, *map(str, args)], stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, text=True,
      env={**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true',
           'XLA_FLAGS':
           f'{flags} --xla_force_host_platform_device_count={devices_each}',
           # Devices that wait for each other need a thread each.
           'NPROC': '32'})


def outputs(processes):
  """What processes print, once they have all ended well."""
  try:
    out = [p.communicate(timeout=_TIMEOUT)[0] for p in processes]
  finally:
    for p in processes:
      p.kill()
      p.wait()
  if any(p.returncode for p in processes):
    raise RuntimeError('\n\n'.join(text[-4000:] for text in out))
  return out


def free_port():
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def on_processes(f, count, devices_each=_DEVICES):
  """What each of several processes finds."""
  port = free_port()
  with tempfile.TemporaryDirectory() as folder:
    paths = [os.path.join(folder, f'{i}.npz') for i in range(count)]
    outputs([start(__file__, f.__name__, i, port, path,
                   devices_each=devices_each)
             for i, path in enumerate(paths)])
    return [dict(np.load(path)) for path in paths]


def assert_close(found, want, tol):
  for name, value in want.items():
    np.testing.assert_allclose(found[name], value, rtol=0, err_msg=name,
                               atol=tol * np.max(np.abs(value)))


@pytest.mark.slow
class DistributedTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.found = on_processes(process, _PROCESSES)

  def setUp(self):
    super().setUp()
    # As in the other processes.
    jax.config.update('jax_disable_most_optimizations', True)
    self.addCleanup(jax.clear_caches)
    self.addCleanup(jax.config.update, 'jax_disable_most_optimizations', False)

  def test_predictions(self):
    want, _ = predictions()
    for found in self.found:
      assert_close(found, want, 1e-10)

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
      np.testing.assert_array_equal(found['parts'], [12 // _DEVICES] * _DEVICES)
      # Four devices do not divide 22 samples: one of each process.
      np.testing.assert_array_equal(found['fewer'], [11])

  def test_errors(self):
    for found in self.found:
      wrong, *different = found['messages']
      self.assertIn('multiple of that of processes, 2', wrong)
      self.assertIn('got 23', wrong)
      for text in different:
        self.assertIn('processes must pass the same', text)

  def test_more_samples_and_processes(self):
    want = large()
    # One device each: eight devices that wait for each other, on two cores and
    # beside other tests, may take minutes.
    for found in on_processes(process_of_more, _MORE, 1):
      assert_close(found, want, 1e-9)


@pytest.mark.slow
class DocumentationTest(absltest.TestCase):

  def test_script(self):
    page = os.path.join(os.path.dirname(__file__), '..', '..', 'docs',
                        'processes.md')
    with open(page, encoding='utf-8') as f:
      script = re.search("<<'END'\n(.*?)END\n", f.read(), re.DOTALL)[1]
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, 'learn.py')
      with open(path, 'w', encoding='utf-8') as f:
        f.write(script.replace('8476', str(free_port())))
      texts = outputs([start(path, i) for i in range(_PROCESSES)])
    means = [re.search(rf'process {i}: (\S+)', text)[1]
             for i, text in enumerate(texts)]
    self.assertEqual(means[0], means[1])


if __name__ == '__main__':
  if len(sys.argv) == 5 and sys.argv[-1].endswith('.npz'):
    dict(process=process, process_of_more=process_of_more)[sys.argv[1]](
        int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
  else:
    absltest.main()
