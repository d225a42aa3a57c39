# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""One task after the other: what is forgotten, and why.

A network learns to tell two classes of digits apart, then two others with the
same output, without the images of the first task. At first it forgets what
gradients of the second task overwrite. What is left of the first task then
decays as weights diffuse, over the diffusion time `s^2`: the posterior of the
second task knows nothing of the first. If images of the first task stay in the
training set, with a small weight (replay), some of it is kept for ever.

    python examples/continual_learning.py
    python examples/continual_learning.py --n_networks=100
    python examples/continual_learning.py --activation=erf

The errors are those of the mean over an infinite ensemble; points are those of
finite networks.
"""

from absl import app
from absl import flags
import jax
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk.predict import Phase
import reports
import tasks

tasks.define_data_flags(n_train=15, n_test=60)
_SECOND = flags.DEFINE_list('second_classes', ['3', '8'],
                            'The two labels of the second task.')
_ACTIVATION = flags.DEFINE_enum(
    'activation', 'relu', ['erf', 'relu'], 'Nonlinearity of hidden layers.')
_TEMPERATURES = flags.DEFINE_list(
    'temperatures', ['.1', '.01'], 'Temperatures; the first is that of replay '
    'and of finite networks.')
_REPLAY = flags.DEFINE_float(
    'replay', .1, 'Weight of the images of the first task later on.',
    lower_bound=0.)
_SWITCH = flags.DEFINE_float(
    'switch', 5., 'When the second task begins, in units of the sum of '
    'squares.', lower_bound=1e-3)
_N_TIMES = flags.DEFINE_integer('n_times', 25, 'Times of each task.',
                                lower_bound=2)
_N_NETWORKS = flags.DEFINE_integer(
    'n_networks', 40, 'Finite networks; 0 for none.', lower_bound=0)
_WIDTH = flags.DEFINE_integer('width', 512, 'Width of finite networks.',
                              lower_bound=1)
_RTOL = flags.DEFINE_float('rtol', 1e-4, 'Relative tolerance.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'continual_learning_output',
    'Folder for the picture and the table.')

_COLORS = '#20306b', '#c8611a', '#0b7a75', '#7b3fa0'
# Until when finite networks learn the second task, in times of the first.
_NETWORKS_UNTIL = 3.


def plot(title, t, switch, curves, networks):
  """Draws errors on both tasks against time.

  Args:
    title: of the figure.
    t: `[T]`, times.
    switch: when the second task begins.
    curves: dictionary from labels to two arrays of errors, `[T]`.
    networks: times, and two arrays of errors there; `None` for none.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout='constrained',
                                sharey=True)
    for ax, task in zip(axes, (0, 1)):
      for color, (label, errors) in zip(_COLORS, curves.items()):
        ax.plot(t, errors[task], color=color, lw=2, label=label)
      if networks is not None:
        ax.plot(networks[0], networks[1][task], 'o', color=_COLORS[0], ms=4,
                label='finite networks')
      ax.axvline(switch, color='#999999', lw=1, ls=':')
      ax.set(xscale='log', xlabel='time (sum of squares)',
             title=('First', 'Second')[task] + ' task')
    axes[0].set_ylabel('squared error on test images')
    axes[0].legend(fontsize=9)
    axes[0].text(switch, 1.01, ' second task begins', fontsize=8,
                 color='#777777', transform=axes[0].get_xaxis_transform(),
                 va='top')
    figure.suptitle(title, x=.01, ha='left', fontsize=12)
  return figure


def main(argv):
  temperatures = [float(t) for t in _TEMPERATURES.value]
  tasks.start(argv, *temperatures)
  first, second = tasks.data(), tasks.data(_SECOND.value)
  x, y, x_test, y_test = (np.concatenate(both) for both in zip(first, second))
  n, m = len(first[1]), len(first[3])
  one = np.repeat([1., 0.], [n, len(y) - n])
  switch, size = _SWITCH.value, y.size
  since = np.geomspace(1e-3 * switch, 1e3 / min(temperatures) / 50,
                       _N_TIMES.value)
  t = np.concatenate([np.geomspace(1e-3 * switch, switch, _N_TIMES.value),
                      switch + since])

  def schedule(replay, unit):
    return (Phase(switch * unit, sample_weight=one),
            Phase(np.inf, sample_weight=1. - one + replay * one))

  def errors(mean):
    """On both tasks."""
    squares = (np.asarray(mean) - y_test)**2
    return [np.mean(squares[:, some], (1, 2))
            for some in (slice(m), slice(m, None))]

  init_fn, apply_fn, kernel_fn = tasks.network(
      _ACTIVATION.value, 1, 1., 1., width=_WIDTH.value)
  curves = {}
  for temperature in temperatures:
    predict_fn = predict.markov_proximal_mse_ensemble(
        kernel_fn, x, y, temperature, rtol=_RTOL.value,
        schedule=schedule(0., size))
    curves[f'T = {temperature:g}'] = errors(predict_fn(
        t=size * t, x_test=x_test, get='ndk'))
    if temperature == temperatures[0]:
      # Another protocol takes no other kernels.
      replay_fn = predict_fn.with_schedule(schedule(_REPLAY.value, size))
      curves[f'T = {temperature:g}, replay'] = errors(replay_fn(
          t=size * t, x_test=x_test, get='ndk'))
  for label, (error, other) in curves.items():
    learned, late = error[_N_TIMES.value - 1], error[-1]
    print(f'{label}: error on the first task {learned:.3f} when the second '
          f'begins, {late:.3f} at the end, on the second {other[-1]:.3f}.')

  networks = None
  if _N_NETWORKS.value:
    times = t[t <= _NETWORKS_UNTIL * switch][4::3]
    # Antithetic pairs: few networks give the mean.
    ensemble = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, np.float32(x), np.float32(y), temperatures[0],
        loss='sum', schedule=schedule(0., 1.), antithetic=True)(
            jax.random.PRNGKey(0), 2 * -(-_N_NETWORKS.value // 2), times,
            np.float32(x_test))
    networks = times, errors(ensemble.mean)
    theory = errors(predict.markov_proximal_mse_ensemble(
        kernel_fn, x, y, temperatures[0], rtol=_RTOL.value,
        schedule=schedule(0., size))(t=size * times, x_test=x_test, get='ndk'))
    difference = np.max(np.abs(np.array(networks[1]) - theory))
    print(f'{ensemble.n_networks} networks of width {_WIDTH.value}: errors '
          f'differ from theory by {difference:.3f} at most.')

  title = (f'{tasks.data_title()}, then {" vs ".join(_SECOND.value)}; '
           f'{_ACTIVATION.value}')
  columns = {'t': t}
  for label, both in curves.items():
    name = label.replace('T = ', 'T').replace(', ', '_')
    columns.update({f'{name}_first': both[0], f'{name}_second': both[1]})
  if networks is not None:
    for task, name in enumerate(('first', 'second')):
      at = np.full(len(t), np.nan)
      at[np.searchsorted(t, networks[0])] = networks[1][task]
      columns[f'networks_{name}'] = at
  reports.write(_OUTPUT_DIR.value, 'continual_learning',
                plot(title, t, switch, curves, networks), columns)


if __name__ == '__main__':
  app.run(main)
