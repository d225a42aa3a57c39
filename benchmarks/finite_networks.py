# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Finite networks against theory, over the width.

Ensembles of networks of several widths learn two classes of MNIST by Langevin
dynamics, from initialisation to equilibrium. For each nonlinearity, depth and
ratio `s0 / s` mean and variance over networks are compared with those of
infinite width: the root-mean-square deviation over times and test images, the
sampling error, what is left of bias, and the slope of its logarithm over that
of the width, where it is resolved.

Inner products are all that wide networks know of their inputs, and all that
finite fully connected ones do: images are rotated into the space that they
span, which has fewer dimensions than pixels.

    python benchmarks/finite_networks.py --data_dir=/path/to/mnist
"""

import csv
import itertools
import os
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

_DATASET = flags.DEFINE_enum(
    'dataset', 'mnist', datasets.DATASETS, 'Images to learn from.')
_DATA_DIR = flags.DEFINE_string(
    'data_dir', '', 'Folder with the original files.')
_N_TRAIN = flags.DEFINE_integer('n_train', 20, 'Training images.')
_N_TEST = flags.DEFINE_integer('n_test', 10, 'Test images.')
_WIDTHS = flags.DEFINE_list('widths', ['64', '256', '1024'], 'Widths.')
_NETWORKS = flags.DEFINE_list(
    'networks', ['2000', '1000', '500'], 'Networks of each width.')
_PHI = flags.DEFINE_list('activations', ['relu', 'erf'], 'Nonlinearities.')
_DEPTHS = flags.DEFINE_list('depths', ['1', '2'], 'Hidden layers.')
_RATIOS = flags.DEFINE_list('ratios', ['.5', '1', '2'], 'Values of s0 / s.')
_TEMPERATURE = flags.DEFINE_float('temperature', .1, 'Temperature.')
_N_TIMES = flags.DEFINE_integer('n_times', 8, 'Times.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')
_PICTURE = flags.DEFINE_string('picture', None, 'PNG file to write.')


def network(width, phi, depth, ratio):
  stds = dict(W_init_std=ratio, W_prior_std=1.)
  phi, W_std = dict(relu=(stax.Relu, 2**.5), erf=(stax.Erf, 1.5))[phi]
  hidden = [l for _ in range(depth)
            for l in (stax.Dense(width, W_std, **stds), phi())]
  return stax.serial(*hidden, stax.Dense(1, **stds))


def data():
  x, y, x_test, _ = datasets.load(
      _DATASET.value, [4, 9], _N_TRAIN.value, _N_TEST.value,
      data_dir=_DATA_DIR.value)
  images = np.concatenate([x, x_test])
  _, r = np.linalg.qr(images.T)
  rotated = r.T * (r.shape[0] / images.shape[1])**.5
  return rotated[:len(x)], y, rotated[len(x):]


def main(argv):
  del argv
  jax.config.update('jax_enable_x64', True)
  x, y, x_test = data()
  temperature = _TEMPERATURE.value
  # From the gradient-driven phase to three times the relaxation time.
  t = np.append(0., y.size * np.geomspace(.02, 3. / temperature,
                                          _N_TIMES.value - 1))
  widths = [int(w) for w in _WIDTHS.value]
  counts = [int(n) for n in _NETWORKS.value]
  rows = []
  for phi, depth, ratio in itertools.product(
      _PHI.value, map(int, _DEPTHS.value), map(float, _RATIOS.value)):
    begin = time.perf_counter()
    prediction = predict.markov_proximal_mse_ensemble(
        network(1, phi, depth, ratio)[2], x, y, temperature)(
            t=t, x_test=x_test, get='ndk', compute_cov='diag')
    prediction = tuple(map(np.asarray, prediction))
    theory_seconds = time.perf_counter() - begin
    ensembles = []
    for width, count in zip(widths, counts):
      begin = time.perf_counter()
      ensembles.append(langevin.markov_proximal_ensemble(
          *network(width, phi, depth, ratio)[:2], x, y, temperature)(
              random.PRNGKey(width), count, t, x_test))
      seconds = time.perf_counter() - begin
      comparison = langevin.compare(ensembles[-1], prediction)
      row = dict(phi=phi, depth=depth, ratio=ratio, width=width, networks=count,
                 theory_seconds=f'{theory_seconds:.1f}',
                 ensemble_seconds=f'{seconds:.0f}')
      for statistic in ('mean', 'variance'):
        scan = langevin.width_scan(widths[:len(ensembles)], ensembles,
                                   prediction, statistic)
        z = getattr(comparison, f'{statistic}_z')[1:]
        row.update({
            f'{statistic}_rms': f'{scan.rms[-1]:.2e}',
            f'{statistic}_error': f'{scan.error[-1]:.2e}',
            f'{statistic}_bias': f'{scan.bias[-1]:.2e}',
            f'{statistic}_resolved': scan.resolved[-1],
            f'{statistic}_rms_z': f'{np.sqrt(np.mean(z**2)):.2f}',
            f'{statistic}_slope': f'{scan.slope:.2f}'})
      rows.append(row)
      print(row, flush=True)
    if _PICTURE.value and len(rows) == len(widths):
      axes = langevin.plot(ensembles[-1], prediction)
      axes[0].figure.savefig(_PICTURE.value)
  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  app.run(main)
