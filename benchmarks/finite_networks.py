# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Finite networks against theory, over the width.

Ensembles of networks of several widths learn two classes of MNIST by Langevin
dynamics, from initialisation to equilibrium. Mean and variance over networks
are compared with those of infinite width: the root-mean-square deviation over
times and test images, the sampling error, what is left of bias, and the slope
of its logarithm over that of the width, where it is resolved.

Three kinds of networks: fully connected ones, of each nonlinearity, depth and
ratio `s0 / s`; a convolutional one; and fully connected ones whose readout is
frozen on the way, at times after that.

Fully connected networks see images rotated into the space that they span, which
makes no difference to them and has fewer dimensions than pixels. The
convolutional network sees images of a quarter of the side.

    python benchmarks/finite_networks.py --data_dir=/path/to/mnist
"""

import csv
import itertools
import os
import sys
import time
from typing import NamedTuple

from absl import app
from absl import flags
import jax
from jax import random
import matplotlib
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk import stax

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'examples'))
import datasets  # pylint: disable=g-import-not-at-top,wrong-import-position

matplotlib.use('Agg')

_KINDS = flags.DEFINE_list('kinds', ['dense', 'cnn', 'drift'],
                           'Kinds of networks.')
_DATASET = flags.DEFINE_enum(
    'dataset', 'mnist', ['mnist', 'digits'], 'Images to learn from.')
_DATA_DIR = flags.DEFINE_string(
    'data_dir', '', 'Folder with the original files.')
_N_TRAIN = flags.DEFINE_integer('n_train', 20, 'Training images.')
_N_TEST = flags.DEFINE_integer('n_test', 10, 'Test images.')
_WIDTHS = flags.DEFINE_list('widths', ['64', '128', '256', '512', '1024'],
                            'Widths.')
_NETWORKS = flags.DEFINE_list(
    'networks', ['4000', '4000', '2000', '800', '400'],
    'Networks of each width, with one hidden layer.')
_DEEP_NETWORKS = flags.DEFINE_list(
    'deep_networks', ['3000', '1500', '400', '60', '24'],
    'The same for several hidden layers, and for convolutions.')
_PHI = flags.DEFINE_list('activations', ['relu', 'erf'], 'Nonlinearities.')
_DEPTHS = flags.DEFINE_list('depths', ['1', '2'], 'Hidden layers.')
_RATIOS = flags.DEFINE_list('ratios', ['.5', '1', '2'], 'Values of s0 / s.')
_TEMPERATURE = flags.DEFINE_float('temperature', .1, 'Temperature.')
_READOUT_STD = flags.DEFINE_float(
    'readout_std', .4, 'Factor of the last layer, `W_std`.')
_N_TIMES = flags.DEFINE_integer('n_times', 8, 'Times.')
_EARLIER = flags.DEFINE_list(
    'earlier', [], 'CSV files of earlier runs, which come first in the output '
    'and in the picture.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')
_PICTURE = flags.DEFINE_string('picture', None,
                               'PNG file to write, of deviations over widths.')
_CURVES = flags.DEFINE_string(
    'curves', None, 'PNG file to write, of the first kind of networks at the '
    'smallest width and at the largest one.')

_STATISTICS = 'mean', 'variance'


class Case(NamedTuple):
  """A kind of network, and how it learns."""
  kind: str
  phi: str
  depth: int
  ratio: float

  @property
  def stds(self) -> dict[str, float]:
    """`s0` and `s`, of which the larger one is 1."""
    return dict(W_init_std=min(self.ratio, 1.),
                W_prior_std=min(1 / self.ratio, 1.))

  def network(self, width: int):
    phi, W_std = dict(relu=(stax.Relu, 2**.5), erf=(stax.Erf, 1.5))[self.phi]
    readout = stax.Dense(1, _READOUT_STD.value, **self.stds)
    if self.kind == 'cnn':
      return stax.serial(stax.Conv(width, (3, 3), (2, 2), W_std=W_std,
                                   **self.stds), phi(),
                         stax.GlobalAvgPool(), readout)
    return stax.serial(*(l for _ in range(self.depth) for l in (
        stax.Dense(width, W_std, **self.stds), phi())), readout)

  @property
  def freeze(self):
    """Half the relaxation time, at which neither phase is over."""
    if self.kind != 'drift':
      return None
    return .5 * self.stds['W_prior_std']**2 / _TEMPERATURE.value

  def times(self) -> np.ndarray:
    """From the gradient-driven phase to three times the relaxation time."""
    end = 3 * self.stds['W_prior_std']**2 / _TEMPERATURE.value
    return np.append(0., np.geomspace(.02, end, _N_TIMES.value - 1))

  def predict(self, x, y, t, x_test):
    predict_fn = predict.markov_proximal_mse_ensemble(
        self.network(1)[2], x, y, _TEMPERATURE.value)
    if self.freeze is None:
      return predict_fn(t=t, x_test=x_test, get='ndk', compute_cov='diag')
    drift_fn = predict.representational_drift_mse_ensemble(
        self.network(1)[2], x, y, _TEMPERATURE.value,
        t_freeze=self.freeze * y.size)
    return drift_fn(t - self.freeze * y.size, x_test, compute_cov='diag')


def cases():
  shapes = itertools.product(_PHI.value, map(int, _DEPTHS.value),
                             map(float, _RATIOS.value))
  for kind in _KINDS.value:
    if kind == 'cnn':
      yield Case(kind, 'relu', 1, 1.)
    elif kind == 'drift':
      yield from (Case(kind, phi, 1, 1.) for phi in _PHI.value)
    else:
      yield from itertools.starmap(
          lambda *shape: Case('dense', *shape), shapes)
      shapes = ()


def data(kind):
  x, y, x_test, _ = datasets.load(
      _DATASET.value, [4, 9], _N_TRAIN.value, _N_TEST.value,
      data_dir=_DATA_DIR.value)
  if kind == 'cnn':
    side = 4 if _DATASET.value == 'mnist' else 1
    x, x_test = (datasets.images(a, side) for a in (x, x_test))
  else:
    x, x_test = datasets.in_their_span(x, x_test)
  return x, y, x_test


def draw_scans(rows, path):
  """Deviations of mean and variance over the width, for all cases."""
  _, axes = plt.subplots(1, 2, figsize=(10., 4.4), dpi=120, sharey=True,
                         layout='constrained')
  case_of = lambda row: tuple(row[name] for name in Case._fields)
  for i, (case, group) in enumerate(itertools.groupby(rows, case_of)):
    group = list(group)
    column = lambda name: np.array([float(row[name]) for row in group])  # pylint: disable=cell-var-from-loop
    widths = column('width')
    for ax, name in zip(axes, _STATISTICS):
      style = dict(color=plt.cm.tab20(i % 20), ms=4)
      known = column(f'{name}_resolved') > 0
      ax.plot(widths[known], column(f'{name}_bias')[known], 'o-',
              label='{}, {}, {} hidden, {}'.format(*case), **style)
      ax.plot(widths[~known], 2 * column(f'{name}_error')[~known], 'v',
              alpha=.3, **style)
  for ax, name in zip(axes, _STATISTICS):
    w = np.unique([float(row['width']) for row in rows])
    ax.plot(w, 2. / w, 'k:', label='slope -1')
    ax.set(xscale='log', yscale='log', xlabel='width N')
    ax.set_xticks(w, [f'{v:g}' for v in w])
    ax.minorticks_off()
    ax.set_title(f'{name}: finite networks minus theory', fontsize=10)
    ax.spines[['top', 'right']].set_visible(False)
  axes[0].set_ylabel('rms over times and test images')
  axes[1].legend(frameon=False, fontsize=7, loc='upper left',
                 bbox_to_anchor=(1., 1.), title='network, s0 / s',
                 title_fontsize=7)
  axes[0].text(.02, .02, 'faint: not resolved, twice the sampling error',
               transform=axes[0].transAxes, fontsize=7)
  axes[0].figure.savefig(path)


def draw_curves(widths, ensembles, prediction, path):
  """Smallest and largest width over theory, for four test images."""
  figure, axes = plt.subplots(2, 2, figsize=(9., 6.), dpi=120, sharex=True,
                              sharey='row', layout='constrained')
  for column, i in zip(axes.T, (0, -1)):
    langevin.plot(ensembles[i], prediction, axes=column)
    column[0].set_title(f'width {widths[i]}', fontsize=10)
  figure.suptitle('Theory (lines) and finite networks (points, two standard '
                  'errors)', fontsize=10)
  figure.savefig(path)


def main(argv):
  del argv
  jax.config.update('jax_enable_x64', True)
  widths = [int(w) for w in _WIDTHS.value]
  rows = []
  for path in _EARLIER.value:
    with open(path, newline='') as f:
      rows += csv.DictReader(f)
  for number, case in enumerate(cases()):
    x, y, x_test = data(case.kind)
    deep = case.depth > 1 or case.kind == 'cnn'
    counts = map(int, (_DEEP_NETWORKS if deep else _NETWORKS).value)
    t = y.size * case.times()
    if case.freeze is not None:
      t = y.size * case.freeze + t
    begin = time.perf_counter()
    prediction = tuple(map(np.asarray, case.predict(x, y, t, x_test)))
    theory_seconds = time.perf_counter() - begin
    ensembles = []
    for width, count in zip(widths, counts):
      begin = time.perf_counter()
      with jax.enable_x64(False):  # Rounding is far below the sampling error.
        ensembles.append(langevin.markov_proximal_ensemble(
            *case.network(width)[:2], x, y, _TEMPERATURE.value,
            antithetic=True)(
                random.PRNGKey(width), count, t, x_test,
                t_freeze=case.freeze and y.size * case.freeze))
      seconds = time.perf_counter() - begin
      comparison = langevin.compare(ensembles[-1], prediction)
      row = dict({k: str(v) for k, v in case._asdict().items()},
                 width=width, networks=count,
                 theory_seconds=f'{theory_seconds:.1f}',
                 ensemble_seconds=f'{seconds:.0f}')
      for statistic in _STATISTICS:
        scan = langevin.width_scan(widths[:len(ensembles)], ensembles,
                                   prediction, statistic)
        z = getattr(comparison, f'{statistic}_z')
        z = z[ensembles[-1].mean_error > 0]
        row.update({
            f'{statistic}_rms': f'{scan.rms[-1]:.2e}',
            f'{statistic}_error': f'{scan.error[-1]:.2e}',
            f'{statistic}_bias': f'{scan.bias[-1]:.2e}',
            f'{statistic}_resolved': int(scan.resolved[-1]),
            f'{statistic}_rms_z': f'{np.sqrt(np.mean(z**2)):.2f}',
            f'{statistic}_slope': f'{scan.slope:.2f}'})
      rows.append(row)
      print(' '.join(f'{k}={v}' for k, v in row.items()), flush=True)
    if _CURVES.value and not number:
      draw_curves(widths, ensembles, prediction, _CURVES.value)
  if _PICTURE.value:
    draw_scans(rows, _PICTURE.value)
  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  app.run(main)
