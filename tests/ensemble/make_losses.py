# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Ensembles of finite networks that learn with other losses, for the tests.

An experiment that shares no code with `nt_ndk`. One hidden layer, `f = c2 /
sqrt(N) W2 phi(c1 / sqrt(d) W1 x)`, without biases. Weights start from
`N(0, init_std^2)` and follow, for a sum of losses over samples,

    dW = -grad[sum_mu a_mu l(f_mu, y_mu)] dt - T / prior_std^2 W dt
         + sqrt(2 T) dB

by Heun's method for the gradient and exact steps of the rest, in turn (second
order in the step). Two cases:

    logistic   l = factor * log(1 + exp(-y f)), y = 1 or -1; at a time in
               between labels, weights of samples and temperature change
    softmax    cross-entropy of three classes

Each file has the `case` (JSON), inputs `x`, training inputs first, and `mean`,
`variance`, `mean_error`, `variance_error`, `(times, len(x), k)`. The stored
ones were made by

    python tests/ensemble/make_losses.py

in two and a half minutes on one CPU core.
"""

import json
import os
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

_NETWORKS = flags.DEFINE_integer('networks', 1000, 'Networks of each case.')
_WIDTH = flags.DEFINE_integer('width', 1024, 'Hidden units.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', os.path.dirname(os.path.abspath(__file__)), 'Where to.')

CASES = dict(
    logistic=dict(
        activation='relu', outputs=1, factor=3., init_std=1.4, prior_std=.9,
        multipliers=(1.5, 1.2), n_train=3, n_test=2, features=5, seed=2,
        # Duration, temperature, labels, weights.
        phases=((3., .1, (1, -1, 1), (1., 1., 0.)),
                (12., .3, (-1, -1, 1), (.5, 1., 1.))),
        times=(0., .1, .3, 1., 3., 3.3, 4., 6., 15.), step=.05),
    softmax=dict(
        activation='erf', outputs=3, factor=1., init_std=1.5, prior_std=.9,
        multipliers=(1.5, 1.5), n_train=5, n_test=2, features=5, seed=3,
        phases=((30., .1, (0, 1, 2, 1, 0), (1., 1., 1., 1., 1.)),),
        times=(0., .1, .3, 1., 3., 6., 12., 30.), step=.1))


def inputs(case):
  x = np.random.default_rng(case['seed']).standard_normal(
      (case['n_train'] + case['n_test'], case['features'])).round(2)
  return x.astype(np.float32)


def run(case, key):
  """Outputs of one network, `(times, n, k)`."""
  x = inputs(case)
  n, width = case['n_train'], _WIDTH.value
  phi = dict(relu=jax.nn.relu, erf=jax.lax.erf)[case['activation']]
  c1, c2 = case['multipliers']

  def outputs(weights):
    hidden = phi(c1 / np.sqrt(x.shape[1]) * x @ weights[0])
    return c2 / np.sqrt(width) * hidden @ weights[1]

  def loss(weights, y, a):
    f = outputs(weights)[:n]
    if case['outputs'] == 1:
      return case['factor'] * jnp.sum(a * jax.nn.softplus(-y * f[:, 0]))
    return -jnp.sum(a * jax.nn.log_softmax(f)[jnp.arange(n), y])

  keys = jax.random.split(key, 3)
  weights = [case['init_std'] * jax.random.normal(k, shape) for k, shape in zip(
      keys, [(x.shape[1], width), (width, case['outputs'])])]
  out, now, number = [outputs(weights)], 0., 0
  starts = np.cumsum([0.] + [phase[0] for phase in case['phases']])
  for end in case['times'][1:]:
    phase = int(np.searchsorted(starts, now, side='right')) - 1
    _, T, y, a = case['phases'][phase]
    y, a = np.array(y), np.array(a, np.float32)
    steps = max(int(np.ceil((end - now) / case['step'] - 1e-6)), 8)
    h = (end - now) / steps
    rate = T / case['prior_std']**2
    scale = case['prior_std'] * np.sqrt(-np.expm1(-2 * rate * h))

    def flow(weights, h, y=y, a=a):
      g = jax.grad(loss)(weights, y, a)
      g_ = jax.grad(loss)([w - h * v for w, v in zip(weights, g)], y, a)
      return [w - h / 2 * (u + v) for w, u, v in zip(weights, g, g_)]

    def step(i, weights, rate=rate, scale=scale, h=h, number=number, flow=flow):
      weights = flow(weights, h / 2)
      k = jax.random.fold_in(jax.random.fold_in(keys[2], number), i)
      weights = [np.exp(-rate * h) * w + scale * jax.random.normal(k_, w.shape)
                 for w, k_ in zip(weights, jax.random.split(k))]
      return flow(weights, h / 2)

    weights = jax.lax.fori_loop(0, steps, step, weights)
    out.append(outputs(weights))
    now, number = end, number + 1
  return jnp.stack(out)


def main(_):
  for number, (name, case) in enumerate(CASES.items()):
    begin = time.time()
    keys = jax.random.split(jax.random.PRNGKey(number), _NETWORKS.value)
    f = np.asarray(jax.jit(lambda keys, case=case: jax.lax.map(
        lambda key: run(case, key), keys))(keys), np.float64)
    if not np.all(np.isfinite(f)):
      raise FloatingPointError(name)
    d = f - f.mean(0)
    count, variance = len(f), f.var(0, ddof=1)
    np.savez_compressed(
        os.path.join(_OUTPUT_DIR.value, f'{name}.npz'),
        case=json.dumps(case), x=inputs(case),
        mean=f.mean(0), mean_error=np.sqrt(variance / count),
        variance=variance, variance_error=np.sqrt(
            ((d**4).mean(0) - (d**2).mean(0)**2) / count))
    print(f'{name}: {count} networks, {time.time() - begin:.0f} s', flush=True)


if __name__ == '__main__':
  app.run(main)
