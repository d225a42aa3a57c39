# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""What a first call costs, and what a second one of another size.

A first call compiles, and takes longer than all that follows. Each case runs in
processes of its own, with three hidden ReLU layers, inputs of 50 features and
50 test inputs; the table has medians over processes.

*  First calls of the mean at 30 times, beside those of
   `neural_tangents.predict.gradient_descent_mse_ensemble`, import not counted.
*  The first variance after that mean (10 times, `"diag"`); the mean again; the
   mean with one sample less; with other standard deviations.
*  One sample after the other, from 5 to 60, variance of 256 test inputs at one
   time.
*  A process that finds JAX's persistent compilation cache filled by another
   one: import and first call together.
*  Import of `nt_ndk` beyond that of JAX.

    python benchmarks/compilation.py --output=compilation.json
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags

_PROCESSES = flags.DEFINE_integer('processes', 3, 'processes for each case')
_OUTPUT = flags.DEFINE_string('output', None, 'JSON file to write')
_CASE = flags.DEFINE_string('case', None, 'one case, in this process')
_N = flags.DEFINE_integer('n', 100, 'training inputs of that case')


def _network(width=1.4, init_std=1., prior_std=1.):
  from nt_ndk import stax  # pylint: disable=g-import-not-at-top
  dense = lambda units: stax.Dense(units, W_std=width, W_init_std=init_std,
                                   W_prior_std=prior_std)
  return stax.serial(*[dense(512), stax.Relu()] * 3, dense(1))[2]


def _run(case, n):
  """Seconds by name, of one process."""
  begin = time.perf_counter()
  import jax  # pylint: disable=g-import-not-at-top
  if case == 'cached':
    for name, value in (
        ('jax_persistent_cache_min_compile_time_secs', 0.),
        ('jax_persistent_cache_min_entry_size_bytes', -1)):
      jax.config.update(name, value)
  jax.config.update('jax_enable_x64', True)
  loaded = time.perf_counter()
  import numpy as np  # pylint: disable=g-import-not-at-top

  from nt_ndk import predict  # pylint: disable=g-import-not-at-top
  out = {'import': time.perf_counter() - loaded}

  rng = np.random.default_rng(0)
  x, z = rng.normal(size=(n, 50)), rng.normal(size=(50, 50))
  y, t = np.sign(x[:, :1]), np.geomspace(1e-2, 1e7, 30)

  def timed(name, f):
    start = time.perf_counter()
    value = f()
    out[name] = time.perf_counter() - start
    return value

  def mean(kernel_fn, m=n):
    predict_fn = predict.markov_proximal_mse_ensemble(
        kernel_fn, x[:m], y[:m], temperature=1e-3)
    np.asarray(predict_fn(t=t, x_test=z, get='ndk'))
    return predict_fn

  kernel_fn = _network()
  if case == 'peer':
    timed('first', lambda: np.asarray(predict.gradient_descent_mse_ensemble(
        kernel_fn, x, y)(t=t, x_test=z, get='ntk')))
  elif case == 'one by one':
    x, z = rng.normal(size=(60, 50)), rng.normal(size=(256, 50))
    y = np.sign(x[:, :1])
    for m in range(5, 61):
      timed(m, lambda m=m: np.asarray(predict.markov_proximal_mse_ensemble(
          kernel_fn, x[:m], y[:m], temperature=1e-3)(
              t=1e4, x_test=z, get='ndk', compute_cov='diag').covariance))
    steps = [out.pop(m) for m in range(5, 61)]
    out.update(first=steps[0], median=statistics.median(steps[1:]),
               worst=max(steps[1:]))
  else:
    predict_fn = timed('first', lambda: mean(kernel_fn))
    out['with imports'] = time.perf_counter() - begin
    if case == 'mean':
      timed('variance', lambda: np.asarray(predict_fn(
          t=t[::3], x_test=z, get='ndk', compute_cov='diag').covariance))
      timed('again', lambda: mean(kernel_fn))
      timed('one sample less', lambda: mean(kernel_fn, n - 1))
      timed('W_std', lambda: mean(_network(1.6)))
      timed('W_init_std', lambda: mean(_network(init_std=1.2)))
      timed('W_prior_std', lambda: mean(_network(prior_std=.8)))
  return out


def _in_process(case, n, **env):
  done = subprocess.run(
      [sys.executable, __file__, f'--case={case}', f'--n={n}'],
      env={**os.environ, **env}, stdout=subprocess.PIPE, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def main(_):
  if _CASE.value:
    print(json.dumps(_run(_CASE.value, _N.value)))
    return

  table = {}
  for case, n in (('mean', 100), ('mean', 1000), ('one by one', 60)):
    runs, ratios = [], []
    for _ in range(_PROCESSES.value):
      runs.append(_in_process(case, n))
      if case == 'mean':
        peer = _in_process('peer', n)['first']
        runs[-1]['first of Neural Tangents'] = peer
        ratios.append(runs[-1]['first'] / peer)
    name = f'{case}, n = {n}'
    table[name] = {key: statistics.median(run[key] for run in runs)
                   for key in runs[0]}
    if ratios:
      table[name]['ratio of first calls'] = statistics.median(ratios)
  with tempfile.TemporaryDirectory() as folder:
    runs = [_in_process('cached', 100, JAX_COMPILATION_CACHE_DIR=folder)
            for _ in range(1 + _PROCESSES.value)]
  table['persistent cache, n = 100'] = {
      key: statistics.median(run[key] for run in runs[1:]) for key in runs[0]}

  for name, row in table.items():
    print(name)
    for key, value in row.items():
      print(f'  {key:26}{value:8.2f}')
  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', encoding='utf-8') as f:
      json.dump(dict(machine=platform.machine(), cores=os.cpu_count(),
                     python=platform.python_version(), seconds=table), f,
                indent=1)
      f.write('\n')


if __name__ == '__main__':
  app.run(main)
