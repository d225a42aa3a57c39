# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Draws of a Gaussian process over inputs and times.

Its covariance :math:`C(\tau, \tau') = \sum_r \varphi_r(\tau, \tau') K_r` is
that of a free network, as rough in time as Brownian motion. Outputs at one time
after the other are drawn, given those at earlier times. What is known of few
inputs are all earlier times, which is exact. Of many inputs it is a few, the
last one and others at growing lags: of a process without memory (a single decay
rate) the last one would do, and that of a network is a sum of such ones, of few
rates that matter. How many there have to be is found on a few inputs, for which
what this makes of the covariance is known. Of times before the last one only
leading modes of all outputs are looked at: others have little variance, of
which the last time tells most.

Averages over steps come afterwards, given the ends of their step.
"""

import copy
from typing import Iterator, NamedTuple, Optional

import numpy as np
import scipy.linalg

from nt_ndk._src.dynamics.steps import GAUSS
from nt_ndk._src.dynamics.steps import GAUSS_WEIGHTS
from nt_ndk._src.dynamics.steps import Steps
from nt_ndk._src.dynamics.volterra import TimeKernel

# Outputs at all times up to which all that are earlier are looked at.
_ALL = 2000
# Ratios of lags of those that are looked at otherwise, and inputs by which one
# is chosen.
_RATIOS, _SOME = (3., 2., 1.5, 1.2), 6
# Parts of all modes that may be looked at, and modes by which it is chosen.
_FRACTIONS, _SOME_MODES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2), 3
# Variance, relative to the mean one, that is not told from nothing.
_NUGGET = 1e-10


class Conditional(NamedTuple):
  """Law of some outputs given others.

  Attributes:
    given: indices of the times of these.
    gain: `[p, len(given) * inputs]`, factors of their values.
    root: `[p, p]`, of the covariance of what they do not tell.
  """
  given: np.ndarray
  gain: np.ndarray
  root: np.ndarray


def _root(covariance: np.ndarray, nugget: float) -> np.ndarray:
  """A matrix whose product with its transpose this is."""
  covariance = (covariance + covariance.T) / 2
  try:
    return np.linalg.cholesky(covariance + nugget * np.eye(len(covariance)))
  except np.linalg.LinAlgError:
    evals, evecs = np.linalg.eigh(covariance)
    return evecs * np.sqrt(np.maximum(evals, 0.))


class Paths:
  """Conditional laws of a Gaussian process, time by time.

  Attributes:
    outputs, rows: numbers of all outputs, and of those with averages.
    tau: `[U]`, different diffusion times, from 0.
    place: `[N + 1]`, where among them the ends of steps are.
    error: what leaving out earlier times makes of correlations, root mean
      square.
  """

  def __init__(self, kernel: TimeKernel, factors: np.ndarray, rows: int,
               steps: Steps, eps: float, tol: float = 1e-3) -> None:
    """Takes what all draws share.

    Args:
      kernel: functions of time of the covariance.
      factors: `[p, R * p]`, its matrices, side by side.
      rows: number of outputs, the first ones, with averages over steps.
      steps: the steps.
      eps: rounding error of the matrices.
      tol: of correlations.
    """
    p = len(factors)
    self.outputs, self.rows = p, rows
    self._kernel, self._steps = kernel, steps
    self._factors = np.ascontiguousarray(
        factors.reshape((p, -1, p)).transpose((1, 0, 2)), float)
    self.tau, self.place = np.unique(steps.tau, return_inverse=True)
    variance = float(np.mean(self.variances(np.zeros(1, int))))
    self._nugget = max(_NUGGET, 10 * eps) * max(variance, 1e-300)
    self._all, self.error, self._ratio = len(self.tau) * p <= _ALL, 0., 1.
    # Those of times before the last one, `[p, q]`, with the matrices between
    # them and all outputs, and among them.
    self._modes: Optional[np.ndarray] = None
    self._to_modes = self._of_modes = self._factors
    if not self._all:
      some = np.linspace(0, p - 1, min(_SOME, p)).astype(int)
      few = self._combinations(np.eye(p)[:, some])
      for self._ratio in _RATIOS:
        few._ratio = self._ratio
        self.error = few._defect()
        if self.error <= tol:
          break
      self._choose_modes(tol / 2)

  def _combinations(self, vectors: np.ndarray) -> 'Paths':
    """Linear combinations of outputs, `[p, m]`, as a process."""
    out = copy.copy(self)
    out._factors = vectors.T @ (self._factors @ vectors)
    out._to_modes = out._of_modes = out._factors
    out.outputs = vectors.shape[1]
    return out

  def _choose_modes(self, tol: float) -> None:
    """Leaves out modes whose last time tells enough."""
    p = self.outputs
    evals, vectors = np.linalg.eigh(self._sum(np.mean(
        self._kernel.phi(self.tau, self.tau), 0)))
    vectors = vectors[:, ::-1]
    share = np.maximum(evals, 0.).cumsum()[::-1] / max(evals.sum(), 1e-300)
    counts = [int(np.ceil(p * fraction)) for fraction in _FRACTIONS]
    for count in (count for count in counts if count < p):
      some = np.linspace(count, p - 1, _SOME_MODES).astype(int)
      few = self._combinations(vectors[:, some])
      few._ratio = np.inf
      # Different modes are hardly correlated.
      error = share[count] * _SOME_MODES**.5 * few._defect()
      if error <= tol:
        self.error += error
        self._modes = vectors[:, :count]
        self._to_modes = self._factors @ self._modes
        self._of_modes = self._modes.T @ self._to_modes
        return

  def _sum(self, phi: np.ndarray) -> np.ndarray:
    return np.tensordot(phi, self._factors, 1)

  def _after(self, a: np.ndarray, b: np.ndarray,
             factors: np.ndarray) -> np.ndarray:
    """Covariance `[len(a) * p, len(b) * q]` of times and not later ones.

    Args:
      a: indices of times.
      b: indices of earlier ones.
      factors: `[R, p, q]`, matrices.
    """
    out = np.tensordot(self._kernel.phi(self.tau[a][:, None], self.tau[b]),
                       factors, 1)
    return out.transpose((0, 2, 1, 3)).reshape(
        (len(a) * factors.shape[1], len(b) * factors.shape[2]))

  def _among(self, a: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Covariance `[len(a) * p, len(a) * p]` of times in any order."""
    i, j = a[:, None], a[None]
    out = np.tensordot(self._kernel.phi(
        self.tau[np.maximum(i, j)], self.tau[np.minimum(i, j)]), factors, 1)
    # Matrices have the later time first.
    swapped = out.swapaxes(2, 3)
    out = np.where((i > j)[..., None, None], out, np.where(
        (i < j)[..., None, None], swapped, (out + swapped) / 2))
    return out.transpose((0, 2, 1, 3)).reshape((len(a) * factors.shape[1],) * 2)

  def variances(self, place: np.ndarray) -> np.ndarray:
    """Of all outputs at some ends of steps, `[T, p]`."""
    tau = self.tau[self.place[place]]
    return self._kernel.phi(tau, tau) @ np.diagonal(self._factors, axis1=1,
                                                    axis2=2)

  @property
  def bytes(self) -> int:
    """Memory that the law of outputs at one time takes, at most."""
    earlier = max(len(self._given(j)) for j in range(len(self.tau))) - 1
    # Averages over a step look at both of its ends.
    return 24 * (self.outputs + max(earlier * self._of_modes.shape[1],
                                    self.outputs))**2

  def _given(self, j: int) -> np.ndarray:
    """Indices of earlier times that are looked at, the latest first."""
    if self._all:
      return np.arange(j)[::-1]
    out, lag = [], 0.
    for i in range(j - 1, -1, -1):
      if self.tau[j] - self.tau[i] >= lag or i == 0 and self._ratio < np.inf:
        out.append(i)
        lag = self._ratio * (self.tau[j] - self.tau[i])
    return np.array(out, int)

  def _conditional(self, given: np.ndarray, joint: np.ndarray,
                   cross: np.ndarray, covariance: np.ndarray) -> Conditional:
    """Law of outputs with a covariance of their own.

    Args:
      given: indices of the times of what is given.
      joint: covariance of that.
      cross: covariance of the outputs and that.
      covariance: of the outputs.
    """
    joint.flat[::len(joint) + 1] += self._nugget
    factor = scipy.linalg.cho_factor(joint, lower=True, overwrite_a=True,
                                     check_finite=False)
    gain = scipy.linalg.cho_solve(factor, cross.T, check_finite=False).T
    return Conditional(given, gain, _root(covariance - gain @ cross.T,
                                          self._nugget))

  def _given_some(self, j: int) -> Conditional:
    """Law of all outputs at a time, given the last one and modes of others."""
    given, p, here = self._given(j), self.outputs, np.array([j])
    last, others = given[:1], given[1:]
    between = self._after(last, others, self._to_modes)
    law = self._conditional(
        given,
        np.block([[self._among(last, self._factors), between],
                  [between.T, self._among(others, self._of_modes)]]),
        np.concatenate([self._after(here, last, self._factors),
                        self._after(here, others, self._to_modes)], 1),
        self._among(here, self._factors))
    if self._modes is None:
      return law
    parts = np.split(law.gain[:, p:], len(others), 1) if len(others) else []
    return law._replace(gain=np.concatenate(
        [law.gain[:, :p]] + [part @ self._modes.T for part in parts], 1))

  def ends(self) -> Iterator[Conditional]:
    """Laws of all outputs at each of the times, given earlier ones."""
    p, times = self.outputs, np.arange(len(self.tau))
    if self._all:
      try:
        root = np.linalg.cholesky(
            self._among(times, self._factors) +
            self._nugget * np.eye(p * len(times)))
      except np.linalg.LinAlgError:  # Rounding errors of kernels.
        root = None
    for j in times:
      if not j:
        yield Conditional(times[:0], np.zeros((p, 0)), _root(
            self._among(times[:1], self._factors), self._nugget))
      elif self._all and root is not None:
        start, stop = j * p, (j + 1) * p
        gain = scipy.linalg.solve_triangular(
            root[:start, :start], root[start:stop, :start].T, lower=True,
            trans=1, check_finite=False).T
        yield Conditional(times[:j], gain, root[start:stop, start:stop])
      else:
        yield self._given_some(int(j))

  def _defect(self) -> float:
    """Error of the correlations of what is drawn."""
    p, times = self.outputs, np.arange(len(self.tau))
    exact = self._among(times, self._factors)
    out = np.zeros_like(exact)
    for j, law in enumerate(self.ends()):
      now, known = slice(j * p, (j + 1) * p), slice(0, j * p)
      given = (law.given[:, None] * p + np.arange(p)).ravel()
      out[now, known] = law.gain @ out[given, known]
      out[known, now] = out[now, known].T
      out[now, now] = (law.root @ law.root.T +
                       law.gain @ out[np.ix_(given, given)] @ law.gain.T)
    size = np.sqrt(np.maximum(np.diagonal(exact), 0.))
    size = np.where(size > 0, size, 1.)
    return float(np.sqrt(np.mean(((out - exact) / size / size[:, None])**2)))

  def averages(self) -> Iterator[Conditional]:
    """Laws of averages over steps of the first outputs, given ends of steps."""
    inside, rows = self._steps.inside(GAUSS)[1], self.rows
    for j, begin in enumerate(self.place[:-1]):
      end = self.place[j + 1]
      if begin == end:  # Time stands still.
        yield Conditional(np.array([end]), np.eye(rows, len(self._factors[0])),
                          np.zeros((rows, rows)))
        continue
      given = np.array([begin, end])
      phi = [GAUSS_WEIGHTS @ self._kernel.phi(inside[j], self.tau[begin]),
             GAUSS_WEIGHTS @ self._kernel.phi(self.tau[end], inside[j])]
      cross = np.concatenate([self._sum(phi[0])[:rows],
                              self._sum(phi[1]).T[:rows]], 1)
      # Of two times in the step, the earlier one is at any fraction of the
      # later one.
      inside_ = self.tau[begin] + (inside[j][:, None] - self.tau[begin]) * GAUSS
      phi_ = self._kernel.phi(inside[j][:, None], inside_)
      own = self._sum(2 * np.einsum('o,i,oir->r', GAUSS_WEIGHTS * GAUSS,
                                    GAUSS_WEIGHTS, phi_))[:rows, :rows]
      yield self._conditional(given, self._among(given, self._factors),
                              cross, (own + own.T) / 2)
