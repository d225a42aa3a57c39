# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What initialisation, nonlinearity and depth make of learning curves.

The test error of the ensemble mean against time, on two classes of images, for
weights that start smaller than, as large as, or larger than those of the prior.
The posterior, where curves end, depends on the prior alone; the NTK, which they
come close to first, on initialisation. Between, they need not fall: where the
best error lies inside, the curve is not monotonic.

    python examples/initialisation_and_depth.py
    python examples/initialisation_and_depth.py --dataset=mnist --data_dir=/path
    python examples/initialisation_and_depth.py --dataset=cifar10 \
        --classes=0,1 --data_dir=/path

Avidan, Li and Sompolinsky, arXiv:2309.04522: the roles of initialisation,
regularisation and depth.
"""

from absl import app
from absl import flags
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import predict
import reports
import tasks

tasks.define_data_flags(n_train=50, n_test=200)
_RATIOS = flags.DEFINE_list('ratios', ['.5', '1', '2'], 'Values of s0 / s.')
_DEPTHS = flags.DEFINE_list('depths', ['1', '4'], 'Hidden layers.')
_TEMPERATURE = flags.DEFINE_float(
    'temperature', 1e-3, 'Temperature T of the noise; positive.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 120, 'Times in the output.', lower_bound=2)
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'initialisation_and_depth_output',
    'Folder for the picture and the table.')

_ACTIVATIONS = 'relu', 'erf'
_COLORS = '#3a76c4', '#20306b', '#c8611a', '#0b7a75', '#7b3fa0'
_START, _END = 1e-6, 20.  # Diffusion times, in units of s^2.


def main(argv):
  temperature, s = _TEMPERATURE.value, _W_PRIOR_STD.value
  tasks.start(argv, temperature)
  x, y, x_test, y_test = tasks.data()
  taus = s**2 * np.geomspace(_START, _END, _N_TIMES.value)
  t = y.size * taus / temperature
  table = dict(time=t, diffusion_time=taus)
  depths = [int(d) for d in _DEPTHS.value]
  with reports.style():
    figure, axes = plt.subplots(
        len(depths), 2, figsize=(11, 3.6 * len(depths)), sharex=True,
        squeeze=False, layout='constrained')
    for row, depth in zip(axes, depths):
      for ax, activation in zip(row, _ACTIVATIONS):
        for ratio, color in zip(_RATIOS.value, _COLORS):
          predict_fn = predict.markov_proximal_mse_ensemble(
              tasks.network(activation, depth, float(ratio) * s, s)[2], x, y,
              temperature)
          curve, ntk, nngp = tasks.test_errors(predict_fn, t, x_test, y_test)
          key = f'{activation}_{depth}_{ratio}'
          constant = lambda value: np.full_like(t, value)
          table |= {f'mse_{key}': curve, f'ntk_{key}': constant(ntk),
                    f'nngp_{key}': constant(nngp)}
          best = int(np.argmin(curve))
          print(f'{activation}, {depth} hidden, s0 / s = {ratio}: best error '
                f'{curve[best]:.4f} at T t = {taus[best] / s**2:.2g} s^2; NTK '
                f'{ntk:.4f}, NNGP {nngp:.4f}.')
          ax.plot(taus / s**2, curve, color=color, lw=2,
                  label=f'$s_0 / s$ = {float(ratio):g}')
          ax.plot(taus[best] / s**2, curve[best], 'o', ms=6, mfc='white',
                  mec=color, mew=1.8, zorder=5)
        ax.axvspan(1e-2, _END, color='#0b7a75', alpha=.07, lw=0)
        ax.set(xscale='log', yscale='log', xlim=(_START, _END))
        ax.set_title(f'{activation}, {depth} hidden', fontsize=10.5)
      row[0].set_ylabel('mean squared test error')
    axes[0, 0].legend(loc='lower left')
    for ax in axes[-1]:
      ax.set_xlabel('diffusion time $T t / s^2$')
    figure.suptitle(
        f'{tasks.data_title()}; '
        f'$T$ = {temperature:g}, $s$ = {s:g}; circles: best; shaded: diffusive '
        'phase', x=.01, ha='left', fontsize=12)
  reports.write(_OUTPUT_DIR.value, 'initialisation_and_depth', figure, table)


if __name__ == '__main__':
  app.run(main)
