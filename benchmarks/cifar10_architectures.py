# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Learning curves of three architectures on CIFAR-10 images.

A convolutional network with average pooling (in the manner of the Myrtle
networks), a residual network and a network with self-attention, each with
`s0 = 1.2 s`, learn two classes of 200 images. The first layer of all three is a
convolution of patches of pixels with a stride of their size, written as a
convolution of one pixel on images of patches: the same network, without
covariances of all pairs of 32 x 32 pixels, which take 8 MB for each pair of
images.

For each network the whole trajectory of the mean on 50 test images is computed,
at 30 times from initialisation to equilibrium, with the number of train-train
kernels that it took, its distance from the gradient flow of Neural Tangents at
the first time, and the estimated error, which includes the distance of the end
of the trajectory from the posterior.

    python benchmarks/cifar10_architectures.py --data_dir=/path/to/cifar10
"""

import csv
import os
import sys
import time

from absl import app
from absl import flags
import jax
import numpy as np

from nt_ndk import predict
from nt_ndk import stax

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'examples'))
import datasets  # pylint: disable=g-import-not-at-top,wrong-import-position

_DATA_DIR = flags.DEFINE_string(
    'data_dir', None, 'Folder with the original CIFAR-10 files.', required=True)
_N_TRAIN = flags.DEFINE_integer('n_train', 200, 'Training images.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 50, 'Images in a batch.')
_PATCH = flags.DEFINE_integer(
    'patch', 8, 'Pixels of the side of a patch; divides 32.')
_RTOL = flags.DEFINE_float('rtol', 1e-3, 'Relative tolerance.')
_ONLY = flags.DEFINE_string('only', None, 'Name of one architecture.')
_OUTPUT = flags.DEFINE_string('output', None, 'CSV file to write.')

_TEMPERATURE = .1
_STDS = dict(W_init_std=1.2, W_prior_std=1.)
_ATTENTION_STDS = {f'{name}_init_std': 1.2
                   for name in ('W_key', 'W_value', 'W_out', 'W_pos_emb')}


def _conv(strides=None, size=3):
  return stax.Conv(64, (size, size), strides, 'SAME', W_std=2**.5, **_STDS)


def _readout():
  return stax.serial(stax.GlobalAvgPool(), stax.Dense(1, W_std=.5, **_STDS))


def myrtle():
  """Convolutions and pooling, down to one pixel."""
  blocks, size = [], 32 // _PATCH.value
  while size > 1:
    blocks += [_conv(), stax.Relu(), stax.AvgPool((2, 2), (2, 2))]
    size //= 2
  return stax.serial(_conv(size=1), stax.Relu(), *blocks, _readout())


def residual():
  """Two residual blocks, the second after a convolution with strides."""
  block = lambda: stax.serial(
      stax.FanOut(2),
      stax.parallel(stax.serial(stax.Relu(), _conv(), stax.Relu(), _conv()),
                    stax.Identity()),
      stax.FanInSum())
  return stax.serial(
      _conv(size=1), block(), stax.Relu(), _conv(strides=(2, 2)), block(),
      stax.Relu(), _readout())


def attention():
  """Self-attention between patches, with positions.

  Scores of attention are of order one at initialisation.
  """
  layer = stax.GlobalSelfAttention(
      64, n_chan_key=64, n_chan_val=16, n_heads=8, W_out_std=.5, W_key_std=.5,
      W_query_std=.5, pos_emb_type='SUM',
      pos_emb_decay_fn=lambda d: 1 / (1 + d), **_ATTENTION_STDS)
  return stax.serial(_conv(size=1), stax.Relu(), layer, stax.Relu(),
                     _readout())


def _patches(x):
  """`[n, 3 * 32 * 32]`, channels first, to `[n, 32 / p, 32 / p, 3 * p**2]`."""
  p = _PATCH.value
  x = np.reshape(x, (len(x), 3, 32 // p, p, 32 // p, p))
  return x.transpose((0, 2, 4, 3, 5, 1)).reshape(
      (len(x), 32 // p, 32 // p, -1))


def main(argv):
  del argv
  jax.config.update('jax_enable_x64', True)
  x, y, x_test, y_test = datasets.load(
      'cifar10', [0, 3], _N_TRAIN.value, 50,
      data_dir=_DATA_DIR.value, same_norm=False)
  x, x_test = map(_patches, (x, x_test))
  t = y.size * np.geomspace(1e-5, 1e5, 30)
  rows = []
  for network in (myrtle, residual, attention):
    if _ONLY.value not in (None, network.__name__):
      continue
    kernel_fn = network()[2]
    begin = time.perf_counter()
    predict_fn = predict.markov_proximal_mse_ensemble(
        kernel_fn, x, y, _TEMPERATURE, rtol=_RTOL.value,
        batch_size=_BATCH_SIZE.value)
    mean = np.asarray(predict_fn(t=t, x_test=x_test, get='ndk'))
    seconds = time.perf_counter() - begin
    stats = {**predict_fn.stats, 'seconds': dict(predict_fn.stats['seconds'])}
    early = np.asarray(predict_fn(t=t[:5], x_test=x_test, get='ntk'))
    errors = np.mean((mean - y_test)**2, (1, 2))
    rows.append(dict(
        network=network.__name__, patch=_PATCH.value, rtol=_RTOL.value,
        train_train_kernels=stats['kernel_evaluations'], rank=stats['rank'],
        panels=stats['panels'], seconds=f'{seconds:.0f}',
        seconds_kernels=f'{stats["seconds"]["kernels"]:.0f}',
        seconds_solver=f'{stats["seconds"]["solver"]:.1f}',
        estimated_error=f'{stats["estimated_error"]:.1e}',
        first_from_gradient_flow=f'{np.max(np.abs(mean[0] - early[0])):.1e}',
        largest_mean=f'{np.max(np.abs(mean)):.2f}',
        test_error_first=f'{errors[0]:.3f}',
        test_error_best=f'{np.min(errors):.3f}',
        test_error_last=f'{errors[-1]:.3f}'))
    print(rows[-1], flush=True)
  if _OUTPUT.value:
    with open(_OUTPUT.value, 'w', newline='') as f:
      writer = csv.DictWriter(f, rows[0])
      writer.writeheader()
      writer.writerows(rows)


if __name__ == '__main__':
  app.run(main)
