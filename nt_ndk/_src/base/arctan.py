# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The angle in kernels of ReLU and erf, which takes most of their time.

XLA computes `arctan2` on CPUs one number at a time, several times slower than
a fraction of polynomials, which it computes for several at once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import Polynomial

# Angles that take longer to compile than to compute.
_FEW = 256
_EIGHTH = 2**.5 - 1  # Tangent of an eighth of half a turn.


def _fraction(terms: int) -> tuple[list[float], list[float]]:
  """Coefficients of `p / q = (1 - arctan(z) / z) / z**2` in `z**2`.

  That of the continued fraction z / (1 + z**2 / (3 + 4 z**2 / (5 + ...))).
  """
  angle, q = [Polynomial([a]) for a in (0, 1)], [Polynomial([1])] * 2
  for k in range(1, terms):
    for p in angle, q:
      p.append((2 * k + 1) * p[-1] + Polynomial([0, k**2]) * p[-2])
  return tuple((p.coef / q[-1].coef[0]).tolist()
               for p in (Polynomial((q[-1] - angle[-1]).coef[1:]), q[-1]))


_ABOVE, _BELOW = _fraction(12)


def _polynomial(coefficients: list[float], x: jax.Array) -> jax.Array:
  return functools.reduce(lambda out, a: out * x + a, coefficients[::-1],
                          jnp.zeros_like(x))


@jax.custom_jvp
def _arctan2(y: jax.Array, x: jax.Array) -> jax.Array:
  """Angle of finite points `(x, y)` but the origin, as `jax.numpy.arctan2`.

  Args:
    y: real.
    x: real, of a shape that fits.

  Returns:
    Angles between `-pi` and `pi`, with a relative error of two rounding errors.
  """
  if max(np.size(x), np.size(y)) < _FEW:
    return jnp.arctan2(y, x)
  across, up = jnp.abs(x), jnp.abs(y)
  low, high = jnp.minimum(across, up), jnp.maximum(across, up)
  turned = low > _EIGHTH * high
  z = (jnp.where(turned, low - high, low) /
       jnp.where(turned, low + high, high))
  w = z * z
  # Divided last: XLA does not compute a quotient anew wherever it is used.
  angle = z - z * w * _polynomial(_ABOVE, w) / _polynomial(_BELOW, w)
  angle += jnp.where(turned, np.pi / 4, 0.)
  angle = jnp.where(up > across, np.pi / 2 - angle, angle)
  return jnp.copysign(jnp.where(x < 0, np.pi - angle, angle), y)


@_arctan2.defjvp
def _arctan2_jvp(primals, tangents):
  (y, x), (dy, dx) = primals, tangents
  return _arctan2(y, x), (x * dy - y * dx) / (x**2 + y**2)


arctan2 = jax.jit(_arctan2)
