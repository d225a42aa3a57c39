# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Steps in time, and integrals of two-time kernels over them.

A function of time is a straight line on each step, given by its values at two
points, a third of the step and its end. An equation in time is met in two
senses, at the end of a step and on average over it (the discontinuous Galerkin
method of degree 1). A straight line has the same average and end as its values
at the two points tell, so that the two equations can be combined to one at
each point.

There are two clocks: `s`, the time of gradient flow, in which the loss acts at
a constant rate, and `tau`, the diffusion time of kernels, which is a straight
line in `s` on each step.
"""

from typing import NamedTuple

import numpy as np

from nt_ndk._src.dynamics.quadrature import cusp_rule
from nt_ndk._src.dynamics.quadrature import lagrange
from nt_ndk._src.dynamics.volterra import TimeKernel

# Points of a step, relative to it: those of Radau, whose weights are exact for
# averages of quadratic functions.
NODES = np.array([1 / 3, 1.])
# Value at each from the average and the end.
FROM_MOMENTS = np.array([[4 / 3, -1 / 3], [0., 1.]])
# Gauss points on [0, 1] for smooth functions of a step, and of pairs of times
# in steps that are not neighbours.
_X, _W = np.polynomial.legendre.leggauss(6)
GAUSS, GAUSS_WEIGHTS = (1 + _X) / 2, _W / 2
_X, _W = np.polynomial.legendre.leggauss(4)
_FAR, _FAR_WEIGHTS = (1 + _X) / 2, _W / 2


class Steps(NamedTuple):
  """Ends of steps on both clocks.

  Attributes:
    s: `[N + 1]`, time of gradient flow, from 0.
    tau: `[N + 1]`, diffusion time.
  """
  s: np.ndarray
  tau: np.ndarray

  def __len__(self) -> int:
    return len(self.s) - 1

  @property
  def lengths(self) -> np.ndarray:
    return np.diff(self.s)

  def inside(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both clocks at fractions `x` of each step, `[N, len(x)]`."""
    return tuple(a[:-1, None] + np.diff(a)[:, None] * x for a in self)

  def coarse(self) -> 'Steps':
    """Pairs of steps as one."""
    return Steps(self.s[::2], self.tau[::2])

  def weights(self, kernel: TimeKernel) -> np.ndarray:
    r"""Integrals of the functions of time of a kernel against straight lines.

    Args:
      kernel: functions :math:`\varphi_r(\tau, \tau')`.

    Returns:
      `[N, 2, N, 2, R]`: what the equation at a point of a step gets of the
      value at a point of another one, not later,
      :math:`\int \varphi_r(\tau, \tau(s'))\, L(s')\, ds'`.
    """
    n = len(self)
    far_s, far_tau = self.inside(_FAR)
    at_far = kernel.at_earlier(far_tau.ravel())
    far_weights = (self.lengths[:, None, None] * _FAR_WEIGHTS[:, None] *
                   lagrange(NODES, _FAR)).reshape((-1, 2))
    inside_s, inside_tau = self.inside(GAUSS)
    rank = at_far.shape[-1]
    out = np.zeros((n, 2, n, 2, rank))
    for j in range(n):
      later_s = np.append(inside_s[j], self.s[j + 1])
      later_tau = np.append(inside_tau[j], self.tau[j + 1])
      rows = np.zeros((len(later_s), n, 2, rank))
      count = max(j - 1, 0) * len(_FAR)
      if count:
        phi = kernel.at_later(
            later_tau, far_tau.ravel()[:count, None]) @ at_far[:count]
        rows[:, :j - 1] = np.einsum(
            'igor,igb->oibr', phi.reshape((j - 1, len(_FAR), -1, rank)),
            far_weights[:count].reshape((j - 1, -1, 2)), optimize=True)
      for i in range(max(j - 1, 0), j + 1):
        rows[:, i] = self._near(kernel, later_s, later_tau, i)
      # Averages, and ends.
      moments = np.stack([np.tensordot(GAUSS_WEIGHTS, rows[:-1], 1), rows[-1]])
      out[j] = np.tensordot(FROM_MOMENTS, moments, 1)
    return out

  def _near(self, kernel: TimeKernel, later_s: np.ndarray,
            later_tau: np.ndarray, i: int) -> np.ndarray:
    """The same over a step that ends next to later times, `[times, 2, R]`."""
    begin, length = self.s[i], self.lengths[i]
    lag, weights = cusp_rule(later_s - np.minimum(self.s[i + 1], later_s),
                             later_s - begin)
    x = np.clip((later_s[:, None] - lag - begin) / length, 0., 1.)
    tau = self.tau[i] + (self.tau[i + 1] - self.tau[i]) * x
    later = np.maximum(later_tau[:, None], tau)
    phi = kernel.phi(later, tau)
    return np.einsum('oq,oqb,oqr->obr', weights, lagrange(NODES, x), phi)


class Scale(NamedTuple):
  """How long steps may be.

  Attributes:
    growth: length of a step relative to the time since the last change.
    first: shortest useful step, right after it.
    longest: of any step.
  """
  growth: float
  first: float
  longest: float

  def divide(self, ends: np.ndarray) -> list[np.ndarray]:
    """Steps since the last change, an even number of them.

    Args:
      ends: rising times since then, at which steps have to end.

    Returns:
      Ends of the steps up to each of these times.
    """
    first = min(self.first, self.longest)
    turns = first / self.growth, self.longest / self.growth
    logarithm = np.log(turns[1] / turns[0])

    def number(s):
      """Steps up to `s`."""
      middle = np.log(np.clip(s, *turns) / turns[0])
      return (np.minimum(s, turns[0]) / first + middle / self.growth +
              np.maximum(s - turns[1], 0.) / self.longest)

    def time(steps):
      at_turns = 1 / self.growth, (1 + logarithm) / self.growth
      return np.where(
          steps < at_turns[0], first * steps,
          np.where(steps < at_turns[1],
                   turns[0] * np.exp(np.clip(steps * self.growth - 1, 0.,
                                             logarithm)),
                   turns[1] + (steps - at_turns[1]) * self.longest))

    numbers = np.append(0., number(ends))
    needed = np.diff(numbers)
    counts = np.maximum(np.ceil(needed * (1 - 1e-9)), 1).astype(int)
    counts[np.argmax(needed / counts)] += np.sum(counts) % 2
    out = []
    for begin, end, count, last in zip(numbers, numbers[1:], counts, ends):
      steps = time(begin + (end - begin) * np.arange(1, count + 1) / count)
      steps[-1] = last
      out.append(steps)
    return out
