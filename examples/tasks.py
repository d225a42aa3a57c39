# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What examples have in common: how they start, their flags and networks."""

from absl import app
from absl import flags
import jax
import numpy as np

import datasets
from nt_ndk import stax

FLAGS = flags.FLAGS


def start(argv, *temperatures):
  """Refuses stray arguments and wrong temperatures, and sets float64."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  if not all(t > 0 for t in temperatures):
    raise app.UsageError(
        'A temperature must be positive: without noise there is no diffusive '
        f'phase. Got {", ".join(map(str, temperatures))}.')
  jax.config.update('jax_enable_x64', True)


def define_data_flags(n_train: int, n_test: int):
  """Defines flags that choose two classes of images, and the seed."""
  flags.DEFINE_enum(
      'dataset', 'digits', datasets.DATASETS, 'Images to learn from.')
  flags.DEFINE_string(
      'data_dir', '', 'Folder with the original files of `mnist` or `cifar10`.')
  flags.DEFINE_list('classes', ['4', '9'], 'The two labels to tell apart.')
  flags.DEFINE_integer('n_train', n_train, 'Training samples.', lower_bound=1)
  flags.DEFINE_integer(
      'n_test', n_test, 'Test samples, or all there are if fewer.',
      lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Seed of the draw of samples and networks.')


def data(classes=None, **kwargs):
  """Inputs and targets for training and test, as the flags say.

  Args:
    classes: two labels, instead of those of the flag.
    **kwargs: of `datasets.load`.

  Returns:
    See `datasets.load`.
  """
  return datasets.load(
      FLAGS.dataset, classes or FLAGS.classes, FLAGS.n_train, FLAGS.n_test,
      data_dir=FLAGS.data_dir, seed=FLAGS.seed, **kwargs)


def data_title() -> str:
  return (f'{FLAGS.dataset} {" vs ".join(FLAGS.classes)}, {FLAGS.n_train} '
          'images')


def test_errors(predict_fn, t, x_test, y_test):
  """Mean squared errors of the ensemble mean.

  Args:
    predict_fn: of `markov_proximal_mse_ensemble`.
    t: `(T,)`, times.
    x_test: test inputs.
    y_test: `(n_test, 1)`, their targets.

  Returns:
    Errors `(T,)` of the learning curve, and those of the NTK and the NNGP.
  """
  ntk, nngp, curve = (
      np.mean((np.asarray(predict_fn(t=when, x_test=x_test, get=get)) -
               y_test)**2, axis=(-2, -1))
      for when, get in ((None, 'ntk'), (None, 'ndk'), (t, 'ndk')))
  return curve, ntk, nngp


def hidden_layers(activation, depth, W_init_std, W_prior_std, W_std=None,
                  width=512):
  """Layers of a fully connected network before the last one.

  Args:
    activation: "relu" or "erf".
    depth: hidden layers.
    W_init_std: standard deviation of all initial weights.
    W_prior_std: of all weights under the prior.
    W_std: multiplier of hidden weights; `None` is sqrt(2) for ReLU, else 1.
    width: units of a hidden layer.

  Returns:
    A list of layers, to be passed to `stax.serial`.
  """
  phi, default = {'relu': (stax.Relu, 2**.5), 'erf': (stax.Erf, 1.)}[activation]
  stds = dict(W_init_std=W_init_std, W_prior_std=W_prior_std)
  return [layer for _ in range(depth)
          for layer in (stax.Dense(width, W_std or default, **stds), phi())]


def network(activation, depth, W_init_std, W_prior_std, W_std=None, width=512,
            readout_std=1.):
  """A fully connected network with one output.

  Args:
    activation: of hidden layers, as are the next five: see `hidden_layers`.
    depth: the same.
    W_init_std: the same, and that of the last layer.
    W_prior_std: the same.
    W_std: the same, of hidden layers alone.
    width: the same.
    readout_std: multiplier of the last layer.

  Returns:
    `(init_fn, apply_fn, kernel_fn)`.
  """
  return stax.serial(
      *hidden_layers(activation, depth, W_init_std, W_prior_std, W_std, width),
      stax.Dense(1, readout_std, W_init_std=W_init_std,
                 W_prior_std=W_prior_std))
