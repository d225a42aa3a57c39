# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The two phases of learning in a wide network, on two classes of images.

A wide network learns from data under noise and weight decay. First the gradient
takes it to the predictor of the Neural Tangent Kernel (NTK); then, much later,
the weights diffuse and take it to the Bayesian posterior (NNGP). The error on
new images need not fall all the way, so the best time to stop may lie inside
the second phase. This script computes the whole trajectory with `nt_ndk`, and
writes a picture and a table of it.

    python examples/two_phases.py
    python examples/two_phases.py --activation=relu --n_train=200
    python examples/two_phases.py --dataset=mnist --data_dir=/path/to/mnist

See Avidan, Li and Sompolinsky, arXiv:2309.04522, for the theory.
"""

import time

from absl import app
from absl import flags
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import plot
from nt_ndk import predict
import reports
import tasks

tasks.define_data_flags(n_train=50, n_test=200)
_DEPTH = flags.DEFINE_integer('depth', 3, 'Hidden layers.', lower_bound=1)
_ACTIVATION = flags.DEFINE_enum(
    'activation', 'erf', ['erf', 'relu'], 'Nonlinearity of hidden layers.')
_TEMPERATURE = flags.DEFINE_float(
    'temperature', 1e-3, 'Temperature T of the noise; positive.')
_W_STD = flags.DEFINE_float(
    'W_std', None, 'Multiplier of hidden weights; sqrt(2) for relu, else 1.')
_W_INIT_STD = flags.DEFINE_float(
    'W_init_std', 2., 'Standard deviation s0 of initial weights.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 200, 'Times in the output.', lower_bound=2)
_RTOL = flags.DEFINE_float('rtol', 1e-5, 'Relative tolerance.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'two_phases_output', 'Folder for the picture and the table.')

# The trajectory is followed to this many times s^2.
_DIFFUSION_END = 30.
_N_SHOWN = 6  # Test predictors in the picture.

_NTK_COLOR = '#c8611a'
_NNGP_COLOR = '#0b7a75'
_TRAIN_COLOR = '#8a8f9c'
_CLASS_COLORS = ('#7b3fa0', '#3a76c4')


def output_times(kernel_fn, x_train, temperature, W_prior_std, n_times):
  """Returns times from before the first mode is learned to equilibrium.

  Args:
    kernel_fn:
      kernel function of the network.
    x_train:
      training inputs, of shape `(n_train, dim)`.
    temperature:
      temperature :math:`T`.
    W_prior_std:
      prior standard deviation :math:`s` of the weights.
    n_times:
      how many times to return.

  Returns:
    Times on a logarithmic grid, in units of `predict_fn`: `n_train` times the
    time of the gradient flow of the sum (not the mean) of squared errors.
  """
  ntk = np.asarray(kernel_fn(x_train, None, 'ntk'))
  start = 0.05 / np.linalg.eigvalsh(ntk)[-1]
  end = _DIFFUSION_END * W_prior_std**2 / temperature
  return len(x_train) * np.geomspace(start, end, n_times)


def posterior(kernel_fn, x_train, y_train, x_test, temperature, late):
  """Returns the mean of the NNGP posterior, by Neural Tangents' own inference.

  Args:
    kernel_fn:
      kernel function of the network.
    x_train:
      training inputs, of shape `(n_train, dim)`.
    y_train:
      targets, of shape `(n_train, 1)`.
    x_test:
      test inputs, of shape `(n_test, dim)`.
    temperature:
      temperature :math:`T`, the variance of the label noise.
    late:
      diffusion time at which weights follow their prior.

  Returns:
    Predictions of shape `(n_test, 1)`.
  """
  train_train, test_train = (
      kernel_fn(x, x_train, 'nngp', diffusion_time=(late, late))
      for x in (x_train, x_test))
  predict_fn = predict.gp_inference(train_train, y_train, diag_reg=temperature,
                                    diag_reg_absolute_scale=True)
  return np.asarray(predict_fn(get='nngp', k_test_train=test_train))


def choose_shown(ntk, nngp, y_test):
  """Picks test samples of both classes, by how far their outputs move."""
  moved = np.abs(nngp - ntk)
  shown = []
  for label in (-1., 1.):
    of_class = np.flatnonzero(y_test == label)
    of_class = of_class[np.argsort(moved[of_class], kind='stable')]
    n_shown = min(_N_SHOWN // 2, len(of_class))
    # Quantiles of the class: median, upper quartile and largest.
    quantiles = np.linspace(1., .5, n_shown)
    shown += [of_class[round(q * (len(of_class) - 1))] for q in quantiles]
  return np.unique(shown)


def describe_best(taus, onset, test_mse, ntk_mse, nngp_mse, unit):
  """Returns where the test error is least, in words.

  Args:
    taus:
      diffusion times of the trajectory.
    onset:
      diffusion time at which the diffusive phase begins.
    test_mse:
      test error at these times.
    ntk_mse:
      test error of the NTK predictor at infinite time.
    nngp_mse:
      test error of the posterior.
    unit:
      :math:`s^2`, the diffusion time over which weights forget.

  Returns:
    A sentence or two.
  """
  best = int(np.argmin(test_mse))
  error, tau = test_mse[best], taus[best] / unit
  if error >= test_mse[-1] * (1 - 1e-3):
    error = test_mse[-1]
    where = 'at equilibrium: to learn to the end is best'
  elif taus[best] < onset:
    where = f'in the gradient-driven phase, at T t = {tau:.2g} s^2'
  else:
    where = f'inside the diffusive phase, at T t = {tau:.2g} s^2'
  return (
      f'Best mean squared test error {error:.4f}, {where}.\n'
      f'NTK predictor at infinite time: {ntk_mse:.4f} '
      f'({100 * (ntk_mse / error - 1):+.1f}%). '
      f'NNGP posterior: {nngp_mse:.4f} ({100 * (nngp_mse / error - 1):+.1f}%).')


def _draw_background(ax, times, onset):
  ax.set_xscale('log')
  ax.set_xlim(times[0], times[-1])
  ax.axvspan(times[0], onset, color=_NTK_COLOR, alpha=.07, lw=0)
  ax.axvspan(onset, times[-1], color=_NNGP_COLOR, alpha=.08, lw=0)


def _draw_predictors(ax, times, onset, predictors, classes):
  """A few outputs, and what the two kernels predict for them."""
  curves, ntk, nngp, targets = predictors
  for curve, start, stop, target in zip(curves.T, ntk, nngp, targets):
    ax.plot(times, curve, color=_CLASS_COLORS[int(target > 0)], lw=1.8)
    ax.plot([onset / 3, onset], [start] * 2, color=_NTK_COLOR, lw=3,
            solid_capstyle='butt', zorder=4)
    ax.plot([times[-1] / 3, times[-1]], [stop] * 2, color=_NNGP_COLOR, lw=3,
            solid_capstyle='butt', zorder=4)
  ax.axhline(0, color='#555555', lw=.7)
  ax.set_ylabel('output on test images')
  top = max(curves.max(), ntk.max(), nngp.max())
  bottom = min(curves.min(), ntk.min(), nngp.min())
  space = .16 * (top - bottom)
  ax.set_ylim(bottom - .05 * (top - bottom), top + space)
  for x, name, color in ((onset, 'NTK', _NTK_COLOR),
                         (times[-1], 'NNGP', _NNGP_COLOR)):
    ax.text(x, top + space / 2, name, color=color, ha='right', va='center',
            fontweight='bold')
  for y, name, color in ((.76, f'images of class {classes[1]}',
                          _CLASS_COLORS[1]),
                         (.1, f'images of class {classes[0]}',
                          _CLASS_COLORS[0])):
    ax.text(.012, y, name, transform=ax.transAxes, color=color, va='center')


def draw(title, times, tau_of_time, predict_fn, test_data, train_mse,
         predictors, classes):
  """Draws errors and a few predictors against time.

  Args:
    title:
      title of the figure.
    times:
      times, of shape `(n_times,)`.
    tau_of_time:
      diffusion time, in units of :math:`s^2`, per unit of time.
    predict_fn:
      the predictor.
    test_data:
      inputs and targets.
    train_mse:
      training errors, of shape `(n_times,)`.
    predictors:
      the trajectories, of shape `(n_times, n_shown)`, the NTK predictions, the
      NNGP predictions and the targets, each of shape `(n_shown,)`.
    classes:
      names of the two classes.

  Returns:
    The figure.
  """
  with reports.style():
    fig, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 7.4), sharex=True, layout='constrained',
        gridspec_kw=dict(height_ratios=(1.2, 1)))
    plot.learning_curve(predict_fn, *test_data, times, n_std=0, ax=top)
    top.plot(times, train_mse, color=_TRAIN_COLOR, lw=2,
             label='training, mean predictor')
    top.set_title(title, pad=10)
    top.set_xlabel('')
    top.legend(loc='upper right', bbox_to_anchor=(1, .9))
    onset = predict_fn.phases().diffusive
    _draw_background(bottom, times, onset)
    _draw_predictors(bottom, times, onset, predictors, classes)
    bottom.set_xlabel('training time $t$')
    diffusion = bottom.secondary_xaxis(
        -.2, functions=(lambda t: t * tau_of_time, lambda u: u / tau_of_time))
    diffusion.set_xlabel('diffusion time, units of $s^2$')
  return fig


def main(argv):
  temperature, s = _TEMPERATURE.value, _W_PRIOR_STD.value
  tasks.start(argv, temperature)
  start = time.perf_counter()

  x_train, y_train, x_test, y_test = tasks.data()
  n_train, n_test = len(x_train), len(x_test)
  print(f'{tasks.data_title()} for training, {n_test} for the test.')

  kernel_fn = tasks.network(_ACTIVATION.value, _DEPTH.value, _W_INIT_STD.value,
                            s, W_std=_W_STD.value)[2]
  times = output_times(kernel_fn, x_train, temperature, s, _N_TIMES.value)
  # Gradients are of the sum of squared errors in the theory, of their mean in
  # `predict_fn`: its times are `n_train` times as long.
  taus = temperature * times / n_train

  predict_fn = predict.markov_proximal_mse_ensemble(
      kernel_fn, x_train, y_train, temperature, rtol=_RTOL.value, progress=True)
  test = np.asarray(predict_fn(t=times, x_test=x_test, get='ndk'))[..., 0]
  train = np.asarray(predict_fn(t=times, get='ndk'))[..., 0]
  ntk = np.asarray(predict_fn(t=None, x_test=x_test, get='ntk'))[:, 0]
  nngp = posterior(kernel_fn, x_train, y_train, x_test, temperature,
                   1e3 * s**2)[:, 0]

  mse = lambda f, y: np.mean((f - y[:, 0])**2, axis=-1)
  errors = dict(train=mse(train, y_train), test=mse(test, y_test),
                ntk=mse(ntk, y_test), nngp=mse(nngp, y_test))
  onset = temperature * predict_fn.phases().diffusive / n_train
  summary = describe_best(taus, onset, errors['test'], errors['ntk'],
                          errors['nngp'], s**2)
  shown = choose_shown(ntk, nngp, y_test[:, 0])

  columns = dict(
      time=times, diffusion_time=taus,
      train_mse=errors['train'], test_mse=errors['test'],
      test_error=np.mean(np.sign(test) != y_test[:, 0], axis=-1),
      ntk_test_mse=np.full_like(times, errors['ntk']),
      nngp_test_mse=np.full_like(times, errors['nngp']))
  for i in shown:
    columns[f'predictor_{i}'] = test[:, i]
    columns[f'ntk_predictor_{i}'] = np.full_like(times, ntk[i])
    columns[f'nngp_predictor_{i}'] = np.full_like(times, nngp[i])

  title = (
      f'{tasks.data_title()}; '
      f'{_DEPTH.value} hidden {_ACTIVATION.value} layers; '
      f'$T$ = {temperature:g}, $s_0$ = {_W_INIT_STD.value:g}, $s$ = {s:g}')
  figure = draw(
      title, times, temperature / n_train / s**2, predict_fn, (x_test, y_test),
      errors['train'],
      (test[:, shown], ntk[shown], nngp[shown], y_test[shown, 0]),
      tasks.FLAGS.classes)

  print(summary)
  reports.write(_OUTPUT_DIR.value, 'two_phases', figure, columns)
  print(f'It took {time.perf_counter() - start:.0f} s.')


if __name__ == '__main__':
  app.run(main)
