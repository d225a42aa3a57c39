# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Cost and accuracy of a learning trajectory on MNIST 4/9, beside NT's.

The mean predictor of networks with three hidden layers at 100 times over nine
decades, for 1000 training and 200 test images, against
`neural_tangents.predict.gradient_descent_mse_ensemble` on the same problem, at
the same times, in the same run. Both are called `--repeats` times in turn after
a first call that compiles; the table gives medians of their ratio.

    python benchmarks/mnist_trajectory.py --data_dir=/path/to/mnist
"""

import csv
import os
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
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Measurements.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')

_TEMPERATURE = 1e-3
_RTOL = 1e-5
# Activation, multiplier, s0, s, and whether all inputs have the same norm.
_CASES = (
    ('relu', 2**.5, 1., 1., True),
    ('relu', 2**.5, 2., 1., True),
    ('erf', 1., 2., 1., True),
    ('relu', 2**.5, 2., 1., False),
    ('erf', 1., 2., 1., False),
)


def _network(activation, W_std, s0, s):
  layer = lambda n, c: stax.Dense(n, W_std=c, W_init_std=s0, W_prior_std=s)
  act = {'relu': stax.Relu, 'erf': stax.Erf}[activation]
  return stax.serial(*[l for _ in range(3) for l in (layer(512, W_std), act())],
                     layer(1, 1.))[2]


def _timed(f):
  begin = time.perf_counter()
  out = jax.block_until_ready(f())
  return time.perf_counter() - begin, out


def main(_):
  jax.config.update('jax_enable_x64', True)
  t = _N_TRAIN.value * np.geomspace(1e-3, 1e6, 100)
  rows = []
  for activation, W_std, s0, s, same_norm in _CASES:
    a, y, b, _ = datasets.load('mnist', ['4', '9'], _N_TRAIN.value, 200,
                               data_dir=_DATA_DIR.value, same_norm=same_norm)
    kernel_fn = _network(activation, W_std, s0, s)

    def stock():
      return predict.gradient_descent_mse_ensemble(kernel_fn, a, y)(
          t=t, x_test=b, get='ntk')

    def ours():
      predict_fn = predict.markov_proximal_mse_ensemble(
          kernel_fn, a, y, _TEMPERATURE, rtol=_RTOL)
      return predict_fn(t=t, x_test=b, get='ndk'), predict_fn

    stock(), ours()
    seconds = []
    for _ in range(_REPEATS.value):
      stock_seconds, _ = _timed(stock)
      begin = time.perf_counter()
      mean, predict_fn = ours()
      jax.block_until_ready(mean)
      seconds.append((stock_seconds, time.perf_counter() - begin))
    stock_seconds, our_seconds = np.median(seconds, 0)
    late = (1e9, 1e9)
    posterior = predict.gp_inference(
        kernel_fn(a, None, 'nngp', diffusion_time=late), y,
        diag_reg=_TEMPERATURE, diag_reg_absolute_scale=True)(
            get='nngp', k_test_train=kernel_fn(b, a, 'nngp',
                                               diffusion_time=late))
    stats = predict_fn.stats
    tau = t * _TEMPERATURE / len(y)
    rows.append(dict(
        activation=activation, s0=s0, s=s,
        norms='same' if same_norm else 'original',
        kernel_evaluations=stats['kernel_evaluations'], panels=stats['panels'],
        seconds=round(float(our_seconds), 2),
        nt_seconds=round(float(stock_seconds), 2),
        ratio=round(float(np.median([o / n for n, o in seconds])), 1),
        estimated_error=f'{stats["estimated_error"]:.1e}',
        posterior_gap=f'{np.abs(mean[tau > 30.] - posterior).max():.1e}'))
    print(rows[-1], flush=True)

  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  app.run(main)
