# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What a frozen readout makes of representations that drift.

After learning, the readout of a wide network is frozen while its hidden weights
go on diffusing under noise and weight decay, without data. What remains of two
tasks? With an odd nonlinearity (erf) all outputs vanish. With ReLU the norms of
inputs are left: enough to tell digits 0 and 1, which differ in ink, but not 4
and 9. An output is read with the threshold that is best on training images; one
closer to it than a resolution counts as half right.

    python examples/representational_drift.py
    python examples/representational_drift.py --dataset=mnist --data_dir=/path

Avidan, Li and Sompolinsky, arXiv:2309.04522: representational drift.
"""

from absl import app
from absl import flags
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import predict
import reports
import tasks

tasks.define_data_flags(n_train=100, n_test=200)
_DEPTH = flags.DEFINE_integer('depth', 1, 'Hidden layers.', lower_bound=1)
_TEMPERATURE = flags.DEFINE_float(
    'temperature', 1e-2, 'Temperature T of the noise; positive.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_N_TIMES = flags.DEFINE_integer('n_times', 40, 'Drift times.', lower_bound=2)
_RESOLUTION = flags.DEFINE_float(
    'resolution', 1e-4, 'Smallest difference of outputs that can be read.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'representational_drift_output',
    'Folder for the picture and the table.')

_TASKS = (('0', '1'), ('4', '9'))
_ACTIVATIONS = ('relu', 'erf')
_W_STD = dict(relu=2**.5, erf=1.5)
_CLASS_COLORS = '#7b3fa0', '#3a76c4'
_CASE_COLORS = '#c8611a', '#e0a878', '#0b7a75', '#7fbfb9'
_END = 12.  # Drift is followed to this many times s^2.
_SHOWN = 1e-2, 2., _END  # Drift times of histograms.


def best_threshold(outputs, targets):
  """Centre of the thresholds that are right on most outputs, `(n,)` each."""
  values = np.sort(outputs)
  edges = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2,
                          values[-1:]])
  right = np.mean((outputs > edges[:, None]) == (targets > 0), axis=1)
  return np.median(edges[right == right.max()])


def accuracy(outputs, targets, threshold, resolution):
  """Fraction of outputs on the right side; half of what cannot be read."""
  margin = (outputs - threshold) * targets
  return np.mean(np.where(np.abs(margin) < resolution, .5, margin > 0))


def plot(title, lags, cases):
  """Draws histograms of outputs of each case, their size and accuracy.

  Args:
    title: of the figure.
    lags: `[T]`, drift times in units of `s^2`.
    cases: dictionary, from a name to outputs `[T, m]`, targets `[m]`, root mean
      squares `[T]` and accuracies `[T]`.

  Returns:
    The figure.
  """
  with reports.style():
    figure = plt.figure(figsize=(13, 9), layout='constrained')
    grid = figure.add_gridspec(4, 4, height_ratios=[1, 1, 1, 2.4])
    for i, (name, (outputs, targets, _, _)) in enumerate(cases.items()):
      for row, when in enumerate(_SHOWN):
        ax = figure.add_subplot(grid[row, i])
        now = np.argmin(np.abs(lags - when))
        low, high = outputs[now].min(), outputs[now].max()
        for sign, color in zip((-1., 1.), _CLASS_COLORS):
          ax.hist(outputs[now][targets == sign], np.linspace(low, high, 25),
                  color=color, alpha=.6)
        ax.set_yticks([])
        ax.locator_params(axis='x', nbins=4)
        ax.ticklabel_format(axis='x', scilimits=(-2, 3), useMathText=True)
        if not row:
          ax.set_title(name, fontsize=10.5)
        if not i:
          ax.set_ylabel(rf'$T \Delta / s^2$ = {lags[now]:.2g}')
    axes = [figure.add_subplot(grid[3, :2]), figure.add_subplot(grid[3, 2:])]
    for (name, (_, _, rms, right)), color in zip(cases.items(), _CASE_COLORS):
      for ax, values in zip(axes, (rms, right)):
        ax.plot(lags, values, color=color, lw=2.2, label=name)
    axes[0].set(xscale='log', yscale='log', ylabel='rms of mean outputs')
    axes[1].set(xscale='log', ylabel='accuracy on test images', ylim=(.4, 1.02))
    axes[1].axhline(.5, color='#555555', ls=(0, (5, 3)), lw=1)
    axes[0].legend()
    for ax in axes:
      ax.set_xlabel(r'drift time $T \Delta / s^2$')
    figure.suptitle(title, x=.01, ha='left', fontsize=12)
  return figure


def main(argv):
  temperature, s = _TEMPERATURE.value, _W_PRIOR_STD.value
  tasks.start(argv, temperature)
  lags = np.geomspace(1e-2, _END, _N_TIMES.value)
  cases, columns = {}, dict(drift_time=lags)
  for activation in _ACTIVATIONS:
    kernel_fn = tasks.network(activation, _DEPTH.value, s, s,
                              W_std=_W_STD[activation])[2]
    for task in _TASKS:
      # The norms of images are kept.
      x, y, x_test, y_test = tasks.data(task, same_norm=False)
      drift_fn = predict.representational_drift_mse_ensemble(
          kernel_fn, x, y, temperature)
      t = y.size * lags * s**2 / temperature
      train, test = (np.asarray(drift_fn(t, inputs))[..., 0]
                     for inputs in (None, x_test))
      right = np.array([
          accuracy(f, y_test[:, 0], best_threshold(g, y[:, 0]),
                   _RESOLUTION.value) for f, g in zip(test, train)])
      rms = np.sqrt(np.mean(test**2, axis=1))
      name = f'{activation}, {task[0]} against {task[1]}'
      cases[name] = test, y_test[:, 0], rms, right
      key = f'{activation}_{"".join(task)}'
      columns |= {f'rms_{key}': rms, f'accuracy_{key}': right}
      print(f'{name}: accuracy {right[0]:.2f}, after {lags[-1]:g} s^2 '
            f'{right[-1]:.2f}; outputs {rms[0]:.1e}, then {rms[-1]:.1e}.')
  title = (f'{tasks.FLAGS.dataset}, {tasks.FLAGS.n_train} images of each task; '
           f'{_DEPTH.value} hidden; readout frozen at equilibrium, '
           f'$T$ = {temperature:g}, $s$ = {s:g}')
  reports.write(_OUTPUT_DIR.value, 'representational_drift',
                plot(title, lags, cases), columns)


if __name__ == '__main__':
  app.run(main)
