# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""True errors of predictions on random problems, beside the estimated ones.

Problems differ in the number of samples, depth, activation, standard deviations
of weights and biases, scale of inputs (over four decades) and of targets, and
temperature (from 1e-6 to 10); a third of them have duplicated or nearly
duplicated inputs. Mean and variance at six times, from the first learning to
equilibrium, on training and test inputs, are compared with a direct solution of
the equations, `tests/reference.py`, that shares nothing with the package.
Errors of means are relative to the targets (or the mean, where that is larger),
errors of variances to the variance without data. Errors of the reference, which
count with those of the mean, are differences of two grids.

    python benchmarks/random_problems.py --output=benchmarks/results/x.csv
"""

import csv
import os
import sys
import time
import warnings

from absl import app
from absl import flags
import jax
import numpy as np

from nt_ndk import predict
from nt_ndk import stax

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'tests'))
import reference  # pylint: disable=g-import-not-at-top,wrong-import-position

_PROBLEMS = flags.DEFINE_integer('problems', 300, 'Number of problems.')
_FIRST = flags.DEFINE_integer('first', 0, 'Number of the first problem.')
_RTOL = flags.DEFINE_float('rtol', 1e-5, 'Tolerance of predictions.')
_VARIANCE = flags.DEFINE_bool('variance', True, 'Variances too.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')

_ACTIVATIONS = dict(relu=stax.Relu, erf=stax.Erf, linear=stax.Identity)
_FEATURES, _TESTS = 6, 3


def _networks():
  """A few networks, so that their kernels are compiled once."""
  rng = np.random.default_rng(0)
  out = []
  for activation in _ACTIVATIONS:
    for depth in (1, 2, 3):
      c, s = rng.uniform(.7, 2.), 2.**rng.uniform(-1, 1)
      s0 = s * 2.**rng.uniform(-1.5, 1.5)
      b = rng.choice([None, .1, 1.])
      layer = reference.dense(c, b, s0, s, s0, s)
      out.append((activation, depth, s0, s, b,
                  [layer, activation] * depth + [layer]))
  return out


def _kernel_fn(layers):
  return stax.serial(*(_ACTIVATIONS[l]() if isinstance(l, str)
                       else stax.Dense(8, **l) for l in layers))[2]


def _data(rng):
  """Inputs, targets, test inputs and what is special of them."""
  n = int(rng.choice([1, 3, 7]))
  scale = 10.**rng.uniform(-2, 2)
  x = rng.normal(size=(n, _FEATURES))
  y = 10.**rng.uniform(-1, 1) * rng.normal(size=(n, 1))
  kind = rng.choice(['plain', 'duplicate', 'near', 'norms'], p=[.5, .2, .1, .2])
  if n > 1 and kind == 'duplicate':
    x[-1] = x[0]
  elif n > 1 and kind == 'near':
    x[-1] = x[0] + 1e-3 * rng.normal(size=_FEATURES)
  elif kind == 'norms':
    x *= 10.**rng.uniform(-1, 1, size=(n, 1))
  z = rng.normal(size=(_TESTS, _FEATURES))
  z[0] = x[0] + .1 * rng.normal(size=_FEATURES)
  return scale * x, y, scale * z, kind, scale


def _problem(number, networks, kernel_fns):
  """Errors of one problem, a row of the table."""
  rng = np.random.default_rng(1000 + number)
  i = int(rng.integers(len(networks)))
  activation, depth, s0, s, b, layers = networks[i]
  x, y, z, kind, scale = _data(rng)
  temperature = 10.**rng.uniform(-6, 1)
  kernels = lambda *args, **kwargs: reference.two_time_kernels(
      *args, layers, **kwargs)
  largest = np.trace(kernels(x, x, 0., 0.).ndk)
  rate = largest + temperature / s**2
  end = 5. * s**2 / temperature
  t = np.geomspace(min(.3 / rate, end), end, 6)

  # Where the temperature is far below the kernel, rounding errors of the
  # reference are amplified too: those of two grids differ by as much.
  want, other = (reference.volterra_mean(
      lambda *args: kernels(*args).ndk, x, y, z, temperature, t, prior_std=s,
      refine=refine) for refine in (1., 2.))
  want_variance = [None, None]
  if _VARIANCE.value:
    want_variance = [np.diagonal(c, 0, 1, 2) for c in
                     reference.volterra_covariance(kernels, x, z, temperature,
                                                   t, prior_std=s)]
  begin = time.perf_counter()
  row = dict(number=number, activation=activation, depth=depth,
             s0=f'{s0:.3f}', s=f'{s:.3f}', bias=b, n=len(x), inputs=kind,
             scale=f'{scale:.1e}', temperature=f'{temperature:.1e}')
  y_scale = np.sqrt(np.mean(y**2))
  reference_error = max(
      np.max(np.abs(a - b)) / max(y_scale, np.abs(a).max())
      for a, b in zip(want, other))
  mean_error = variance_error = 0.
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    predict_fn = predict.markov_proximal_mse_ensemble(
        kernel_fns(i), x, y, temperature, rtol=_RTOL.value)
    try:
      estimates = []
      for x_test, mean, variance in zip((None, z), want, want_variance):
        got = predict_fn(t=t * y.size, x_test=x_test, get='ndk',
                         compute_cov='diag' if _VARIANCE.value else False)
        got_mean = got.mean if _VARIANCE.value else got
        size = max(y_scale, np.abs(mean).max())
        mean_error = max(mean_error, np.abs(got_mean - mean).max() / size)
        if _VARIANCE.value:
          inputs = x if x_test is None else z
          prior = np.max([np.diag(kernels(
              inputs, inputs, temperature * u, temperature * u).nngp)
                          for u in t], 0)
          variance_error = max(
              variance_error, np.max(np.abs(got.covariance - variance) / prior))
        estimates.append((predict_fn.stats['estimated_error'],
                          predict_fn.stats['estimated_covariance_error']))
      finite = np.isfinite(mean_error) and np.isfinite(variance_error)
      outcome = 'answer' if finite else 'NaN'
    except (ArithmeticError, ValueError) as e:
      outcome, estimates = f'{type(e).__name__}: {e}', [(np.inf, np.inf)]
  estimated, estimated_variance = np.max(estimates, 0)
  return dict(
      row, mean_error=f'{mean_error:.1e}', estimated_error=f'{estimated:.1e}',
      reference_error=f'{reference_error:.1e}',
      variance_error=f'{variance_error:.1e}',
      estimated_variance_error=f'{estimated_variance:.1e}',
      warned=any(c.category is UserWarning for c in caught), outcome=outcome,
      seconds=f'{time.perf_counter() - begin:.1f}')


def main(_):
  jax.config.update('jax_enable_x64', True)
  networks, made = _networks(), {}

  def kernel_fns(i):
    if i not in made:
      made[i] = _kernel_fn(networks[i][-1])
    return made[i]

  rows = []
  for number in range(_FIRST.value, _FIRST.value + _PROBLEMS.value):
    rows.append(_problem(number, networks, kernel_fns))
    print(*rows[-1].values(), flush=True)
  value = lambda name: np.array([float(row[name]) for row in rows])
  answered = np.array([row['outcome'] == 'answer' for row in rows])
  mean, variance = value('mean_error'), value('variance_error')
  covered = (
      (mean <= value('estimated_error') + 2 * value('reference_error')) &
      (variance <= value('estimated_variance_error')))
  print(f'{len(rows)} problems, {answered.sum()} answered, '
        f'{sum(row["outcome"] == "NaN" for row in rows)} NaN, '
        f'{sum(row["warned"] for row in rows)} warned; '
        f'estimate covers the error in {np.mean(covered[answered]):.1%}; '
        f'largest error {mean[answered].max() / _RTOL.value:.1f} x rtol (mean),'
        f' {variance[answered].max() / _RTOL.value:.1f} x rtol (variance); '
        f'{np.sum(np.maximum(mean, variance)[answered] > 10 * _RTOL.value)} '
        'beyond 10 x rtol')
  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  app.run(main)
