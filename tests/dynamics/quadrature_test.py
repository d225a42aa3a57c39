# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of integrals over a square-root cusp against closed forms."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import scipy.special

from nt_ndk._src.dynamics import quadrature


def primitive(x, power, delta):
  """Of `x^power sqrt(x + delta)`."""
  k, u = np.arange(power + 1), x + delta
  return np.sum(scipy.special.binom(power, k) * (-delta)**(power - k) *
                u**(k + 1.5) / (k + 1.5))


class CuspTest(parameterized.TestCase):

  @parameterized.product(near=(0., 1e-6, 1e-3, .3), power=(0, 3, 7))
  def test_closed_form(self, near, power):
    # Polynomials of panels times cusps of any width, one after the other.
    far = 1. + near
    lag, weights = quadrature.cusp_rule(np.array([near]), np.array([far]))
    for delta in np.append(0., 10.**np.arange(-12, 0.5, .5)):
      got = np.sum(weights[0] * lag[0]**power * np.sqrt(lag[0] + delta))
      want = primitive(far, power, delta) - primitive(near, power, delta)
      self.assertLess(abs(got / want - 1), 2e-11, delta)


class LagrangeTest(parameterized.TestCase):

  @parameterized.parameters(1, 3, 8)
  def test_polynomials(self, stages):
    # Of as many coefficients as there are nodes, also at and next to these.
    nodes = quadrature.Collocation.radau(stages).points
    x = np.concatenate([np.linspace(0., 1., 101), nodes, nodes * (1 - 1e-15)])
    basis = quadrature.lagrange(nodes, x)
    for power in range(stages):
      np.testing.assert_allclose(basis @ nodes**power, x**power, atol=1e-13)
    np.testing.assert_array_equal(quadrature.lagrange(nodes, nodes),
                                  np.eye(stages))
    self.assertEqual(quadrature.lagrange(nodes, .5).shape, (stages,))


if __name__ == '__main__':
  absltest.main()
