# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Functions of large symmetric matrices, without all of their eigenvectors.

Leading eigenvectors are found in a space of Krylov, and what is orthogonal to
them is treated by Chebyshev polynomials of the matrix, which take products
only. No array is as large as the matrix but the matrix itself, whose rows may
be spread over devices.
"""

import functools
from typing import Any, Callable, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

from nt_ndk._src.base.arrays import Matrices
from nt_ndk._src.base.arrays import on_either
from nt_ndk._src.base.arrays import product
from nt_ndk._src.base.devices import to_host

# Samples up to which all eigenvectors are found.
ALL_MODES = 2500
# Vectors that Lanczos' method multiplies at once, and number of such blocks.
_BLOCK, BLOCKS = 32, 32
# Residuals, relative to eigenvalues, of eigenvectors that are kept, and number
# of others that tell how other matrices act on what is orthogonal to these.
_RESIDUAL, _OTHERS = .02, 20
# Numbers of those that are kept are multiples of this. Margin of bounds.
_ROUND, _MARGIN = 8, .01
# Largest error of polynomials, of panels and of an inverse; most terms of them.
_ERROR, _OF_INVERSE, TERMS = .1, .03, 32
# Rounding errors of eigenvalues that are small, relative to noise, and number
# of iterations.
_SMALL, _MAX_ITERATIONS = .1, 300


class Spectrum(NamedTuple):
  """What is known of a matrix.

  Attributes:
    evals: `[m]`, leading eigenvalues, ascending.
    evecs: `[n, m]`, their eigenvectors, in columns.
    ends: bounds of the other eigenvalues, not negative.
    other_evals: `[l]`, about such ones, ascending.
    other_evecs: `[n, l]`, orthonormal vectors with these mean values.
  """
  evals: np.ndarray
  evecs: np.ndarray
  ends: tuple[float, float]
  other_evals: np.ndarray
  other_evecs: np.ndarray


class Series(NamedTuple):
  """A function of a matrix, on what is orthogonal to leading eigenvectors.

  Attributes:
    coefficients: `[t, s, s]`, matrices that Chebyshev polynomials are times.
    middle: of the interval of eigenvalues.
    half: its length, halved.
  """
  coefficients: np.ndarray
  middle: float
  half: float


def multiply(x: Any, matrix: Matrices, transposed: bool = False) -> Any:
  """`matrix @ x`, of `x` `[n, s, k]`, in the precision of the matrix."""
  flat = x.reshape((len(x), -1)).astype(matrix.dtype)
  return product(matrix, flat, transposed).astype(x.dtype).reshape(
      (-1,) + x.shape[1:])


def most_blocks(n: int) -> int:
  """Number of blocks that have three quarters of all vectors."""
  return max(3 * n // (4 * _BLOCK), 2)


def spectrum(matrix: Matrices, blocks: int = BLOCKS) -> Spectrum:
  """By Lanczos' method with blocks of vectors, orthogonal to all before them.

  Args:
    matrix: `[n, n]`, positive but for rounding errors.
    blocks: number of blocks, if there are as many.
  """
  n = len(matrix)
  blocks = min(blocks, most_blocks(n))
  size = blocks * _BLOCK
  vectors, within = np.empty((n, size)), np.zeros((size, size))
  block, _ = np.linalg.qr(np.random.RandomState(0).normal(size=(n, _BLOCK)))
  for i in range(_BLOCK, size + 1, _BLOCK):
    known, new = vectors[:, :i], slice(i - _BLOCK, i)
    vectors[:, new] = block
    image = product(matrix, block.astype(matrix.dtype)).astype(float)
    within[:i, new] = overlap = known.T @ image
    block, left = np.linalg.qr(image - known @ overlap)
    block, again = np.linalg.qr(block - known @ (known.T @ block))
  evals, mix = np.linalg.eigh(within, UPLO='U')
  vectors = vectors @ mix
  residuals = np.linalg.norm(again @ left @ mix[-_BLOCK:], axis=0)
  # Those before the first that is not accurate, but for one block at least; of
  # a few numbers, so that shapes last.
  wrong = residuals > _RESIDUAL * evals
  wrong[:_BLOCK] = True
  count = int(np.argmax(wrong[::-1]))
  others = len(evals) - max(count // _ROUND * _ROUND or count, 1)
  ends = (max((1 - _MARGIN) * float(np.min((evals - residuals)[:others])), 0.),
          (1 + _MARGIN) * float(np.max((evals + residuals)[:others + 1])))
  some = np.linspace(0, others - 1, _OTHERS).astype(int)
  return Spectrum(evals[others:], vectors[:, others:], ends, evals[some],
                  vectors[:, some])


def series(solver: Callable[[np.ndarray], np.ndarray],
           ends: tuple[float, float]) -> Series:
  """Chebyshev series of what solves equations with eigenvalues.

  Args:
    solver: takes eigenvalues `[l]` to inverse matrices, `[l, s, s]`.
    ends: of the interval.
  """
  low, high = ends
  middle, half = (high + low) / 2, (high - low) / 2
  nodes, checks = (np.cos(np.pi * (np.arange(count) + .5) / count)
                   for count in (TERMS, 4 * TERMS))
  coefficients = 2 / TERMS * np.tensordot(
      chebyshev.chebvander(nodes, TERMS - 1).T,
      solver(middle + half * nodes), 1)
  coefficients[0] /= 2
  exact = np.linalg.inv(solver(middle + half * checks))
  basis = chebyshev.chebvander(checks, TERMS - 1)
  known = np.zeros_like(exact)
  for terms in range(1, TERMS + 1):
    known += basis[:, terms - 1, None, None] * coefficients[terms - 1]
    error = exact @ known - np.eye(exact.shape[1])
    if np.max(np.sum(error**2, (1, 2))) < _ERROR**2:
      break
  return Series(coefficients[:terms], middle, half)


def _orthogonal(x: Any, evecs: Matrices) -> Any:
  """What of vectors is orthogonal to eigenvectors."""
  return x - multiply(multiply(x, evecs, transposed=True), evecs)


def _act(x: Any, evecs: Matrices, matrix: Matrices) -> Any:
  """What a matrix makes of what is orthogonal to its leading eigenvectors."""
  # Rounding errors along these would be amplified by polynomials.
  return _orthogonal(multiply(x, matrix), evecs)


def of_rest(x: Any, evecs: Matrices, matrix: Matrices, coefficients: Any,
            middle: Any, half: Any) -> Any:
  """What a function of a matrix makes of vectors.

  Args:
    x: `[n, s, k]`, of which what is orthogonal to leading eigenvectors counts.
    evecs: `[n, m]`, these.
    matrix: `[n, n]`.
    coefficients: see `Series`, as the others.
    middle: of the interval.
    half: its length, halved.

  Returns:
    `[n, s, k]`.
  """
  act = lambda x: (_act(x, evecs, matrix) - middle * x) / half
  # The equations amplify what is left along leading eigenvectors: in single
  # precision, once is not enough.
  last = _orthogonal(_orthogonal(x, evecs), evecs)
  out = coefficients[0] @ last
  if len(coefficients) > 1:
    term = act(last)
    out = out + coefficients[1] @ term
    for coefficient in coefficients[2:]:
      last, term = term, 2 * act(term) - last
      out = out + coefficient @ term
  return _orthogonal(out, evecs)


@functools.partial(on_either, static_argnames='dtype')
def _times(matrix, root, dtype):
  """A matrix times factors of rows and columns."""
  return (matrix * root * root[:, None]).astype(dtype)


class Inverse:
  """The inverse of a large positive matrix plus a diagonal one.

  By conjugate gradients. What is along leading eigenvectors is preconditioned
  by these, and what is orthogonal to them by a few steps of Chebyshev's
  iteration, in single precision if the largest eigenvalue allows.
  """

  def __init__(self, matrix: Matrices, noise: np.ndarray) -> None:
    """Takes `[n, n]`, and `[n]`, positive."""
    self._matrix = matrix
    self._root = noise.astype(matrix.dtype)**-.5
    largest = float(np.sum(to_host(matrix.diagonal()) * self._root**2))
    dtype = (np.float32 if largest * np.finfo(np.float32).eps < _SMALL else
             matrix.dtype)
    self._scaled = _times(matrix, self._root, dtype=np.dtype(dtype))
    known = spectrum(self._scaled)
    self._evals, self._evecs = known.evals, known.evecs.astype(dtype)
    self._ends = known.ends

  def _precondition(self, residual: np.ndarray) -> np.ndarray:
    residual = residual[:, None]
    z = multiply(residual, self._evecs, transposed=True)
    leading = multiply(z / (1 + self._evals[:, None, None]), self._evecs)
    residual = _orthogonal(_orthogonal(residual, self._evecs), self._evecs)
    # Manteuffel, Numerische Mathematik 28 (1977).
    middle, half = 1 + sum(self._ends) / 2, (self._ends[1] - self._ends[0]) / 2
    ratio, size, out = half / middle, 1., np.zeros_like(residual)
    for _ in range(TERMS):
      if size == 1:
        step, factor = residual / middle, ratio
      else:
        residual = residual - step - _act(step, self._evecs, self._scaled)
        last, factor = factor, 1 / (2 / ratio - factor)
        step = factor * last * step + 2 * factor / half * residual
      out, size = out + step, size * factor
      if size < _OF_INVERSE:
        break
    return (leading + _orthogonal(out, self._evecs))[:, 0]

  def __call__(self, right: np.ndarray) -> np.ndarray:
    """Solves equations; right-hand sides `[n, c]`, as the result.

    Raises:
      np.linalg.LinAlgError: if iterations do not converge.
    """
    root = self._root[:, None]
    size = self._evals[-1] * np.finfo(right.dtype).eps
    x, residual = np.zeros_like(right), right * root
    direction, last = x, np.ones(right.shape[1])
    for _ in range(_MAX_ITERATIONS):
      z = self._precondition(residual)
      overlap = np.sum(residual * z, 0)
      direction = z + overlap / last * direction
      image = direction + root * product(self._matrix, root * direction)
      curvature = np.sum(direction * image, 0)
      step = overlap / np.where(curvature > 0, curvature, 1)
      x, residual = x + step * direction, residual - step * image
      last = np.where(overlap > 0, overlap, 1)
      if np.all(np.linalg.norm(residual, axis=0) <=
                size * np.linalg.norm(x, axis=0)):
        return root * x
    raise np.linalg.LinAlgError('Conjugate gradients did not converge.')
