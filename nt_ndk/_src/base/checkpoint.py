# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""A file from which a long computation goes on after it was killed."""

import os
import time
from typing import Any, Callable, Optional

from flax import serialization

from nt_ndk._src.base import store

# Seconds between one writing and the next.
_EVERY = 30.


class Checkpoint:
  """Keeps arrays in a file, by Flax's serialisation.

  The file is replaced at once, so that it is whole whenever the process ends.
  """

  def __init__(self, path: Optional[str], problem: Any) -> None:
    """Takes where to keep arrays, and of what.

    Args:
      path: of the file; `None` keeps nothing.
      problem: a tree of arrays and numbers, all that results depend on. A file
        of another one is refused.
    """
    self._path, self._last = path, time.monotonic()
    self._problem = store.fingerprint(problem)

  def load(self) -> Optional[dict[str, Any]]:
    """What was kept last, if anything."""
    if self._path is None or not os.path.exists(self._path):
      return None
    with open(self._path, 'rb') as f:
      state = serialization.msgpack_restore(f.read())
    if state.pop('problem', None) != self._problem:
      raise ValueError(
          f'The checkpoint {self._path!r} belongs to another problem: data, '
          'times, keys or other arguments differ. Remove it, or choose another '
          'path.')
    return state

  def keep(self, state: Callable[[], dict[str, Any]],
           force: bool = False) -> None:
    """Keeps the arrays that `state` returns, if some time has passed."""
    if self._path is None or (
        not force and time.monotonic() - self._last < _EVERY):
      return
    temporary = f'{self._path}.{os.getpid()}'
    with open(temporary, 'wb') as f:
      f.write(serialization.msgpack_serialize(
          {'problem': self._problem, **state()}))
    os.replace(temporary, self._path)
    self._last = time.monotonic()
