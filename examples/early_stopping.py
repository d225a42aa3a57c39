# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""When to stop learning, over initialisation and depth.

The expected squared error of one network on new images is the error of the
ensemble mean plus the variance over networks. Its minimum over time falls into
the gradient-driven phase, into the diffusive one, or at equilibrium, which
depends on how large weights start, `s0 / s`, and on depth.

    python examples/early_stopping.py
    python examples/early_stopping.py --activation=relu
    python examples/early_stopping.py --dataset=mnist --data_dir=/path/to/mnist

Avidan, Li and Sompolinsky, arXiv:2309.04522: early stopping.
"""

from absl import app
from absl import flags
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import predict
import reports
import tasks

tasks.define_data_flags(n_train=40, n_test=40)
_RATIOS = flags.DEFINE_list('ratios', ['.5', '.7', '1', '1.4', '2'],
                            'Values of s0 / s.')
_DEPTHS = flags.DEFINE_list('depths', ['1', '3'], 'Hidden layers.')
_ACTIVATION = flags.DEFINE_enum(
    'activation', 'erf', ['erf', 'relu'], 'Nonlinearity of hidden layers.')
_TEMPERATURE = flags.DEFINE_float(
    'temperature', 1e-2, 'Temperature T of the noise; positive.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 20, 'Times to choose from.', lower_bound=2)
_RTOL = flags.DEFINE_float('rtol', 1e-4, 'Relative tolerance.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'early_stopping_output',
    'Folder for the picture and the table.')

_COLORS = '#20306b', '#c8611a', '#0b7a75', '#7b3fa0'
_PHASES = {'gradient-driven': 'o', 'diffusive': 's', 'equilibrium': '^'}
_LATE = 30.  # Where equilibrium is drawn, in units of s^2.


def plot(title, ratios, depths, results, diffusion_time):
  """Draws the best times, and errors at them and at both ends.

  Args:
    title: of the figure.
    ratios: values of `s0 / s`.
    depths: of networks.
    results: dictionary from depth to a list of `OptimalStopping`.
    diffusion_time: function of time, in units of `s^2`.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout='constrained')
    for depth, color in zip(depths, _COLORS):
      best = results[depth]
      times = [min(diffusion_time(b.t_optimal), _LATE) for b in best]
      axes[0].plot(ratios, times, color=color, lw=1.5)
      for ratio, time, b in zip(ratios, times, best):
        axes[0].plot(ratio, time, _PHASES[b.phase], color=color, ms=7)
      minimum = np.array([b.minimum for b in best])
      axes[1].plot(ratios, minimum, 'o-', color=color, lw=2,
                   label=f'{depth} hidden: best')
      axes[1].plot(ratios, minimum + [b.gain_over_ntk for b in best], ':',
                   color=color, lw=1.6, label='NTK, gradient flow to its end')
      axes[1].plot(ratios, minimum + [b.gain_over_nngp for b in best], '--',
                   color=color, lw=1.6, label='NNGP, equilibrium')
    for phase, marker in _PHASES.items():
      axes[0].plot([], [], marker, color='#555555', label=phase)
    axes[0].set(yscale='log', ylabel='best diffusion time $T t / s^2$')
    axes[1].set(yscale='log', ylabel='expected squared error')
    for ax in axes:
      ax.set(xscale='log', xlabel='$s_0 / s$')
      ax.set_xticks(ratios, [f'{r:g}' for r in ratios])
      ax.minorticks_off()
      ax.legend(fontsize=9)
    figure.suptitle(title, x=.01, ha='left', fontsize=12)
  return figure


def main(argv):
  temperature, s = _TEMPERATURE.value, _W_PRIOR_STD.value
  tasks.start(argv, temperature)
  x, y, x_test, y_test = tasks.data()
  ratios = [float(r) for r in _RATIOS.value]
  depths = [int(d) for d in _DEPTHS.value]
  diffusion_time = lambda t: temperature * t / y.size / s**2
  results, rows = {}, []
  for depth in depths:
    results[depth] = []
    for ratio in ratios:
      predict_fn = predict.markov_proximal_mse_ensemble(
          tasks.network(_ACTIVATION.value, depth, ratio * s, s)[2], x, y,
          temperature, rtol=_RTOL.value)
      phases = predict_fn.phases()
      best = predict.optimal_stopping(
          predict_fn, x_test, y_test,
          t=np.geomspace(phases.start, phases.equilibrium, _N_TIMES.value))
      results[depth].append(best)
      where = ('' if np.isinf(best.t_optimal) else
               f' at T t = {diffusion_time(best.t_optimal):.2g} s^2')
      print(f'{depth} hidden, s0 / s = {ratio:g}: best {best.minimum:.4f}, '
            f'{best.phase}{where}; NTK {best.gain_over_ntk:+.4f}, NNGP '
            f'{best.gain_over_nngp:+.4f}.')
      rows.append((depth, ratio, best.t_optimal,
                   diffusion_time(best.t_optimal), best.minimum,
                   best.gain_over_ntk, best.gain_over_nngp,
                   list(_PHASES).index(best.phase)))
  title = (f'{tasks.data_title()}; {_ACTIVATION.value}, $T$ = '
           f'{temperature:g}, $s$ = {s:g}')
  columns = dict(zip(
      ('depth', 'ratio', 't_optimal', 'diffusion_time', 'minimum',
       'gain_over_ntk', 'gain_over_nngp', 'phase'), zip(*rows)))
  reports.write(_OUTPUT_DIR.value, 'early_stopping',
                plot(title, ratios, depths, results, diffusion_time), columns)


if __name__ == '__main__':
  app.run(main)
