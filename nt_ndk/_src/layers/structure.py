# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernels of a network depend on, with the numbers of weights apart.

Networks that differ in these numbers alone share what is compiled.
"""

import enum
from typing import Any, Callable, Hashable, NamedTuple, Sequence

import numpy as np


class Structure(NamedTuple):
  """Of a layer or a network.

  Attributes:
    layers: equal for networks whose kernels are equal functions of the numbers,
      and for these only.
    keys: a key for each layer with random weights in its place.
    numbers: multipliers and standard deviations of each of these.
  """
  layers: Hashable
  keys: tuple[object, ...] = ()
  numbers: tuple[Any, ...] = ()


_PLAIN = (type(None), bool, int, float, complex, str, np.generic, enum.Enum)


def _is_plain(a: Any) -> bool:
  """Whether a value says all, and for ever; not so functions and objects."""
  return all(map(_is_plain, a)) if isinstance(a, tuple) else isinstance(
      a, _PLAIN)


def of_call(f: Callable[..., Any], args: Sequence[Any],
            kwargs: dict[str, Any]) -> Hashable:
  """Equal for calls of a function with equal arguments of equal types.

  Args:
    f: a function that depends on its arguments alone.
    args: its arguments.
    kwargs: its keyword arguments.

  Returns:
    What is equal to no other if an argument is more than numbers and strings.
  """
  values = (*args, *kwargs.values())
  if not all(map(_is_plain, values)):
    return object()
  return f, len(args), tuple(kwargs), tuple((type(a), a) for a in values)


def gather(kind: Hashable, parts: Sequence[Structure]) -> Structure:
  """Of a combination of layers."""
  keys = sum((part.keys for part in parts), ())
  # The same layer in two places has the same numbers in both.
  pattern = tuple(map(keys.index, keys))
  return Structure((kind, tuple(part.layers for part in parts), pattern), keys,
                   sum((part.numbers for part in parts), ()))
