# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The free weight process: what a weight does when there are no data."""

from typing import Any, NamedTuple, Union

from jax import Array
import jax.numpy as jnp

Time = Union[float, Array]


class WeightProcess(NamedTuple):
  r"""Ornstein-Uhlenbeck process of a weight under its prior and noise.

  Without data, Langevin learning at temperature :math:`T` moves each weight by
  :math:`d\theta = -(T/s^2)\,\theta\,dt + \sqrt{2T}\,dB` from
  :math:`\theta(0) \sim N(0, s_0^2)`. In the diffusion time :math:`\tau = T t`
  the temperature drops out (Avidan, Li and Sompolinsky, arXiv:2309.04522).

  A weight that is frozen, not trainable, stays where it is: it keeps its
  variance and does not respond.

  Attributes:
    init_std: :math:`s_0`, standard deviation at initialisation.
    prior_std: :math:`s`, standard deviation under the prior, which the process
      reaches at late times; its relaxation time is :math:`\tau = s^2`. 0 is a
      frozen weight.
    noise: variance of the noise, relative to that of the equation. Without it
      weights decay, and `prior_std` tells no more than how fast.
  """
  init_std: float
  prior_std: float
  noise: float = 1.

  def scaled(self, factor: Any) -> 'WeightProcess':
    """That of the weight times a factor."""
    return WeightProcess(factor * self.init_std, factor * self.prior_std,
                         self.noise)

  @property
  def relaxation_time(self) -> Array:
    r""":math:`s^2`, or infinity."""
    return jnp.where(self.prior_std == 0, jnp.inf, self.prior_std**2)

  def variance(self, tau: Time) -> Array:
    r""":math:`s_0^2 e^{-2\tau/s^2} + s^2 (1 - e^{-2\tau/s^2})`."""
    decay = -2 * tau / self.relaxation_time
    return (self.init_std**2 * jnp.exp(decay) -
            self.noise * self.prior_std**2 * jnp.expm1(decay))

  def memory(self, tau1: Time, tau2: Time) -> Array:
    r""":math:`e^{-|\tau_1 - \tau_2| / s^2}`, what is left of a weight."""
    return jnp.exp(-jnp.abs(tau1 - tau2) / self.relaxation_time)

  def response(self, tau1: Time, tau2: Time) -> Array:
    r""":math:`r(\tau_1, \tau_2)`: the memory, or 0 of a frozen weight."""
    return jnp.where(self.prior_std == 0, 0., self.memory(tau1, tau2))

  def autocovariance(self, tau1: Time, tau2: Time) -> Array:
    r""":math:`m(\tau_1, \tau_2)`: the memory times the earlier variance."""
    return self.memory(tau1, tau2) * self.variance(jnp.minimum(tau1, tau2))
