# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Gradient flow while diffusion time stands still.

Without noise, the drive :math:`a (Y - f)\, dt` acts at one diffusion time
:math:`\tau` all the time. It adds up to an impulse :math:`Q`, and

.. math::
  f(t) = f(0) + K Q(t), \qquad Q(t) = \int_0^t a\, e^{-K a t'} dt'\,
  \big(Y - f(0)\big), \qquad K = \mathcal{K}(\tau, \tau).

At later diffusion times :math:`\mathcal{K}(\tau', \tau)\, Q` is left of it.
"""

import functools
from typing import Optional

import numpy as np

from nt_ndk._src.base.arrays import Matrices
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.dynamics.measure import Measure
from nt_ndk._src.dynamics.resolvent import TimeKernel

# Smallest eigenvalue, relative to the largest one, in units of rounding errors.
_SINGULAR = 1e2


class Impulse:
  """Gradient flow from one state, in one kernel.

  It has the methods of a `VolterraSolver`, but that times within it are those
  of gradient flow.

  Attributes:
    tau: diffusion time.
  """

  def __init__(self, kernel: TimeKernel, factors: Matrices, weight: np.ndarray,
               tau: float, duration: float, residual: np.ndarray) -> None:
    r"""Takes the kernel.

    Args:
      kernel: functions of time.
      factors: `[n, R * n]`, the matrices :math:`K_r` side by side.
      weight: `[n]`, factors :math:`a` of samples, not negative.
      tau: diffusion time.
      duration: of all of it.
      residual: `[n, k]`, at its beginning.
    """
    self._kernel, self._factors, self._weight = kernel, factors, weight
    self._duration, self.tau = duration, tau
    self._rho = np.asarray(residual, float)

  def _at(self, tau: np.ndarray, factors: Matrices,
          q: np.ndarray) -> np.ndarray:
    """What an impulse `[n, k]` is at diffusion times `[t]`, `[t, m, k]`."""
    phi = self._kernel.phi(tau, np.full_like(tau, self.tau))
    n = len(q)
    images = np.asarray(to_host(factors), float).reshape((-1, n)) @ q
    images = images.reshape((len(factors), -1, q.shape[1]))
    return np.einsum('tr,mrk->tmk', phi, images)

  @functools.cached_property
  def kernel(self) -> np.ndarray:
    """`[n, n]`, at equal times."""
    n = len(self._factors)
    phi = self._kernel.phi(np.full(1, self.tau), np.full(1, self.tau))[0]
    matrix = np.einsum('nrm,r->nm', np.asarray(
        to_host(self._factors), float).reshape((n, -1, n)), phi)
    return (matrix + matrix.T) / 2

  @functools.cached_property
  def _modes(self) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of what is learned, and eigenvectors `[n, modes]`."""
    # Of outputs that are always zero nothing is.
    seen = (self._weight > 0) & (np.diagonal(self.kernel) > 0)
    root = np.sqrt(self._weight[seen])
    evals, evecs = np.linalg.eigh(
        root[:, None] * self.kernel[np.ix_(seen, seen)] * root)
    vectors = np.zeros((len(seen), len(evals)))
    vectors[seen] = root[:, None] * evecs
    return np.maximum(evals, 0.), vectors

  def gain(self, time: float) -> np.ndarray:
    r""":math:`\int_0^t a\, e^{-K a t'} dt'`, `[n, n]`.

    Args:
      time: of gradient flow.

    Raises:
      ArithmeticError: if it is infinite, as the kernel is singular.
    """
    evals, vectors = self._modes
    if np.isinf(time):
      eps = float(np.finfo(self._factors.dtype).eps)
      if not np.all(evals > _SINGULAR * eps * np.max(evals, initial=0.)):
        raise ArithmeticError(
            'The kernel of the training inputs is singular to rounding: its '
            f'eigenvalues are between {evals[0]:.1e} and {evals[-1]:.1e}. '
            'Without noise, what is learned of duplicated inputs is not '
            'defined. Leave these out, take a finite time, or a temperature.')
      factor = 1 / evals
    else:
      product = evals * time
      factor = time * np.where(product > 1e-300, -np.expm1(-product) /
                               np.maximum(product, 1e-300), 1.)
    return vectors * factor @ vectors.T

  def solution(self, time: np.ndarray) -> np.ndarray:
    """Residual at times of gradient flow, `[t, n, k]`."""
    return np.stack([self._rho - self.kernel @ (self.gain(t) @ self._rho)
                     for t in time])

  def integral(self, factors: Matrices, time: np.ndarray) -> np.ndarray:
    """What is learned by times of gradient flow, `[t, m, k]`."""
    now = np.full(1, self.tau)
    return np.concatenate([self._at(now, factors, self.gain(t) @ self._rho)
                           for t in time])

  def checked_integral(self, factors: Matrices, time: np.ndarray
                       ) -> tuple[np.ndarray, float]:
    """The same, and the error of interpolation in time: none."""
    return self.integral(factors, time), 0.

  @functools.cached_property
  def _impulse(self) -> np.ndarray:
    return self.gain(self._duration) @ self._rho

  def beyond(self, tau: np.ndarray,
             factors: Optional[Matrices] = None) -> np.ndarray:
    """What is left of all that is learned, at later diffusion times."""
    return self._at(tau, self._factors if factors is None else factors,
                    self._impulse)

  def moments(self, time: Optional[float] = None) -> Measure:
    """The impulse up to a time of gradient flow, or all of it, as a measure."""
    impulse = self._impulse if time is None else self.gain(time) @ self._rho
    return Measure(np.full(1, self.tau), impulse[None])
