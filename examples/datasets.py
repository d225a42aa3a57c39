# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Two-class image tasks for the examples.

`digits` comes with scikit-learn. `mnist` and `cifar10` are read from a local
folder in the formats in which their authors distribute them; nothing is
downloaded.
"""

import gzip
import os
import struct

import numpy as np

DATASETS = ('digits', 'mnist', 'cifar10')

_CIFAR10_RECORD = 1 + 3 * 32 * 32


def load(name, classes, n_train, n_test, data_dir='', seed=0, same_norm=True):
  r"""Loads a binary classification task as flat, centred, normalised inputs.

  The mean of the training images is subtracted from every image, and each is
  then scaled so that :math:`|x|^2` equals its dimension.

  Args:
    name:
      one of `DATASETS`.
    classes:
      the two labels `(a, b)`; targets are -1 for `a` and +1 for `b`.
    n_train:
      number of training samples, drawn at random without replacement.
    n_test:
      number of test samples, or all there are if there are fewer.
    data_dir:
      folder that holds the files of `mnist` or `cifar10`, directly or in a
      subfolder of the dataset's name. Not used by `digits`.
    seed:
      seed of the draw.
    same_norm:
      whether to scale each image; otherwise all are scaled by one factor.

  Returns:
    `(x_train, y_train, x_test, y_test)`, float64 arrays of shapes
    `(n_train, dim)`, `(n_train, 1)`, `(n_test, dim)` and `(n_test, 1)`.

  Raises:
    FileNotFoundError: if a file of the dataset is missing.
    ValueError: if a file is malformed, or the task cannot be drawn from it.
  """
  if name not in DATASETS:
    raise ValueError(f'`name` must be one of {DATASETS}, got {name!r}.')
  classes = tuple(int(c) for c in classes)
  if len(classes) != 2 or classes[0] == classes[1]:
    raise ValueError(f'`classes` must be two different labels, got {classes}.')
  if n_train < 1 or n_test < 1:
    raise ValueError('`n_train` and `n_test` must be positive, got '
                     f'{n_train} and {n_test}.')

  rng = np.random.default_rng(seed)
  if name == 'digits':
    images, labels = _select(*_digits(), classes)
    order = rng.permutation(len(images))
    train, test = order[:n_train], order[n_train:][:n_test]
    parts = (images[train], labels[train]), (images[test], labels[test])
    available = len(images) - 1  # At least one sample is left for the test.
  else:
    read = _mnist if name == 'mnist' else _cifar10
    train = _select(*read(data_dir, True), classes)
    test = _select(*read(data_dir, False), classes)
    available = len(train[0])
    parts = tuple(
        tuple(a[order] for a in part)
        for part, order in ((train, rng.permutation(len(train[0]))[:n_train]),
                            (test, rng.permutation(len(test[0]))[:n_test])))

  if n_train > available:
    raise ValueError(f'`n_train` must be at most {available} for classes '
                     f'{classes} of {name}, got {n_train}.')

  (x_train, y_train), (x_test, y_test) = parts
  mean = x_train.mean(axis=0)
  x_train, x_test = x_train - mean, x_test - mean
  if same_norm:
    x_train, x_test = _normalise(x_train), _normalise(x_test)
  else:
    scale = np.sqrt(np.mean(x_train**2))
    x_train, x_test = x_train / scale, x_test / scale
  y_train, y_test = (
      np.where(y == classes[1], 1., -1.)[:, None] for y in (y_train, y_test))
  return x_train, y_train, x_test, y_test


def in_their_span(x_train, x_test):
  """Rotates flat inputs into the space that they span.

  Inner products of inputs are all that a fully connected network knows of them,
  of any width, if its weights are drawn alike in all directions: learning is
  the same, with as many inputs as there are images, if these are fewer than
  pixels.

  Args:
    x_train: `(n_train, dim)`.
    x_test: `(n_test, dim)`.

  Returns:
    The two, of dimension `min(dim, n_train + n_test)`, scaled so that inner
    products divided by the dimension are what they were.
  """
  inputs = np.concatenate([x_train, x_test])
  _, r = np.linalg.qr(inputs.T)
  rotated = r.T * (r.shape[0] / inputs.shape[1])**.5
  return rotated[:len(x_train)], rotated[len(x_train):]


def images(x, side):
  """Flat inputs as images, averaged over blocks of pixels.

  Args:
    x:
      inputs of `load`, of shape `(n, dim)`.
    side:
      of blocks, pixels; divides the side of the images.

  Returns:
    Images of shape `(n, height, width, channels)`, whose mean square is 1.

  Raises:
    ValueError: if `side` does not divide the side of the images.
  """
  n, dim = x.shape
  channels = 3 if dim == _CIFAR10_RECORD - 1 else 1
  size = round((dim / channels)**.5)
  if size % side:
    raise ValueError(f'Blocks of {side} x {side} pixels do not fill images of '
                     f'{size} x {size}.')
  blocks = x.reshape((n, channels, size // side, side, size // side, side))
  x = np.moveaxis(blocks.mean((3, 5)), 1, -1)
  return x / np.sqrt(np.mean(x**2, (1, 2, 3), keepdims=True))


def _normalise(x):
  norm = np.linalg.norm(x, axis=1, keepdims=True)
  if not np.all(norm > 0):
    raise ValueError('An image equals the mean image and cannot be normalised; '
                     'use more training samples.')
  return x * np.sqrt(x.shape[1]) / norm


def _select(images, labels, classes):
  missing = sorted(set(classes) - set(labels.tolist()))
  if missing:
    raise ValueError(f'No image has the label(s) {missing}; labels found: '
                     f'{sorted(set(labels.tolist()))}.')
  keep = np.isin(labels, classes)
  images = images[keep].reshape(np.count_nonzero(keep), -1)
  return images.astype(np.float64), labels[keep]


def _digits():
  from sklearn import datasets  # pylint: disable=g-import-not-at-top
  digits = datasets.load_digits()
  return digits.data, digits.target


def _folders(data_dir, *subfolders):
  data_dir = data_dir or '.'
  return [data_dir] + [os.path.join(data_dir, s) for s in subfolders]


def _mnist(data_dir, is_train):
  prefix = 'train' if is_train else 't10k'
  images = _read_idx(data_dir, f'{prefix}-images-idx3-ubyte.gz', n_dims=3)
  labels = _read_idx(data_dir, f'{prefix}-labels-idx1-ubyte.gz', n_dims=1)
  if len(images) != len(labels):
    raise ValueError(f'MNIST {prefix}: {len(images)} images but {len(labels)} '
                     'labels.')
  return images, labels


def _read_idx(data_dir, filename, n_dims):
  """Reads a gzip-compressed IDX file of unsigned bytes."""
  folders = _folders(data_dir, 'mnist')
  paths = [os.path.join(f, filename) for f in folders]
  path = next((p for p in paths if os.path.isfile(p)), None)
  if path is None:
    raise FileNotFoundError(
        f'{filename} is not in {" or ".join(repr(f) for f in folders)}. It is '
        'one of the four gzip files of the MNIST database of handwritten '
        'digits (Y. LeCun, C. Cortes, C. Burges); download it under this name '
        'and pass its folder as `--data_dir`.')
  with gzip.open(path, 'rb') as f:
    content = f.read()
  start = 4 + 4 * n_dims
  if len(content) < start or content[:4] != bytes((0, 0, 8, n_dims)):
    raise ValueError(f'{path} is not an IDX file of {n_dims}-dimensional '
                     'unsigned bytes.')
  shape = struct.unpack(f'>{n_dims}I', content[4:start])
  data = np.frombuffer(content, np.uint8, offset=start)
  if data.size != np.prod(shape):
    raise ValueError(f'{path} holds {data.size} bytes of data, its header '
                     f'says {shape}.')
  return data.reshape(shape)


def _cifar10(data_dir, is_train):
  """Reads records of one label byte and 3072 pixel bytes."""
  marks = ('train', 'data_batch') if is_train else ('test',)
  folders = _folders(data_dir, 'cifar10', 'cifar-10-batches-bin')
  paths = []
  for folder in folders:
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    paths = [os.path.join(folder, name) for name in names
             if name.endswith('.bin') and any(m in name for m in marks)]
    if paths:
      break
  else:
    wanted = 'data_batch_1.bin to data_batch_5.bin' if is_train else (
        'test_batch.bin')
    raise FileNotFoundError(
        f'{wanted} (any *.bin with {" or ".join(map(repr, marks))} in its '
        f'name) not in {" or ".join(repr(f) for f in folders)}. Download the '
        '"binary version" of CIFAR-10 (A. Krizhevsky, University of Toronto; '
        'cifar-10-binary.tar.gz), unpack it, and pass its folder as '
        '`--data_dir`.')
  records = []
  for path in paths:
    data = np.fromfile(path, np.uint8)
    if data.size == 0 or data.size % _CIFAR10_RECORD:
      raise ValueError(f'{path} holds {data.size} bytes, not a positive '
                       f'multiple of {_CIFAR10_RECORD}, the size of a record '
                       'of the CIFAR-10 binary version.')
    records.append(data.reshape(-1, _CIFAR10_RECORD))
  records = np.concatenate(records)
  return records[:, 1:], records[:, 0]
