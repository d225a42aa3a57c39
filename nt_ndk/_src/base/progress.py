# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Progress bars."""


class Bar:
  """A progress bar, if wanted."""

  def __init__(self, wanted: bool, description: str, total: float) -> None:
    self._bar = None
    if wanted:
      try:
        from tqdm import auto  # pylint: disable=g-import-not-at-top
      except ImportError as e:
        raise ImportError('`progress=True` needs `pip install tqdm`.') from e
      self._bar = auto.tqdm(
          desc=description, total=total,
          bar_format='{l_bar}{bar}| [{elapsed}<{remaining}]')

  def to(self, n: float) -> None:
    if self._bar is not None:
      self._bar.update(max(min(n, self._bar.total) - self._bar.n, 0))

  def close(self):
    if self._bar is not None:
      self._bar.close()
