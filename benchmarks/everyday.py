# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Everyday problems: a few variables, tables, biases, small temperatures.

The mean predictor at 60 times, from the first learning to equilibrium, on 50
test inputs, for all combinations of

*  1, 3 (uniform in ±π) or 8 features (normal); 5, 20, 100, 200 samples,
*  two or three hidden layers, ReLU or erf; no biases, or `b_std` .05 or 1,
*  `W_init_std` 1 or 1.5, and temperatures of 1e-2, 1e-4 and 1e-6 of the mean
   variance under the prior,

and on tables that come with scikit-learn, standardised. Each is solved twice,
so that the second time nothing is compiled, and by Neural Tangents. Errors of
means are relative to the root mean square of the targets. True ones, for up to
100 samples, are against a direct solution of the equations that shares nothing
with the package, `tests/reference.py`, at six of the times; it takes long, and
is kept in `results/everyday_references.npz`. With `--finer` they are against
the predictor's own means at a hundredth of the tolerance, at all times; these
may have `--contradictions`, too, for which errors of kernels matter most.

    python benchmarks/everyday.py --references --part=0/2 --output=part.npz
    python benchmarks/everyday.py --once \
        --output=benchmarks/results/everyday.csv
    python benchmarks/everyday.py --once --finer --contradictions \
        --only='-2-(3|8)-(20|100|200)-0.01-.*-1.5$' \
        --output=benchmarks/results/everyday_contradictions.csv
"""

import csv
import itertools
import os
import re
import sys
import time
from typing import Any, NamedTuple, Optional
import warnings

from absl import app
from absl import flags
import jax
import numpy as np

from nt_ndk import predict
from nt_ndk import stax

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'tests'))
import reference  # pylint: disable=g-import-not-at-top,wrong-import-position

_REFERENCES = flags.DEFINE_bool('references', False, 'Make the references.')
_ONLY = flags.DEFINE_string('only', '', 'Names of problems, an expression.')
_PART = flags.DEFINE_string('part', '0/1', 'Which part of the problems.')
_RTOL = flags.DEFINE_float('rtol', 1e-5, 'Tolerance of predictions.')
_VARIANCE = flags.DEFINE_bool('variance', False, 'Variances too.')
_ONCE = flags.DEFINE_bool(
    'once', False, 'Solve once and leave Neural Tangents out: no times, but '
    'kernels and errors.')
_FINER = flags.DEFINE_bool(
    'finer', False,
    'True errors are those against a hundredth of the tolerance.')
_CONTRADICTIONS = flags.DEFINE_bool(
    'contradictions', False,
    'A quarter of the training inputs equals others, a quarter is opposite to '
    'others, and targets are drawn at random.')
_FLOAT32 = flags.DEFINE_bool('float32', False, 'Predictions in float32.')
_OUTPUT = flags.DEFINE_string('output', None, 'File to write.')

_ACTIVATIONS = dict(relu=stax.Relu, erf=stax.Erf)
_TIMES, _TESTS, _W_STD = 60, 50, 1.5
# At which of the times references are.
_AT = np.linspace(4, _TIMES - 1, 6).astype(int)
# Samples up to which variances have a reference, and their test inputs.
_FEW, _FEW_TESTS = 5, 4


class Problem(NamedTuple):
  """One problem; `features` is the name of a table if it has one."""
  activation: str
  depth: int
  features: Any
  n: int
  temperature: float
  bias: Optional[float]
  s0: float

  @property
  def name(self) -> str:
    return '-'.join(map(str, self))

  def layers(self) -> list[Any]:
    """As `reference` describes them."""
    layer = reference.dense(_W_STD, self.bias, W_init_std=self.s0)
    return [layer, self.activation] * self.depth + [layer]

  def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets and test inputs."""
    if isinstance(self.features, str):
      return _table(self.features, self.n)
    d, rng = self.features, np.random.default_rng([self.features, self.n])
    x = (rng.uniform(-np.pi, np.pi, (self.n + _TESTS, d)) if d < 4 else
         rng.normal(size=(self.n + _TESTS, d)))
    y = np.sin(x.sum(1) / d**.5) + .1 * rng.normal(size=len(x))
    if _CONTRADICTIONS.value:
      copies = self.n // 2
      x[:copies] = x[copies:2 * copies]
      x[:copies // 2] *= -1
      y = rng.normal(size=len(x))
    return x[:self.n], y[:self.n, None], x[self.n:]

  def times(self) -> tuple[float, np.ndarray]:
    """Temperature, and times in units of the sum of squares."""
    x, *_ = self.data()
    at = lambda t: reference.two_time_kernels(x, x, t, t, self.layers())
    temperature = self.temperature * np.mean(np.diag(at(50.).nngp))
    fastest = np.trace(at(0.).ndk)
    return temperature, np.geomspace(.1 / fastest, 20 / temperature, _TIMES)


def _table(name: str, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """A part of a table, standardised."""
  from sklearn import datasets  # pylint: disable=g-import-not-at-top
  data = getattr(datasets, f'load_{name}')()
  order = np.random.default_rng(0).permutation(len(data.data))
  x, y = (np.asarray(a[order], float) for a in (data.data, data.target))
  x, y = ((a - a[:n].mean(0)) / np.maximum(a[:n].std(0), 1e-9) for a in (x, y))
  return x[:n], y[:n].reshape((n, -1))[:, :1], x[n:n + _TESTS]


def problems() -> list[Problem]:
  """All of them, in a mixed order."""
  out = [Problem(*p) for p in itertools.product(
      ('relu', 'erf'), (2, 3), (1, 3, 8), (5, 20, 100, 200),
      (1e-2, 1e-4, 1e-6), (None, .05, 1.), (1., 1.5))]
  tables = (('diabetes', 100), ('diabetes', 350), ('breast_cancer', 100),
            ('breast_cancer', 500), ('wine', 100))
  out += [Problem(activation, 2, name, n, temperature, bias, 1.5)
          for name, n in tables for activation in ('relu', 'erf')
          for temperature in (1e-2, 1e-4) for bias in (.05, 1.)]
  order = np.random.default_rng(0).permutation(len(out))
  out = [out[i] for i in order if re.search(_ONLY.value, out[i].name)]
  part, parts = map(int, _PART.value.split('/'))
  return out[part::parts]


def _has_reference(problem: Problem) -> bool:
  # Of a hundred samples they take minutes each.
  return problem.n <= 20 or (
      problem.n == 100 and problem.depth == 2 and problem.features != 3 and
      problem.temperature > 1e-6 and (problem.s0, problem.bias) == (1.5, .05))


def _reference(problem: Problem) -> dict[str, np.ndarray]:
  """Means, and variances of few samples, at some of the times."""
  x, y, z = problem.data()
  temperature, t = problem.times()
  kernels = lambda *args: reference.two_time_kernels(*args, problem.layers())
  order, refine = (10, 1. if problem.n < 20 else .7)
  mean = reference.volterra_mean(lambda *args: kernels(*args).ndk, x, y, z,
                                 temperature, t[_AT], order, refine)
  out = dict(train=mean[0], test=mean[1])
  if problem.n <= _FEW and _VARIANCE.value:
    covariance = reference.volterra_covariance(kernels, x, z[:_FEW_TESTS],
                                               temperature, t[_AT])
    for name, c in zip(('train', 'test'), covariance):
      out[f'{name}_variance'] = np.diagonal(c, 0, 1, 2)
  return {f'{problem.name}:{k}': v for k, v in out.items()}


def _make_references() -> None:
  out: dict[str, np.ndarray] = {}
  for problem in problems():
    if _has_reference(problem):
      begin = time.perf_counter()
      out.update(_reference(problem))
      print(problem.name, f'{time.perf_counter() - begin:.1f} s', flush=True)
      np.savez_compressed(_OUTPUT.value, **out)


def _run(problem: Problem, references: dict[str, np.ndarray]) -> dict[str, Any]:
  """A row of the table."""
  x, y, z = problem.data()
  temperature, t = problem.times()
  layer = lambda: stax.Dense(8, _W_STD, problem.bias, W_init_std=problem.s0)
  activation = _ACTIVATIONS[problem.activation]
  kernel_fn = stax.serial(*(make() for _ in range(problem.depth)
                            for make in (layer, activation)), layer())[2]
  row = dict(problem._asdict(), T=f'{temperature:.1e}')
  outcome, warned = 'answer', False
  at = np.arange(_TIMES) if _FINER.value else _AT
  solver = lambda rtol: predict.markov_proximal_mse_ensemble(
      kernel_fn, x, y, temperature, rtol=rtol)
  nt_ndk_seconds, nt_seconds = [], []
  error, test_error, estimate = (np.nan,) * 3
  stats: dict[str, Any] = {}
  for _ in range(1 if _ONCE.value else 2):
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter('always')
      begin = time.perf_counter()
      try:
        predict_fn = solver(_RTOL.value)
        mean = np.asarray(predict_fn(t=t * y.size, x_test=z, get='ndk'))
        nt_ndk_seconds.append(time.perf_counter() - begin)
        test_estimate = predict_fn.stats['estimated_error']
        train = np.asarray(predict_fn(t=t[at] * y.size, get='ndk'))
        stats = predict_fn.stats
        estimate = max(test_estimate, stats['estimated_error'])
      except (ArithmeticError, ValueError) as e:
        nt_ndk_seconds.append(time.perf_counter() - begin)
        outcome = f'{type(e).__name__}: {e}'
      warned = any('float32' not in str(c.message) for c in caught)
      if outcome == 'answer' and _FINER.value:
        try:
          finer = solver(_RTOL.value / 100)
          references = {f'{problem.name}:{k}': finer(
              t=t * y.size, x_test=inputs, get='ndk')
                        for k, inputs in (('test', z), ('train', None))}
        except ArithmeticError:
          references = {}
      if outcome == 'answer' and f'{problem.name}:test' in references:
        wanted = [references[f'{problem.name}:{k}'] for k in ('train', 'test')]
        size = np.sqrt(np.mean(y**2))
        error, test_error = (np.max(np.abs(a - b)) / size for a, b in
                             zip((train, mean[at]), wanted))
      if _ONCE.value:
        continue
      begin = time.perf_counter()
      jax.block_until_ready(predict.gradient_descent_mse_ensemble(
          kernel_fn, x, y)(t=t * y.size, x_test=z, get='ntk'))
      nt_seconds.append(time.perf_counter() - begin)
  if not _ONCE.value:
    first, warm = nt_ndk_seconds
    row.update(first=f'{first:.2f}', seconds=f'{warm:.2f}',
               ratio=f'{warm / nt_seconds[1]:.1f}')
  return dict(
      row, kernels=stats.get('kernel_evaluations', 0),
      rank=stats.get('rank', 0), fits=stats.get('fits', 0),
      panels=stats.get('panels', 0),
      error=f'{error:.1e}', test_error=f'{test_error:.1e}',
      estimate=f'{estimate:.1e}', warned=warned, outcome=outcome)


def _percent(values: np.ndarray, of: np.ndarray) -> str:
  return f'{np.mean(values[of]):.1%}' if np.any(of) else 'none'


def _summary(rows: list[dict[str, Any]]) -> None:
  value = lambda name: np.array([float(row[name]) for row in rows])
  answered = np.array([row['outcome'] == 'answer' for row in rows])
  warned = np.array([row['warned'] for row in rows])
  error = np.fmax(value('error'), value('test_error'))
  known = answered & np.isfinite(error)
  estimate, kernels = value('estimate'), value('kernels')
  print(f'{len(rows)} problems, {answered.sum()} answered, {warned.sum()} '
        'warned')
  times = () if _ONCE.value else ('first', 'seconds', 'ratio')
  for name in (*times, 'kernels', 'fits', 'panels'):
    values = value(name)[answered]
    print(f'{name}: median {np.median(values):.2g}, 95% '
          f'{np.quantile(values, .95):.3g}, largest {np.max(values):.3g}')
  print(f'kernels at most 40: {_percent(kernels <= 40, answered)}')
  if np.any(known):
    print(f'{known.sum()} with a reference: error at most estimate '
          f'{_percent(error <= estimate, known)}; estimate / error median '
          f'{np.median(estimate[known] / error[known]):.0f}; error / rtol '
          f'median {np.median(error[known]) / _RTOL.value:.2g}, largest '
          f'{np.max(error[known]) / _RTOL.value:.2g}, without warning '
          f'{np.max(error[known & ~warned], initial=0) / _RTOL.value:.2g}; '
          f'warned {np.sum(known & warned)}, with an error above 1e-4 '
          f'{_percent(error > 1e-4, known & warned)}')


def main(_):
  if _REFERENCES.value:
    _make_references()
    return
  jax.config.update('jax_enable_x64', not _FLOAT32.value)
  with np.load(os.path.join(os.path.dirname(__file__), 'results',
                            'everyday_references.npz')) as f:
    references = dict(f)
  rows = []
  for problem in problems():
    rows.append(_run(problem, references))
    print(*rows[-1].values(), flush=True)
  _summary(rows)
  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  app.run(main)
