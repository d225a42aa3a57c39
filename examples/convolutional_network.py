# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Learning curves of convolutional networks, and what pooling makes of them.

The test error of the ensemble mean against time, for a convolutional network
whose last layer reads an average over the image, and for the same network with
a readout at each place. As in fully connected networks, the end depends on the
prior alone. On digits, gradient flow ends far from there where weights start
large, with pooling more so, and the diffusive phase makes up for it.

    python examples/convolutional_network.py
    python examples/convolutional_network.py --dataset=cifar10 \
        --classes=0,1 --block=8 --data_dir=/path

Past Avidan, Li and Sompolinsky, arXiv:2309.04522, who have fully connected
networks: the roles of initialisation and regularisation.
"""

from absl import app
from absl import flags
from matplotlib import pyplot as plt
import numpy as np

import datasets
from nt_ndk import predict
from nt_ndk import stax
import reports
import tasks

tasks.define_data_flags(n_train=50, n_test=150)
_RATIOS = flags.DEFINE_list('ratios', ['.5', '2'], 'Values of s0 / s.')
_DEPTH = flags.DEFINE_integer(
    'depth', 2, 'Convolutions of 3 x 3 pixels.', lower_bound=1)
_ACTIVATION = flags.DEFINE_enum(
    'activation', 'erf', ['erf', 'relu'], 'Nonlinearity.')
_BLOCK = flags.DEFINE_integer(
    'block', 2, 'Side of blocks of pixels that are averaged, so that fewer are '
    'left: costs grow with the square of the number of pixels.', lower_bound=1)
_TEMPERATURE = flags.DEFINE_float(
    'temperature', 1e-4, 'Temperature T of the noise; positive.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_RTOL = flags.DEFINE_float('rtol', 1e-3, 'Tolerance of outputs.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 120, 'Times in the output.', lower_bound=2)
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'convolutional_network_output',
    'Folder for the picture and the table.')

_READOUTS = dict(pooling=('average over the image', stax.GlobalAvgPool),
                 flatten=('readout at each place', stax.Flatten))
_COLORS = '#3a76c4', '#c8611a', '#20306b', '#0b7a75'
_START, _END = 1e-7, 20.  # Diffusion times, in units of s^2.


def network(readout, W_init_std, W_prior_std):
  """A convolutional network with a layer that comes before the readout."""
  stds = dict(W_init_std=W_init_std, W_prior_std=W_prior_std)
  phi = dict(erf=stax.Erf, relu=stax.Relu)[_ACTIVATION.value]
  hidden = [
      layer for _ in range(_DEPTH.value) for layer in (
          stax.Conv(64, (3, 3), padding='SAME', W_std=2**.5, **stds), phi())]
  return stax.serial(*hidden, readout(), stax.Dense(1, **stds))


def main(argv):
  temperature, s = _TEMPERATURE.value, _W_PRIOR_STD.value
  tasks.start(argv, temperature)
  x, y, x_test, y_test = tasks.data()
  x, x_test = (datasets.images(v, _BLOCK.value) for v in (x, x_test))
  taus = s**2 * np.geomspace(_START, _END, _N_TIMES.value)
  t = y.size * taus / temperature
  table = dict(time=t, diffusion_time=taus)
  with reports.style():
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True,
                                layout='constrained')
    for ax, (name, (title, readout)) in zip(axes, _READOUTS.items()):
      for ratio, color in zip(_RATIOS.value, _COLORS):
        predict_fn = predict.markov_proximal_mse_ensemble(
            network(readout, float(ratio) * s, s)[2], x, y, temperature,
            rtol=_RTOL.value)
        curve, ntk, nngp = tasks.test_errors(predict_fn, t, x_test, y_test)
        key = f'{name}_{ratio}'
        table |= {f'mse_{key}': curve, f'ntk_{key}': np.full_like(t, ntk),
                  f'nngp_{key}': np.full_like(t, nngp)}
        print(f'{title}, s0 / s = {ratio}: NTK {ntk:.4f}, NNGP {nngp:.4f}, '
              f'best {np.min(curve):.4f}; estimated error of outputs '
              f'{predict_fn.stats["estimated_error"]:.1e}.')
        ax.plot(taus / s**2, curve, color=color, lw=2,
                label=f'$s_0 / s$ = {float(ratio):g}')
        ax.axhline(ntk, color=color, ls=(0, (2, 2)), lw=1.2,
                   label='its NTK')
      ax.axhline(nngp, color='#222222', ls=(0, (5, 3)), lw=1.2, label='NNGP')
      ax.axvspan(1e-2, _END, color='#0b7a75', alpha=.07, lw=0)
      ax.set(xscale='log', yscale='log', xlim=(_START, _END),
             xlabel='diffusion time $T t / s^2$')
      ax.set_title(title, fontsize=10.5)
    axes[0].set_ylabel('mean squared test error')
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center',
                  ncols=len(labels))
    figure.suptitle(
        f'{tasks.data_title()}; {_DEPTH.value} convolutions, '
        f'{_ACTIVATION.value}; $T$ = {temperature:g}, $s$ = {s:g}; shaded: '
        'diffusive phase', x=.01, ha='left', fontsize=12)
  reports.write(_OUTPUT_DIR.value, 'convolutional_network', figure, table)


if __name__ == '__main__':
  app.run(main)
