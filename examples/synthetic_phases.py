# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What sets the times of both phases: temperature, and the size of weights.

Training inputs are orthogonal, with random labels; the test input lies between
two of them. Against time, curves of all temperatures coincide first: gradients
drive learning. Against temperature times time, they coincide later: weights
diffuse, and all small temperatures share one curve, the diffusive limit. Points
are finite networks at the largest temperature.

Below, all weights are larger or smaller by a factor, `s0 / s` being the same.
The first phase is over sooner where weights start larger, the second one takes
times of `s^2 / T`. Each size has a diffusive limit of its own in an erf
network; in one of ReLU they all have the same, and a factor `a` of all weights
is one of `1 / a^(2 L + 2)` of the temperature, with `L` hidden layers.

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
_SCALES = flags.DEFINE_list(
    'scales', ['.5', '1', '2'], 'Factors of both standard deviations, at the '
    'smallest temperature.')
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
    'n_times', 100, 'Times of the curves.', lower_bound=2)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of labels and networks.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'synthetic_phases_output',
    'Folder for the picture and the table.')

_COLORS = '#c8611a', '#7b3fa0', '#3a76c4', '#0b7a75', '#20306b'
_SCALE_COLORS = '#8fb3e6', '#3a76c4', '#20306b', '#7b3fa0', '#8a8f9c'
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


def network(scale):
  """The network, with weights that are larger by a factor."""
  return tasks.network(
      _ACTIVATION.value, _DEPTH.value, scale * _W_INIT_STD.value,
      scale * _W_PRIOR_STD.value,
      W_std=dict(relu=2**.5, erf=1.5)[_ACTIVATION.value], width=_WIDTH.value)


def main(argv):
  temperatures = sorted(map(float, _TEMPERATURES.value), reverse=True)
  tasks.start(argv, *temperatures)
  x, y, x_test = data()
  coldest, s2 = temperatures[-1], _W_PRIOR_STD.value**2
  # In units in which the loss is a sum.
  t = np.geomspace(_START, _END * s2 / coldest, _N_TIMES.value)
  taus = s2 * np.geomspace(1e-4, _END, _N_TIMES.value)
  table = dict(time=t, diffusion_time=taus)
  # Gradients of a sum: the time of the predictor is that of a mean.
  learn = functools.cache(
      lambda scale, temperature: predict.markov_proximal_mse_ensemble(
          network(scale)[2], x, y, temperature, learning_rate=y.size))
  limit = functools.cache(lambda scale: np.asarray(
      predict.diffusive_limit_mse_ensemble(network(scale)[2], x, y)(
          scale**2 * taus, x_test))[:, 0, 0])

  def draw_curves(axes, label, name, color, scale, temperature):
    """Draws a learning curve over time and over diffusion time."""
    predict_fn = learn(scale, temperature)
    for ax, grid, times, axis in (
        (axes[0], t, t, 'time'),
        (axes[1], taus / s2, scale**2 * taus / temperature, 'tau')):
      curve = np.asarray(predict_fn(t=times, x_test=x_test, get='ndk'))
      table[f'{axis}_{name}'] = curve[:, 0, 0]
      ax.plot(grid, curve[:, 0, 0], color=color, lw=2,
              label=label if axis == 'time' else None)

  def draw_limit(ax, name, color, scale):
    """Draws the limit of vanishing temperature over diffusion time."""
    table[name] = limit(scale)
    ax.plot(taus / s2, table[name], color=color, ls=(0, (4, 3)), lw=1.5,
            zorder=4, label='diffusive limit')

  with reports.style():
    figure, axes = plt.subplots(2, 2, figsize=(12, 9.), sharex='col',
                                sharey=True, layout='constrained')
    for temperature, color in zip(temperatures, _COLORS):
      draw_curves(axes[0], f'$T$ = {temperature:g}', f'{temperature:g}', color,
                  1., temperature)
    draw_limit(axes[0, 1], 'diffusive_limit', '#222222', 1.)
    for factor, color in zip(_SCALES.value, _SCALE_COLORS):
      scale = float(factor)
      draw_curves(axes[1], f'$s$ = {scale * s2**.5:g}', f's{factor}', color,
                  scale, coldest)
      draw_limit(axes[1, 1], f'limit_s{factor}', color, scale)
    if _N_NETWORKS.value:
      T = temperatures[0]
      when = np.geomspace(.1, _END / 4 * s2 / T, 12)
      init_fn, apply_fn, _ = network(1.)
      ensemble = langevin.markov_proximal_ensemble(
          init_fn, apply_fn, x, y, T, learning_rate=y.size, antithetic=True,
          progress=True)(random.PRNGKey(_SEED.value), _N_NETWORKS.value, when,
                         x_test)
      prediction = learn(1., T)(t=when, x_test=x_test, get='ndk')
      z = langevin.compare(ensemble, prediction).mean_z
      print(f'{_N_NETWORKS.value} networks of width {_WIDTH.value} minus '
            f'theory: root mean square {np.sqrt(np.mean(z**2)):.2f} standard '
            'errors.')
      for ax, grid in zip(axes[0], (when, T * when / s2)):
        ax.errorbar(grid, ensemble.mean[:, 0, 0],
                    2 * ensemble.mean_error[:, 0, 0], fmt='o', ms=4.5,
                    color=_COLORS[0], capsize=2.5, lw=1)
    axes[0, 0].set(xscale='log', title=f'temperatures, $s$ = {s2**.5:g}')
    axes[1, 0].set(xlabel='training time $t$',
                   title=f'sizes of weights, $T$ = {coldest:g}')
    axes[0, 1].set(xscale='log')
    axes[1, 1].set(xlabel='diffusion time $T t / s^2$')
    for row in axes:
      row[0].set_ylabel('output on the test input')
      row[0].legend()
    axes[0, 1].legend()
    figure.suptitle(
        f'{len(x)} orthogonal inputs, random labels; {_DEPTH.value} hidden '
        f'{_ACTIVATION.value}, $s_0 / s$ = '
        f'{_W_INIT_STD.value / _W_PRIOR_STD.value:g}', x=.01, ha='left',
        fontsize=12)
  gap = lambda T: np.max(np.abs(table[f'tau_{T:g}'] - table['diffusive_limit']
                                )[taus > 1e-2 * s2])
  for T in temperatures:
    print(f'T = {T:g}: at most {gap(T):.1e} from the diffusive limit after '
          'T t = 0.01 s^2.')
  reports.write(_OUTPUT_DIR.value, 'synthetic_phases', figure, table)


if __name__ == '__main__':
  app.run(main)
