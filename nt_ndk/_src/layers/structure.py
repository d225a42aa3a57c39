# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What the kernels of a network depend on, with the numbers of weights apart.

Networks that differ in these numbers alone share what is compiled.
"""

from typing import Any, Callable, Hashable, NamedTuple, Sequence


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


def of_call(f: Callable[..., Any], args: Sequence[Any],
            kwargs: dict[str, Any]) -> Hashable:
  """Equal for calls of a function with equal arguments of equal types."""
  typed = lambda a: (type(a), a)
  out = f, tuple(map(typed, args)), tuple(
      (name, typed(a)) for name, a in sorted(kwargs.items()))
  try:
    hash(out)
  except TypeError:
    return object()  # Equal to no other.
  return out


def gather(kind: Hashable, parts: Sequence[Structure]) -> Structure:
  """Of a combination of layers."""
  keys = sum((part.keys for part in parts), ())
  # The same layer in two places has the same numbers in both.
  pattern = tuple(map(keys.index, keys))
  return Structure((kind, tuple(part.layers for part in parts), pattern), keys,
                   sum((part.numbers for part in parts), ()))
