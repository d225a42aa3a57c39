# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""A curve over one variable: what an ensemble of networks knows, and when.

The first example of Neural Tangents, a sine from a few noisy points, along the
whole of learning with weight decay and noise: mean and two standard deviations
over infinitely wide networks at six times, from initialisation to equilibrium.
Beside them what is known without this package: gradient flow in the neural
tangent kernel (NTK) to its end, and the posterior of the neural network
Gaussian process (NNGP) under the prior.

    python examples/regression_1d.py
    python examples/regression_1d.py --activation=relu --n_train=20

Avidan, Li and Sompolinsky, arXiv:2309.04522: mean predictor and its variance.
"""

from absl import app
from absl import flags
import jax
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import predict
from nt_ndk import stax
import reports

_ACTIVATION = flags.DEFINE_enum(
    'activation', 'erf', ['erf', 'relu'], 'Nonlinearity of hidden layers.')
_N_TRAIN = flags.DEFINE_integer(
    'n_train', 5, 'Training points in -pi to pi.', lower_bound=2)
_NOISE = flags.DEFINE_float('noise', .1, 'Standard deviation of the noise of '
                            'targets; its square is the temperature.',
                            lower_bound=1e-3)
_W_INIT_STD = flags.DEFINE_float(
    'W_init_std', 1.5, 'Standard deviation of weights at initialisation, '
    'relative to that under the prior.', lower_bound=1e-2)
_RTOL = flags.DEFINE_float('rtol', 1e-5, 'Relative tolerance.')
_SEED = flags.DEFINE_integer('seed', 10, 'Seed of the points and the noise.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'regression_1d_output',
    'Folder for the picture and the table.')

_W_STD, _B_STD = 1.5, .05
_ACTIVATIONS = {'erf': stax.Erf, 'relu': stax.Relu}
_COLOR, _NTK, _NNGP, _DATA = '#20306b', '#c8611a', '#0b7a75', '#7a1f3d'


def network(activation, s0):
  """Kernel function of two hidden layers with biases."""
  layer = lambda: stax.Dense(512, _W_STD, _B_STD, W_init_std=s0)
  return stax.serial(layer(), activation(), layer(), activation(), layer())[2]


def data(seed, n, noise):
  """Inputs `[n, 1]` and noisy targets of a sine."""
  rng = np.random.default_rng(seed)
  x = np.sort(rng.uniform(-np.pi, np.pi, (n, 1)), 0)
  return x, np.sin(x) + noise * rng.normal(size=x.shape)


def plot(x, y, z, snapshots, ends):
  """Draws the ensemble at some times, with the data and both ends.

  Args:
    x: training inputs `[n, 1]`.
    y: targets `[n, 1]`.
    z: inputs `[m]` of the curves.
    snapshots: title, mean `[m]` and standard deviation `[m]` of each time.
    ends: dictionary from names to mean, standard deviation and colour.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.2), sharex=True,
                                sharey=True, layout='constrained')
    for ax, (title, mean, std) in zip(axes.flat, snapshots):
      ax.fill_between(z, mean - 2 * std, mean + 2 * std, color=_COLOR,
                      alpha=.16, lw=0, label='two standard deviations')
      ax.plot(z, mean, color=_COLOR, lw=2, label='mean, NDK')
      for name, (end, _, color) in ends.items():
        ax.plot(z, end, '--', color=color, lw=1.2, label=name)
      ax.plot(z, np.sin(z), ':', color='#888888', lw=1.2, label='sine')
      ax.plot(x, y, 'o', color=_DATA, ms=5, label='data')
      ax.set(title=title, ylim=(-3, 3))
    for ax in axes[1]:
      ax.set_xlabel('$x$')
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=len(labels), fontsize=9.5,
                  loc='outside lower center')
  return figure


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  jax.config.update('jax_enable_x64', True)
  x, y = data(_SEED.value, _N_TRAIN.value, _NOISE.value)
  z = np.linspace(-np.pi, np.pi, 101)
  kernel_fn = network(_ACTIVATIONS[_ACTIVATION.value], _W_INIT_STD.value)
  temperature = _NOISE.value**2
  predict_fn = predict.markov_proximal_mse_ensemble(
      kernel_fn, x, y, temperature, rtol=_RTOL.value)
  phases = predict_fn.phases()
  between = np.geomspace(10 * phases.start, phases.diffusive, 3)
  times = [0., *between, 10 * phases.diffusive, phases.equilibrium]
  test = z[:, None]
  mean, variance = predict_fn(t=np.array(times), x_test=test, get='ndk',
                              compute_cov='diag')
  mean, std = np.asarray(mean)[..., 0], np.sqrt(np.asarray(variance))
  errors = [predict_fn.stats[f'estimated_{name}error']
            for name in ('', 'covariance_')]
  titles = ['initialisation'] + [
      f'$t$ = {t:.2g}, $T t$ = {temperature * t / y.size:.2g}'
      for t in times[1:-1]] + ['equilibrium']
  ntk = predict_fn(t=None, x_test=test, get='ntk', compute_cov=True)
  nngp = predict_fn(t=None, x_test=test, get='ndk', compute_cov='diag')
  ends = {
      'NTK, gradient flow to its end': (
          np.asarray(ntk.mean)[:, 0],
          np.sqrt(np.diag(np.asarray(ntk.covariance))), _NTK),
      'NNGP, posterior': (np.asarray(nngp.mean)[:, 0],
                          np.sqrt(np.asarray(nngp.covariance)), _NNGP)}

  rms = lambda a: float(np.sqrt(np.mean(a**2)))
  for title, m, s in zip(titles, mean, std):
    print(f'{title}: off the sine {rms(m - np.sin(z)):.3f}, standard deviation '
          f'{rms(s):.3f}, from NTK {rms(m - ends[list(ends)[0]][0]):.3f}, from '
          f'NNGP {rms(m - ends[list(ends)[1]][0]):.1e}.')
  print('Estimated errors: mean {:.0e}, variance {:.0e}.'.format(*errors))
  columns = {'x': z}
  for i, (m, s) in enumerate(zip(mean, std)):
    columns |= {f'mean_{i}': m, f'std_{i}': s}
  for name, (m, s, _) in zip(('ntk', 'nngp'), ends.values()):
    columns |= {f'mean_{name}': m, f'std_{name}': s}
  reports.write(_OUTPUT_DIR.value, 'regression_1d',
                plot(x, y, z, list(zip(titles, mean, std)), ends), columns)


if __name__ == '__main__':
  app.run(main)
