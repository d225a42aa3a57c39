# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Monte Carlo kernels at two times of networks with every kind of layer.

Samples finite networks of `tests/zoo.py` with `nt_ndk.monte_carlo` and writes
estimates and standard errors, which `tests/finite/monte_carlo_test.py` compares
with the closed forms. Takes about half an hour on two cores.

    python tests/ensemble/make_layer_kernels.py
"""

import os
import sys
import time
import zlib

from absl import app
from absl import flags
import jax
from jax import random
import numpy as np

import nt_ndk
from nt_ndk import monte_carlo
from nt_ndk import stax

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..'))
import zoo  # pylint: disable=g-import-not-at-top,wrong-import-position

_HERE = os.path.dirname(os.path.abspath(__file__))
_ONLY = flags.DEFINE_list('only', None, 'Names of networks.')
_OUTPUT = flags.DEFINE_string(
    'output', os.path.join(_HERE, 'layer_kernels.npz'), 'File to write.')


# Standard error, relative to the kernel, that is good enough. With many more
# networks the bias of a finite width would show beside it. Where the closed
# form is more than `_FAR` standard errors away, half that error: then a
# difference that is not chance is twice as many standard errors.
_ENOUGH = .018
_FAR = 2.5
# Networks to begin with, and outputs of each. Covariances need many outputs,
# which cost little; for NDKs few are enough.
_SIZES = dict(nngp=(50, 1024), ndk=(50, 8))


def width(name):
  """Images cost more, for each of their pixels."""
  shape = zoo.problem(name, 8)[1].shape
  return 256 if len(shape) > 2 else 512


def estimate(name, get, enough):
  """Estimate of a kernel at `zoo.TIMES`, and its relative standard error."""
  samples, outputs = _SIZES[get]
  (init_fn, apply_fn, _), x1, x2, kwargs = zoo.problem(name, width(name),
                                                       outputs)
  columns = name == 'transposed'
  while True:
    kernel = monte_carlo.two_time_kernel_fn(
        init_fn, stax.unmask_fn(apply_fn),
        random.PRNGKey(zlib.crc32(name.encode())), samples,
        trace_axes=(0,) if columns else (-1,),
        vmap_axes=None if columns or kwargs else 0,
        implementation=nt_ndk.NtkImplementation.JACOBIAN_CONTRACTION)(
            x1, x2, get, diffusion_time=zoo.TIMES, **kwargs)
    relative = np.max(kernel.standard_error / np.abs(kernel.mean))
    if relative < enough:
      return kernel, samples, relative
    samples = int(1.3 * samples * (relative / enough)**2)


def main(argv):
  del argv
  jax.config.update('jax_enable_x64', True)
  out = {}
  if os.path.exists(_OUTPUT.value):
    out.update(np.load(_OUTPUT.value))
  for name in _ONLY.value or zoo.NETWORKS:
    begin = time.perf_counter()
    (_, _, kernel_fn), x1, x2, kwargs = zoo.problem(name, width(name))
    exact = kernel_fn(x1, x2, tuple(_SIZES), diffusion_time=zoo.TIMES, **kwargs)
    line = [f'{name:22}']
    for get in _SIZES:
      for enough in (_ENOUGH, _ENOUGH / 2):
        kernel, samples, relative = estimate(name, get, enough)
        z = np.max(np.abs(kernel.mean - getattr(exact, get)) /
                   kernel.standard_error)
        if z < _FAR:
          break
      for field, value in kernel._asdict().items():
        out[f'{name}.{get}.{field}'] = np.asarray(value)
      line.append(f'{get}: {samples} networks, error {relative:.2%}, '
                  f'z {z:.2f};')
    print(*line, f'{time.perf_counter() - begin:.0f} s', flush=True)
    np.savez_compressed(_OUTPUT.value, **out)


if __name__ == '__main__':
  app.run(main)
