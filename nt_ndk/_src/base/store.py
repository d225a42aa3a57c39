# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Results in a folder, where another process finds them.

Whatever is found there is whole: what has no checksum, or a wrong one, because
the process or the machine was stopped, is not there.
"""

import glob
import hashlib
import itertools
import json
import os
import shutil
from typing import Any, BinaryIO, Callable, Iterator
import zipfile
import zlib

import jax
import numpy as np

from nt_ndk._src.base.version import __version__


def fingerprint(tree: Any) -> str:
  """Digest of a tree of arrays, numbers and strings."""
  leaves, structure = jax.tree_util.tree_flatten(tree)
  digest = hashlib.sha256(str(structure).encode())
  for leaf in leaves:
    if hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(
        leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    leaf = np.asarray(leaf)
    digest.update(f'{leaf.dtype} {leaf.shape} '.encode() + leaf.tobytes())
  return digest.hexdigest()


def _write(path: str, write: Callable[[BinaryIO], Any]) -> None:
  """Writes a file, which is replaced at once."""
  temporary = f'{path}.{os.getpid()}'
  with open(temporary, 'wb') as f:
    write(f)
  os.replace(temporary, path)


def _checksum(matrix: np.ndarray) -> int:
  total = 0
  for row in matrix:
    total = zlib.crc32(row, total)
  return total


class Matrices:
  """Square matrices side by side, `[n, R * n]`, in a file.

  Attributes:
    missing: indices of those that are not there yet.
  """

  def __init__(self, path: str, n: int, count: int, dtype: Any) -> None:
    """Opens or makes the file `path`; checksums are in another one beside it.

    Args:
      path: of the file.
      n: size of a matrix.
      count: number of matrices.
      dtype: of their entries.

    Raises:
      OSError: if there is no room for the matrices that are missing.
    """
    self._path, self._n, self._count = path, n, count
    self._dtype = np.dtype(dtype)
    with open(path, 'ab') as f:
      f.truncate(n * count * n * self._dtype.itemsize)
    try:
      with open(self._sums_path, encoding='utf-8') as f:
        self._sums = json.load(f)
    except (OSError, ValueError):
      self._sums = {}
    matrices = self.mapped()
    self.missing = [
        r for r in range(count) if str(r) not in self._sums or
        self._sums[str(r)] != _checksum(matrices[:, r * n:(r + 1) * n])]
    needed = len(self.missing) * n * n * self._dtype.itemsize
    free = shutil.disk_usage(os.path.dirname(path)).free
    if needed > free:
      raise OSError(
          f'{len(self.missing)} matrices of {n} x {n} take {needed / 1e9:.2f} '
          f'GB, but there are {free / 1e9:.2f} GB of room in '
          f'{os.path.dirname(path)!r}. Choose another `store_dir`, a larger '
          '`rtol`, float32, or fewer samples.')

  @property
  def _sums_path(self) -> str:
    return f'{self._path}.json'

  def put(self, r: int, matrix: jax.Array) -> None:
    """Writes a matrix, and then that it is there."""
    rows = np.ascontiguousarray(matrix, self._dtype)
    width = self._n * self._dtype.itemsize
    # Not through memory: the file system could not say that it is full.
    with open(self._path, 'r+b') as f:
      for i, row in enumerate(rows):
        f.seek((i * self._count + r) * width)
        f.write(row)
    self._sums[str(r)] = _checksum(rows)
    _write(self._sums_path,
           lambda f: f.write(json.dumps(self._sums).encode()))
    self.missing.remove(r)

  def mapped(self) -> np.ndarray:
    """All matrices, which the system reads when they are used."""
    return np.memmap(self._path, self._dtype, 'r',
                     shape=(self._n, self._count * self._n))


class Journal:
  """Records, dictionaries of arrays, in the order in which they were made."""

  def __init__(self, folder: str) -> None:
    """Opens or makes the folder."""
    self._folder, self._count = folder, 0
    os.makedirs(folder, exist_ok=True)

  def _path(self, i: int) -> str:
    return os.path.join(self._folder, f'{i:06d}.npz')

  def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
    """Reads records up to the first that is not whole; removes the others."""
    for self._count in itertools.count():
      try:
        with np.load(self._path(self._count)) as file:
          record = dict(file)
      except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile):
        break
      yield record
    for path in glob.glob(os.path.join(glob.escape(self._folder), '*.npz')):
      if path >= self._path(self._count):
        os.remove(path)

  def append(self, record: dict[str, Any]) -> None:
    """Adds a record after those that were read."""
    _write(self._path(self._count), lambda f: np.savez(f, **record))
    self._count += 1


class Store:
  """A folder with results of any number of problems, by their fingerprints."""

  def __init__(self, folder: str) -> None:
    """Makes the folder if there is none."""
    self._folder = os.path.abspath(folder)
    os.makedirs(self._folder, exist_ok=True)

  def _path(self, key: Any, kind: str) -> str:
    versions = jax.__version__, __version__
    return os.path.join(self._folder, f'{fingerprint((key, versions))}.{kind}')

  def matrices(self, key: Any, n: int, count: int, dtype: Any) -> Matrices:
    return Matrices(self._path(key, 'matrices'), n, count, dtype)

  def journal(self, key: Any) -> Journal:
    return Journal(self._path(key, 'journal'))
