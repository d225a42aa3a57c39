# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What initial and prior variance of weights do, to ReLU and to erf.

Both ends of learning: gradient flow, in the NTK, knows the initial standard
deviation `s0` of weights alone, and the posterior the prior one, `s`. How good
are they, how far from each other, and when is the best time to stop between
them? In a ReLU network without biases the size of weights is a factor of
kernels, `s^(2 L + 2)` for `L` hidden layers, and so a matter of temperature; in
an erf network it says how far units saturate, and changes what is learned.

    python examples/initialisation_and_prior.py
    python examples/initialisation_and_prior.py --depth=3
    python examples/initialisation_and_prior.py --dataset=mnist --data_dir=/path

Avidan, Li and Sompolinsky, arXiv:2309.04522: the roles of both variances.
"""

import itertools

from absl import app
from absl import flags
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import predict
import reports
import tasks

tasks.define_data_flags(n_train=50, n_test=200)
_STDS = flags.DEFINE_list('stds', ['.5', '1', '2'], 'Values of s0 and of s.')
_DEPTH = flags.DEFINE_integer('depth', 1, 'Hidden layers.', lower_bound=1)
_TEMPERATURE = flags.DEFINE_float(
    'temperature', 1e-3, 'Temperature T of the noise; positive.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 120, 'Times to choose from.', lower_bound=2)
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'initialisation_and_prior_output',
    'Folder for the picture and the table.')

_ACTIVATIONS = 'relu', 'erf'
_COLORS = '#8fb3e6', '#3a76c4', '#20306b', '#7b3fa0', '#8a8f9c'
_NTK_COLOR, _NNGP_COLOR = '#c8611a', '#0b7a75'
_START, _END = 1e-7, 20.  # Diffusion times, in units of s^2.
# Both ends are drawn for so many weights, from so much smaller to so much
# larger ones.
_N_DENSE, _BEYOND = 25, 4.
_TICKS = 2.**np.arange(-3, 4)


def ends(activation, stds, x, y, x_test, y_test):
  """Both ends of learning for weights of many sizes.

  Args:
    activation: of hidden layers.
    stds: `[S]`, standard deviations, initially and under the prior.
    x: training inputs.
    y: targets.
    x_test: test inputs, `m` of them.
    y_test: their targets.

  Returns:
    Two tuples, for the NTK and the NNGP: mean predictors `[S, m]`, their errors
    `[S]`, and those of a network of the ensemble, `[S]`.
  """
  found = dict(ntk=[], ndk=[])
  for std in stds:
    predict_fn = predict.markov_proximal_mse_ensemble(
        tasks.network(activation, _DEPTH.value, std, std)[2], x, y,
        _TEMPERATURE.value)
    for get, values in found.items():
      mean, variance = map(np.asarray, predict_fn(
          t=None, x_test=x_test, get=get, compute_cov='diag'))
      error = np.mean((mean - y_test)**2)
      values.append((mean[:, 0], error, error + np.mean(variance)))
  return [tuple(map(np.array, zip(*values))) for values in found.values()]


def draw(title, table, curves, dense, both):
  """Draws learning curves, both ends, and how far they are apart.

  Args:
    title: of the figure.
    table: columns.
    curves: dictionary from a nonlinearity and `s` to times and errors where
      `s0` is `s`.
    dense: `[S]`, standard deviations.
    both: dictionary from a nonlinearity to what `ends` returns.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(2, 3, figsize=(14, 7.8), sharex='col',
                                sharey='col', layout='constrained')
    stds = np.unique(table['s'])
    for row, activation in zip(axes, _ACTIVATIONS):
      ntk, nngp = both[activation]
      for s, color in zip(stds, _COLORS):
        t, curve = curves[activation, s]
        best = np.argmin(curve)
        row[0].plot(t, curve, color=color, lw=2, label=f'$s_0$ = $s$ = {s:g}')
        row[0].plot(t[best], curve[best], 'o', ms=6, mfc='white', mec=color,
                    mew=1.8, zorder=5)
        row[2].plot(dense / s, apart(ntk[0], nngp[0][dense == s]), color=color,
                    lw=2, label=f'$s$ = {s:g}')
      for (_, error, of_network), name, color in (
          (ntk, 'NTK, against $s_0$', _NTK_COLOR),
          (nngp, 'NNGP, against $s$', _NNGP_COLOR)):
        row[1].plot(dense, error, color=color, lw=2.2, label=name)
        row[1].plot(dense, of_network, color=color, lw=1.6, ls=':',
                    label='a single network')
      for ax, what in zip(row, ('learning curves', 'errors at both ends',
                                'how far the ends are apart')):
        ax.set_title(f'{activation}: {what}', fontsize=10.5)
      row[0].set_ylabel('mean squared test error')
      row[1].set_ylabel('mean squared test error')
      row[2].set_ylabel('rms difference of outputs')
    axes[0, 0].set(xscale='log', yscale='log')
    axes[0, 1].set(xscale='log', yscale='log', ylim=(.05, 2.))
    axes[0, 2].set(xscale='log', xlim=(1 / 9, 9), ylim=(0, None))
    for ax, label in zip(axes[1], ('training time $t$',
                                   'standard deviation of weights',
                                   '$s_0 / s$')):
      ax.set_xlabel(label)
    for ax in axes[0, 1:]:
      ax.set_xticks(_TICKS, [f'{v:g}' for v in _TICKS])
      ax.minorticks_off()
    for ax in axes[0]:
      ax.legend(fontsize=9)
    figure.suptitle(title, x=.01, ha='left', fontsize=12)
  return figure


def apart(one, other):
  """Root mean square difference of predictors `[..., m]`."""
  return np.sqrt(np.mean((one - other)**2, axis=-1))


def main(argv):
  temperature = _TEMPERATURE.value
  tasks.start(argv, temperature)
  data = x, y, x_test, y_test = tasks.data()
  stds = [float(std) for std in _STDS.value]
  dense = np.unique(np.append(stds, np.geomspace(
      min(stds) / _BEYOND, max(stds) * _BEYOND, _N_DENSE)))
  both, curves, rows = {}, {}, []
  for number, activation in enumerate(_ACTIVATIONS):
    ntk_ends, nngp_ends = both[activation] = ends(activation, dense, *data)
    for s, s0 in itertools.product(stds, stds):
      kernel_fn = tasks.network(activation, _DEPTH.value, s0, s)[2]
      predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x, y,
                                                        temperature)
      # Of a unit of time, a diffusion time in units of s^2.
      rate = temperature / y.size / s**2
      t = np.geomspace(_START, _END, _N_TIMES.value) / rate
      curve, ntk, nngp = tasks.test_errors(predict_fn, t, x_test, y_test)
      if s0 == s:
        curves[activation, s] = t, curve
      best = np.argmin(curve)
      now, late = (int(np.argmax(dense == std)) for std in (s0, s))
      distance = apart(ntk_ends[0][now], nngp_ends[0][late])
      largest = np.linalg.eigvalsh(np.asarray(kernel_fn(x, None, 'ntk')))[-1]
      rows.append((number, s0, s, y.size / largest, ntk, ntk_ends[2][now], nngp,
                   nngp_ends[2][late], distance, curve[best], rate * t[best]))
      print(f'{activation}, s0 = {s0:g}, s = {s:g}: NTK {ntk:.4f}, NNGP '
            f'{nngp:.4f}, outputs {distance:.3f} apart; best {curve[best]:.4f} '
            f'at T t = {rate * t[best]:.2g} s^2.')
  table = dict(zip((
      'activation', 's0', 's', 'gradient_time', 'ntk', 'ntk_network', 'nngp',
      'nngp_network', 'distance', 'best', 'best_diffusion_time'), zip(*rows)))
  title = (f'{tasks.data_title()}; {_DEPTH.value} hidden, $T$ = '
           f'{temperature:g}; circles: best')
  reports.write(_OUTPUT_DIR.value, 'initialisation_and_prior',
                draw(title, table, curves, dense, both), table)


if __name__ == '__main__':
  app.run(main)
