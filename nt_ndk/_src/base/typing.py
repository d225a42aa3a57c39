# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Names of types."""

from typing import Any, Callable, ParamSpec, Protocol, Union

from jax.typing import ArrayLike

# Arrays, or containers of arrays: inputs, parameters, and what else JAX maps.
PyTree = Any
# Of an array or, for instance, a list.
Times = Any

# `init_fn(key, input_shape)`, `apply_fn(params, x, **kwargs)` and
# `kernel_fn(x1, x2, get, **kwargs)` of a network; they may have attributes.
InitFn = Callable[..., Any]
ApplyFn = Callable[..., Any]
KernelFn = Callable[..., Any]
# `loss(fx, y)` of outputs and targets.
LossFn = Callable[[Any, Any], Any]
# The three of a layer.
Layer = tuple[InitFn, ApplyFn, KernelFn]
# Arguments of a function that makes a layer.
P = ParamSpec('P')

Axes = Union[int, tuple[int, ...]]
Get = Union[None, str, tuple[str, ...]]
# `False`, `True`, or "diag".
ComputeCov = Union[bool, str]
# A pair of diffusion times.
DiffusionTimes = tuple[ArrayLike, ArrayLike]
# A number, or one for each of several.
Numbers = Any


class PredictFn(Protocol):
  """A predictor.

  Attributes:
    stats: what the last prediction took.
  """
  stats: dict[str, Any]

  def __call__(self, t: Times = None, x_test: PyTree = None, *args: Any,
               **kwargs: Any) -> Any:
    """Mean, or mean and covariance."""
