# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Memory that matrices will take, and what there is of it."""

import os
from typing import Optional

import jax

# Limits of a container.
_LIMITS = ('/sys/fs/cgroup/memory.max',
           '/sys/fs/cgroup/memory/memory.limit_in_bytes')


def _read(path: str) -> str:
  if not os.path.exists(path):
    return ''
  with open(path, encoding='utf-8') as f:
    return f.read()


def available() -> Optional[int]:
  """Bytes that there are for arrays of JAX; `None` where no one says."""
  devices = jax.local_devices()
  if devices[0].platform != 'cpu':
    stats = [device.memory_stats() or {} for device in devices]
    if not all('bytes_limit' in s for s in stats):
      return None
    return sum(s['bytes_limit'] - s.get('bytes_in_use', 0) for s in stats)
  free = [int(line.split()[1]) * 1024
          for line in _read('/proc/meminfo').splitlines()
          if line.startswith('MemAvailable:')]
  limits = [int(limit) for limit in map(_read, _LIMITS)
            if limit.strip().isdigit()]
  return min(free + limits) if free else None


def check(matrix: int, kept: int, others: int) -> int:
  """Raises unless the matrices of a kernel fit into memory.

  Args:
    matrix: bytes of one.
    kept: number of those that are held in memory.
    others: bytes of what else there is at the same time.

  Returns:
    Bytes of all.

  Raises:
    MemoryError: if there is less.
  """
  matrices = f'{kept} x {matrix / 1e9:.2f} GB of matrices' if kept else (
      'Matrices in `store_dir`')
  return require(
      kept * matrix + others, f'{matrices} and {others / 1e9:.2f} GB for their '
      'evaluation and eigenvectors', 'Pass `store_dir` to keep matrices on '
      'disk, `batch_size` to evaluate them in parts, or a larger `rtol` to '
      'need fewer; use float32, or fewer samples.')


def require(planned: int, what: str, remedy: str) -> int:
  """Raises unless so many bytes are free.

  Args:
    planned: bytes.
    what: they are for.
    remedy: what to do if there are fewer.

  Returns:
    `planned`.

  Raises:
    MemoryError: if there are fewer.
  """
  free = available()
  if free is not None and planned > free:
    raise MemoryError(f'{what} are {planned / 1e9:.2f} GB in memory, but there '
                      f'are {free / 1e9:.2f} GB. {remedy}')
  return planned
