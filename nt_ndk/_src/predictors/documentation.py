# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What the documentation of several predictors says in the same words."""

import inspect
import re
import textwrap
from typing import Any, Callable, TypeVar

_TEXTS = {
    'x_train': 'training inputs, the batch axis first.',
    'y_train': 'training targets, of shape `(n, ..., k)`.',
    'trace_axes': """
      axes of `y_train` along which outputs are independent and identically
      distributed, so that the kernel lacks them.
      """,
    'rtol': """
      tolerance of the mean, relative to the root mean square of `y_train`, and
      of the covariance, relative to the variance without data.
      """,
    'progress': 'whether to show progress bars (needs `tqdm`).',
    'batch_size': """
      number of samples whose kernels with as many others are computed at a
      time, on every device, by :obj:`neural_tangents.batch`; any number of
      samples will do. Bounds the memory of kernel evaluations. 0 is all at
      once.
      """,
    'store_dir': """
      folder in which kernel matrices and the learning trajectory are kept.
      Matrices are mapped into memory from there, rather than held in memory,
      and the same calls in another process go on where this one was stopped.
      Of any number of problems, each finds its own results. `None` keeps all
      in memory.
      """,
    'kernel_fn_train_train_kwargs': """
      keyword arguments passed to `kernel_fn`. Tuples of two arrays belong to
      the first and to the second inputs.
      """,
    'x_test': """
      test inputs. `None` means the predictor on the training inputs.
      """,
    'compute_cov': """
      `True` for the covariance between inputs at each time; `"diag"` for the
      variance of each input alone.
      """,
    'kernel_fn_test_test_kwargs': 'keyword arguments passed to `kernel_fn`.',
}
_F = TypeVar('_F', bound=Callable[..., Any])


def documented(f: _F) -> _F:
  """Decorates a function that leaves some of its documentation to this module.

  A line of its docstring that is `{name}`, and nothing else, becomes the text
  of that name, as far to the right.
  """

  def text(line: re.Match) -> str:
    indent, name = line.groups()
    return textwrap.indent(inspect.cleandoc(_TEXTS[name]), indent)

  if f.__doc__ is not None:  # As it is without docstrings, `python -OO`.
    f.__doc__ = re.sub(r'^( *)\{(\w+)\}$', text, f.__doc__, flags=re.MULTILINE)
  return f
