# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs of samples that stand for all."""

import jax
import numpy as np

from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels.evaluation import length

# Samples among which pairs are chosen.
_POOL_SIZE = 1000
# Pairs of samples of one draw, by angle.
_ANGLES = 18
_DUPLICATE = 1e-5  # Smallest angle of inputs that differ.


def _features(x: PyTree) -> np.ndarray:
  """Inputs as one vector for each sample."""
  return np.concatenate([np.asarray(a, float).reshape((len(a), -1))
                         for a in jax.tree_util.tree_leaves(x)], 1)


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Between rows of `a` and of `b`, `[n, m]`."""
  norms = (np.linalg.norm(v, axis=1) for v in (a, b))
  cosine = a @ b.T / np.maximum(np.outer(*norms), 1e-300)
  return np.arccos(np.clip(cosine, -1, 1)).astype(np.float32)


def _choose_pairs(angle: np.ndarray, in_order: np.ndarray, norm_a: np.ndarray,
                  norm_b: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
  """Pairs of vectors at all angles and with extreme norms.

  Args:
    angle: `[n, m]`.
    in_order: `[n * m]`, the same from small to large.
    norm_a: `[n]`.
    norm_b: `[m]`.
    rng: draws pairs.

  Returns:
    `[P, 2]`, indices of vectors.
  """
  size, (n, m) = _ANGLES, angle.shape
  if n * m <= 2 * size:
    return np.stack(np.meshgrid(np.arange(n), np.arange(m), indexing='ij'),
                    -1).reshape((-1, 2))

  # Exact duplicates are like a point with itself.
  high = in_order[-1]
  low = in_order[min(np.searchsorted(in_order, _DUPLICATE, 'right'),
                     n * m - 1)]
  levels = low + (high - low) * np.append([0., 1.], rng.uniform(size=size))
  above = np.clip(np.searchsorted(in_order, levels), 1, n * m - 1)
  neighbors = in_order[[above - 1, above]]
  nearest = np.where(levels - neighbors[0] < neighbors[1] - levels, *neighbors)
  extreme_a, extreme_b = ([np.argmin(v), np.argmax(v)]
                          for v in (norm_a, norm_b))
  # Those of several sizes that are nearly parallel, or opposite.
  apart = np.where(angle < low, np.pi, angle)
  alike = np.argsort(np.min(apart, 1), kind='stable')[:size // 2]
  opposite = np.argsort(-np.max(angle, 1), kind='stable')[:size // 2]
  return np.unique(
      [np.unravel_index(np.argmax(angle == a), angle.shape) for a in nearest] +
      list(zip(alike, np.argmin(apart[alike], 1))) +
      list(zip(opposite, np.argmax(angle[opposite], 1))) +
      list(zip(rng.randint(n, size=size // 2),
               rng.randint(m, size=size // 2))) +
      [(i, j) for i in extreme_a for j in extreme_b], axis=0)


def training_pairs(x: PyTree, count: int,
                   rng: np.random.RandomState) -> list[np.ndarray]:
  """Lists of pairs of training samples, each of all kinds, `count` times."""
  pool = rng.permutation(length(x))[:_POOL_SIZE]
  features = _features(take(x, pool))
  angle, norm = _angles(features, features), np.linalg.norm(features, axis=1)
  in_order = np.sort(angle, axis=None)
  out = []
  for k in range(count):
    # Kernels at different times are not symmetric: pairs in random order, the
    # nearest samples in both.
    other = rng.permutation(len(pool))
    i, j = _choose_pairs(angle[:, other], in_order, norm, norm[other], rng).T
    pairs = np.stack([pool[i], pool[other[j]]], 1)[:, ::-1 if k % 2 else 1]
    itself = rng.permutation(np.unique(pairs))[:_ANGLES // 2]
    out.append(np.concatenate([pairs, np.stack([itself, itself], 1)]))
  return out


def extremes(x: PyTree, others: PyTree) -> np.ndarray:
  """Samples in order of size, from both ends, and of angles with others.

  Args:
    x: samples.
    others: what they may be nearly parallel or opposite to.

  Returns:
    `[4, P]`, indices of a pool of samples, the most extreme ones first.
  """
  rng = np.random.RandomState(7)
  pools = [rng.permutation(length(a))[:_POOL_SIZE] for a in (x, others)]
  features = [_features(take(a, pool)) for a, pool in zip((x, others), pools)]
  norm, angle = np.linalg.norm(features[0], axis=1), _angles(*features)
  nearest = np.min(np.where(angle < _DUPLICATE, np.pi, angle), 1)
  return pools[0][[np.argsort(order, kind='stable') for order in (
      norm, -norm, nearest, -np.max(angle, 1))]]


def take(tree: PyTree, i: np.ndarray) -> PyTree:
  """Some of the samples."""
  return jax.tree_util.tree_map(lambda a: np.asarray(a)[i], tree)


def test_pairs(x_test: PyTree, x_train: PyTree,
               rng: np.random.RandomState) -> np.ndarray:
  """Pairs of test and training samples of all kinds, `[P, 2]`."""
  pools = [rng.permutation(length(x))[:_POOL_SIZE] for x in (x_test, x_train)]
  features = [_features(take(x, pool))
              for x, pool in zip((x_test, x_train), pools)]
  angle = _angles(*features)
  norms = [np.linalg.norm(f, axis=1) for f in features]
  i, j = _choose_pairs(angle, np.sort(angle, axis=None), norms[0], norms[1],
                       rng).T
  return np.stack([pools[0][i], pools[1][j]], 1)
