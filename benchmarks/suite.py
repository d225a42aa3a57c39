# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Cost, memory and accuracy of predictors, beside peers in the same run.

MNIST 4/9, networks with three hidden layers, `s0 = 2 s`, `T = 1e-3`, 200 test
images, times over nine decades from the first steps to equilibrium; of more
than 11,000 images, all digits, even against odd. Each case
runs in a process of its own, whose peak memory is measured. A first call
compiles; then the predictor and its peer are called in turn, and the table has
the medians of seconds and of their ratios. Peers are

*  `neural_tangents.predict.gradient_descent_mse_ensemble`, for the mean, or for
   mean and covariance (`compute_cov=True`) where the case is a variance;
*  the textbook solution by the trapezoidal rule on a grid of two times, in the
   case `quadrature`, over seven decades: errors of both are those of the mean
   on the training data at all times of its grid. The predictor's tolerance is
   1e-2, and its error is the smaller one by far;
*  the predictor itself, for the first of several columns of targets, which are
   normal numbers, in the cases `*_columns`.

The case `cnn_500` has 500 CIFAR-10 images of two classes in 4 x 4 patches, two
convolutions with pooling, and 50 test images. Kernels, with the choice of times
on a sample, are to take most of its time.

Errors are those at late times, where the exact answer is the posterior, and the
estimated ones. Exponents of `n` are fitted between sizes that follow each
other.

    python benchmarks/suite.py --data_dir=/path/to/mnist --output=suite.json
    python benchmarks/suite.py --data_dir=/path/to/mnist \
        --cases=relu_10000 --repeats=0
"""

import json
import os
import platform
import re
import resource
import subprocess
import sys
import time

from absl import app
from absl import flags
import jax
import numpy as np
import scipy.linalg

from nt_ndk import predict
from nt_ndk import stax

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'examples'))
import datasets  # pylint: disable=g-import-not-at-top,wrong-import-position

# Network, number of training images, and what differs from the usual.
_CASES = {
    **{f'{network}_{n}': dict(network=network, n=n)
       for network in ('relu', 'erf') for n in (100, 300, 1000, 4000)},
    'relu_1000_norms': dict(network='relu', n=1000, same_norm=False),
    'erf_1000_norms': dict(network='erf', n=1000, same_norm=False),
    'relu_1000_float32': dict(network='relu', n=1000, x64=False),
    'relu_1000_many_times': dict(network='relu', n=1000, n_times=10_000),
    'relu_1000_few_decades': dict(network='relu', n=1000, decades=4),
    'relu_300_variance': dict(network='relu', n=300, n_times=20, cov='diag'),
    'relu_1000_variance': dict(network='relu', n=1000, n_times=20, cov='diag'),
    'erf_1000_variance': dict(network='erf', n=1000, n_times=20, cov='diag'),
    **{f'relu_1000_{k}_columns': dict(network='relu', n=1000, columns=k,
                                      peer='column') for k in (10, 100, 1000)},
    'cnn_500': dict(network='cnn', n=500, n_test=50),
    'quadrature': dict(network='relu', n=500, peer='quadrature', rtol=1e-2),
    'relu_4000_float32': dict(network='relu', n=4000, x64=False),
    'relu_10000': dict(network='relu', n=10_000),
    'relu_10000_float32': dict(network='relu', n=10_000, x64=False),
    'relu_14000': dict(network='relu', n=14_000),
    'relu_20000_float32': dict(network='relu', n=20_000, x64=False),
}
# Only if asked for by name.
_LARGE = ('relu_4000_float32', 'relu_10000', 'relu_10000_float32', 'relu_14000',
          'relu_20000_float32', 'relu_1000_1000_columns')
_MOST = 11_000  # Images of two digits.

_DATA_DIR = flags.DEFINE_string(
    'data_dir', None, 'Folder with the original MNIST and CIFAR-10 files.',
    required=True)
_NAMES = flags.DEFINE_list(
    'cases', [name for name in _CASES if name not in _LARGE], 'Cases to run.')
_REPEATS = flags.DEFINE_integer(
    'repeats', 3, 'Measurements; 0 measures the first call, compilation '
    'included.', lower_bound=0)
_GRID = flags.DEFINE_integer('grid', 120, 'Times of the textbook solution.')
_OUTPUT = flags.DEFINE_string('output', None, 'JSON file to write.')
_ONE = flags.DEFINE_string('one', None, 'Run this case here.')

_TEMPERATURE = 1e-3


def gigabytes():
  """Peak memory of this process so far."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def device_bytes():
  """Peak memory of an accelerator so far; 0 on a CPU."""
  return (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0)


def timed(f):
  begin = time.perf_counter()
  out = jax.block_until_ready(f())
  return time.perf_counter() - begin, out


def textbook(kernel_fn, x, y, tau):
  """Mean on the training data by the trapezoidal rule, `[len(tau), n, k]`."""
  kernel_fn = jax.jit(kernel_fn, static_argnames='get')
  weights, rho = np.diff(tau) / 2 / _TEMPERATURE, [y]
  for i in range(1, len(tau)):
    right = y
    for j in range(i):
      weight = weights[j] + (weights[j - 1] if j else 0.)
      kernel = kernel_fn(x, x, 'ndk', diffusion_time=(tau[i], tau[j]))
      right = right - weight * (np.asarray(kernel) @ rho[j])
    kernel = kernel_fn(x, x, 'ndk', diffusion_time=(tau[i], tau[i]))
    matrix = np.eye(len(y)) + weights[i - 1] * np.asarray(kernel)
    rho.append(scipy.linalg.solve(matrix, right))
  return y - np.array(rho)


def network_and_data(network, n, n_test, same_norm):
  """A kernel function, training inputs and targets, and test inputs."""
  stds = dict(W_init_std=2., W_prior_std=1.)
  dense = lambda width, W_std: stax.Dense(width, W_std, **stds)
  if network == 'cnn':
    x, y, x_test, _ = datasets.load('cifar10', [0, 3], n, n_test,
                                    data_dir=_DATA_DIR.value)
    # The first layer is a convolution of patches.
    x, x_test = (np.reshape(a, (-1, 3, 4, 8, 4, 8)).transpose(
        (0, 2, 4, 3, 5, 1)).reshape((-1, 4, 4, 192)) for a in (x, x_test))
    conv = lambda size: stax.Conv(64, (size, size), None, 'SAME', 2**.5, **stds)
    layers = [conv(1), stax.Relu(), conv(3), stax.Relu(),
              stax.AvgPool((2, 2), (2, 2)), conv(3), stax.Relu(),
              stax.GlobalAvgPool()]
  else:
    # Of more than there are of two digits, all that is even against odd.
    digits = [(4, 9)] if n <= _MOST else [(i, i + 1) for i in range(0, 10, 2)]
    x, y, x_test, _ = (np.concatenate(a) for a in zip(*(
        datasets.load('mnist', pair, n // len(digits), n_test // len(digits),
                      data_dir=_DATA_DIR.value, same_norm=same_norm)
        for pair in digits)))
    phi, W_std = dict(relu=(stax.Relu, 2**.5), erf=(stax.Erf, 1.))[network]
    layers = [layer for _ in range(3) for layer in (dense(512, W_std), phi())]
  return stax.serial(*layers, dense(1, 1.))[2], x, y, x_test


def measure(network, n, decades=9, n_times=100, n_test=200, same_norm=True,
            cov=False, x64=True, peer='nt', rtol=1e-5, columns=0):
  """Runs a case, and returns a row of the table."""
  jax.config.update('jax_enable_x64', x64)
  kernel_fn, x, y, x_test = network_and_data(network, n, n_test, same_norm)
  if columns:
    y = np.random.RandomState(0).normal(size=(n, columns))
  t = n * np.geomspace(10.**(6 - decades), 1e6, n_times)
  test = None if peer == 'quadrature' else x_test
  if peer == 'quadrature':
    t = np.append(0., n * np.geomspace(10.**(6 - decades), 1e4, _GRID.value))

  def ours(rtol=rtol, y=y):
    predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x, y,
                                                      _TEMPERATURE, rtol=rtol)
    return predict_fn(t=t * y.shape[1], x_test=test, get='ndk',
                      compute_cov=cov), predict_fn.stats

  def theirs():
    if peer == 'quadrature':
      return textbook(kernel_fn, x, y, _TEMPERATURE * t / n)
    if peer == 'column':
      return ours(y=y[:, :1])[0]
    return predict.gradient_descent_mse_ensemble(kernel_fn, x, y)(
        t=t, x_test=x_test, get='ntk', compute_cov=bool(cov))

  first, (prediction, stats) = timed(ours)
  row = dict(n=n, times=len(t), decades=decades, first_call=first,
             gigabytes=gigabytes(), planned_bytes=stats['planned_bytes'],
             device_peak_bytes=device_bytes())
  first, answer = timed(theirs)
  row |= dict(peer_first_call=first, gigabytes_with_peer=gigabytes())
  mean = prediction.mean if cov else prediction
  if peer == 'quadrature':
    exact, _ = ours(1e-7)
    row |= dict(error=np.abs(mean - exact).max(),
                peer_error=np.abs(answer - exact).max())
  else:
    late = dict(diffusion_time=(1e9, 1e9))
    posterior = predict.gp_inference(
        kernel_fn(x, None, 'nngp', **late), y, diag_reg=_TEMPERATURE,
        diag_reg_absolute_scale=True)(
            get='nngp', k_test_train=kernel_fn(x_test, x, 'nngp', **late))
    row |= dict(error=np.abs(mean[-1] - posterior).max())
  pairs = []
  for _ in range(_REPEATS.value):
    seconds, (_, stats) = timed(ours)
    # The textbook's minutes are measured once.
    pairs.append((seconds, row['peer_first_call'] if peer == 'quadrature' else
                  timed(theirs)[0]))
  pairs = np.array(pairs or [(row['first_call'], row['peer_first_call'])])
  ratios = pairs[:, 0] / pairs[:, 1]
  return row | dict(
      seconds=np.median(pairs[:, 0]), peer_seconds=np.median(pairs[:, 1]),
      ratio=np.median(ratios), kernel_evaluations=stats['kernel_evaluations'],
      rank=stats['rank'], panels=stats['panels'],
      estimated_error=stats['estimated_error'],
      estimated_covariance_error=stats['estimated_covariance_error'],
      **{f'seconds_{part}': s for part, s in stats['seconds'].items()})


def exponents(rows):
  """Of `n`, between cases that differ in it alone."""
  for network in ('relu', 'erf'):
    series = sorted((row['n'], row['seconds'], row['peer_seconds'])
                    for name, row in rows.items()
                    if re.fullmatch(network + r'_\d+', name))
    for small, large in zip(series, series[1:]):
      ours, theirs = (np.log(b / a) / np.log(large[0] / small[0])
                      for a, b in zip(small[1:], large[1:]))
      print(f'{network}, n from {small[0]} to {large[0]}: seconds grow as '
            f'n^{ours:.1f}, those of the peer as n^{theirs:.1f}.')


def main(argv):
  if _ONE.value:
    print(json.dumps({k: v if isinstance(v, int) else float(v)
                      for k, v in measure(**_CASES[_ONE.value]).items()}))
    return

  rows = {}
  columns = ('seconds', 'peer_seconds', 'ratio', 'gigabytes', 'error')
  print(f'{"case":24}' + ''.join(f'{column:>14}' for column in columns))
  for name in _NAMES.value:
    out = subprocess.run(
        [sys.executable, *argv[:1], f'--data_dir={_DATA_DIR.value}',
         f'--repeats={_REPEATS.value}', f'--grid={_GRID.value}',
         f'--one={name}'], stdout=subprocess.PIPE, text=True, check=True)
    rows[name] = row = json.loads(out.stdout.splitlines()[-1])
    print(f'{name:24}' + ''.join(f'{row[column]:14.3g}' for column in columns),
          flush=True)
  exponents(rows)
  if _OUTPUT.value:
    machine = dict(processor=platform.processor(), cores=os.cpu_count(),
                   devices=[str(d) for d in jax.devices()],
                   python=platform.python_version(), jax=jax.__version__)
    with open(_OUTPUT.value, 'w', encoding='utf-8') as f:
      json.dump(dict(machine=machine, cases=rows), f, indent=2)
      f.write('\n')


if __name__ == '__main__':
  app.run(main)
