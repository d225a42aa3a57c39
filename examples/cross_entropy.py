# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Ten classes of digits by cross-entropy, along learning.

Draws of infinitely wide networks learn the digits of scikit-learn with softmax
and cross-entropy, beside them finite networks with the same loss, and
infinitely wide ones with the squared loss. Accuracy, and how far the confidence
of the ensemble and of single networks is from it, from the first gradients to
the posterior.

    python examples/cross_entropy.py
    python examples/cross_entropy.py --temperature=.005 --n_train=200

Goes past Avidan, Li and Sompolinsky, arXiv:2309.04522, whose loss is quadratic.
"""

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
from matplotlib import pyplot as plt
import numpy as np
from sklearn import datasets as sklearn_datasets

from nt_ndk import langevin
from nt_ndk import predict
from nt_ndk import stax
import reports
import tasks

_N_TRAIN = flags.DEFINE_integer('n_train', 60, 'Training images.',
                                lower_bound=10)
_N_TEST = flags.DEFINE_integer('n_test', 150, 'Test images.', lower_bound=10)
_TEMPERATURE = flags.DEFINE_float('temperature', .02, 'Temperature T.')
_N_DRAWS = flags.DEFINE_integer('n_draws', 100, 'Infinitely wide networks.',
                                lower_bound=2)
_N_NETWORKS = flags.DEFINE_integer(
    'n_networks', 30, 'Finite networks; 0 is none.', lower_bound=0)
_WIDTH = flags.DEFINE_integer('width', 512, 'Units of their hidden layer.',
                              lower_bound=1)
_N_TIMES = flags.DEFINE_integer('n_times', 25, 'Times of the curves.',
                                lower_bound=4)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of images and networks.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'cross_entropy_output',
    'Folder for the picture and the table.')

_CLASSES, _BINS = 10, 10
# Last time of finite networks, in units of the loss.
_FINITE_END = 10.


def cross_entropy(f, y):
  return -jnp.sum(jax.nn.log_softmax(f)[jnp.arange(len(y)), y])


def data():
  """Images and labels, `x, y, x_test, y_test`."""
  x, y = sklearn_datasets.load_digits(return_X_y=True)
  x = (x - x.mean()) / x.std()
  order = np.random.default_rng(_SEED.value).permutation(len(x))
  n = _N_TRAIN.value
  train, test = order[:n], order[n:n + _N_TEST.value]
  return x[train], y[train], x[test], y[test]


def calibration_error(probability, y):
  """Mean distance of confidence and accuracy, in bins of confidence.

  Args:
    probability: `[..., m, classes]`; leading axes are pooled.
    y: `[m]`, labels.
  """
  confidence = np.max(probability, -1).ravel()
  right = (np.argmax(probability, -1) == y).ravel()
  place = np.minimum((_BINS * confidence).astype(int), _BINS - 1)
  gap = np.bincount(place, confidence - right, _BINS)
  return np.sum(np.abs(gap)) / len(right)


def main(argv):
  T = _TEMPERATURE.value
  tasks.start(argv, T)
  x, y, x_test, y_test = data()
  stds = dict(W_init_std=1.5, W_prior_std=1.)
  init_fn, apply_fn, kernel_fn = stax.serial(
      stax.Dense(_WIDTH.value, b_std=.2, **stds), stax.Relu(),
      stax.Dense(_CLASSES, **stds))
  key = jax.random.PRNGKey(_SEED.value)
  t = np.geomspace(1e-3, 5 / T, _N_TIMES.value)
  sample_fn = predict.markov_proximal_ensemble(
      cross_entropy, kernel_fn, x, y, T, output_shape=(_CLASSES,))
  some = sample_fn(key, _N_DRAWS.value, t, x_test)
  single = np.asarray(jax.nn.softmax(some.draws))  # [draws, T, m, classes]
  together = single.mean(0)
  one_hot = np.eye(_CLASSES)[y] - 1 / _CLASSES
  squared = np.asarray(predict.markov_proximal_mse_ensemble(
      kernel_fn, x, one_hot, T, one_hot.size)(t=t, x_test=x_test, get='ndk'))
  right = lambda a: np.argmax(a, -1) == y_test
  of_label = np.arange(len(y_test)), y_test
  # Of a label's output over the mean of all.
  margin = lambda a: (a - a.mean(-1, keepdims=True))[:, of_label[0],
                                                     of_label[1]].mean(-1)
  table = dict(
      time=t, accuracy=right(together).mean(-1),
      accuracy_single=right(single).mean((0, 2)),
      accuracy_squared=right(squared).mean(-1),
      calibration=np.array([calibration_error(p, y_test) for p in together]),
      calibration_single=np.array([
          calibration_error(single[:, i], y_test) for i in range(len(t))]),
      margin=margin(some.mean))
  when = np.geomspace(.1, _FINITE_END, 6)
  if _N_NETWORKS.value:
    finite = langevin.markov_proximal_ensemble(
        init_fn, apply_fn, x, y, T, loss=cross_entropy)(
            key, _N_NETWORKS.value, when, x_test)
    theory = sample_fn(key, _N_DRAWS.value, when, x_test)
    z = (finite.mean - theory.mean) / np.hypot(finite.mean_error,
                                               theory.mean_error)
    print(f'{_N_NETWORKS.value} networks of width {_WIDTH.value} minus theory: '
          f'root mean square {np.sqrt(np.mean(z**2)):.2f} standard errors.')
  with reports.style():
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout='constrained')
    for name, label, color in (
        ('', 'cross-entropy, ensemble', '#20306b'),
        ('_single', 'cross-entropy, single networks', '#3a76c4'),
        ('_squared', 'squared loss, ensemble', '#c8611a')):
      axes[0].plot(t, table[f'accuracy{name}'], color=color, lw=2, label=label)
      if name != '_squared':
        axes[1].plot(t, table[f'calibration{name}'], color=color, lw=2)
    axes[2].plot(t, table['margin'], color='#20306b', lw=2,
                 label='infinite width')
    if _N_NETWORKS.value:
      axes[0].plot(when, right(finite.mean).mean(-1), 'o', color='#222222',
                   ms=4.5, label=f'finite networks, width {_WIDTH.value}')
      axes[2].plot(when, margin(finite.mean), 'o', color='#222222', ms=4.5,
                   label=f'finite networks, width {_WIDTH.value}')
    for ax, title in zip(axes, (
        'Accuracy on new images', 'Confidence minus accuracy, in size',
        "Mean output of the label, above others'")):
      ax.set(xscale='log', xlabel='training time $t$', title=title)
      ax.axvline(.1 / T, color='#999999', lw=1, ls=(0, (2, 3)))
    axes[0].set_ylim(0., 1.3)
    axes[0].legend(loc='upper left')
    axes[2].legend()
    figure.suptitle(
        f'{len(x)} digits of ten classes, one hidden ReLU layer, T = {T:g}; '
        'weights diffuse to the right of the dotted lines', x=.01, ha='left',
        fontsize=12)
  print(f'Accuracy at the end: ensemble {table["accuracy"][-1]:.3f}, single '
        f'networks {table["accuracy_single"][-1]:.3f}, squared loss '
        f'{table["accuracy_squared"][-1]:.3f}.')
  reports.write(_OUTPUT_DIR.value, 'cross_entropy', figure, table)


if __name__ == '__main__':
  app.run(main)
