# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Representations drift while outputs stay, as long as learning goes on.

Weights never rest under noise. At equilibrium hidden units forget what they
were within diffusion times of `s^2`, but gradients keep what all weights do in
step: outputs and accuracy stay. So they do where the readout is frozen and
hidden weights learn. Where these drift without learning, a frozen readout loses
the task. Points are finite networks.

    python examples/synchronised_drift.py
    python examples/synchronised_drift.py --n_networks=40
    python examples/synchronised_drift.py --dataset=mnist --data_dir=/path

Avidan, Li and Sompolinsky, arXiv:2309.04522: synchronised drift.
"""

import time

from absl import app
from absl import flags
import jax
from jax import random
import jax.numpy as jnp
from matplotlib import pyplot as plt
import numpy as np
from scipy import stats

import datasets
from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk import stax
import reports
import tasks

tasks.define_data_flags(n_train=20, n_test=100)
_DEPTH = flags.DEFINE_integer('depth', 1, 'Hidden layers.', lower_bound=1)
_TEMPERATURE = flags.DEFINE_float(
    'temperature', .1, 'Temperature T of the noise; positive.')
_W_STD = flags.DEFINE_float(
    'W_std', 1.4, 'Multiplier of hidden weights.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights, initially too.')
_WIDTH = flags.DEFINE_integer(
    'width', 256, 'Units of a layer of finite networks.', lower_bound=1)
_N_NETWORKS = flags.DEFINE_integer(
    'n_networks', 8, 'Finite networks, at least 4 and an even number; 0 is '
    'none.', lower_bound=0)
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'synchronised_drift_output',
    'Folder for the picture and the table.')

_ACTIVATIONS = 'erf', 'relu'
# Whether the readout is frozen, and whether hidden weights learn.
_REGIMES = dict(all_learn=(False, True), hidden_learn=(True, True),
                none_learns=(True, False))
_LABELS = ('all weights learn', 'readout frozen, hidden weights learn',
           'readout frozen, hidden weights drift alone')
_COLORS, _MARKERS = ('#20306b', '#0b7a75', '#c8611a'), 'osv'
_LAGS = np.geomspace(1e-2, 10., 25)  # In units of s^2.
# Networks learn for so long, and are then looked at up to so much later.
_LEARN, _WATCH = 3., 3.2
_HIDDEN = 1e3  # Factor of hidden units among outputs.


def network(activation):
  """Hidden layers, the readout, and all."""
  s = _W_PRIOR_STD.value
  hidden = stax.serial(*tasks.hidden_layers(
      activation, _DEPTH.value, s, s, _W_STD.value, _WIDTH.value))
  readout = stax.Dense(1, W_init_std=s, W_prior_std=s)
  return hidden, readout, stax.serial(hidden, readout)


def similarity(products):
  """Of each time to the first one, from products `[T, m, m]` over images."""
  products = np.trace(products, axis1=1, axis2=2)
  return products / products[0]


def theory(activation, x, y, x_test, y_test):
  """What infinitely wide networks do at equilibrium, at all lags.

  Args:
    activation: of hidden layers.
    x: training inputs.
    y: targets.
    x_test: test inputs.
    y_test: their targets.

  Returns:
    Dictionary of columns.
  """
  s2, temperature = _W_PRIOR_STD.value**2, _TEMPERATURE.value
  hidden, _, (_, _, kernel_fn) = network(activation)
  at = jax.jit(lambda tau: hidden[2](x_test, x_test, 'nngp',
                                     diffusion_time=(0., tau)))
  lags = np.append(0., _LAGS)
  columns = dict(hidden=similarity([at(s2 * lag) for lag in lags])[1:])

  predict_fn = predict.markov_proximal_mse_ensemble(
      kernel_fn, x, y, temperature, learning_rate=y.size)
  late = predict_fn.phases().equilibrium
  covariance = predict_fn.two_time_covariance(
      late, late + lags * s2 / temperature, x_test, compute_cov=True)
  mean = np.asarray(predict_fn(t=None, x_test=x_test, get='ndk'))
  columns['outputs'] = similarity(covariance + mean @ mean.T)[1:]

  for regime, (frozen, learning) in _REGIMES.items():
    if frozen:
      after_fn = predict.representational_drift_mse_ensemble(
          kernel_fn, x, y, temperature, learning_rate=y.size,
          hidden_learning=learning)
      mean, variance = after_fn(_LAGS * s2 / temperature, x_test,
                                compute_cov='diag')
    else:
      mean, variance = predict_fn(t=np.full_like(_LAGS, np.inf), x_test=x_test,
                                  get='ndk', compute_cov='diag')
    # Outputs of networks are Gaussian.
    margin = np.asarray(mean)[..., 0] * y_test[:, 0] / np.sqrt(variance)
    columns[f'accuracy_{regime}'] = np.mean(stats.norm.cdf(margin), axis=1)
  return columns


def experiment(activation, x, y, x_test, y_test):
  """What finite networks do, at lags at which they are looked at.

  Args:
    activation: of hidden layers.
    x: training inputs.
    y: targets.
    x_test: test inputs.
    y_test: their targets.

  Returns:
    Dictionary of columns, NaN at other lags, and of standard errors.
  """
  hidden, readout, (init_fn, _, _) = network(activation)

  def watched(params, x):
    """Outputs, and what is only looked at: their signs, and hidden units."""
    h = hidden[1](params[0], x)
    f = readout[1](params[1], h)
    return jnp.concatenate([f, jax.lax.stop_gradient(
        jnp.concatenate([jnp.sign(f), _HIDDEN * h], 1))], 1)

  ensemble_fn = langevin.markov_proximal_ensemble(
      init_fn, watched, np.float32(x), np.float32(y), _TEMPERATURE.value,
      loss=lambda fx, y: jnp.sum((fx[:, :1] - y)**2) / 2)
  x_test = np.float32(x_test)
  seen = (np.arange(len(_LAGS)) % 4 == 0) & (_LAGS <= _WATCH)
  unit = _W_PRIOR_STD.value**2 / _TEMPERATURE.value
  start = _LEARN * unit
  times = start + unit * _LAGS[seen]
  key = random.PRNGKey(tasks.FLAGS.seed)
  # Products of all outputs, nearly all of them of hidden units.
  kernel = ensemble_fn.two_time_kernel_fn(
      key, _N_NETWORKS.value, start, np.append(start, times), x_test,
      get='nngp')
  columns = dict(hidden=similarity(kernel.mean)[1:])
  for regime, (frozen, learning) in _REGIMES.items():
    # Of two networks each, whose differences tell the error.
    right = [np.mean(1 + y_test[:, 0] * ensemble_fn(
        pair, 2, times, x_test, t_freeze=start if frozen else None,
        hidden_learning=learning).mean[..., 1], axis=1) / 2
             for pair in random.split(key, _N_NETWORKS.value // 2)]
    columns[f'accuracy_{regime}'] = np.mean(right, 0)
    columns[f'error_{regime}'] = stats.sem(right)

  def spread(values):
    out = np.full(len(_LAGS), np.nan)
    out[seen] = values
    return out

  return {f'networks_{name}': spread(v) for name, v in columns.items()}


def plot(title, table):
  """Draws similarity and accuracy against the lag.

  Args:
    title: of the figure.
    table: columns.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(2, 2, figsize=(11, 7.4), sharex=True,
                                sharey='row', layout='constrained')
    for column, activation in zip(axes.T, _ACTIVATIONS):
      get = lambda name, activation=activation: table[f'{name}_{activation}']
      column[0].plot(_LAGS, get('outputs'), color='#8a8f9c', lw=2.2,
                     label='outputs')
      column[0].plot(_LAGS, get('hidden'), color='#7b3fa0', lw=2.2,
                     label='hidden units')
      for (regime, (frozen, learning)), color, marker, label in zip(
          _REGIMES.items(), _COLORS, _MARKERS, _LABELS):
        column[1].plot(_LAGS, get(f'accuracy_{regime}'), color=color, lw=2.2,
                       ls=(0, (2, 2)) if frozen and learning else '-',
                       label=label)
        if _N_NETWORKS.value:
          column[1].errorbar(
              _LAGS, get(f'networks_accuracy_{regime}'),
              2 * get(f'networks_error_{regime}'), fmt=marker, ms=5,
              color=color, capsize=2.5, lw=1)
      if _N_NETWORKS.value:
        column[0].plot(_LAGS, get('networks_hidden'), 'o', ms=5,
                       color='#7b3fa0')
      column[0].set(ylim=(0, 1.05), xscale='log')
      column[0].set_title(f'{activation}, {_DEPTH.value} hidden', fontsize=10.5)
      column[1].axhline(.5, color='#555555', ls=(0, (5, 3)), lw=1)
      column[1].set_xlabel(r'time since then, $T \Delta / s^2$')
    axes[0, 0].set_ylabel('similarity to what they were')
    axes[1, 0].set(ylabel='accuracy of a network on test images',
                   ylim=(.35, 1.))
    axes[0, 0].legend(loc='lower left')
    axes[1, 0].legend(loc='lower left', fontsize=9.5)
    figure.suptitle(title, x=.01, ha='left', fontsize=12)
  return figure


def main(argv):
  tasks.start(argv, _TEMPERATURE.value)
  x, y, x_test, y_test = tasks.data()
  x, x_test = datasets.in_their_span(x, x_test)
  table = dict(lag=_LAGS)
  for activation in _ACTIVATIONS:
    columns = theory(activation, x, y, x_test, y_test)
    table |= {f'{name}_{activation}': v for name, v in columns.items()}
    end = {name: values[-1] for name, values in columns.items()}
    print(f'{activation}: accuracy {columns["accuracy_all_learn"][0]:.3f}; '
          f'after {_LAGS[-1]:g} s^2 {end["accuracy_all_learn"]:.3f}, with a '
          f'frozen readout {end["accuracy_hidden_learn"]:.3f}, without '
          f'learning {end["accuracy_none_learns"]:.3f}. Similarity of hidden '
          f'units {end["hidden"]:.3f}, of outputs {end["outputs"]:.3f}.')
  if _N_NETWORKS.value:
    # Rounding is far below the sampling error.
    jax.config.update('jax_enable_x64', False)
    for activation in _ACTIVATIONS:
      begin = time.perf_counter()
      columns = experiment(activation, x, y, x_test, y_test)
      print(f'{activation}: {_N_NETWORKS.value} networks of width '
            f'{_WIDTH.value} in {time.perf_counter() - begin:.0f} s.')
      table |= {f'{name}_{activation}': v for name, v in columns.items()}
  title = (f'{tasks.data_title()}; $T$ = {_TEMPERATURE.value:g}, $s_0$ = $s$ = '
           f'{_W_PRIOR_STD.value:g}')
  if _N_NETWORKS.value:
    title += (f'; points: {_N_NETWORKS.value} networks of width '
              f'{_WIDTH.value}, two standard errors')
  reports.write(_OUTPUT_DIR.value, 'synchronised_drift', plot(title, table),
                table)


if __name__ == '__main__':
  app.run(main)
