# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Collocation points, and integrals over a square-root cusp."""

from typing import NamedTuple

from jax.typing import ArrayLike
import numpy as np

# How intervals shrink towards a cusp, and how many points each has: next to it
# few do. Where on each they are, and their weights.
_RATIO, _COUNTS = .25, (10, 8, 6, 5, 4)
_X, _W = map(np.concatenate, zip(*map(np.polynomial.legendre.leggauss,
                                      _COUNTS)))


def lagrange(nodes: np.ndarray, x: ArrayLike) -> np.ndarray:
  """Polynomials that are 1 at one node and 0 at the others.

  Args:
    nodes: `[s]`.
    x: where.

  Returns:
    `x.shape + (s,)`.
  """
  gaps = nodes[:, None] - nodes
  np.fill_diagonal(gaps, 1.)
  distances = np.asarray(x)[..., None] - nodes
  at_node = distances == 0
  # The barycentric formula.
  out = 1 / (np.prod(gaps, 1) * np.where(at_node, 1., distances))
  return np.where(np.any(at_node, -1, keepdims=True), at_node,
                  out / np.sum(out, -1, keepdims=True))


class Collocation(NamedTuple):
  """Radau IIA points on [0, 1], and their Lagrange polynomials.

  Attributes:
    points: `[stages]`.
    weights: `[stages]`, of the integral over [0, 1].
    error: polynomial that is 0 at the points and 1 at 0.
    smoothing: its largest integral up to a point.
    worst: where it is largest between points.
    gauss: `[q]`, Gauss points on [0, 1] for integrals over a panel.
    gauss_weights: `[q, stages]`, their weights times Lagrange polynomials.
  """
  points: np.ndarray
  weights: np.ndarray
  error: np.polynomial.Polynomial
  smoothing: float
  worst: float
  gauss: np.ndarray
  gauss_weights: np.ndarray

  @classmethod
  def radau(cls, stages: int) -> 'Collocation':
    legendre = np.polynomial.legendre
    x = np.sort(legendre.legroots([0] * (stages - 1) + [-1, 1]).real)
    points = (1 + x) / 2
    points[-1] = 1.
    error = np.polynomial.Polynomial.fromroots(points)
    error = error / error(0.)
    smoothing = float(np.max(np.abs(error.integ()(points))))
    between = np.linspace(points[0], points[min(1, stages - 1)], 101)
    worst = float(between[np.argmax(np.abs(error(between)))])
    x, weights = legendre.leggauss(stages + 3)
    gauss = (1 + x) / 2
    gauss_weights = weights[:, None] / 2 * lagrange(points, gauss)
    return cls(points, np.sum(gauss_weights, 0), error, smoothing, worst,
               gauss, gauss_weights)

  def lagrange(self, x: ArrayLike) -> np.ndarray:
    """Lagrange polynomials at `x`, `x.shape + (stages,)`."""
    return lagrange(self.points, x)


def cusp_rule(near: np.ndarray,
              far: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  r"""Quadrature of functions with a square-root cusp at distance 0.

  For :math:`\int_{near}^{far} f(x) dx`, where :math:`f` is smooth in
  :math:`\sqrt{x + \delta}` for any :math:`\delta \geq 0`: by Gauss points in
  :math:`\sqrt x` on intervals that shrink towards the cusp.

  Args:
    near: smallest distances from the cusp.
    far: largest distances.

  Returns:
    Distances `near.shape + (q,)`, and weights of the same shape.
  """
  low, high = (np.sqrt(np.maximum(d, 0.))[..., None] for d in (near, far))
  ends = np.maximum(low, high * np.append(
      _RATIO**np.arange(len(_COUNTS)), 0.))
  begins, lengths = (np.repeat(a, _COUNTS, -1)
                     for a in (ends[..., 1:], -np.diff(ends)))
  v = begins + lengths * (1 + _X) / 2
  return v**2, v * lengths * _W
