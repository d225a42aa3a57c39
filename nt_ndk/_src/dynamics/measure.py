# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What kernels are integrated with along learning."""

from typing import NamedTuple, Sequence

import numpy as np

# What may be left out of a measure.
_NEGLIGIBLE = .05


class Measure(NamedTuple):
  """Points in time that stand for a measure, with a vector at each.

  Attributes:
    tau: `[points]`, diffusion times.
    vectors: `[points, n, k]`.
  """
  tau: np.ndarray
  vectors: np.ndarray


def together(measures: Sequence[Measure]) -> Measure:
  """The sum of measures."""
  tau, vectors = zip(*measures)
  return Measure(np.concatenate(tau), np.concatenate(vectors))


def most(measure: Measure) -> Measure:
  """The points that matter, for what kernels make of it to two digits."""
  size = np.max(np.abs(measure.vectors), (1, 2))
  order = np.argsort(size)
  few = np.cumsum(size[order]) < _NEGLIGIBLE * np.sum(size)
  some = np.sort(order[~few])
  return Measure(measure.tau[some], measure.vectors[some])
