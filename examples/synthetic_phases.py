# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The two phases of learning on synthetic data, for several temperatures.

Training inputs are orthogonal, with random labels; the test input lies between
two of them. Against time, curves of all temperatures coincide first: gradients
drive learning. Against temperature times time, they coincide later: weights
diffuse, and all small temperatures share one curve, the diffusive limit. Points
are finite networks at the largest temperature.

    python examples/synthetic_phases.py
    python examples/synthetic_phases.py --activation=relu --W_init_std=.7

Avidan, Li and Sompolinsky, arXiv:2309.04522: the two phases. The diffusive
limit and finite networks go past the paper.
"""

import functools

from absl import app
from absl import flags
from jax import random
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import langevin
from nt_ndk import predict
import reports
import tasks

_N_TRAIN = flags.DEFINE_integer(
    'n_train', 10, 'Training samples.', lower_bound=2)
_ACTIVATION = flags.DEFINE_enum(
    'activation', 'erf', ['erf', 'relu'], 'Nonlinearity of hidden layers.')
_DEPTH = flags.DEFINE_integer('depth', 1, 'Hidden layers.', lower_bound=1)
_TEMPERATURES = flags.DEFINE_list(
    'temperatures', ['1e-1', '1e-2', '1e-3'], 'Temperatures T.')
_W_INIT_STD = flags.DEFINE_float(
    'W_init_std', 2., 'Standard deviation s0 of initial weights.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_OVERLAP = flags.DEFINE_float(
    'overlap', .9, 'Cosine between the test input and a training input.')
_WIDTH = flags.DEFINE_integer(
    'width', 512, 'Units of a layer of finite networks.', lower_bound=1)
_N_NETWORKS = flags.DEFINE_integer(
    'n_networks', 40, 'Finite networks, an even number; 0 is none.',
    lower_bound=0)
_N_TIMES = flags.DEFINE_integer(
    'n_times', 150, 'Times of the curves.', lower_bound=2)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of labels and networks.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'synthetic_phases_output',
    'Folder for the picture and the table.')

_COLORS = '#c8611a', '#7b3fa0', '#3a76c4', '#0b7a75', '#20306b'
_START, _END = 1e-3, 20.  # In units of time, and of s^2 in diffusion time.


def data():
  """Orthogonal inputs, random labels, and a test input between two."""
  n = _N_TRAIN.value
  x = n**.5 * np.eye(n)
  y = np.random.default_rng(_SEED.value).choice([-1., 1.], (n, 1))
  # Of different labels, as far as there are.
  first, second = np.argmax(y), np.argmin(y)
  c = _OVERLAP.value
  return x, y, c * x[[first]] + (1 - c**2)**.5 * x[[second - (
      first == second)]]


def main(argv):
  temperatures = sorted(map(float, _TEMPERATURES.value), reverse=True)
  tasks.start(argv, *temperatures)
  x, y, x_test = data()
  s2 = _W_PRIOR_STD.value**2
  init_fn, apply_fn, kernel_fn = tasks.network(
      _ACTIVATION.value, _DEPTH.value, _W_INIT_STD.value, _W_PRIOR_STD.value,
      W_std=dict(relu=2**.5, erf=1.5)[_ACTIVATION.value], width=_WIDTH.value)
  # In units in which the loss is a sum.
  t = np.geomspace(_START, _END * s2 / temperatures[-1], _N_TIMES.value)
  taus = s2 * np.geomspace(1e-4, _END, _N_TIMES.value)
  # Gradients of a sum: the time of the predictor is that of a mean.
  learn = functools.partial(predict.markov_proximal_mse_ensemble, kernel_fn, x,
                            y, learning_rate=y.size)
  table = dict(time=t, diffusion_time=taus)
  limit_fn = predict.diffusive_limit_mse_ensemble(kernel_fn, x, y)
  table['diffusive_limit'] = np.asarray(limit_fn(taus, x_test))[:, 0, 0]
  with reports.style():
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), sharey=True,
                                layout='constrained')
    for T, color in zip(temperatures, _COLORS):
      predict_fn = learn(temperature=T)
      for ax, grid, times, name in ((axes[0], t, t, 'time'),
                                    (axes[1], taus / s2, taus / T, 'tau')):
        curve = np.asarray(predict_fn(t=times, x_test=x_test, get='ndk'))
        table[f'{name}_{T:g}'] = curve[:, 0, 0]
        ax.plot(grid, curve[:, 0, 0], color=color, lw=2, label=f'T = {T:g}')
    if _N_NETWORKS.value:
      T = temperatures[0]
      when = np.geomspace(.1, _END / 4 * s2 / T, 12)
      ensemble = langevin.markov_proximal_ensemble(
          init_fn, apply_fn, x, y, T, learning_rate=y.size, antithetic=True,
          progress=True)(random.PRNGKey(_SEED.value), _N_NETWORKS.value, when,
                         x_test)
      prediction = learn(temperature=T)(t=when, x_test=x_test, get='ndk')
      z = langevin.compare(ensemble, prediction).mean_z
      print(f'{_N_NETWORKS.value} networks of width {_WIDTH.value} minus '
            f'theory: root mean square {np.sqrt(np.mean(z**2)):.2f} standard '
            'errors.')
      for ax, grid in zip(axes, (when, T * when / s2)):
        ax.errorbar(grid, ensemble.mean[:, 0, 0],
                    2 * ensemble.mean_error[:, 0, 0], fmt='o', ms=4.5,
                    color=_COLORS[0], capsize=2.5, lw=1)
    axes[1].plot(taus / s2, table['diffusive_limit'], color='#222222',
                 ls=(0, (4, 3)), lw=1.5, label='diffusive limit')
    axes[0].set(xscale='log', xlabel='training time $t$',
                ylabel='output on the test input')
    axes[1].set(xscale='log', xlabel='diffusion time $T t / s^2$')
    axes[0].legend()
    axes[1].legend()
    figure.suptitle(
        f'{len(x)} orthogonal inputs, random labels; {_DEPTH.value} hidden '
        f'{_ACTIVATION.value}, $s_0$ = {_W_INIT_STD.value:g}, $s$ = '
        f'{_W_PRIOR_STD.value:g}', x=.01, ha='left', fontsize=12)
  gap = lambda T: np.max(np.abs(table[f'tau_{T:g}'] - table['diffusive_limit']
                                )[taus > 1e-2 * s2])
  for T in temperatures:
    print(f'T = {T:g}: at most {gap(T):.1e} from the diffusive limit after '
          'T t = 0.01 s^2.')
  reports.write(_OUTPUT_DIR.value, 'synthetic_phases', figure, table)


if __name__ == '__main__':
  app.run(main)
