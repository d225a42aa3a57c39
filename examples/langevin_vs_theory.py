# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Real networks that learn, over the theory of infinitely wide ones.

An ensemble of finite networks learns two classes of images by Langevin
dynamics, from initialisation to equilibrium. Theory has mean and variance over
networks at any time in closed form. This script lays one over the other, says
how far apart they are in standard errors, and what each took.

    python examples/langevin_vs_theory.py
    python examples/langevin_vs_theory.py --width=32
    python examples/langevin_vs_theory.py --dataset=mnist --data_dir=/path/to

See Avidan, Li and Sompolinsky, arXiv:2309.04522, for the theory.
"""

import os
import time

from absl import app
from absl import flags
from jax import random
from matplotlib import pyplot as plt
import numpy as np

import datasets
from nt_ndk import langevin
from nt_ndk import predict
import reports
import tasks

tasks.define_data_flags(n_train=20, n_test=20)
_WIDTH = flags.DEFINE_integer('width', 256, 'Units of a layer.', lower_bound=1)
_DEPTH = flags.DEFINE_integer('depth', 1, 'Hidden layers.', lower_bound=1)
_ACTIVATION = flags.DEFINE_enum(
    'activation', 'relu', ['erf', 'relu'], 'Nonlinearity of hidden layers.')
_N_NETWORKS = flags.DEFINE_integer(
    'n_networks', 400, 'Networks of the ensemble, an even number.',
    lower_bound=4)
_TEMPERATURE = flags.DEFINE_float(
    'temperature', .1, 'Temperature T of the noise; positive.')
_READOUT_STD = flags.DEFINE_float(
    'readout_std', .5, 'Multiplier `W_std` of the last layer.')
_W_INIT_STD = flags.DEFINE_float(
    'W_init_std', 1.2, 'Standard deviation s0 of initial weights.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', .8, 'Standard deviation s of weights under the prior.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 12, 'Times at which networks are looked at.', lower_bound=2)
_CHECKPOINT = flags.DEFINE_bool(
    'checkpoint', False, 'Whether to keep a file in the output folder from '
    'which a killed run goes on.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'langevin_vs_theory_output',
    'Folder for the picture and the table.')

_N_SHOWN = 4  # Test images in the picture.


def plot(title, curve_times, curves, t, measured, z):
  """Draws mean and variance of a few outputs, and all z-scores.

  Args:
    title: of the figure.
    curve_times: `[C]`, times of the curves.
    curves: two arrays `[C, shown]`, mean and variance by theory.
    t: `[T]`, times at which networks were looked at.
    measured: mean, its standard error, variance, its standard error, `[T,
      shown]` each.
    z: two arrays `[T, n_test]`, z-scores of mean and variance.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(
        3, 1, figsize=(9, 9.2), sharex=True, layout='constrained',
        gridspec_kw=dict(height_ratios=(1.2, 1, .7)))
    for ax, curve, value, error, name in zip(
        axes, curves, measured[::2], measured[1::2], ('mean', 'variance')):
      for i, color in enumerate(('#20306b', '#c8611a', '#0b7a75', '#7b3fa0')):
        if i < curve.shape[1]:
          ax.plot(curve_times, curve[:, i], color=color, lw=1.8)
          ax.errorbar(t, value[:, i], 2 * error[:, i], fmt='o', ms=4,
                      color=color, capsize=2.5, lw=1)
      ax.set_ylabel(f'{name} of outputs')
    axes[0].axhline(0, color='#555555', lw=.7)
    axes[0].set_title(title, pad=10)
    axes[0].text(.012, .93, 'lines: theory, infinite width\npoints: finite '
                 'networks, two standard errors', va='top',
                 transform=axes[0].transAxes, fontsize=9.5, color='#333333')
    axes[2].axhspan(-2, 2, color='#8a8f9c', alpha=.2, lw=0)
    for values, shift, color, name in zip(z, (.97, 1.03),
                                          ('#20306b', '#c8611a'),
                                          ('mean', 'variance')):
      axes[2].plot(t * shift, values, 'o', ms=2.5, color=color, alpha=.6)
      axes[2].plot([], [], 'o', ms=4, color=color, label=name)
    axes[2].legend(loc='upper left', ncols=2, fontsize=9.5)
    axes[2].set(xscale='log', ylabel='standard errors', ylim=(
        min(-5, -1.1 * np.max(np.abs(z))), max(5, 1.3 * np.max(np.abs(z)))),
                xlabel='training time $t$')
  return figure


def main(argv):
  temperature, s = _TEMPERATURE.value, _W_PRIOR_STD.value
  tasks.start(argv, temperature)
  x, y, x_test, _ = tasks.data()
  x, x_test = datasets.in_their_span(x, x_test)
  init_fn, apply_fn, kernel_fn = tasks.network(
      _ACTIVATION.value, _DEPTH.value, _W_INIT_STD.value, s,
      width=_WIDTH.value, readout_std=_READOUT_STD.value)

  # From before the fastest mode is learned to equilibrium.
  ntk = np.asarray(kernel_fn(x, None, 'ntk'))
  ends = len(x) * np.array([.1 / np.linalg.eigvalsh(ntk)[-1],
                            3 * s**2 / temperature])
  t, curve_times = (np.geomspace(*ends, n) for n in (_N_TIMES.value, 100))

  begin = time.perf_counter()
  predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x, y,
                                                    temperature)
  prediction = predict_fn(t=t, x_test=x_test, get='ndk', compute_cov='diag')
  seconds = time.perf_counter() - begin
  print(f'Theory: mean and variance on {len(x_test)} images at {len(t)} times '
        f'in {seconds:.1f} s.')
  curves = [np.asarray(a) for a in predict_fn(
      t=curve_times, x_test=x_test[:_N_SHOWN], get='ndk', compute_cov='diag')]

  os.makedirs(_OUTPUT_DIR.value, exist_ok=True)
  begin = time.perf_counter()
  # Half of the networks are mirror images of the others, which makes the mean
  # precise.
  ensemble = langevin.markov_proximal_ensemble(
      init_fn, apply_fn, x, y, temperature, antithetic=True, progress=True)(
          random.PRNGKey(tasks.FLAGS.seed), _N_NETWORKS.value, t, x_test,
          checkpoint=os.path.join(_OUTPUT_DIR.value, 'ensemble.msgpack')
          if _CHECKPOINT.value else None)
  print(f'Experiment: {ensemble.n_networks} networks of width {_WIDTH.value} '
        f'in {time.perf_counter() - begin:.0f} s.')

  comparison = langevin.compare(ensemble, prediction)
  z = comparison.mean_z[..., 0], comparison.variance_z[..., 0]
  rms = lambda a: np.sqrt(np.mean(np.square(a)))
  for name, value, deviation in zip(
      ('mean', 'variance'), z,
      (comparison.mean_deviation, comparison.variance_deviation)):
    print(f'Experiment minus theory, {name}: root mean square {rms(value):.2f} '
          f'standard errors, {rms(deviation):.1e} in outputs.')

  measured = [getattr(ensemble, name)[..., 0] for name in (
      'mean', 'mean_error', 'variance', 'variance_error')]
  title = (
      f'{tasks.data_title()}; '
      f'{ensemble.n_networks} {_ACTIVATION.value} networks, width '
      f'{_WIDTH.value}, depth {_DEPTH.value}; $T$ = {temperature:g}, $s_0$ = '
      f'{_W_INIT_STD.value:g}, $s$ = {s:g}')
  figure = plot(title, curve_times, (curves[0][..., 0], curves[1]), t,
                [a[:, :_N_SHOWN] for a in measured], z)
  theory = [np.asarray(prediction[0])[..., 0], np.asarray(prediction[1])]
  times, images = np.meshgrid(t, np.arange(len(x_test)), indexing='ij')
  columns = dict(zip(
      ('time', 'test_image', 'mean_theory', 'variance_theory', 'mean',
       'mean_error', 'variance', 'variance_error', 'mean_z', 'variance_z'),
      (a.ravel() for a in (times, images, *theory, *measured, *z))))
  reports.write(_OUTPUT_DIR.value, 'langevin_vs_theory', figure, columns)


if __name__ == '__main__':
  app.run(main)
