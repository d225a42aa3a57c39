# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The Neural Dynamical Kernel, from the NTK to the NNGP kernel.

The kernel of two inputs between two times, as a map for one network and as
curves for several depths. At the start it is the Neural Tangent Kernel (NTK).
It fades as weights forget, the sooner the deeper the network, since every layer
forgets. Its integral over the past is, at late times, the kernel of the Neural
Network Gaussian Process (NNGP) under the prior: what gradients at all times
have made adds up to Bayesian inference.

    python examples/dynamical_kernel.py
    python examples/dynamical_kernel.py --activation=erf --W_init_std=.7

Avidan, Li and Sompolinsky, arXiv:2309.04522: the kernel and its limits.
"""

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import plot
import reports
import tasks

_DEPTHS = flags.DEFINE_list('depths', ['1', '2', '3', '5'], 'Hidden layers.')
_ACTIVATION = flags.DEFINE_enum(
    'activation', 'relu', ['erf', 'relu'], 'Nonlinearity of hidden layers.')
_ANGLE = flags.DEFINE_float(
    'angle', 60., 'Angle between the two inputs, degrees.')
_W_INIT_STD = flags.DEFINE_float(
    'W_init_std', 1.2, 'Standard deviation s0 of initial weights.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 80, 'Diffusion times of the curves.', lower_bound=2)
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'dynamical_kernel_output',
    'Folder for the picture and the table.')

_COLORS = '#c8611a', '#7b3fa0', '#20306b', '#0b7a75', '#8a8f9c', '#3a76c4'
# Curves end at this many times s^2, the map at fewer.
_END, _MAP_END = 20., 2.


def network_and_inputs(depth):
  """Kernel function, and two inputs."""
  kernel_fn = tasks.network(_ACTIVATION.value, depth, _W_INIT_STD.value,
                            _W_PRIOR_STD.value)[2]
  angle = np.deg2rad(_ANGLE.value)
  return (kernel_fn, 2**.5 * jnp.array([[1., 0.]]),
          2**.5 * jnp.array([[np.cos(angle), np.sin(angle)]]))


def kernels(depth):
  """NDK and NNGP of the two inputs, as functions of arrays of both times."""
  kernel_fn, x1, x2 = network_and_inputs(depth)

  @jax.jit
  @jnp.vectorize
  def both(tau1, tau2):
    k = kernel_fn(x1, x2, ('ndk', 'nngp'), diffusion_time=(tau1, tau2))
    return k.ndk[0, 0], k.nngp[0, 0]

  return both


def integral_over_the_past(both, taus, order=200):
  r"""Integral of the NDK over the earlier time.

  Gauss-Legendre in :math:`v`, where the earlier time is :math:`\tau (1 - v^2)`:
  kernels change fast near equal times.

  Args:
    both: see `kernels`.
    taus: `[T]`, the later times.
    order: number of points.

  Returns:
    `[T]`.
  """
  v, w = np.polynomial.legendre.leggauss(order)
  v, w = (v + 1) / 2, w / 2
  taus = taus[:, None]
  return np.sum(2 * taus * v * w * both(taus, taus * (1 - v**2))[0], axis=1)


def draw(title, taus, unit, table, depths):
  """Draws the map of one depth and the curves of all.

  Args:
    title: of the figure.
    taus: `[T]`, diffusion times.
    unit: `s^2`.
    table: columns of curves.
    depths: of networks.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout='constrained',
                                gridspec_kw=dict(width_ratios=(1.15, 1, 1)))
    middle = depths[len(depths) // 2]
    plot.two_time_kernel(*network_and_inputs(middle),
                         unit * np.linspace(0., _MAP_END, 150), ax=axes[0])
    axes[0].set(xlabel=r"earlier time $\tau'$", ylabel=r'later time $\tau$')
    axes[0].set_title(f'{middle} hidden layers', fontsize=10.5)
    for depth, color in zip(depths, _COLORS):
      axes[1].plot(taus / unit, table[f'ndk_{depth}'] / table[f'ntk_{depth}'],
                   color=color, lw=2, label=f'{depth} hidden')
      axes[2].plot(taus / unit,
                   table[f'integral_{depth}'] / table[f'nngp_{depth}'],
                   color=color, lw=2)
    axes[1].set(xscale='log', ylim=(0, None), xlabel=r'later time $\tau / s^2$')
    axes[1].set_title(r'NDK$(\tau, 0)$ / NTK', fontsize=10.5)
    axes[1].legend()
    axes[2].axhline(1., color='#555555', ls=(0, (5, 3)), lw=1)
    axes[2].set(xscale='log', ylim=(0, None), xlabel=r'later time $\tau / s^2$')
    axes[2].set_title(
        r"$\int_0^\tau$ NDK$(\tau, \tau')\, d\tau'$ / NNGP kernel",
        fontsize=10.5)
    figure.suptitle(title, x=.01, ha='left', fontsize=12)
  return figure


def main(argv):
  tasks.start(argv)
  unit = _W_PRIOR_STD.value**2
  depths = [int(d) for d in _DEPTHS.value]
  taus = unit * np.geomspace(1e-2, _END, _N_TIMES.value)
  table = dict(diffusion_time=taus)
  for depth in depths:
    both = kernels(depth)
    constant = lambda value: np.full_like(taus, value)
    table |= {
        f'ndk_{depth}': both(taus, 0.)[0],
        f'integral_{depth}': integral_over_the_past(both, taus),
        f'ntk_{depth}': constant(both(0., 0.)[0]),
        f'nngp_{depth}': constant(both(1e3 * unit, 1e3 * unit)[1])}
    print(f'{depth} hidden layers: the integral over the past ends at '
          f'{table[f"integral_{depth}"][-1]:.6f}, the NNGP kernel is '
          f'{table[f"nngp_{depth}"][-1]:.6f}.')
  title = (f'Neural Dynamical Kernel of {_ACTIVATION.value} networks, inputs '
           f'at {_ANGLE.value:g} degrees; $s_0$ = {_W_INIT_STD.value:g}, $s$ = '
           f'{_W_PRIOR_STD.value:g}')
  figure = draw(title, taus, unit, table, depths)
  reports.write(_OUTPUT_DIR.value, 'dynamical_kernel', figure, table)


if __name__ == '__main__':
  app.run(main)
