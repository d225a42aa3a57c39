# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""A Flax network: its kernels and its ensemble, beside their closed forms.

A convolutional network is written once, with the layers of `nt_ndk.linen` or
`nt_ndk.nnx`. Its ensemble learns two classes of images by Langevin dynamics;
its Neural Dynamical Kernel is sampled from networks whose weights diffuse
freely. The same network of `nt_ndk.stax` has both in closed form, for infinite
width.

    python examples/flax_ensemble.py
    python examples/flax_ensemble.py --api=nnx --width=256
    python examples/flax_ensemble.py --dataset=cifar10 --data_dir=/path/to

See Avidan, Li and Sompolinsky, arXiv:2309.04522, for the theory.
"""

from absl import app
from absl import flags
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from jax import nn
from jax import random
import jax.numpy as jnp
from matplotlib import pyplot as plt
import numpy as np

import datasets
from nt_ndk import langevin
from nt_ndk import linen
from nt_ndk import monte_carlo
from nt_ndk import nnx
from nt_ndk import predict
from nt_ndk import stax
import reports
import tasks

tasks.define_data_flags(n_train=20, n_test=4)
_API = flags.DEFINE_enum('api', 'linen', ['linen', 'nnx'], 'Of Flax.')
_WIDTH = flags.DEFINE_integer('width', 64, 'Channels.', lower_bound=1)
_N_NETWORKS = flags.DEFINE_integer(
    'n_networks', 100, 'Networks of the ensemble, and as many for the kernels.',
    lower_bound=2)
_TEMPERATURE = flags.DEFINE_float(
    'temperature', .1, 'Temperature T of the noise; positive.')
_W_INIT_STD = flags.DEFINE_float(
    'W_init_std', 1.2, 'Standard deviation s0 of initial weights.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 10, 'Times at which networks are looked at.', lower_bound=2)
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'flax_ensemble_output',
    'Folder for the picture and the table.')

# Blocks of pixels that are averaged, so that images have 7 or 8 a side.
_BLOCK = dict(digits=1, mnist=4, cifar10=4)
# Multipliers of weights.
_W_STD, _READOUT_STD = 2**.5, .4
_COLORS = '#20306b', '#c8611a', '#0b7a75', '#7b3fa0'


def linen_network(width, stds):
  """As `init` and `apply` of a `flax.linen` module."""
  module = flax_linen.Sequential([
      linen.Conv(width, (3, 3), (2, 2), 'VALID', W_std=_W_STD, **stds),
      nn.relu,
      lambda x: jnp.mean(x, (1, 2)),
      linen.Dense(1, W_std=_READOUT_STD, **stds)])
  return module.init, module.apply


def nnx_network(width, stds, channels):
  """As a function that makes a `flax.nnx` module."""
  def make(rngs):
    return flax_nnx.Sequential(
        nnx.Conv(channels, width, (3, 3), (2, 2), 'VALID', W_std=_W_STD, **stds,
                 rngs=rngs),
        nn.relu,
        lambda x: jnp.mean(x, (1, 2)),
        nnx.Dense(width, 1, W_std=_READOUT_STD, **stds, rngs=rngs))

  return make, None


def stax_kernel_fn(stds):
  """The closed form for infinite width."""
  return stax.serial(
      stax.Conv(1, (3, 3), (2, 2), 'VALID', W_std=_W_STD, **stds),
      stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1, _READOUT_STD, **stds))[2]


def plot(title, learning, kernel):
  """Draws outputs over time, and the kernel over diffusion time.

  Args:
    title: of the figure.
    learning: times `[C]` and curves `[C, m]` of theory, times `[T]`, means and
      standard errors `[T, m]` of networks.
    kernel: the same of the NDK of pairs of images, in diffusion time.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(2, 1, figsize=(9, 8), layout='constrained')
    for ax, (curve_times, curves, t, means, errors) in zip(
        axes, (learning, kernel)):
      for curve, mean, error, color in zip(curves.T, means.T, errors.T,
                                           _COLORS):
        ax.plot(curve_times, curve, color=color, lw=1.8)
        ax.errorbar(t, mean, 2 * error, fmt='o', ms=4, color=color, capsize=2.5,
                    lw=1)
      ax.set_xscale('log')
    axes[0].axhline(0, color='#555555', lw=.7)
    axes[0].set_title(title, pad=10)
    axes[0].set(xlabel='training time $t$', ylabel='mean output, test images')
    axes[0].text(.012, .95, 'lines: theory, infinite width\npoints: Flax '
                 'networks, two standard errors', va='top',
                 transform=axes[0].transAxes, fontsize=9.5, color='#333333')
    axes[1].set(xlabel=r'diffusion time $\tau$',
                ylabel=r'NDK$(\tau, 0)$ of pairs of images')
  return figure


def main(argv):
  temperature, s = _TEMPERATURE.value, _W_PRIOR_STD.value
  tasks.start(argv, temperature)
  x, y, x_test, _ = tasks.data()
  x, x_test = (datasets.images(a, _BLOCK[tasks.FLAGS.dataset])
               for a in (x, x_test))
  stds = dict(W_init_std=_W_INIT_STD.value, W_prior_std=s)
  network = (linen_network(_WIDTH.value, stds) if _API.value == 'linen' else
             nnx_network(_WIDTH.value, stds, x.shape[-1]))
  kernel_fn = stax_kernel_fn(stds)
  keys = random.split(random.PRNGKey(tasks.FLAGS.seed))

  # Kernels of the first test image and some training images, between
  # initialisation and later.
  taus = s**2 * np.geomspace(.02, 5., _N_TIMES.value)
  curve_taus = s**2 * np.geomspace(.02, 5., 60)
  sample_fn = monte_carlo.two_time_kernel_fn(
      *network, keys[0], _N_NETWORKS.value, vmap_axes=0)
  of_pairs = lambda fn, tau: fn(
      x_test[:1], x[:len(_COLORS)], 'ndk', diffusion_time=(tau, 0.))
  closed = lambda taus: np.stack([of_pairs(kernel_fn, tau)[0] for tau in taus])
  samples = [of_pairs(sample_fn, tau) for tau in taus]
  ndk, ndk_error = (np.stack([e[i][0] for e in samples]) for i in range(2))
  ndk_z = (ndk - closed(taus)) / ndk_error
  rms = lambda a: np.sqrt(np.mean(np.square(a)))
  print(f'NDK of {_N_NETWORKS.value} networks minus closed form: root mean '
        f'square {rms(ndk_z):.2f} standard errors.')

  ntk = np.asarray(kernel_fn(x, None, 'ntk'))
  ends = len(x) * np.array([.1 / np.linalg.eigvalsh(ntk)[-1],
                            3 * s**2 / temperature])
  t, curve_times = (np.geomspace(*ends, n) for n in (_N_TIMES.value, 100))
  predict_fn = predict.markov_proximal_mse_ensemble(kernel_fn, x, y,
                                                    temperature)
  predicted, curves = (np.asarray(predict_fn(t=times, x_test=x_test, get='ndk'))
                       for times in (t, curve_times))
  ensemble = langevin.markov_proximal_ensemble(
      *network, x, y, temperature, progress=True)(
          keys[1], _N_NETWORKS.value, t, x_test)
  z = langevin.compare(ensemble, predicted).mean_z[..., 0]
  print(f'Mean outputs of {ensemble.n_networks} networks minus theory: root '
        f'mean square {rms(z):.2f} standard errors.')

  title = (f'{tasks.data_title()}; '
           f'{_N_NETWORKS.value} convolutional networks of flax.{_API.value}, '
           f'{_WIDTH.value} channels')
  figure = plot(
      title,
      (curve_times, curves[..., 0], t, ensemble.mean[..., 0],
       ensemble.mean_error[..., 0]),
      (curve_taus, closed(curve_taus), taus, ndk, ndk_error))
  columns = dict(time=t, diffusion_time_of_ndk=taus)
  for i in range(len(x_test)):
    columns |= {f'mean_theory_{i}': predicted[:, i, 0],
                f'mean_{i}': ensemble.mean[:, i, 0],
                f'mean_error_{i}': ensemble.mean_error[:, i, 0]}
  for i, exact in enumerate(closed(taus).T):
    columns |= {f'ndk_theory_{i}': exact, f'ndk_{i}': ndk[:, i],
                f'ndk_error_{i}': ndk_error[:, i]}
  reports.write(_OUTPUT_DIR.value, 'flax_ensemble', figure, columns)


if __name__ == '__main__':
  app.run(main)
