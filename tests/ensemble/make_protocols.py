# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Ensembles of finite networks that learn in phases, for the tests.

Unlike those of `make_ensemble.py`, they are trained by `nt_ndk.langevin`. The
theory of infinitely wide networks has to predict their mean and variance. All
cases are in one file, each a group of arrays `case/name`:

    mean, variance                (t, p, 1), over the networks
    mean_error, variance_error    their standard errors

with `p` inputs, training inputs first. The stored file was made by

    python tests/ensemble/make_protocols.py

in float32, in 7 minutes on one CPU core. Other versions of JAX may draw
other numbers.
"""

import os
import time
from typing import NamedTuple

from absl import app
from absl import flags
import jax
import numpy as np

from nt_ndk import langevin
from nt_ndk import stax
from nt_ndk.predict import Phase

_HERE = os.path.dirname(os.path.abspath(__file__))
_OUTPUT = flags.DEFINE_string(
    'output', os.path.join(_HERE, 'protocols.npz'), 'File to write.')
_NETWORKS = flags.DEFINE_integer('networks', 500, 'Networks of each case.',
                                 lower_bound=2)
_WIDTH = flags.DEFINE_integer('width', 1024, 'Hidden units.', lower_bound=1)

# In units of the sum of squares.
TIMES = np.array([.5, 2., 4., 4.1, 4.5, 6., 10., 20.])


class Case(NamedTuple):
  """A network and what it learns.

  Attributes:
    network: function of the width.
    temperature: of the first phase.
    schedule: phases, in units of the sum of squares.
  """
  network: object
  temperature: float
  schedule: tuple


def data():
  """Training inputs `(4, 6)`, two tasks `(4, 1)`, and test inputs `(2, 6)`."""
  rng = np.random.default_rng(3)
  x = rng.standard_normal((6, 6)).round(2)
  # The last two are mixtures of those of both tasks.
  x[4:] = ((x[:2] + x[2:4]) / 2**.5).round(2)
  y = np.array([[1.2], [-.8], [.9], [-1.4]], np.float32)
  x = x.astype(np.float32)
  return x[:4], y, np.float32(-.7) * y[::-1], x[4:]


def network(activation):
  stds = dict(W_init_std=1.4, W_prior_std=.9)
  return lambda width: stax.serial(
      stax.Dense(width, 1.3, **stds), activation(), stax.Dense(1, **stds))


def cases():
  _, _, other, _ = data()
  first, second = np.array([1., 1., 0., 0.]), np.array([0., 0., 1., 1.])
  return dict(
      # One task, then the other, on other samples.
      switch=Case(network(stax.Relu), .1, (
          Phase(4., sample_weight=first),
          Phase(np.inf, sample_weight=second))),
      # All samples learn, the first ones of the second task a little.
      replay=Case(network(stax.Erf), .1, (
          Phase(4., sample_weight=first),
          Phase(np.inf, y_train=other, sample_weight=second + .3 * first))),
      annealing=Case(network(stax.Relu), .4, (
          Phase(2.), Phase(2., temperature=.15, learning_rate=2.),
          Phase(np.inf, temperature=.05))))


def main(_):
  x_train, y_train, _, x_test = data()
  out = {}
  for i, (name, case) in enumerate(cases().items()):
    init_fn, apply_fn, _ = case.network(_WIDTH.value)
    start = time.time()
    ensemble = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x_train, y_train, case.temperature, loss='sum',
        schedule=case.schedule)(
            jax.random.fold_in(jax.random.PRNGKey(0), i), _NETWORKS.value,
            TIMES, np.concatenate([x_train, x_test]))
    print(f'{name}: {time.time() - start:.0f} s', flush=True)
    for field in ('mean', 'variance', 'mean_error', 'variance_error'):
      out[f'{name}/{field}'] = np.asarray(getattr(ensemble, field), np.float32)
  np.savez_compressed(_OUTPUT.value, **out)


if __name__ == '__main__':
  app.run(main)
