# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Classes, of outputs that are Gaussian: which one is the largest."""

from typing import NamedTuple, Optional

import numpy as np
from scipy import special

# Half of the range of integration, outside of which less is than rounding, and
# the step in it for one output.
_RANGE, _STEP = 8.5, .6
_FEW = 9  # Outputs for which the step no longer has to be smaller.
_ITERATIONS = 12
_BYTES = 2**25
# Relative to the means, the smallest standard deviation.
_SMALLEST = 1e-12


class Classes(NamedTuple):
  """Targets as classes.

  Attributes:
    label: `[m]`, the class of each sample, a column of the outputs; -1 and 1 if
      there is one output.
    middle: between two classes, of one output.
  """
  label: np.ndarray
  middle: float


def of_targets(y: np.ndarray) -> Optional[Classes]:
  """Classes that targets stand for, or `None` if they are no classes.

  Args:
    y: `[m, ...]`. One output with two different values; two outputs, one of
      them larger; or more, one of which has the larger of two values.

  Returns:
    `Classes`, or `None`.
  """
  if y.ndim != 2:
    return None
  values = np.unique(y)
  if y.shape[1] == 1:
    if len(values) != 2:
      return None
    middle = float(np.mean(values))
    return Classes(np.sign(y[:, 0] - middle).astype(int), middle)
  one_hot = len(values) == 2 and np.all(np.sum(y == values[-1], 1) == 1)
  if one_hot or y.shape[1] == 2 and np.all(y[:, 0] != y[:, 1]):
    return Classes(np.argmax(y, 1), 0.)
  return None


def log_likelihood(mean: np.ndarray, variance: np.ndarray,
                   classes: Classes) -> np.ndarray:
  """Logarithm of the probability that a network finds the class of a sample.

  Args:
    mean: `[..., m, k]` of outputs, which are independent.
    variance: `[..., m]`, the same for all outputs of a sample.
    classes: of the samples.

  Returns:
    `[..., m]`.
  """
  if mean.shape[-1] == 1:
    margin = classes.label * (mean[..., 0] - classes.middle)
    return special.log_ndtr(margin / _std(margin, variance))
  index = np.broadcast_to(classes.label, mean.shape[:-1])[..., None]
  return log_probability_of_largest(mean, variance, index)


def log_probabilities(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
  """`[..., m, k]`, logarithm of the probability of each class to be largest."""
  return np.stack([
      log_probability_of_largest(mean, variance,
                                 np.full(mean.shape[:-1] + (1,), c))
      for c in range(mean.shape[-1])], -1)


def log_probability_of_largest(mean: np.ndarray, variance: np.ndarray,
                               index: np.ndarray) -> np.ndarray:
  r"""Logarithm of the probability that one of several Gaussians is largest.

  Given its own deviation :math:`z`, the others are below it independently,

  .. math::
    p_c = \int \varphi(z) \prod_{j \neq c}
    \Phi\Big(z + \frac{\mu_c - \mu_j}\sigma\Big) dz.

  The logarithm of the integrand is concave, its second derivative between -1
  and -k. So the trapezoidal rule about its maximum has a relative error of
  rounding, however small the probability is.

  Args:
    mean: `[..., k]` of independent Gaussians.
    variance: `[...]`, common to them.
    index: `[..., 1]`, which one.

  Returns:
    `[...]`.
  """
  k = mean.shape[-1]
  others = np.arange(k - 1) + (np.arange(k - 1) >= index)
  gaps = (np.take_along_axis(mean, index, -1) -
          np.take_along_axis(mean, others, -1))
  gaps = gaps / _std(gaps, variance[..., None])
  count = int(np.ceil(_RANGE / _STEP * max(k, _FEW)**.5))
  nodes, step = np.linspace(-_RANGE, _RANGE, 2 * count + 1, retstep=True)
  rows = gaps.reshape((-1, k - 1))
  some = max(1, _BYTES // (8 * len(nodes) * k))
  out = [_integrate(rows[i:i + some], nodes) for i in range(0, len(rows), some)]
  return np.minimum(
      np.concatenate(out) + np.log(step / (2 * np.pi)**.5), 0.).reshape(
          mean.shape[:-1])


def _integrate(gaps: np.ndarray, nodes: np.ndarray) -> np.ndarray:
  """Logarithm of the sum over nodes about the maximum of each row."""
  at = np.zeros((len(gaps), 1))
  # Newton's method from below: the derivative is convex and falls.
  for _ in range(_ITERATIONS):
    x = gaps + at
    slope = (2 / np.pi)**.5 / special.erfcx(-x / 2**.5)
    at += (np.sum(slope, 1, keepdims=True) - at) / (
        1 + np.sum(slope * (slope + x), 1, keepdims=True))
  z = at + nodes
  below = special.log_ndtr(z[..., None] + gaps[:, None])
  return special.logsumexp(np.sum(below, -1) - z**2 / 2, axis=-1)


def _std(margins: np.ndarray, variance: np.ndarray) -> np.ndarray:
  """Standard deviation, large enough to divide by."""
  return np.maximum(np.sqrt(variance),
                    _SMALLEST * np.max(np.abs(margins), initial=1e-200))
