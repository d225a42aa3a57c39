# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What all derivatives of the mean along learning cost, beside the mean alone.

Six numbers: temperature, time, `W_init_std`, `W_prior_std`, `W_std` and `b_std`
of all layers. 1000 samples, 200 test inputs and ten times over nine decades, to
equilibrium: MNIST 4/9, three hidden layers, and a table of eight features with
noisy targets, two hidden layers. Mean and derivatives are computed in turn, for
other standard deviations each time; the table has medians of CPU seconds and of
their ratios, after a first call that compiles.

    python benchmarks/derivatives.py --data_dir=/path/to/mnist
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
_N = flags.DEFINE_integer('n', 1000, 'Training samples.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Measurements.')
_CASES = flags.DEFINE_list(
    'cases', ['images', 'table'], 'Data to measure with.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')


def network(phi, depth):
  """Takes four numbers of all layers to a kernel function."""

  def of(parameters):
    layer = lambda: stax.Dense(
        512, parameters['W_std'], parameters['b_std'],
        W_init_std=parameters['W_init_std'],
        W_prior_std=parameters['W_prior_std'])
    hidden = [l for _ in range(depth) for l in (layer(), phi())]
    return stax.serial(*hidden, layer())[2]

  return of


def table_data(n):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(n + 200, 8))
  y = np.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3] + .3 * rng.normal(
      size=(n + 200, 1))
  return x[:n], y[:n], x[n:]


def image_data(n):
  x, y, x_test, _ = datasets.load('mnist', (4, 9), n, 200, _DATA_DIR.value)
  x, x_test = datasets.in_their_span(x, x_test)
  return x, y, x_test


def measure(f):
  begin = time.process_time()
  jax.block_until_ready(f())
  return time.process_time() - begin


def main(_):
  jax.config.update('jax_enable_x64', True)
  n, rows = _N.value, []
  for data, activation, depth, rtol, temperature in (
      ('images', 'ReLU', 3, 1e-5, 1e-3), ('images', 'erf', 3, 1e-5, 1e-3),
      ('table', 'ReLU', 2, 1e-5, .1), ('table', 'erf', 2, 1e-5, .1)):
    if data not in _CASES.value:
      continue
    x, y, x_test = (image_data if data == 'images' else table_data)(n)
    of = network(stax.Relu if activation == 'ReLU' else stax.Erf, depth)
    t = np.geomspace(1., 1e9, 10)
    seconds = []
    for i in range(_REPEATS.value + 1):
      parameters = dict(W_std=1.2, b_std=.1, W_prior_std=.9,
                        W_init_std=1.8 + .01 * i)
      # Each begins anew: a function keeps what it knows of its parameters.
      mean_fn, both_fn = (predict.differentiable_mean(of, x, y, rtol=rtol)
                          for _ in range(2))
      seconds.append((
          measure(lambda: mean_fn(parameters, temperature, t, x_test)),  # pylint: disable=cell-var-from-loop
          measure(lambda: both_fn.with_derivatives(  # pylint: disable=cell-var-from-loop
              parameters, temperature, t, x_test))))  # pylint: disable=cell-var-from-loop
    alone, both = np.array(seconds[1:]).T
    rows.append(dict(
        data=data, activation=activation, n=n, depth=depth, rtol=rtol,
        mean=np.median(alone), with_derivatives=np.median(both),
        ratio=np.median(both / alone),
        largest_ratio=np.max(both / alone), rank=both_fn.stats['rank'],
        derivative_rank=both_fn.stats['derivative_rank'],
        estimated_error=both_fn.stats['estimated_error'],
        estimated_derivative_error=both_fn.stats[
            'estimated_derivative_error']))
    print(rows[-1], flush=True)
    if _OUTPUT.value:
      with open(_OUTPUT.value, 'w', encoding='utf-8', newline='') as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, str) else f'{v:.3g}'
                          for k, v in row.items()} for row in rows)


if __name__ == '__main__':
  app.run(main)
