# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Cost of an ensemble of finite networks, beside that of theory.

The mean on test images at 30 times, from the gradient-driven phase to
equilibrium: by theory, and by an ensemble of Langevin dynamics with as many
networks as make its standard error 1% of the targets (in root mean square over
times and images), with and without antithetic pairs. Both include all
compilation. A first, small ensemble tells how many networks are needed, and
compiles all but the programs for the size of the large one.

With `--fraction`, for data on which an ensemble would take days: a few networks
learn for that part of the time only, in a second call that need not compile.
Their seconds, in proportion, are those of the whole time and of as many
networks as the variance of theory asks for.

Then the peak memory of a process with 2, and with 1000, networks of two hidden
layers of 1024 units, for two values of the bound `max_bytes`.

    python benchmarks/ensemble_cost.py --data_dir=/path/to/mnist
    python benchmarks/ensemble_cost.py --data_dir=/path/to/mnist \
        --n_train=500 --widths=1024 --fraction=1e-3
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
from jax import random
import numpy as np

from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk import stax

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'examples'))
import datasets  # pylint: disable=g-import-not-at-top,wrong-import-position

_DATA_DIR = flags.DEFINE_string(
    'data_dir', None, 'Folder with the original MNIST files.', required=True)
_N_TRAIN = flags.DEFINE_integer('n_train', 20, 'Training images.')
_WIDTHS = flags.DEFINE_list('widths', ['256', '1024'], 'Widths.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')
_FRACTION = flags.DEFINE_float(
    'fraction', None, 'Part of the time that is run, the rest estimated.')
_MEMORY = flags.DEFINE_integer(
    'memory', 0, 'Measure memory only, under this bound in bytes.')

_TEMPERATURE = .1
_READOUT_STD = .4
_ERROR = .01
_FEW = 8  # Networks that learn for a fraction of the time.


def network(width, depth=1):
  hidden = [l for _ in range(depth)
            for l in (stax.Dense(width, 2**.5), stax.Relu())]
  return stax.serial(*hidden, stax.Dense(1, _READOUT_STD))


def data():
  x, y, x_test, _ = datasets.load('mnist', ['4', '9'], _N_TRAIN.value, 10,
                                  data_dir=_DATA_DIR.value)
  x, x_test = datasets.in_their_span(x, x_test)  # Cheaper for ensembles.
  return x, y, x_test


def seconds_of(run):
  begin = time.perf_counter()
  out = jax.block_until_ready(run())
  return time.perf_counter() - begin, out


def peak_gigabytes():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cost(x, y, x_test):
  """Rows of seconds, one for each ensemble."""
  t = y.size * np.geomspace(.02, 3 / _TEMPERATURE, 30)
  theory, mean = seconds_of(lambda: predict.markov_proximal_mse_ensemble(
      network(1)[2], x, y, _TEMPERATURE)(t=t, x_test=x_test, get='ndk'))
  rms = lambda a: np.sqrt(np.mean(np.square(a)))
  for width in map(int, _WIDTHS.value):
    for antithetic in (False, True):
      ensemble_fn = langevin.markov_proximal_ensemble(
          *network(width)[:2], x, y, _TEMPERATURE, antithetic=antithetic)
      pilot = ensemble_fn(random.PRNGKey(0), 100, t, x_test)
      count = int(100 * (rms(pilot.mean_error) / _ERROR)**2)
      count = max(count + count % 2, 4)
      seconds, ensemble = seconds_of(
          lambda: ensemble_fn(random.PRNGKey(1), count, t, x_test))  # pylint: disable=cell-var-from-loop
      yield dict(
          n=len(x), width=width, antithetic=int(antithetic), networks=count,
          standard_error=f'{rms(ensemble.mean_error):.4f}',
          deviation=f'{rms(ensemble.mean - mean):.4f}',
          seconds=f'{seconds:.0f}', theory_seconds=f'{theory:.1f}',
          ratio=f'{seconds / theory:.0f}')


def estimated_cost(x, y, x_test):
  """Rows of seconds, estimated from a fraction of the time."""
  t = y.size * np.geomspace(.02, 3 / _TEMPERATURE, 30)
  predict_fn = predict.markov_proximal_mse_ensemble(network(1)[2], x, y,
                                                    _TEMPERATURE)
  theory, _ = seconds_of(lambda: predict_fn(t=t, x_test=x_test, get='ndk'))
  variance = predict_fn(t=t, x_test=x_test, get='ndk',
                        compute_cov='diag').covariance
  count = int(np.ceil(np.mean(variance) / _ERROR**2))
  for width in map(int, _WIDTHS.value):
    ensemble_fn = langevin.markov_proximal_ensemble(*network(width)[:2], x, y,
                                                    _TEMPERATURE)
    run = lambda: ensemble_fn(  # pylint: disable=g-long-lambda
        random.PRNGKey(0), _FEW, _FRACTION.value * t[-1], x_test)  # pylint: disable=cell-var-from-loop
    run()
    few, _ = seconds_of(run)
    seconds = few * count / _FEW / _FRACTION.value
    yield dict(
        n=len(x), width=width, networks=count, fraction=_FRACTION.value,
        networks_run=_FEW, seconds_run=f'{few:.1f}', seconds=f'{seconds:.3g}',
        theory_seconds=f'{theory:.1f}', ratio=f'{seconds / theory:.3g}')


def memory(x, y, x_test, bound):
  """Peak gigabytes of a process with 2 networks, and then with 1000."""
  ensemble_fn = langevin.markov_proximal_ensemble(
      *network(1024, 2)[:2], x, y, _TEMPERATURE, loss='sum', step_size=.01,
      max_bytes=bound)
  ensemble_fn(random.PRNGKey(0), 2, .01, x_test)  # What JAX itself takes.
  before = peak_gigabytes()
  ensemble_fn(random.PRNGKey(0), 1000, .02, x_test)
  return before, peak_gigabytes()


def main(argv):
  del argv
  jax.config.update('jax_enable_x64', True)
  x, y, x_test = data()
  if _MEMORY.value:
    print(*memory(x, y, x_test, _MEMORY.value))
    return
  rows = []
  for row in (estimated_cost if _FRACTION.value else cost)(x, y, x_test):
    rows.append(row)
    print(row, flush=True)
  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)

  if _FRACTION.value:
    return
  for bound in (2**28, 2**30):
    out = subprocess.run(
        [sys.executable, __file__, f'--data_dir={_DATA_DIR.value}',
         f'--n_train={_N_TRAIN.value}', f'--memory={bound}'],
        capture_output=True, text=True, check=True)
    few, many = map(float, out.stdout.split()[-2:])
    print(f'Networks of width 1024 and depth 2, bound {bound / 2**30:.2f} GB: '
          f'{few:.2f} GB for 2, {many:.2f} GB for 1000.', flush=True)


if __name__ == '__main__':
  app.run(main)
