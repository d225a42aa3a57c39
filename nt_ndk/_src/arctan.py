# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The angle in kernels of ReLU and erf, which takes most of their time.

XLA computes `arctan2` on CPUs one number at a time, several times slower than
a fraction of polynomials, which it computes for several at once.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np
from numpy.polynomial import Polynomial

# Angles that take longer to compile than to compute.
_FEW = 256
_EIGHTH = np.sqrt(2) - 1  # Tangent of an eighth of half a turn.


def _fraction(terms: int) -> tuple[np.ndarray, np.ndarray]:
  """Coefficients of `p / q = (1 - arctan(z) / z) / z**2` in `z**2`.

  That of the continued fraction z / (1 + z**2 / (3 + 4 z**2 / (5 + ...))).
  """
  before = Polynomial([0]), Polynomial([1])
  now = Polynomial([1]), Polynomial([1])
  for k in range(1, terms):
    before, now = now, tuple((2 * k + 1) * b + Polynomial([0, k**2]) * a
                             for a, b in zip(before, now))
  angle, q = now
  scale = q.coef[0]
  return (q - angle).coef[1:] / scale, q.coef / scale


_ABOVE, _BELOW = _fraction(12)


def _polynomial(coefficients: np.ndarray, x: jax.Array) -> jax.Array:
  out = coefficients[-1]
  for coefficient in coefficients[-2::-1]:
    out = out * x + coefficient
  return out


@jax.jit
@jax.custom_jvp
def arctan2(y: ArrayLike, x: ArrayLike) -> jax.Array:
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


@arctan2.__wrapped__.defjvp
def _arctan2_jvp(primals, tangents):
  (y, x), (dy, dx) = primals, tangents
  return arctan2(y, x), (x * dy - y * dx) / (x**2 + y**2)
