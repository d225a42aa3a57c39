# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Ensembles of finite networks trained by Langevin dynamics, for the tests.

An experiment that shares no code with `nt_ndk`: many wide networks learn from
their initialisation to equilibrium, and the statistics of their outputs over
the networks are stored beside this file, one `.npz` file for each case. They
are what the theory of infinitely wide networks has to predict.

A layer is `z = W_std / sqrt(N) W x`, without bias. Its `N` inputs are the
features or the hidden units of the layer below. Weights start from
`N(0, W_init_std^2)` and follow, with the sum-of-squares loss,

    dW = -grad[1/2 sum (f - y)^2] dt - T / W_prior_std^2 W dt + sqrt(2 T) dB

The free part of this, an Ornstein-Uhlenbeck process, is drawn exactly. A step
of length `h` is `h/2` of the flow along the data gradient, `h` of the free
process, `h/2` of the flow (two adjacent halves are done as one); the flow is
taken by one step of Heun's method. The error is of second order in `h`.

Where a case has a `freeze_time`, two branches leave each network there. In both
the readout weights stay as they are. In `forget` the hidden weights go on under
noise and weight decay alone; in `hidden` they keep their data gradient as well.

Each file has, with `p = n_train + n_test` inputs, training inputs first:

    activation, width, networks, max_step   of the networks and the run
    W_std, W_init_std, W_prior_std   one value for each layer, input to output
    temperature                      T
    x_train, y_train, x_test         (n_train, d), (n_train, 1), (n_test, d)
    times                            (t,), in units of the equation above
    mean                             (t, p), over the networks
    covariance                       (t, p, t, p), unbiased, over the networks

and, where the readout is frozen,

    freeze_time                      when
    drift_times                      (u,), from the same origin as `times`; the
                                     first is `freeze_time`
    forget_mean, hidden_mean         (u, p)
    forget_covariance, hidden_covariance    (u, p, u, p)

The stored files were made by

    python tests/ensemble/make_ensemble.py

in 5 (relu) and 8 minutes (erf) on one CPU core, in single precision. Other
versions of JAX may draw other numbers.

Two errors besides that of sampling were measured, in standard errors of the
stored means and variances. The step, by the same noise at two steps,

    python tests/ensemble/make_ensemble.py --networks=200 --noise_substeps=2 \
        --output_dir=coarse
    python tests/ensemble/make_ensemble.py --networks=200 --refine=2 \
        --output_dir=fine

changes them by a root mean square of 0.06 (relu) and 0.13 (erf), which
includes the noise of that comparison. The width, by the difference from
the theory at `--networks=4000` and `--width=128` (relu) or `--width=96` (erf),
scaled by 1/width, by a root mean square of 0.1 and 0.2, and at most 0.7 (relu,
mean of the training output with the largest target, at late times).
"""

import collections
import os
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

_CASES = flags.DEFINE_list('cases', ['relu', 'erf'], 'Cases to run.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', os.path.dirname(os.path.abspath(__file__)),
    'Folder to write one `.npz` file for each case to.')
_NETWORKS = flags.DEFINE_integer(
    'networks', None, 'Networks; that of the case if not given.', lower_bound=2)
_WIDTH = flags.DEFINE_integer(
    'width', None, 'Hidden units; that of the case if not given.',
    lower_bound=1)
_REFINE = flags.DEFINE_integer(
    'refine', 1, 'Divides the step.', lower_bound=1)
_NOISE_SUBSTEPS = flags.DEFINE_integer(
    'noise_substeps', 1, 'Draws of noise for each step. The product of this '
    'and `refine` sets the Brownian path.', lower_bound=1)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of weights and noise.')

Case = collections.namedtuple('Case', [
    'activation',   # 'relu' or 'erf'
    'width',        # units of each hidden layer
    'networks',     # size of the ensemble
    'W_std',        # multiplier, one for each layer
    'W_init_std',   # standard deviation of initial weights
    'W_prior_std',  # standard deviation of weights under the prior
    'temperature',
    'n_train', 'n_test', 'features', 'data_seed',
    'times',        # when outputs are recorded
    'max_step',
    'freeze_time',  # one of `times`, or None
    'drift_times',  # when outputs are recorded in the branches
])

CASES = dict(
    relu=Case(
        activation='relu', width=2048, networks=1500,
        W_std=(1.4, 1.), W_init_std=(1.5, 1.5), W_prior_std=(1., 1.),
        temperature=.1, n_train=5, n_test=3, features=6, data_seed=34,
        times=(0., .03, .1, .3, 1., 2., 4., 10., 20., 40.), max_step=.05,
        freeze_time=2., drift_times=(2., 3., 5., 12., 32.)),
    erf=Case(
        activation='erf', width=384, networks=1000,
        W_std=(1.5, 1.2, 1.), W_init_std=(2.5, .7, 1.8),
        W_prior_std=(.8, 1.2, .9),
        temperature=.2, n_train=5, n_test=3, features=6, data_seed=11,
        times=(0., .03, .1, .3, 1., 2., 4., 8., 15., 30.), max_step=.1,
        freeze_time=None, drift_times=()),
)

# An interval between two recorded times has at least so many steps.
_MIN_STEPS = 10

_ACTIVATIONS = dict(relu=jax.nn.relu, erf=jax.lax.erf)


def data(case):
  """Normal inputs and targets, `x_train`, `y_train`, `x_test`."""
  rng = np.random.default_rng(case.data_seed)
  x = rng.standard_normal((case.n_train + case.n_test, case.features))
  y = 1.2 * rng.standard_normal((case.n_train, 1))
  # Two decimals: exactly the same in the file and in single precision.
  x, y = x.round(2).astype(np.float32), y.round(2).astype(np.float32)
  return x[:case.n_train], y, x[case.n_train:]


def initial_weights(key, case):
  sizes = [case.features] + [case.width] * (len(case.W_std) - 1) + [1]
  return [
      std * jax.random.normal(jax.random.fold_in(key, layer), (fan_in, size))
      for layer, (std, fan_in, size)
      in enumerate(zip(case.W_init_std, sizes[:-1], sizes[1:]))]


def outputs(weights, x, case):
  """Outputs of one network, `(len(x),)`."""
  h = x
  for layer, (w, c) in enumerate(zip(weights, case.W_std)):
    if layer > 0:
      h = _ACTIVATIONS[case.activation](h)
    h = c / np.sqrt(w.shape[0]) * (h @ w)
  return h[:, 0]


def make_evolve(case, x_train, y_train, frozen, learn):
  """Makes `evolve(key, weights, length) -> weights` for one network.

  Args:
    case: a `Case`.
    x_train: `(n_train, features)`.
    y_train: `(n_train, 1)`.
    frozen: layers, counted from the input, whose weights do not move.
    learn: whether the other layers see the data.
  """
  substeps = _NOISE_SUBSTEPS.value

  def loss(weights):
    return .5 * jnp.sum((outputs(weights, x_train, case) - y_train[:, 0])**2)

  def gradient(weights):
    return [0. * g if layer in frozen else g
            for layer, g in enumerate(jax.grad(loss)(weights))]

  def flow(weights, h):
    g1 = gradient(weights)
    g2 = gradient([w - h * g for w, g in zip(weights, g1)])
    return [w - h / 2. * (a + b) for w, a, b in zip(weights, g1, g2)]

  def free(key, weights, h):
    out = []
    for layer, (w, s) in enumerate(zip(weights, case.W_prior_std)):
      if layer not in frozen:
        rate = case.temperature / s**2
        noise = jax.random.normal(jax.random.fold_in(key, layer), w.shape)
        scale = s * np.sqrt(-np.expm1(-2. * rate * h))
        w = np.exp(-rate * h) * w + scale * noise
      out.append(w)
    return out

  def evolve(key, weights, length):
    if not learn:
      return free(key, weights, length)
    steps = max(int(np.ceil(length / case.max_step - 1e-6)), _MIN_STEPS)
    steps *= _REFINE.value
    h = length / steps

    def noise(step, weights):
      for i in range(substeps):
        step_key = jax.random.fold_in(key, substeps * step + i)
        weights = free(step_key, weights, h / substeps)
      return weights

    weights = flow(weights, h / 2.)
    weights = jax.lax.fori_loop(
        0, steps - 1, lambda i, w: flow(noise(i, w), h), weights)
    return flow(noise(steps - 1, weights), h / 2.)

  return evolve


def make_trajectory(case):
  """Makes `trajectory(key)`, the outputs of one network, a dictionary."""
  x_train, y_train, x_test = data(case)
  x = np.concatenate([x_train, x_test])
  readout = len(case.W_std) - 1

  def record(key, weights, times, evolve, at=None):
    """Outputs at all `times`; and the weights at time `at`."""
    out, kept = [outputs(weights, x, case)], weights
    for i, (start, end) in enumerate(zip(times[:-1], times[1:])):
      weights = evolve(jax.random.fold_in(key, i), weights, end - start)
      out.append(outputs(weights, x, case))
      if end == at:
        kept = weights
    return jnp.stack(out), kept

  def trajectory(key):
    keys = jax.random.split(key, 4)
    out = {}
    out['main'], weights = record(
        keys[1], initial_weights(keys[0], case), case.times,
        make_evolve(case, x_train, y_train, (), True), case.freeze_time)
    if case.freeze_time is not None:
      for branch, branch_key, learn in [('forget', keys[2], False),
                                        ('hidden', keys[3], True)]:
        out[branch], _ = record(
            branch_key, weights, case.drift_times,
            make_evolve(case, x_train, y_train, (readout,), learn))
    return out

  return trajectory


def statistics(values):
  """Mean and unbiased covariance of `(networks, times, inputs)`."""
  values = np.asarray(values, np.float64)
  mean = values.mean(0)
  centred = (values - mean).reshape(len(values), -1)
  covariance = centred.T @ centred / (len(values) - 1)
  return (mean.astype(np.float32),
          covariance.reshape(mean.shape + mean.shape).astype(np.float32))


def run(name):
  """Trains the networks of one case and writes its file."""
  case = CASES[name]
  case = case._replace(networks=_NETWORKS.value or case.networks,
                       width=_WIDTH.value or case.width)
  key = jax.random.fold_in(
      jax.random.PRNGKey(_SEED.value), list(CASES).index(name))
  trajectory = make_trajectory(case)

  start = time.time()
  result = jax.jit(lambda keys: jax.lax.map(trajectory, keys))(
      jax.random.split(key, case.networks))
  result = jax.tree.map(np.asarray, result)
  print(f'{name}: {case.networks} networks of width {case.width}, '
        f'{time.time() - start:.0f} s', flush=True)
  if not all(np.isfinite(values).all() for values in result.values()):
    raise FloatingPointError(f'Case {name!r} diverged: reduce `max_step`.')

  x_train, y_train, x_test = data(case)
  fields = dict(
      activation=case.activation, width=case.width, networks=case.networks,
      max_step=case.max_step / _REFINE.value, W_std=case.W_std,
      W_init_std=case.W_init_std, W_prior_std=case.W_prior_std,
      temperature=case.temperature, x_train=x_train, y_train=y_train,
      x_test=x_test, times=case.times)
  fields['mean'], fields['covariance'] = statistics(result['main'])
  if case.freeze_time is not None:
    fields.update(freeze_time=case.freeze_time, drift_times=case.drift_times)
    for branch in ['forget', 'hidden']:
      fields[f'{branch}_mean'], fields[f'{branch}_covariance'] = statistics(
          result[branch])
  os.makedirs(_OUTPUT_DIR.value, exist_ok=True)
  np.savez_compressed(os.path.join(_OUTPUT_DIR.value, f'{name}.npz'), **fields)


def main(_):
  for name in _CASES.value:
    run(name)


if __name__ == '__main__':
  app.run(main)
