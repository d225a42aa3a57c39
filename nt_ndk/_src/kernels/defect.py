# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What errors of kernels make of integrals along learning.

Most of it may be that of a few inputs, at a tenth of the times: many of both
have to be tried.
"""

from typing import Callable, Sequence

import numpy as np

from nt_ndk._src.dynamics.measure import Measure


def largest(integrals: Sequence[tuple[float, Measure]],
            errors: Callable[[np.ndarray], np.ndarray]) -> float:
  """The largest error of integrals over earlier times and training outputs.

  Args:
    integrals: up to which time each is, and over what measure.
    errors: of kernels of some inputs with all training outputs, at pairs of
      times: `[Q, 2]` to `[Q, rows, n]`.
  """
  tau = [np.stack(np.broadcast_arrays(later, measure.tau), 1)
         for later, measure in integrals]
  parts = np.split(errors(np.concatenate(tau)),
                   np.cumsum([len(t) for t in tau[:-1]]))
  return max((float(np.max(np.abs(np.tensordot(part, measure.vectors,
                                               ((0, 2), (0, 1))))))
              for part, (_, measure) in zip(parts, integrals)), default=0.)
