# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Choosing everything by gradients, and whether to stop before equilibrium.

Temperature, initial and prior standard deviations of each layer, and the time
to stop are chosen by SciPy's L-BFGS in their logarithms, by the squared error
on validation data. Beside it, on the same splits of the data:

*  `end`: the same at equilibrium, of temperature and prior alone;
*  `evidence`: the same chosen by the evidence of the training data;
*  `evidence_all`: by the evidence of training and validation data, from all of
   which it then learns;
*  `ntk`: gradient flow in the NTK without noise, its time chosen by validation;
*  `ntk_tuned`: the same, initial standard deviations of the layers chosen too;
*  `grid`: the best on validation data of a grid of temperatures, of initial
   standard deviations, the same for all layers, and of times.

The table has errors on test data, a row for each split, and the phase in which
`time` stops: 0 gradient-driven, 1 diffusive, 2 equilibrium.

    python examples/choose_hyperparameters.py
    python examples/choose_hyperparameters.py --n_splits=3 --tasks=diabetes
"""

from absl import app
from absl import flags
import jax
from jax import flatten_util
import jax.numpy as jnp
from matplotlib import pyplot as plt
import numpy as np
from scipy import optimize
from sklearn import datasets as sklearn_datasets

from nt_ndk import predict
from nt_ndk import stax
import reports
import tasks

_TASKS = flags.DEFINE_list('tasks', ['digits', 'diabetes'], 'Data.')
_N_TRAIN = flags.DEFINE_integer('n_train', 100, 'Training samples.')
_N_VALID = flags.DEFINE_integer('n_valid', 100, 'Validation samples.')
_N_TEST = flags.DEFINE_integer('n_test', 240, 'Test samples.')
_N_SPLITS = flags.DEFINE_integer('n_splits', 10, 'Splits.', lower_bound=2)
_MAXITER = flags.DEFINE_integer('maxiter', 12, 'Iterations of L-BFGS.')
_RTOL = flags.DEFINE_float('rtol', 1e-3, 'Relative tolerance.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'choose_hyperparameters_output',
    'Folder for the picture and the table.')

_METHODS = dict(
    time='L-BFGS on validation:\n$T$, $s_0$, $s$ of each layer, $t$',
    end='the same, at equilibrium:\n$T$, $s$ of each layer',
    evidence='evidence of training data',
    evidence_all='evidence of training and\nvalidation data (twice as many)',
    ntk='NTK, time by validation',
    ntk_tuned='NTK, time and $s_0$\nby validation',
    grid='grid on validation:\n$T$, $s_0$, $t$')
_COLORS = dict(digits='#20306b', diabetes='#c8611a')
_LAYERS = 2
# Of logarithms, so that nothing runs away where an error is flat.
_BOUNDS = dict(temperature=(-7., 3.), std=(-2., 1.5), t=(-3., 16.))


def load(task):
  """Inputs and targets, `(samples, features)` and `(samples, 1)`."""
  if task == 'digits':
    x, y = sklearn_datasets.load_digits(return_X_y=True)
    x, y = (x - x.mean(0)) / x.std(), np.where(y % 2, 1., -1.)
  elif task == 'diabetes':
    x, y = sklearn_datasets.load_diabetes(return_X_y=True)
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
  else:
    raise app.UsageError(f'Tasks are digits and diabetes, got {task}.')
  return x, y[:, None]


def network(stds):
  """Kernel function of a network; `stds` has those of each layer."""
  layer = lambda i, width: stax.Dense(
      width, 1.5, .2, W_init_std=stds['s0'][i], W_prior_std=stds['s'][i])
  return stax.serial(layer(0, 512), stax.Erf(), layer(1, 1))[2]


def minimise(loss, start, *data):
  """Minimum of a function of logarithms, by its gradient.

  Args:
    loss: of a dictionary of arrays, and of `data`; returns value and gradient.
    start: where to begin; keys are those of `_BOUNDS`, but for `s0` and `s`.
    *data: passed on.

  Returns:
    The dictionary there.
  """
  flat, restore = flatten_util.ravel_pytree(start)
  bounds = [_BOUNDS[k if k in _BOUNDS else 'std']
            for k in sorted(start) for _ in range(np.size(start[k]))]

  def value_and_slope(logs):
    value, slope = loss(restore(jnp.asarray(logs)), *data)
    return float(value), np.asarray(flatten_util.ravel_pytree(slope)[0])

  best = optimize.minimize(value_and_slope, flat, jac=True, method='L-BFGS-B',
                           bounds=bounds, options=dict(maxiter=_MAXITER.value))
  return restore(jnp.asarray(best.x))


def squared_error(mean, y):
  return jnp.mean((mean - y)**2)


def posterior(logs):
  """Standard deviations and temperature; initial ones are forgotten."""
  return (dict(s0=jnp.ones(_LAYERS), s=jnp.exp(logs['s'])),
          jnp.exp(logs['temperature']))


def trajectory(logs):
  """Standard deviations, temperature and time."""
  return (dict(s0=jnp.exp(logs['s0']), s=jnp.exp(logs['s'])),
          jnp.exp(logs['temperature']), jnp.exp(logs['t']))


@jax.jit
@jax.value_and_grad
def evidence(logs, x, y):
  """Negative logarithm, for a sample."""
  stds, temperature = posterior(logs)
  return -predict.log_marginal_likelihood(network(stds), x, y,
                                          temperature) / len(x)


@jax.jit
def ntk_mean(logs, x, y, x_new):
  """Gradient flow without noise."""
  kernel_fn = network(dict(s0=jnp.exp(logs['s0']), s=jnp.ones(_LAYERS)))
  evals, evecs = jnp.linalg.eigh(kernel_fn(x, x, 'ntk'))
  learned = -jnp.expm1(-evals * jnp.exp(logs['t']) / y.size) / evals
  return kernel_fn(x_new, x, 'ntk') @ (evecs @ (
      learned[:, None] * (evecs.T @ y)))


def choose(x, y, x_valid, y_valid):
  """Chooses by all methods.

  Returns:
    Predictors, functions of inputs; `mean_fn`; and what is passed to it by
    `time`: standard deviations, temperature, and time.
  """
  mean_fn = predict.differentiable_mean(network, x, y, rtol=_RTOL.value)
  start = dict(temperature=np.log(.3), s0=np.zeros(_LAYERS),
               s=np.zeros(_LAYERS), t=np.log(len(x)))
  late = {k: start[k] for k in ('temperature', 's')}
  out = {}

  def error_of(numbers):
    return jax.value_and_grad(lambda logs: squared_error(
        mean_fn(*numbers(logs), x_test=x_valid), y_valid))

  best = trajectory(minimise(error_of(trajectory), start))
  out['time'] = lambda z: mean_fn(*best, z)
  at_end = posterior(minimise(error_of(posterior), late))
  out['end'] = lambda z: mean_fn(*at_end, None, z)

  for name, data in (('evidence', (x, y)), ('evidence_all', (
      np.concatenate([x, x_valid]), np.concatenate([y, y_valid])))):
    stds, temperature = posterior(minimise(evidence, late, *data))
    predict_fn = predict.markov_proximal_mse_ensemble(network(stds), *data,
                                                      float(temperature))
    out[name] = lambda z, f=predict_fn: f(x_test=z, get='ndk')

  flow = lambda logs, z: ntk_mean(logs, x, y, z)
  times = np.geomspace(1e-1, 1e6, 40)
  stop = min((dict(s0=start['s0'], t=np.log(t)) for t in times),
             key=lambda logs: squared_error(flow(logs, x_valid), y_valid))
  out['ntk'] = lambda z: flow(stop, z)
  tuned = minimise(jax.value_and_grad(lambda logs: squared_error(
      flow(logs, x_valid), y_valid)), stop)
  out['ntk_tuned'] = lambda z: flow(tuned, z)

  found = []
  for temperature in (.03, .1, .3, 1.):
    for s0 in (.5, 1., 2.):
      numbers = dict(s0=np.full(_LAYERS, s0), s=np.ones(_LAYERS)), temperature
      errors = np.mean((mean_fn(*numbers, times, x_valid) - y_valid)**2, (1, 2))
      found.append((np.min(errors), *numbers, times[np.argmin(errors)]))
  of_grid = min(found, key=lambda a: a[0])[1:]
  out['grid'] = lambda z: mean_fn(*of_grid, z)
  return out, mean_fn, best


def phase(stds, temperature, t, x, y):
  """Number of the phase of learning that a time belongs to."""
  phases = predict.markov_proximal_mse_ensemble(
      network(stds), x, y, float(temperature), rtol=_RTOL.value).phases()
  return int(t > phases.diffusive) + int(t > phases.equilibrium)


def learn(task):
  """All methods on all splits of a task.

  Returns:
    Errors of each method, phases in which `time` stops, and the learning curve
    of the first split: times, errors on test and validation data, and the time
    chosen.
  """
  data = load(task)
  errors, phases, curve = {name: [] for name in _METHODS}, [], ()
  ends = np.cumsum([_N_TRAIN.value, _N_VALID.value, _N_TEST.value])
  for split in range(_N_SPLITS.value):
    order = np.random.RandomState(split).permutation(len(data[0]))
    (x, x_valid, x_test), (y, y_valid, y_test) = (
        np.split(a[order], ends)[:3] for a in data)
    predictors, mean_fn, (stds, temperature, t) = choose(x, y, x_valid, y_valid)
    for name, f in predictors.items():
      errors[name].append(float(squared_error(f(x_test), y_test)))
    phases.append(phase(stds, temperature, t, x, y))
    print(f'{task} {split}: T = {temperature:.3g}, s0 = '
          f'{np.round(stds["s0"], 2)}, s = {np.round(stds["s"], 2)}, t = '
          f'{t:.3g} (phase {phases[-1]});', ', '.join(
              f'{name} {e[-1]:.3f}' for name, e in errors.items()), flush=True)
    if not split:
      times = np.geomspace(.1, 1e6, 60)
      curve = times, *(
          np.mean((mean_fn(stds, temperature, times, z) - w)**2, (1, 2))
          for z, w in ((x_test, y_test), (x_valid, y_valid))), float(t)
  return {name: np.array(e) for name, e in errors.items()}, phases, curve


def plot(results, curves):
  """Draws errors of all methods, and a learning curve of each task.

  Args:
    results: dictionary from task to one of errors of all splits, by method.
    curves: dictionary from task to times, errors, and the time chosen.

  Returns:
    The figure.
  """
  with reports.style():
    figure, axes = plt.subplots(
        len(results), 2, figsize=(11, 3.7 * len(results)),
        layout='constrained', squeeze=False)
    for row, (task, errors) in zip(axes, results.items()):
      color, names = _COLORS[task], list(_METHODS)
      for i, name in enumerate(names):
        mean = np.mean(errors[name])
        row[0].plot(errors[name], np.full(len(errors[name]), i), '.',
                    color=color, alpha=.3, ms=5, mew=0)
        row[0].errorbar(mean, i, xerr=standard_error(errors[name]), fmt='o',
                        color=color, ms=6, capsize=3)
      row[0].axvline(np.mean(errors['time']), color='#999999', lw=.8)
      row[0].set(xlabel='squared error on test data', title=task)
      row[0].set_yticks(range(len(names)), _METHODS.values(), fontsize=8.5)
      row[0].invert_yaxis()
      t, curve, valid, stop = curves[task]
      row[1].plot(t, curve, color=color, lw=2, label='test')
      row[1].plot(t, valid, '--', color=color, lw=1.4, label='validation')
      row[1].axvline(stop, color='#999999', lw=.8, label='chosen time')
      row[1].set(xscale='log', xlabel='time $t$', ylabel='squared error',
                 title='one split, with the numbers chosen',
                 ylim=(.9 * min(np.min(curve), np.min(valid)), 1.1 * max(
                     curve[-1], valid[-1], 1.)))
      row[1].legend(fontsize=9)
  return figure


def standard_error(values):
  return np.std(values, ddof=1) / len(values)**.5


def report(task, errors, phases):
  """Prints means over splits with their standard errors."""
  print(f'\n{task}: squared error on test data, and how much more than `time`')
  for name, e in errors.items():
    more = e - errors['time']
    print(f'  {name:13} {np.mean(e):.4f} +- {standard_error(e):.4f}    '
          f'{np.mean(more):+.4f} +- {standard_error(more):.4f}')
  print(f'  stops in the diffusive phase in {phases.count(1)} of {len(phases)} '
        'splits.\n', flush=True)


def main(argv):
  tasks.start(argv)
  columns, results, curves = {'split': range(_N_SPLITS.value)}, {}, {}
  for task in _TASKS.value:
    errors, phases, curves[task] = learn(task)
    results[task] = errors
    report(task, errors, phases)
    columns.update({f'{task}_{name}': e for name, e in errors.items()})
    columns[f'{task}_phase'] = phases
  reports.write(_OUTPUT_DIR.value, 'choose_hyperparameters',
                plot(results, curves), columns)


if __name__ == '__main__':
  app.run(main)
