# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Spreads large matrices over several devices."""

from typing import Any

import jax
import numpy as np


class Spread:
  """Puts rows of arrays on as many devices as divide a number of samples.

  What is computed from such arrays JAX computes on all of these devices.

  Attributes:
    count: number of devices.
  """

  def __init__(self, samples: int) -> None:
    """Chooses devices for a number of training samples."""
    devices = jax.devices()
    self.count = max(d for d in range(1, len(devices) + 1) if samples % d == 0)
    self._mesh = jax.sharding.Mesh(np.array(devices[:self.count]), ('rows',))

  def __call__(self, tree: Any) -> Any:
    """Spreads the first axis of all arrays; copies those it does not divide."""
    if self.count == 1:
      return tree

    def place(x):
      rows = jax.sharding.PartitionSpec(
          *['rows'] * (len(x) % self.count == 0))
      return jax.device_put(x, jax.sharding.NamedSharding(self._mesh, rows))

    return jax.tree_util.tree_map(place, tree)
