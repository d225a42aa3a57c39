# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Chooses coarse grids of ages, by a few of the predictions."""

from typing import Callable, NamedTuple, Optional, Sequence

import numpy as np

from nt_ndk._src.dynamics.resolvent import EndTime
from nt_ndk._src.dynamics.resolvent import Resolvent
from nt_ndk._src.dynamics.resolvent import Rows

_MAX_SIZE = 96
# Predictions for which grids are chosen, half of them those with the most data
# nearby, and mixtures of all.
_PROBES, _MIXTURES = 8, 4
# Error, relative to the tolerance, from which later times begin with a finer
# grid.
_MARGIN = .1


class Grid(NamedTuple):
  """Coarse grid of ages.

  Attributes:
    size: number of points.
    width: age above which any scale is resolved, in time scales of the kernel.
  """
  size: int = 8
  width: float = 4.

  def coarser(self) -> int:
    """Number of points of polynomials whose degree is lower by a fifth."""
    return 4 * self.size // 5

  def finer(self, missed: float, tol: float) -> 'Grid':
    """More points, closer to age 0; the same if there is no finer grid.

    Args:
      missed: error here, relative to `tol`; it decays geometrically.
      tol: tolerance.
    """
    # To a third of it, since the decay is slower at first.
    enough = self.size * np.log(tol / 3) / np.log(min(missed * tol, .5))
    grid = self
    while grid.size < _MAX_SIZE and (grid is self or grid.size < enough):
      size = min(4 * int(np.ceil(1.25 * grid.size / 4)), _MAX_SIZE)
      grid = Grid(size, grid.width / 2)
    return grid


class Predictions(NamedTuple):
  """Kernels of predictions with the training data, compressed in time.

  Attributes:
    functions: of the times `[C]` of training outputs, to `[C, J]`, for NDK and
      covariance.
    factors: two arrays `[n, J, m]`, their matrices in a basis of modes.
    scale: `[m]`, standard deviations without data.
  """
  functions: Sequence[Callable[[np.ndarray], np.ndarray]]
  factors: list[np.ndarray]
  scale: np.ndarray

  def kernels(self, earlier: np.ndarray) -> list[np.ndarray]:
    """NDK and covariance with outputs at times `[C]`: `[n, C, m]`."""
    return [function(earlier) @ factors
            for function, factors in zip(self.functions, self.factors)]


class Solved(NamedTuple):
  """Rows of the resolvent on a grid, and the variances that follow."""
  on: Resolvent
  rows: Rows
  cross: np.ndarray
  variance: np.ndarray


class Probes:
  """A few predictions at one time, relative to those without data.

  Attributes:
    grid: coarse grid to begin with at a later time.
    error: change of variances between polynomials of lower degree and those of
      the grid.
  """

  def __init__(self, end: EndTime, predictions: Predictions, lag: float,
               rtol: float) -> None:
    """Takes some predictions and mixtures of all.

    Args:
      end: what resolvents that end at the time share.
      predictions: all of them.
      lag: time scale of the kernel.
      rtol: tolerance.
    """
    scale = predictions.scale
    now, _ = predictions.kernels(np.array([end.tau]))
    m, half = len(scale), _PROBES // 2
    chosen = np.unique(np.append(np.linspace(0, m - 1, half).astype(int),
                                 end.hardest(now[:, 0], scale)[-half:]))
    # So that none is overlooked.
    mixtures = np.random.RandomState(0).normal(size=(m, _MIXTURES)) / m**.5
    mix = np.concatenate([np.eye(m)[:, chosen], mixtures], 1) / scale[:, None]
    self._predictions = Predictions(
        predictions.functions, [a @ mix for a in predictions.factors],
        np.ones(mix.shape[1]))
    self._pure = len(chosen)
    self._end, self._lag, self._rtol = end, lag, rtol
    self.grid, self.error = Grid(), 0.

  def _solve(self, on: Resolvent, known: Optional[Solved]) -> Solved:
    """On a grid, from what is known on another one."""
    guess = known and known.on.grid.lagrange(on.grid.ages) @ known.rows.h
    unit = self._predictions.scale
    kappa, cross = self._predictions.kernels(on.times)
    rows = on.rows(kappa, unit, guess)
    return Solved(on, rows, cross,
                  on.covariance(rows, unit, cross)[:self._pure])

  def _change(self, known: Solved, other: Resolvent) -> float:
    """Of variances, on another grid."""
    return float(np.max(np.abs(self._solve(other, known).variance -
                               known.variance)))

  def choose(self, grid: Grid) -> Solved:
    """Solves for these predictions on a grid that is fine enough.

    Args:
      grid: to begin with.
    """
    known = None
    while True:
      rows = Resolvent(self._end, grid.size, grid.width * self._lag)
      known = self._solve(rows, known)
      self.error = self._change(known, rows.truncated(grid.coarser()))
      missed = max(self.error, known.rows.tail / 20) / self._rtol
      finer = grid.finer(missed, self._rtol)
      self.grid = finer if missed > _MARGIN else grid
      if missed <= 1 or finer is grid:
        return known
      grid = finer

  def needed(self, known: Solved) -> Resolvent:
    """The resolvent on those points of the grid that these predictions need.

    They are too few for kernels with other times.

    Args:
      known: from `choose`.
    """
    unit = self._predictions.scale
    # In norm over all of these predictions; rarely that is not enough.
    for tol in (len(unit)**.5 * self._rtol, self._rtol):
      few = known.on.reduced(known.rows, known.cross, unit, tol)
      missed = self._change(known, few)
      if missed <= .3 * self._rtol:
        break
    self.error = max(self.error, missed)
    return few
