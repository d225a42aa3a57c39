# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What schedules do to learning: the learning rate, and the temperature.

A schedule of the learning rate alone is the same curve in another time. One of
the temperature is not: noise lets weights diffuse, and the network forget how
it was initialised, in the diffusion time `s^2`, which is long where it is cold.
Annealing, hot first and cold then, comes to the cold posterior much sooner. The
expected squared error of one network, of its mean plus its variance, is
compared with the best that a cold network reaches if it is stopped in time.

    python examples/learning_rate_and_annealing.py
    python examples/learning_rate_and_annealing.py --activation=erf
"""

from absl import app
from absl import flags
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import predict
from nt_ndk.predict import Phase
import reports
import tasks

tasks.define_data_flags(n_train=30, n_test=40)
_ACTIVATION = flags.DEFINE_enum(
    'activation', 'relu', ['erf', 'relu'], 'Nonlinearity of hidden layers.')
_RATIO = flags.DEFINE_float('ratio', 2., 's0 / s, with s = 1.')
_HOT = flags.DEFINE_float('hot', .3, 'High temperature.')
_COLD = flags.DEFINE_float('cold', .003, 'Low temperature.')
_COOL_AT = flags.DEFINE_float(
    'cool_at', 5., 'Diffusion time T t at which annealing gets cold.',
    lower_bound=1e-6)
_N_TIMES = flags.DEFINE_integer('n_times', 25, 'Times.', lower_bound=2)
_RTOL = flags.DEFINE_float('rtol', 1e-4, 'Relative tolerance.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'learning_rate_and_annealing_output',
    'Folder for the picture and the table.')

_COLORS = {'hot': '#c8611a', 'cold': '#20306b', 'annealed': '#7b3fa0'}


def plot(title, t, curves, decayed, cool_at):
  """Draws expected squared errors against time.

  Args:
    title: of the figure.
    t: `[T]`, times.
    curves: dictionary from names to errors, `[T]`.
    decayed: errors of cold networks whose learning rate falls, `[T]`.
    cool_at: when annealing gets cold.

  Returns:
    The figure.
  """
  with reports.style():
    figure, ax = plt.subplots(figsize=(7, 4.4), layout='constrained')
    for name, error in curves.items():
      ax.plot(t, error, color=_COLORS[name], lw=2, label=name)
    ax.plot(t, decayed, '--', color=_COLORS['cold'], lw=1.5,
            label='cold, falling learning rate')
    best = int(np.argmin(curves['cold']))
    ax.plot(t[best], curves['cold'][best], 'o', color=_COLORS['cold'],
            label='cold, best time to stop')
    ax.axvline(cool_at, color='#999999', lw=1, ls=':')
    ax.set(xscale='log', yscale='log', xlabel='time (sum of squares)',
           ylabel='expected squared error')
    ax.legend(fontsize=9)
    figure.suptitle(title, x=.01, ha='left', fontsize=12)
  return figure


def main(argv):
  hot, cold = _HOT.value, _COLD.value
  tasks.start(argv, hot, cold)
  x, y, x_test, y_test = tasks.data()
  size, cool_at = y.size, _COOL_AT.value / hot
  t = np.unique(np.concatenate([
      np.geomspace(1e-3, 30. / cold, _N_TIMES.value),
      cool_at * np.append(1., 1. + np.geomspace(1e-3, .5, 8))]))
  cold_fn = predict.markov_proximal_mse_ensemble(
      tasks.network(_ACTIVATION.value, 1, _RATIO.value, 1.)[2], x, y, cold,
      rtol=_RTOL.value)
  # All of them share kernels.
  schedules = dict(
      hot=(Phase(np.inf, temperature=hot),), cold=None,
      annealed=(Phase(cool_at * size, temperature=hot), Phase(np.inf)))

  def errors(predict_fn):
    mean, variance = predict_fn(t=size * t, x_test=x_test, get='ndk',
                                compute_cov='diag')
    return np.mean((mean - y_test)**2, (1, 2)) + np.mean(variance, 1)

  curves = {name: errors(cold_fn.with_schedule(schedule))
            for name, schedule in schedules.items()}
  # A tenth of the learning rate from time 1 on.
  decayed = errors(cold_fn.with_schedule((
      Phase(size), Phase(np.inf, learning_rate=.1))))
  best = int(np.argmin(curves['cold']))
  print(f'Best cold error {curves["cold"][best]:.4f} at time {t[best]:.3g}; at '
        f'its end {curves["cold"][-1]:.4f}, hot {curves["hot"][-1]:.4f}, '
        f'annealed {curves["annealed"][-1]:.4f}.')
  near = 1.05 * curves['cold'][-1]
  for name in ('cold', 'annealed'):
    away = np.flatnonzero(curves[name] > near)
    last = t[min(away[-1] + 1, len(t) - 1)] if away.size else 0.
    print(f'{name}: within 5% of the cold posterior from time {last:.3g} on.')

  title = (f'{tasks.data_title()}; {_ACTIVATION.value}, $s_0 / s$ = '
           f'{_RATIO.value:g}, $T$ = {hot:g} and {cold:g}')
  reports.write(
      _OUTPUT_DIR.value, 'learning_rate_and_annealing',
      plot(title, t, curves, decayed, cool_at),
      {'t': t, **curves, 'cold_falling_rate': decayed})


if __name__ == '__main__':
  app.run(main)
