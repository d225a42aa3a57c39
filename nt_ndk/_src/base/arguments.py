# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Arguments of predictors: what is accepted, and what is said otherwise."""

from typing import Any, Callable, Optional

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base.typing import Get
from nt_ndk._src.base.typing import PyTree


def canonicalize_get(get: Get) -> tuple[str, ...]:
  names = ('ndk', 'ntk', 'nngp') if get is None else (
      tuple(get) if isinstance(get, (tuple, list)) else (get,))
  names = tuple(str(name).lower() for name in names)
  if not names or not set(names) <= {'ndk', 'ntk', 'nngp'} or (
      len(set(names)) < len(names)):
    raise ValueError('`get` must be "ndk", "ntk", "nngp", a tuple of different '
                     f'ones of these, or `None` for all, got {get!r}.')
  return names


def canonicalize_time(t: Any) -> Optional[np.ndarray]:
  if t is None:
    return None
  check_not_traced('t', t)
  try:
    # Casting would leave out imaginary parts.
    t = np.asarray(t, np.result_type(np.asarray(t), float)).astype(
        float, casting='same_kind')
  except (TypeError, ValueError) as e:
    raise TypeError(f'Times `t` must be real numbers, got {t!r}.') from e
  if np.any(np.isnan(t)) or np.any(t < 0):
    raise ValueError('Times `t` must be numbers and not negative, got '
                     f'{t[np.isnan(t) | (t < 0)].ravel()[:3]}. `None` is '
                     'equilibrium.')
  return t


def canonicalize_finite_time(t: Any) -> np.ndarray:
  t = canonicalize_time(t)
  if t is None or not np.all(np.isfinite(t)):
    raise ValueError('Both times must be finite numbers, got '
                     f'{t}. For equilibrium pass two late times.')
  return t


def canonicalize_two_times(t1: Any, t2: Any) -> tuple[np.ndarray, np.ndarray]:
  t1, t2 = canonicalize_finite_time(t1), canonicalize_finite_time(t2)
  try:
    t1, t2 = np.broadcast_arrays(t1, t2)
  except ValueError as e:
    raise ValueError('`t1` and `t2` must broadcast against each other, got '
                     f'shapes {t1.shape} and {t2.shape}. For all pairs, pass '
                     '`t1[:, None]` and `t2`.') from e
  return t1, t2


def check_not_traced(name: str, values: PyTree) -> None:
  if any(isinstance(a, jax.core.Tracer)
         for a in jax.tree_util.tree_leaves(values)):
    raise TypeError(
        f'`{name}` must be known numbers, got values traced by `jax.jit`, '
        '`jax.vmap` or `jax.grad`. A predictor chooses its grids by the '
        'numbers that it is given: call it outside of these. For derivatives of'
        ' the mean there is `predict.differentiable_mean`.')


def to_arrays(name: str, x: PyTree) -> PyTree:
  """Arrays of numbers as JAX takes them, and tuples of these.

  Args:
    name: of the argument.
    x: an array of any kind, a list of numbers or of rows of numbers, or, for
      several branches of a network, a tuple or a list of these.

  Returns:
    Arrays of JAX as they are, all others of NumPy in the byte order of this
    machine; tuples in place of lists.

  Raises:
    TypeError: if there is something else than real numbers.
    ValueError: if rows have different lengths.
  """
  if isinstance(x, list) and all(
      np.ndim(a) < 2 for a in jax.tree_util.tree_leaves(x)):
    return _to_array(name, x)
  if type(x) in (list, tuple):
    return tuple(to_arrays(name, a) for a in x)
  return jax.tree_util.tree_map(lambda a: _to_array(name, a), x)


def _to_array(name: str, a: Any) -> Any:
  if not isinstance(a, jax.Array):
    if np.ma.is_masked(a):
      raise TypeError(f'`{name}` must not have entries masked by NumPy: fill '
                      'them with a number, and pass that as `mask_constant`.')
    try:
      a = np.asarray(a)
    except ValueError as e:
      raise ValueError(f'`{name}` must have rows of the same length.') from e
    if a.dtype == object:  # Of pandas, for instance.
      try:
        a = a.astype(float)
      except (TypeError, ValueError) as e:
        raise TypeError(f'`{name}` must be real numbers, got a '
                        f'{type(a.flat[0] if a.size else a).__name__}.') from e
    a = a.astype(a.dtype.newbyteorder('='), copy=False)
  if not (a.dtype == bool or jnp.issubdtype(a.dtype, jnp.integer) or
          jnp.issubdtype(a.dtype, jnp.floating)):
    raise TypeError(f'`{name}` must be real numbers, got {a.dtype}.')
  return a


def masked(a: Any, mask_constant: Optional[float]) -> Any:
  """Which entries of an array are masked, as Neural Tangents has it."""
  if mask_constant is None:
    return np.zeros(np.shape(a), bool)
  return np.isnan(a) if np.isnan(mask_constant) else a == mask_constant


def to_floats(name: str, x: PyTree,
              mask_constant: Optional[float] = None) -> PyTree:
  """The same in the precision of JAX, in host memory.

  Args:
    name: of the argument.
    x: see `to_arrays`.
    mask_constant: number that stands for masked entries; it is looked for in
      the precision of `x`.
  """
  check_not_traced(name, x)
  dtype = jax.dtypes.canonicalize_dtype(jnp.float64)

  def convert(a):
    a = np.asarray(a)
    out, where = a.astype(dtype, copy=False), masked(a, mask_constant)
    if np.any(where):
      out = out.copy()
      out[where] = mask_constant
    return out

  return jax.tree_util.tree_map(convert, to_arrays(name, x))


def check_finite(name: str, x: PyTree,
                 mask_constant: Optional[float] = None) -> None:
  """Raises unless all that is not masked is."""
  for a in jax.tree_util.tree_leaves(x):
    if not np.all(np.isfinite(a) | masked(a, mask_constant)):
      raise ValueError(f'`{name}` must be finite, but has NaN or infinity'
                       '. Pass what stands for missing entries as '
                       '`mask_constant`.')


def check_number(name: str, value: Any, low: float, strict: bool) -> None:
  check_not_traced(name, value)
  if not (np.ndim(value) == 0 and np.isreal(value)):
    raise TypeError(f'`{name}` must be a real number, got {value!r}.')
  if not (np.isfinite(value) and (value > low or value == low and not strict)):
    raise ValueError(f'`{name}` must be finite and {">" if strict else ">="} '
                     f'{low:g}, got {value!r}.')


def check_count(name: str, value: Any, low: int = 1) -> None:
  if not isinstance(value, (int, np.integer)) or value < low:
    raise ValueError(f'`{name}` must be a whole number and at least {low}, got '
                     f'{value!r}.')


def check_keywords(kwargs: dict[str, Any]) -> None:
  """Raises if one is meant for a predictor, which calls it otherwise."""
  for name, remedy in (
      ('diag_reg', 'The noise of the posterior is `temperature`: `diag_reg` '
       'times the mean of the diagonal of the NNGP kernel.'),
      ('weight_decay', 'It is `temperature / W_prior_std**2` of each layer.')):
    if name in kwargs:
      raise TypeError(f'There is no keyword argument `{name}`. {remedy}')


def check_data(x, y, mask_constant=None):
  """Raises unless arrays are training data."""
  leaves = jax.tree_util.tree_leaves(x)
  if not leaves or not all(np.ndim(a) >= 2 for a in leaves):
    raise ValueError('`x_train` must be arrays of shape `(n, ..., channels)`, '
                     f'got shapes {[np.shape(a) for a in leaves[:3]]}.')
  if np.ndim(y) < 2:
    raise ValueError('`y_train` must have shape `(n, ..., k)`, got '
                     f'{np.shape(y)}. One output is `y_train[:, None]`.')
  n = len(y)
  if any(len(a) != n for a in leaves):
    raise ValueError(f'`x_train` and `y_train` must have as many samples, got '
                     f'{[len(a) for a in leaves[:3]]} and {n}.')
  if np.size(y) == 0:
    raise ValueError('There must be at least one training sample and one '
                     f'output, got `y_train` of shape {np.shape(y)}.')
  if n % jax.process_count():
    raise ValueError(
        'The number of training samples must be a multiple of that of '
        f'processes, {jax.process_count()}, each of which holds as many rows of'
        f' all kernels, got {n}. Leave out {n % jax.process_count()}, or run '
        'fewer processes.')
  if n**2 > np.iinfo(np.int32).max:
    raise ValueError(
        f'A kernel of {n} x {n} samples has more than 2**31 - 1 entries, the '
        f'most that can be indexed. Use at most {int(2**15.5)} samples.')
  check_finite('x_train', x, mask_constant)
  check_finite('y_train', y)


def check_store_dir(store_dir):
  """Raises unless results can be kept there."""
  if store_dir is not None and jax.process_count() > 1:
    raise ValueError(
        f'`store_dir` needs a single process, but there are '
        f'{jax.process_count()}, each with a part of the matrices. Leave it '
        'out.')


def canonicalize_trace_axes(trace_axes: Any, ndim: int) -> tuple[int, ...]:
  """Negative axes of `y_train`, sorted."""
  axes = (trace_axes,) if np.ndim(trace_axes) == 0 else tuple(trace_axes)
  if not all(-ndim <= a < ndim for a in axes) or (
      len({a % ndim for a in axes}) < len(axes)):
    raise ValueError(f'`trace_axes` must be different axes of `y_train`, which '
                     f'has {ndim} axes, got {trace_axes}.')
  out = tuple(sorted(a % ndim - ndim for a in axes))
  if -ndim in out:
    raise ValueError('`trace_axes` must not contain the batch axis 0 of '
                     f'`y_train`, got {trace_axes} for {ndim} axes.')
  return out


def check_compute_cov(compute_cov):
  if not (isinstance(compute_cov, (bool, np.bool_)) or compute_cov == 'diag'):
    raise ValueError('`compute_cov` must be `False`, `True` or "diag" '
                     f'(variances only), got {compute_cov!r}.')


def check_test_data(x_test, x_train, mask_constant=None):
  """Raises unless test inputs are finite and like the training inputs."""
  shapes = lambda x: jax.tree_util.tree_map(lambda a: np.shape(a)[1:], x)
  structure: Callable[[Any], Any] = jax.tree_util.tree_structure
  if structure(x_test) != structure(x_train) or (
      shapes(x_test) != shapes(x_train)):
    raise ValueError('`x_test` must be like `x_train` but for the number of '
                     f'samples; a sample of it has shape {shapes(x_test)}, one '
                     f'of `x_train` {shapes(x_train)}.')
  lengths = [len(a) for a in jax.tree_util.tree_leaves(x_test)]
  if min(lengths) != max(lengths) or not lengths[0]:
    raise ValueError('`x_test` must have at least one sample, and as many for '
                     f'all branches of a network, got {lengths}.')
  check_finite('x_test', x_test, mask_constant)
