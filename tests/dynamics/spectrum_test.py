# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of functions of large matrices against those of all eigenvectors."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import numpy as jnp
import numpy as np

from nt_ndk._src.dynamics import spectrum as spectrum_lib

jax.config.update('jax_enable_x64', True)

_KINDS = dict(
    # Those of kernels of images, of one variable, and of unrelated inputs.
    images=lambda i: 300 / i**1.2 + .3,
    smooth=lambda i: np.maximum(1e3 * .8**i, 1e-16),
    equal=lambda i: 1 + 1e-3 / i,
    few=lambda i: np.where(i <= 5, 100. / i, 0.),
)


def problem(kind, n=300):
  """Eigenvalues, ascending, eigenvectors, and the matrix."""
  evals = np.sort(_KINDS[kind](np.arange(1., n + 1)))
  evecs, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
  return evals, evecs, (evecs * evals) @ evecs.T


class SpectrumTest(parameterized.TestCase):

  @parameterized.product(kind=tuple(_KINDS), dtype=('float32', 'float64'))
  def test_leading_modes_and_bounds_of_others(self, kind, dtype):
    evals, _, matrix = problem(kind)
    known = spectrum_lib.spectrum(matrix.astype(dtype))
    vectors = np.concatenate([known.evecs, known.other_evecs], 1)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(vectors.T)),
                               rtol=0, atol=1e-12)
    count = len(known.evals)
    tol = 1e-6 * evals[-1]
    np.testing.assert_allclose(known.evals, evals[-count:], rtol=1e-2, atol=tol)
    residuals = matrix @ known.evecs - known.evecs * known.evals
    self.assertLess(np.max(np.linalg.norm(residuals, axis=0) -
                           .021 * known.evals), tol)
    # What is orthogonal to them.
    rest = np.eye(len(matrix)) - known.evecs @ known.evecs.T
    left = np.linalg.eigvalsh(rest @ matrix @ rest)
    self.assertLess(left[-1], known.ends[1] + tol)
    self.assertGreater(np.min(evals), known.ends[0] - tol)
    self.assertGreaterEqual(known.ends[0], 0)
    np.testing.assert_allclose(
        np.sum(known.other_evecs * (matrix @ known.other_evecs), 0),
        known.other_evals, rtol=1e-5, atol=tol)

  @mock.patch.object(spectrum_lib, '_MARGIN', 0.)
  def test_residuals_are_part_of_bounds(self):
    # Modes are not exact, and leave more than what is found of the others.
    _, _, matrix = problem('images')
    known = spectrum_lib.spectrum(matrix)
    rest = np.eye(len(matrix)) - known.evecs @ known.evecs.T
    left = np.linalg.eigvalsh(rest @ matrix @ rest)
    self.assertLess(known.other_evals[-1], left[-1])
    self.assertLess(left[-1], known.ends[1])

  def test_modes_are_those_that_there_are(self):
    evals, _, matrix = problem('images')
    count = len(spectrum_lib.spectrum(matrix).evals)
    self.assertGreaterEqual(count, 16)
    self.assertEqual(count % 8, 0)

  @parameterized.product(kind=tuple(_KINDS), on_jax=(True, False))
  def test_solutions_of_equations(self, kind, on_jax):
    # Of a panel: they do not commute with their transpose.
    inner = np.random.default_rng(1).normal(size=(4, 4)) + 5 * np.eye(4)
    evals, evecs, matrix = problem(kind)
    known = spectrum_lib.spectrum(matrix)
    solver = lambda evals: np.linalg.inv(np.eye(4) + 10 * inner *
                                         evals[:, None, None])
    series = spectrum_lib.series(solver, known.ends)
    x = np.random.default_rng(2).normal(size=(len(matrix), 4, 2))
    x -= np.tensordot(known.evecs @ known.evecs.T, x, 1)
    to = jnp.asarray if on_jax else np.asarray
    got = spectrum_lib.of_rest(to(x), to(known.evecs), to(matrix), *series)
    exact = np.einsum('na,aij,ma,mjk->nik', evecs, solver(evals), evecs, x,
                      optimize=True)
    # Of the equations: what is left of them.
    left = (got - exact) + 10 * np.einsum('nm,ij,mjk->nik', matrix, inner,
                                          got - exact, optimize=True)
    self.assertLess(np.linalg.norm(left), .1 * np.linalg.norm(x))

  def test_leading_modes_do_not_leak_in_single_precision(self):
    _, evecs, matrix = problem('images')
    known = spectrum_lib.spectrum(matrix)
    series = spectrum_lib.series(lambda evals: 1 / (1 + evals[:, None, None]),
                                 known.ends)
    single = lambda a: np.asarray(a, np.float32)
    act = lambda x: spectrum_lib.of_rest(
        single(x)[:, None, None], single(known.evecs), single(matrix),
        single(series.coefficients), *map(np.float32, series[1:]))[:, 0, 0]
    x, leading = np.random.default_rng(0).normal(size=300), 1e4 * evecs[:, -1]
    both = act(x + leading)
    np.testing.assert_allclose(known.evecs.T @ both, 0, atol=3e-7 *
                               np.linalg.norm(both))

  def test_terms_are_those_that_are_needed(self):
    solver = lambda evals: 1 / (1 + evals[:, None, None])
    counts = [len(spectrum_lib.series(solver, (low, 10.)).coefficients)
              for low in (0., 5., 9., 10. - 1e-9)]
    self.assertEqual(counts, sorted(counts, reverse=True))
    self.assertLess(counts[-1], 2)
    self.assertLess(counts[0], spectrum_lib.TERMS)

  @parameterized.product(kind=tuple(_KINDS), noise=(1e-8, 1e-3, 10.),
                         same=(True, False))
  def test_inverse(self, kind, noise, same):
    _, _, matrix = problem(kind)
    rng = np.random.default_rng(3)
    noise = noise * (np.ones(300) if same else 10.**rng.uniform(-1, 1, 300))
    y = rng.normal(size=(300, 3))
    got = spectrum_lib.Inverse(jnp.asarray(matrix), noise)(y)
    whole = matrix + np.diag(noise)
    # As that of a Cholesky factor.
    bound = (1e-13 * np.linalg.norm(whole, 2) *
             np.linalg.norm(got / noise[:, None]**.5) * np.max(noise)**.5)
    self.assertLess(np.linalg.norm(whole @ got - y), bound)

  def test_few_iterations_do(self):
    _, _, matrix = problem('images')
    with mock.patch.object(spectrum_lib, '_MAX_ITERATIONS', 8):
      spectrum_lib.Inverse(matrix, np.full(300, 1e-3))(np.ones((300, 1)))

  def test_what_is_not_positive_has_no_inverse(self):
    _, _, matrix = problem('images')
    with self.assertRaises(np.linalg.LinAlgError):
      spectrum_lib.Inverse(matrix - 5 * np.eye(300), np.full(300, 1e-3))(
          np.ones((300, 1)))


if __name__ == '__main__':
  absltest.main()
