# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Small parts of images, whose kernels depend on time as those of images do.

They cost a fraction: the covariance of two images has all their pairs of
pixels. What they lack is found by errors that are measured on whole images.
"""

from typing import Optional

import jax
import numpy as np

from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels.sample import Training

# Pixels in each direction, at least and at most.
_SMALLEST, _LARGEST = 4, 16


def crop(x: PyTree, size: int) -> PyTree:
  """The middle of images, `size` pixels in each direction."""

  def middle(a):
    starts = [max(0, (s - size) // 2) for s in a.shape[1:-1]]
    return np.asarray(a)[(slice(None),) + tuple(
        slice(start, start + size) for start in starts)]

  return jax.tree_util.tree_map(middle, x)


def cropped(training: Training) -> Optional[tuple[Training, int]]:
  """The same kernel on crops, and their size.

  `None` if inputs have no pixels, or there is more to them than pixels, or the
  network wants them whole.
  """
  evaluator = training.evaluator
  if evaluator.vectors or evaluator.arrays or training.locations > 1:
    return None
  x, size = evaluator.x_train, _SMALLEST
  pixels = max(max(a.shape[1:-1], default=1)
               for a in jax.tree_util.tree_leaves(x))
  while size <= min(_LARGEST, pixels - 1):
    try:
      small = Training(evaluator.on(crop(x, size), {}), training.get,
                       training.start)
      if len(small.samples) == len(training.samples):
        return small, size
    except (TypeError, ValueError, ZeroDivisionError):
      pass  # Windows that are larger than crops.
    size *= 2
  return None
