# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Means and variances of an ensemble that comes in parts."""

from typing import NamedTuple

from jax.typing import ArrayLike
import numpy as np


class Estimate(NamedTuple):
  """A Monte Carlo estimate.

  Attributes:
    mean: average over networks.
    standard_error: of the mean, from the spread of the networks; same shape.
  """
  mean: np.ndarray
  standard_error: np.ndarray


class Moments(NamedTuple):
  """Central moments of a number of samples, one array each.

  Attributes:
    count: number of samples.
    mean: their mean.
    powers: `[3, ...]`, sums of the second, third and fourth powers of their
      deviations from it.
  """
  count: int  # type: ignore[assignment]  # Hides that of tuples.
  mean: np.ndarray
  powers: np.ndarray

  @classmethod
  def of(cls, samples: ArrayLike) -> 'Moments':
    """Of samples along the first axis."""
    samples = np.asarray(samples, float)
    mean = np.mean(samples, 0)
    return cls(len(samples), mean, np.stack(
        [np.sum((samples - mean)**p, 0) for p in (2, 3, 4)]))

  def joined(self, other: 'Moments') -> 'Moments':
    """Of the samples of both, by binomial sums.

    Source: P. Pebay, "Formulas for robust, one-pass parallel computation of
    covariances and arbitrary-order statistical moments", SAND2008-6212.
    """
    n = self.count + other.count
    mean = self.mean + other.count / n * (other.mean - self.mean)

    def about_mean(m: 'Moments') -> np.ndarray:
      d, (two, three, four) = m.mean - mean, m.powers
      return np.stack([two + m.count * d**2,
                       three + 3 * d * two + m.count * d**3,
                       four + 4 * d * three + 6 * d**2 * two + m.count * d**4])

    return Moments(n, mean, about_mean(self) + about_mean(other))

  @property
  def variance(self) -> np.ndarray:
    return self.powers[0] / (self.count - 1)

  @property
  def mean_error(self) -> np.ndarray:
    """Standard error of the mean."""
    return np.sqrt(self.variance / self.count)

  @property
  def variance_error(self) -> np.ndarray:
    """Standard error of the variance, of samples of any distribution."""
    n = self.count
    fourth = self.powers[2] / n
    return np.sqrt(np.maximum(
        fourth - (n - 3) / (n - 1) * self.variance**2, 0.) / n)
