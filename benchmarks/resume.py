# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""A run that is killed twice gives the numbers of one that is not.

The network of `suite.py` on MNIST 4/9. A process that keeps its results in a
folder is killed when four kernels are there, another one when half of the
panels are, and a third one comes to the end; a fourth one only reads. The table
has seconds, kernels, panels, and memory planned and taken of each (mapped files
count as taken), of a run that is not killed, and of one without a folder, whose
kernels are computed together rather than one by one.

    python benchmarks/resume.py --data_dir=/path/to/mnist --n=4000
"""

import glob
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags
import jax
import numpy as np

from nt_ndk import predict
from nt_ndk import stax

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'examples'))
import datasets  # pylint: disable=g-import-not-at-top,wrong-import-position

_DATA_DIR = flags.DEFINE_string(
    'data_dir', None, 'Folder with the original MNIST files.', required=True)
_N = flags.DEFINE_integer('n', 4000, 'Number of training images.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 0, 'See the predictor.')
_FOLDER = flags.DEFINE_string(
    'folder', None, 'Where to make folders for results; else where temporary '
    'files go.')
_STORE = flags.DEFINE_string('store', None, 'Run here, with this folder.')
_OUTPUT = flags.DEFINE_string('output', None, 'Run here, and write this file.')


def measure():
  """One run in this process."""
  jax.config.update('jax_enable_x64', True)
  x, y, x_test, _ = datasets.load('mnist', ['4', '9'], _N.value, 200,
                                  data_dir=_DATA_DIR.value)
  dense = lambda width, W_std: stax.Dense(width, W_std, W_init_std=2.,
                                          W_prior_std=1.)
  kernel_fn = stax.serial(
      *[layer for _ in range(3) for layer in (dense(512, 2**.5), stax.Relu())],
      dense(1, 1.))[2]
  predict_fn = predict.markov_proximal_mse_ensemble(
      kernel_fn, x, y, 1e-3, batch_size=_BATCH_SIZE.value,
      store_dir=_STORE.value)
  mean = predict_fn(t=_N.value * np.geomspace(1e-3, 1e6, 100), x_test=x_test,
                    get='ndk')
  stats = predict_fn.stats
  np.savez(_OUTPUT.value, mean=mean, kernels=stats['kernel_evaluations'],
           panels=stats['panels'], planned=stats['planned_bytes'],
           gigabytes=resource.getrusage(
               resource.RUSAGE_SELF).ru_maxrss / 2**20)


def on_disk(store):
  """Numbers of kernels and of panels that are whole, those of the last fit."""
  newest = lambda paths: max(paths, key=os.path.getmtime, default=None)
  sums = newest(glob.glob(f'{store}/*.json'))
  journal = newest(glob.glob(f'{store}/*.journal'))
  kernels = 0
  if sums:
    with open(sums, encoding='utf-8') as f:
      kernels = len(json.load(f))
  return kernels, len(glob.glob(f'{journal}/*.npz')) if journal else 0


def run(name, script, folder, store=None,
        until=lambda kernels, panels: False):
  """Runs a process, which is killed when enough is on disk; prints a row."""
  output = os.path.join(folder, 'out.npz')
  flag = [f'--store={store}'] if store else []
  begin = time.perf_counter()
  with subprocess.Popen([
      sys.executable, script, f'--data_dir={_DATA_DIR.value}',
      f'--n={_N.value}', f'--batch_size={_BATCH_SIZE.value}',
      f'--output={output}', *flag]) as process:
    while process.poll() is None:
      if store and until(*on_disk(store)):
        process.send_signal(signal.SIGKILL)
        process.wait()
      time.sleep(.01)
  seconds = time.perf_counter() - begin
  if process.returncode == -signal.SIGKILL:
    kernels, panels = on_disk(store)
    print(f'{name:16}{seconds:10.1f}{kernels:10} on disk{panels:10}',
          flush=True)
    return None
  if process.returncode:
    raise RuntimeError(f'The run failed, with status {process.returncode}.')
  out = dict(np.load(output))
  print(f'{name:16}{seconds:10.1f}'
        f'{out["kernels"]:10} computed{out["panels"]:9}'
        f'{out["planned"] / 1e9:12.2f}{out["gigabytes"]:10.2f}', flush=True)
  return out['mean']


def main(argv):
  if _OUTPUT.value:
    measure()
    return
  print(f'{"run":16}{"seconds":>10}{"kernels":>19}{"panels":>9}'
        f'{"GB planned":>12}{"GB peak":>10}')
  with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
    script, store = argv[0], os.path.join(folder, 'store')
    memory = run('in memory', script, folder)
    panels = int(np.load(os.path.join(folder, 'out.npz'))['panels'])
    whole = run('uninterrupted', script, folder, os.path.join(folder, 'whole'))
    run('killed', script, folder, store, lambda k, p: k >= 4 and not p)
    run('killed', script, folder, store, lambda _, p: p >= panels // 2)
    resumed = run('resumed', script, folder, store)
    again = run('read', script, folder, store)
  for name, mean in (('in memory', memory), ('resumed', resumed),
                     ('read', again)):
    print('Largest difference from the uninterrupted run, '
          f'{name}: {np.abs(mean - whole).max():.1e}')


if __name__ == '__main__':
  app.run(main)
