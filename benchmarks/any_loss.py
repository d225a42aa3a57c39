# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What draws of infinitely wide networks cost, beside finite networks.

Ten classes of small digits (scikit-learn), softmax cross-entropy, one hidden
ReLU layer, draws at 40 times from the beginning of learning to equilibrium.
Beside it, as many finite networks learn by Langevin dynamics, whose time is
that of a part of their steps, times the number of all.

    python benchmarks/any_loss.py --n=200 --output=any_loss.csv
"""

import csv
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk import stax

_N = flags.DEFINE_list('n', ['200'], 'Numbers of training images.')
_DRAWS = flags.DEFINE_integer('draws', 100, 'Draws, and finite networks.')
_WIDTH = flags.DEFINE_integer('width', 512, 'Width of finite networks.')
_TEMPERATURE = flags.DEFINE_float('temperature', .01, 'Temperature.')
_FRACTION = flags.DEFINE_float(
    'fraction', .003, 'Part of the steps that finite networks are trained for; '
    '0 leaves them out.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')


def cross_entropy(f, y):
  return -jnp.sum(jax.nn.log_softmax(f)[jnp.arange(len(y)), y])


def main(_):
  jax.config.update('jax_enable_x64', True)
  x, y = datasets.load_digits(return_X_y=True)
  x = (x - x.mean()) / x.std()
  order = np.random.RandomState(0).permutation(len(x))
  x, y = x[order], y[order]
  T = _TEMPERATURE.value
  stds = dict(W_init_std=1.6, W_prior_std=1.)
  init_fn, apply_fn, kernel_fn = stax.serial(
      stax.Dense(_WIDTH.value, b_std=.2, **stds), stax.Relu(),
      stax.Dense(10, **stds))
  end = 8 / T
  t = np.geomspace(1e-4, end, 40)
  table = []
  for n in map(int, _N.value):
    x_test = x[n:n + 100]
    sample_fn = predict.markov_proximal_ensemble(
        cross_entropy, kernel_fn, x[:n], y[:n], T, output_shape=(10,))
    begin, cpu = time.perf_counter(), time.process_time()
    some = sample_fn(jax.random.PRNGKey(0), _DRAWS.value, t, x_test)
    seconds = time.perf_counter() - begin
    used = time.process_time() - cpu
    stats = sample_fn.stats
    row = dict(
        n=n, draws=_DRAWS.value, times=len(t), temperature=T,
        seconds=round(seconds, 1),
        cpu_seconds=round(used, 1), steps=stats['steps'], rank=stats['rank'],
        newton=int(stats['iterations'][0]), linear=int(stats['iterations'][1]),
        estimated_error=f'{stats["estimated_error"]:.1e}',
        planned_gb=round(stats['planned_bytes'] / 1e9, 2),
        accuracy=round(float(np.mean(np.argmax(
            some.mean[-1], -1) == y[n:n + 100])), 3))
    if _FRACTION.value:
      train = langevin.markov_proximal_ensemble(
          init_fn, apply_fn, x[:n], y[:n], T, loss=cross_entropy)
      # Differences of calls with the same programs.
      spent = []
      for part in (.3, .3, 1.):
        begin = time.process_time()
        until = np.array([part * _FRACTION.value * end])
        train(jax.random.PRNGKey(0), 4, until, x_test)
        spent.append(time.process_time() - begin)
      row.update(width=_WIDTH.value, finite_cpu_hours=round(
          (spent[2] - spent[1]) / (.7 * _FRACTION.value) * _DRAWS.value / 4 /
          3600, 2))
    print(row, flush=True)
    table.append(row)
    if _OUTPUT.value:
      with open(_OUTPUT.value, 'w', encoding='utf-8', newline='') as f:
        writer = csv.DictWriter(f, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


if __name__ == '__main__':
  app.run(main)
