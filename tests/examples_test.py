# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of examples and README: they run, and show what they claim."""

import csv
import gzip
import os
import re
import struct
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

_EXAMPLES = os.path.join(os.path.dirname(__file__), '..', 'examples')
sys.path.insert(0, os.path.abspath(_EXAMPLES))
import datasets  # pylint: disable=g-import-not-at-top,wrong-import-position


def run(*args):
  return subprocess.run(
      [sys.executable, os.path.join(_EXAMPLES, 'two_phases.py'), *args],
      capture_output=True, text=True, check=False)


class ReadmeTest(absltest.TestCase):

  def test_code(self):
    readme = os.path.join(os.path.dirname(__file__), '..', 'README.md')
    with open(readme, encoding='utf-8') as f:
      blocks = re.findall(r'```python\n(.*?)```', f.read(), re.DOTALL)
    names = {}
    exec('\n'.join(blocks), names)  # pylint: disable=exec-used
    self.assertEqual(names['f'].shape, (50, 30, 1))
    self.assertEqual(names['correlation'].shape, (30,))
    self.assertEqual(names['f_limit'].shape, (3, 30, 1))
    np.testing.assert_allclose(names['f'][-1], names['f_posterior'], atol=1e-3)
    np.testing.assert_allclose(names['f_drift'][0], names['f_posterior'],
                               atol=1e-6)


class TwoPhasesTest(absltest.TestCase):

  def test_table_and_picture(self):
    folder = self.create_tempdir().full_path
    temperature, n = 1e-4, 20
    done = run(f'--output_dir={folder}', f'--n_train={n}', '--n_test=30',
               '--depth=1', '--n_times=120', f'--temperature={temperature}')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('Best mean squared test error', done.stdout)
    with open(os.path.join(folder, 'two_phases.png'), 'rb') as f:
      self.assertEqual(f.read(8), b'\x89PNG\r\n\x1a\n')
    with open(os.path.join(folder, 'two_phases.csv'), newline='') as f:
      rows = list(csv.DictReader(f))
    self.assertLen(rows, 120)
    table = {k: np.array([float(row[k]) for row in rows]) for k in rows[0]}
    np.testing.assert_allclose(table['diffusion_time'],
                               temperature * table['time'] / n, rtol=1e-8)
    # Training error falls; the last outputs are those of the posterior, and
    # there is a time between the phases with those of the NTK.
    self.assertLess(table['train_mse'][-1], 1e-3)
    names = [k for k in table if k.startswith('predictor_')]
    self.assertNotEmpty(names)
    shown, nngp, ntk = (np.stack([table[p + k] for k in names], 1)
                        for p in ('', 'nngp_', 'ntk_'))
    np.testing.assert_allclose(shown[-1], nngp[-1], atol=1e-4)
    self.assertLess(np.abs(shown - ntk).max(1).min(), 2e-2)
    self.assertGreater(np.abs(nngp - ntk).max(), 5e-2)

  def test_no_noise_is_refused(self):
    done = run('--temperature=0')
    self.assertNotEqual(done.returncode, 0)
    self.assertIn('temperature', done.stdout + done.stderr)


class DatasetsTest(parameterized.TestCase):

  def test_digits(self):
    x, y, z, _ = datasets.load('digits', ['4', '9'], 50, 60)
    np.testing.assert_allclose(np.sum(x**2, 1), x.shape[1])
    self.assertEqual((x.shape, y.shape, z.shape), ((50, 64), (50, 1), (60, 64)))
    self.assertCountEqual(np.unique(y), [-1., 1.])
    self.assertEmpty({tuple(v) for v in x} & {tuple(v) for v in z})

  def test_mnist_files(self):
    folder = self.create_tempdir().full_path
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 28, 28), np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 4
    for part in ('train', 't10k'):
      for name, a in (('images-idx3', images), ('labels-idx1', labels)):
        header = struct.pack(f'>{1 + a.ndim}I', 0x800 + a.ndim, *a.shape)
        path = os.path.join(folder, f'{part}-{name}-ubyte.gz')
        with gzip.open(path, 'wb') as f:
          f.write(header + a.tobytes())
    x, y, z, w = datasets.load('mnist', ['1', '3'], 12, 5, data_dir=folder)
    self.assertEqual((x.shape, z.shape), ((12, 784), (5, 784)))
    # Centring and scaling take nothing from the order of pixels and labels.
    chosen = images[np.isin(labels, [1, 3])].reshape((-1, 784)).astype(float)
    targets = np.where(labels[np.isin(labels, [1, 3])] == 3, 1., -1.)
    for image, target in zip(x, y[:, 0]):
      match = np.corrcoef(image, chosen)[0, 1:]
      self.assertEqual(targets[np.argmax(match)], target)
      self.assertGreater(np.max(match), .8)
    self.assertCountEqual(np.unique(w), np.unique(y))

  def test_cifar10_files(self):
    folder = self.create_tempdir().full_path
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (30, 3073), np.uint8)
    records[:, 0] = np.arange(30) % 3
    for name in ('data_batch_1.bin', 'test_batch.bin'):
      records.tofile(os.path.join(folder, name))
    x, _, _, _ = datasets.load('cifar10', ['0', '2'], 10, 5, data_dir=folder)
    self.assertEqual(x.shape, (10, 3072))

  @parameterized.parameters('mnist', 'cifar10')
  def test_missing_files_are_named(self, name):
    with self.assertRaisesRegex(FileNotFoundError, 'train|data_batch'):
      datasets.load(name, ['0', '1'], 5, 5,
                    data_dir=self.create_tempdir().full_path)

  def test_too_many_samples(self):
    with self.assertRaisesRegex(ValueError, 'n_train'):
      datasets.load('digits', ['4', '9'], 10**4, 5)


if __name__ == '__main__':
  absltest.main()
