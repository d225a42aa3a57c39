# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Cost of the variance of predictions on MNIST 4/9, beside NT's covariance.

Networks with three hidden layers, 1000 training and 200 test images, 20 times
over nine decades: mean and variance of `markov_proximal_mse_ensemble` with
`compute_cov="diag"`, and mean and covariance of
`neural_tangents.predict.gradient_descent_mse_ensemble` with `compute_cov=True`,
at the same times, in turn, after a first call that compiles. The last times are
equilibrium, where the variances are compared with those of the posterior. Peak
memory is that of a process of its own for either.

    python benchmarks/mnist_variance.py --data_dir=/path/to/mnist
"""

import csv
import os
import resource
import subprocess
import sys
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
_N_TRAIN = flags.DEFINE_integer('n_train', 1000, 'Training images.')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Measurements.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')
_ONLY = flags.DEFINE_enum('only', None, ['ours', 'nt'],
                          'Run one of the two once, and print peak memory.')
_CASE = flags.DEFINE_integer('case', 0, 'Case for --only.')

_TEMPERATURE = 1e-3
# Activation, multiplier, s0, s, and whether all inputs have the same norm.
_CASES = (
    ('relu', 2**.5, 2., 1., True),
    ('erf', 1., 2., 1., True),
)


def _problem(case):
  activation, W_std, s0, s, same_norm = _CASES[case]
  layer = lambda n, c: stax.Dense(n, W_std=c, W_init_std=s0, W_prior_std=s)
  act = {'relu': stax.Relu, 'erf': stax.Erf}[activation]
  kernel_fn = stax.serial(
      *[l for _ in range(3) for l in (layer(512, W_std), act())],
      layer(1, 1.))[2]
  a, y, b, _ = datasets.load('mnist', ['4', '9'], _N_TRAIN.value, 200,
                             data_dir=_DATA_DIR.value, same_norm=same_norm)
  t = _N_TRAIN.value * np.geomspace(1e-3, 1e6, 20)

  def stock():
    return predict.gradient_descent_mse_ensemble(kernel_fn, a, y)(
        t=t, x_test=b, get='ntk', compute_cov=True), None

  def ours():
    predict_fn = predict.markov_proximal_mse_ensemble(
        kernel_fn, a, y, _TEMPERATURE)
    return predict_fn(t=t, x_test=b, get='ndk', compute_cov='diag'), predict_fn

  late = (1e9, 1e9)
  posterior = predict.gp_inference(
      kernel_fn(a, None, 'nngp', diffusion_time=late), y,
      diag_reg=_TEMPERATURE, diag_reg_absolute_scale=True)(
          get='nngp',
          k_test_train=kernel_fn(b, a, 'nngp', diffusion_time=late),
          k_test_test=kernel_fn(b, b, 'nngp', diffusion_time=late))
  return ours, stock, np.diagonal(posterior.covariance)


def _peak_gigabytes(case: int, only: str) -> float:
  out = subprocess.run(
      [sys.executable, __file__, f'--data_dir={_DATA_DIR.value}',
       f'--n_train={_N_TRAIN.value}', f'--case={case}', f'--only={only}'],
      capture_output=True, text=True, check=True)
  return float(out.stdout.split()[-1])


def main(_):
  jax.config.update('jax_enable_x64', True)
  if _ONLY.value:
    run = dict(zip(('ours', 'nt'), _problem(_CASE.value)))[_ONLY.value]
    jax.block_until_ready(run()[0])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    return

  rows = []
  for case, (activation, _, s0, s, _) in enumerate(_CASES):
    ours, stock, posterior = _problem(case)
    seconds = []
    for repeat in range(_REPEATS.value + 1):
      begin = time.perf_counter()
      jax.block_until_ready(stock()[0])
      middle = time.perf_counter()
      prediction, predict_fn = ours()
      jax.block_until_ready(prediction)
      if repeat:
        seconds.append((middle - begin, time.perf_counter() - middle))
    theirs, mine = np.median(seconds, 0)
    stats = predict_fn.stats
    scale = prediction.covariance[0].max()
    gap = np.abs(prediction.covariance[-2:] - posterior).max()
    rows.append(dict(
        activation=activation, s0=s0, s=s, n=_N_TRAIN.value,
        seconds=f'{mine:.1f}', nt_seconds=f'{theirs:.2f}',
        ratio=f'{np.median([o / n for n, o in seconds]):.0f}',
        covariance_seconds=f'{stats["seconds"]["covariance"]:.1f}',
        gigabytes=f'{_peak_gigabytes(case, "ours"):.1f}',
        nt_gigabytes=f'{_peak_gigabytes(case, "nt"):.1f}',
        estimated_error=f'{stats["estimated_covariance_error"]:.1e}',
        posterior_gap=f'{gap:.1e}',
        initial_variance=f'{scale:.1f}'))
    print(rows[-1], flush=True)

  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  app.run(main)
