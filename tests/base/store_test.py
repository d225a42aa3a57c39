# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that what is kept on disk gives the numbers of an uninterrupted run."""

import functools
import glob
import os
import signal
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.base import memory
from nt_ndk._src.base import store
from nt_ndk._src.kernels.evaluation import KernelEvaluator

jax.config.update('jax_enable_x64', True)

T = np.geomspace(1., 1e5, 7)
N = 20


def network(phi=stax.Relu):
  layer = lambda width: stax.Dense(width, 1.3, .2, W_init_std=1.4)
  return stax.serial(layer(8), phi(), layer(1))[2]


def layer(W_init_std):
  return stax.Dense(1, 1.3, .2, W_init_std=W_init_std)[2]


def data(n=N, m=5, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(n, 6)), rng.normal(size=(n, 1)),
          rng.normal(size=(m, 6)))


def learning(store_dir=None, kernel_fn=None, x=None, y=None, temperature=1e-2,
             rtol=1e-3):
  """A predictor, and predictions."""
  x_train, y_train, x_test = data()
  predict_fn = predict.markov_proximal_mse_ensemble(
      kernel_fn or network(), x_train if x is None else x,
      y_train if y is None else y, temperature, rtol=rtol, store_dir=store_dir)
  return predict_fn, np.asarray(predict_fn(t=T, x_test=x_test, get='ndk'))


def mean(*args, **kwargs):
  """Predictions, and what they took."""
  predict_fn, out = learning(*args, **kwargs)
  return out, predict_fn.stats


@functools.cache
def uninterrupted():
  with tempfile.TemporaryDirectory() as folder:
    return mean(folder)


def in_another_process(*args, devices=1):
  """Runs `main` with the flags of this process."""
  flags = os.environ.get('XLA_FLAGS', '')
  return subprocess.run(
      [sys.executable, __file__, *args], stdout=subprocess.PIPE, text=True,
      check=False, env={
          **os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true', 'NPROC': '32',
          'XLA_FLAGS':
          f'{flags} --xla_force_host_platform_device_count={devices}'})


def main(folder, what, count='0'):
  """Makes predictions; is killed in the midst of writing, the `count`-th time.

  Prints the number of kernels that were computed.
  """
  written = dict(kernels=0, panels=0)

  def die(*paths):
    del paths
    print(written['kernels'], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

  def count_writes(name, write):
    def write_or_die(*args):
      written[name] += 1
      if name == what and written[name] == int(count):
        os.replace = die
      write(*args)
    return write_or_die

  store.Matrices.put = count_writes('kernels', store.Matrices.put)
  store.Journal.append = count_writes('panels', store.Journal.append)
  if what in written:
    mean(folder)
  else:
    # Kernels of one device on several, at another temperature.
    out, _ = mean(folder, layer(1.4), temperature=float(what))
    np.save(os.path.join(folder, 'out.npy'), out)
    print(written['kernels'])


def mapped(array, folder):
  """Whether an array lies in a file of the folder."""
  at = array.unsafe_buffer_pointer()
  with open('/proc/self/maps', encoding='utf-8') as f:
    for line in f:
      first, last = (int(a, 16) for a in line.split()[0].split('-'))
      if first <= at < last:
        return folder in line
  return False


def damage(path, where):
  """Changes one byte."""
  with open(path, 'r+b') as f:
    f.seek(where)
    byte = f.read(1)[0]
    f.seek(where)
    f.write(bytes([byte ^ 1]))


def setUpModule():
  # Many programs, each run once or twice: compilation is most of the time.
  jax.config.update('jax_disable_most_optimizations', True)


def tearDownModule():
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()  # Others test optimized programs.


class StoreTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def files(self, kind):
    return sorted(glob.glob(f'{self.folder}/*.{kind}'), key=os.path.getsize)

  def test_killed_and_resumed(self):
    want, whole = uninterrupted()
    computed = 0
    for what in (('kernels', '4'), ('panels', '6')):
      killed = in_another_process(self.folder, *what)
      self.assertEqual(killed.returncode, -signal.SIGKILL)
      computed += int(killed.stdout)
    journal, = self.files('journal')
    # The last one was being written.
    self.assertLen(glob.glob(f'{journal}/*.npz'), 5)
    got, stats = mean(self.folder)
    np.testing.assert_array_equal(got, want)
    computed += stats['kernel_evaluations']
    # So was one of the kernels, which was computed twice.
    self.assertEqual(computed, whole['kernel_evaluations'] + 1)
    self.assertGreater(stats['panels'], 6)

    with mock.patch.object(store.Matrices, 'put') as put:
      got, again = mean(self.folder)
    put.assert_not_called()
    np.testing.assert_array_equal(got, want)
    self.assertEqual(again['panels'], stats['panels'])

  def test_other_problems_find_nothing(self):
    first = dict(kernel_fn=layer(1.4))
    mean(self.folder, **first)
    other_x, other_y, _ = data(seed=1)
    for change in (dict(kernel_fn=layer(1.4 + 1e-12)), dict(x=other_x),
                   dict(y=other_y), dict(temperature=1.1e-2), dict(rtol=2e-3)):
      want, alone = mean(self.create_tempdir().full_path, **first | change)
      got, stats = mean(self.folder, **first | change)
      np.testing.assert_array_equal(got, want, err_msg=str(change))
      if set(change) & {'kernel_fn', 'x'}:
        self.assertEqual(stats['kernel_evaluations'],
                         alone['kernel_evaluations'])
      if 'temperature' in change:
        self.assertLess(stats['kernel_evaluations'],
                        alone['kernel_evaluations'])
    # The first finds its own among them.
    got, stats = mean(self.folder, **first)
    want, _ = mean(self.create_tempdir().full_path, **first)
    np.testing.assert_array_equal(got, want)
    self.assertEqual(stats['kernel_evaluations'], 0)

  def check_damaged_kernels_are_computed_again(self, how):
    want, whole = uninterrupted()
    mean(self.folder)
    path = self.files('matrices')[-1]
    if how == 'cut':
      os.truncate(path, os.path.getsize(path) // 2)
    elif how == 'byte':
      damage(path, 8 * N + 3)  # In the second matrix.
    else:
      os.truncate(f'{path}.json', 5)
    got, stats = mean(self.folder)
    np.testing.assert_array_equal(got, want)
    # That under the prior is in a file of its own.
    self.assertEqual(stats['kernel_evaluations'],
                     1 if how == 'byte' else stats['rank'])
    self.assertLess(stats['kernel_evaluations'], whole['kernel_evaluations'])

  @parameterized.parameters(['byte'])
  def test_damaged_kernels_are_computed_again(self, how):
    self.check_damaged_kernels_are_computed_again(how)

  @parameterized.parameters('cut', 'sums')
  @pytest.mark.slow
  def test_damaged_kernels_are_computed_again_more(self, how):
    self.check_damaged_kernels_are_computed_again(how)

  def check_damaged_panels_are_solved_again(self, how):
    want, _ = uninterrupted()
    mean(self.folder)
    journal = self.files('journal')[-1]
    path = os.path.join(journal, '000003.npz')
    size = os.path.getsize(path)
    if how == 'cut':
      os.truncate(path, size // 2)
    elif how == 'byte':
      damage(path, size // 2)
    else:
      os.remove(path)
    self.assertLen(list(store.Journal(journal)), 3)
    # What follows a gap belongs to another solution than what will fill it.
    self.assertLen(glob.glob(f'{journal}/*.npz'), 3)
    got, stats = mean(self.folder)
    np.testing.assert_array_equal(got, want)
    self.assertLen(list(store.Journal(journal)), stats['panels'])

  @parameterized.parameters(['byte'])
  def test_damaged_panels_are_solved_again(self, how):
    self.check_damaged_panels_are_solved_again(how)

  @parameterized.parameters('cut', 'gone')
  @pytest.mark.slow
  def test_damaged_panels_are_solved_again_more(self, how):
    self.check_damaged_panels_are_solved_again(how)

  def test_kernels_stay_in_their_file(self):
    if not os.path.exists('/proc/self/maps') or (
        jax.default_backend() != 'cpu'):
      self.skipTest('Needs a CPU, and a system that tells what is mapped.')
    for fresh in (True, False):
      others = jax.live_arrays()  # Of other predictors, in memory.
      predict_fn, _ = learning(self.folder)
      shape = N, predict_fn.stats['rank'] * N
      large = [a for a in jax.live_arrays() if a.shape == shape and
               not any(a is other for other in others)]
      self.assertNotEmpty(large)
      for a in large:
        self.assertTrue(mapped(a, self.folder), fresh)
      self.assertFalse(mapped(large[0] + 1, self.folder))
      del predict_fn, large, others

  @pytest.mark.slow
  def test_several_devices(self):
    mean(self.folder, layer(1.4))
    done = in_another_process(self.folder, '0.011', devices=4)
    self.assertEqual(done.returncode, 0)
    self.assertEqual(int(done.stdout), 0)
    got = np.load(os.path.join(self.folder, 'out.npy'))
    want, _ = mean(None, layer(1.4), temperature=.011)
    # The equations are solved to 2e-5: 2% of the tolerance, 1e-3.
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)

  @pytest.mark.slow
  def test_other_predictors(self):
    x, y, z = data(6)
    drift, diffusive = (predict.representational_drift_mse_ensemble,
                        predict.diffusive_limit_mse_ensemble)
    for make, kernel_fn, time in (
        (functools.partial(drift, temperature=.1, t_freeze=20.),
         network(stax.Erf), 30.),
        (diffusive, layer(1.4), .5)):
      runs = [make(kernel_fn, x, y, rtol=1e-3, store_dir=folder)
              for folder in (None, self.folder, self.folder)]
      first, *kept = (run(time, z, 'diag') for run in runs)
      for a, b, c in zip(first, *kept):
        np.testing.assert_array_equal(b, c)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
      alone, before, after = (run.stats['kernel_evaluations'] for run in runs)
      # Some kernels are needed twice.
      self.assertBetween(before, 1, alone)
      self.assertEqual(after, 0)

  def test_no_room_on_disk(self):
    with mock.patch.object(store.shutil, 'disk_usage',
                           return_value=mock.Mock(free=100)):
      with self.assertRaisesRegex(OSError, 'matrices of 20 x 20 take .* GB'):
        mean(self.folder)


class MemoryTest(absltest.TestCase):

  def test_error_has_the_arithmetic(self):
    with mock.patch.object(memory, 'available', return_value=int(1.2e10)):
      with self.assertRaisesRegex(
          MemoryError, r'10 x 0\.80 GB of matrices and 6\.00 GB .* are '
          r'14\.00 GB in memory, but there are 12\.00 GB.*`store_dir`'):
        memory.check(800_000_000, 10, 6_000_000_000)
      self.assertEqual(memory.check(800_000_000, 5, 6_000_000_000),
                       10_000_000_000)

  @pytest.mark.slow
  def test_plan(self):
    _, stats = mean()
    planned, matrix = stats['planned_bytes'], 8 * N**2
    self.assertGreater(planned, (stats['rank'] + 5) * matrix)
    folder = self.create_tempdir().full_path
    _, on_disk = mean(folder)
    self.assertEqual(on_disk['planned_bytes'],
                     planned - stats['rank'] * matrix)
    with mock.patch.object(memory, 'available', return_value=planned):
      mean()
    with mock.patch.object(memory, 'available',
                           return_value=on_disk['planned_bytes']):
      with self.assertRaisesRegex(MemoryError, 'Pass `store_dir`'):
        mean()
      mean(self.create_tempdir().full_path)
    # Before any kernel is computed.
    with mock.patch.object(memory, 'available', return_value=matrix):
      with mock.patch.object(KernelEvaluator, 'train_train') as train_train:
        with self.assertRaisesRegex(MemoryError, 'Pass `store_dir`'):
          mean()
      train_train.assert_not_called()

  def test_available(self):
    free = memory.available()
    if free is None:
      self.skipTest('The system does not tell.')
    self.assertBetween(free, 2**20, 2**50)


if __name__ == '__main__':
  if len(sys.argv) > 2:
    main(*sys.argv[1:])
  else:
    absltest.main()
