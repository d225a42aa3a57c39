# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What all predictors share: data, kernels, equilibrium, shapes."""

import functools
import time
from typing import Any, Callable, NamedTuple, Optional, Sequence
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base import memory
from nt_ndk._src.base import progress as progress_lib
from nt_ndk._src.base.arrays import Matrices
from nt_ndk._src.base.arrays import numpy_of
from nt_ndk._src.base.arrays import of_kind
from nt_ndk._src.base.devices import check_same
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.protocol import Stage
from nt_ndk._src.base.store import Store
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.measure import Measure
from nt_ndk._src.dynamics.spectrum import ALL_MODES
from nt_ndk._src.dynamics.volterra import ROOM
from nt_ndk._src.kernels import functions
from nt_ndk._src.kernels.compressed import CompressedKernel
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.evaluation import length
from nt_ndk._src.kernels.family import finite
from nt_ndk._src.kernels.family import TimeScales
from nt_ndk._src.kernels.programs import to_matrix
from nt_ndk._src.kernels.sample import Weights
from nt_ndk._src.layers import two_time

_FLOAT32_RTOL = 1e-3
# Estimated error that the user is told of if another fit does not mend it, in
# `rtol`, and one that matters to nobody: of everyday problems none below them
# had a true error above 10 `rtol`.
WORTH, _MATTERS = 12., 1e-6
# Matrices beside those of a kernel: that of the NTK, that under the prior,
# eigenvectors, and what these take to be found. Of more samples those under the
# prior, its Cholesky factor, and what these take.
_OTHERS, _OTHERS_OF_MANY = 7, 4
# Columns of targets that are solved for at once: as many as take these bytes,
# with about such a rank of kernels, but no fewer than these.
_COLUMN_BYTES, _SOME_RANK, _FEWEST_COLUMNS = 2**30, 12, 12
# Outputs, or mixtures of them, for which kernels have to be accurate, and
# numbers of modes that are learned of them.
_COLUMNS, _RIDGES = 4, 8
# Fits, and errors of all inputs and times for the largest ones of a few.
_MAX_FITS, _SAFETY = 3, 10


class Lesson(NamedTuple):
  """What is learned while nothing but the weights of a network changes.

  Attributes:
    temperature: not negative.
    y: `[rows, k]`, targets.
    weight: `[rows]`, factors of losses; `None` if all are 1.
  """
  temperature: float
  y: np.ndarray
  weight: Optional[np.ndarray]

  @property
  def weights(self) -> np.ndarray:
    return np.ones(len(self.y)) if self.weight is None else self.weight


class Problem:
  """A training set and the two-time kernels of a network on it.

  Attributes:
    kernel_fn: as given, without what it is wrapped in, in batches if there is
      a batch size.
    x_train, y_train: as given, in the precision of JAX.
    kwargs: keyword arguments of `kernel_fn`, also those that were bound to it.
    temperature, trace_axes: as given.
    y: `[rows, k]`, targets as a matrix. Outputs along trace axes are columns,
      all others are rows.
    rtol: tolerance that can be had.
    dtype: of large arrays.
    store: where results are kept, or `None`.
    evaluator: kernels on the training data.
    ndk, nngp: the same, compressed in time.
    late: a diffusion time at which equilibrium has long been reached.
    stats: counters and seconds.
  """

  def __init__(self, kernel_fn: KernelFn, x_train: PyTree, y_train: jax.Array,
               temperature: float, trace_axes: Axes, rtol: float,
               progress: bool, batch_size: int, store_dir: Optional[str],
               kwargs: dict[str, Any],
               scales: Optional[TimeScales] = None) -> None:
    arguments.check_number('temperature', temperature, 0., strict=False)
    arguments.check_number('rtol', rtol, 0., strict=True)
    kernel_fn, bound = functions.unwrapped(kernel_fn)
    kwargs = functions.canonicalize_keywords({**bound, **kwargs})
    arguments.check_keywords(kwargs)
    self._mask_constant = kwargs.get('mask_constant')
    x_train = arguments.to_floats('x_train', x_train, self._mask_constant)
    y_train = arguments.to_floats('y_train', y_train)
    check_same('arguments', (x_train, y_train, temperature, rtol, kwargs))
    arguments.check_data(x_train, y_train, self._mask_constant)
    functions.check_kernel_fn(kernel_fn, x_train, kwargs)
    functions.check_batch_size(batch_size, kernel_fn)
    arguments.check_store_dir(store_dir)
    if batch_size:
      kernel_fn = functions.batched(kernel_fn, batch_size)
    self.kernel_fn, self.x_train, self.kwargs = kernel_fn, x_train, kwargs
    self.y_train = y_train = jnp.asarray(y_train)
    self.temperature = float(temperature)
    self._progress = progress
    self._warned: set[str] = set()

    self.dtype = jax.dtypes.canonicalize_dtype(jnp.float64)
    eps = float(jnp.finfo(self.dtype).eps)
    self.rtol = float(rtol)
    if self.dtype == jnp.float32 and rtol < _FLOAT32_RTOL:
      self.rtol = _FLOAT32_RTOL
      warnings.warn(
          f'In float32 the tolerance of `get="ndk"` is {_FLOAT32_RTOL:g} '
          f'instead of {rtol:g}. For more, call '
          '`jax.config.update("jax_enable_x64", True)` first.')

    self.store = None if store_dir is None else Store(store_dir)
    self.trace_axes = arguments.canonicalize_trace_axes(trace_axes,
                                                        y_train.ndim)
    last = range(-len(self.trace_axes), 0)
    y = np.moveaxis(np.asarray(y_train), self.trace_axes, last)
    rows = y_train.ndim - len(self.trace_axes)
    self._locations, self._trace_shape = y.shape[1:rows], y.shape[rows:]
    self.evaluator = KernelEvaluator(
        kernel_fn, x_train, int(np.prod(self._locations)), self.store, **kwargs)
    self.y = self.flatten_mean(y_train).astype(self.dtype)
    self.y_scale = max(float(np.sqrt(np.mean(np.square(self.y)))), 1e-300)

    self.late = float(np.sqrt(jnp.finfo(self.dtype).max))
    self.ndk = CompressedKernel(self.evaluator, 'ndk', self.rtol, eps,
                                scales=scales, weights=self._some_weights)
    self.nngp = CompressedKernel(self.evaluator, 'nngp', self.rtol, eps,
                                 scales=scales)
    self.stats: dict[str, Any] = dict(
        kernel_evaluations=0, rank=0, fits=0, panels=0, planned_bytes=0,
        estimated_error=0.,
        estimated_covariance_error=0., seconds=dict(
            compression=0., kernels=0., solver=0., check=0., test=0.,
            covariance=0.))

  # Counters.

  def timed(self, part: str, f: Callable[[], Any]) -> Any:
    begin = time.perf_counter()
    out = jax.block_until_ready(f())
    self.stats['seconds'][part] += time.perf_counter() - begin
    self.stats['kernel_evaluations'] = self.evaluator.evaluations
    return out

  def bar(self, description: str, total: float) -> progress_lib.Bar:
    return progress_lib.Bar(self._progress, description, total)

  def warn(self, error: float) -> None:
    """Says once that the mean is less accurate than users expect."""
    self._warn('mean predictor', error, '`y_train`')

  def warn_of_covariance(self, error: float) -> None:
    """Says once that covariances are less accurate than users expect."""
    self._warn('covariance', error, 'the variance without data')

  def _warn(self, name: str, error: float, scale: str) -> None:
    if error <= max(WORTH * self.rtol, _MATTERS) or name in self._warned:
      return
    self._warned.add(name)
    warnings.warn(
        f'The estimated error of the {name} is {error:.1e}, relative to {scale}'
        f' (`rtol` is {self.rtol:.1e}): the kernel of these inputs is '
        'ill-conditioned at this temperature, and rounding errors are '
        f'amplified. {self.precision_advice}Leave out duplicated or nearly '
        'duplicated inputs, raise the temperature, or pass a larger `rtol` if '
        'that will do.')

  @property
  def precision_advice(self) -> str:
    """What warnings say first in float32."""
    return '' if self.dtype == jnp.float64 else (
        'Call `jax.config.update("jax_enable_x64", True)` first. ')

  # Kernels.

  @property
  def columns_together(self) -> int:
    """Number of columns of targets that are solved for at once."""
    column = ROOM * _SOME_RANK * len(self.y) * self.dtype.itemsize
    return max(_FEWEST_COLUMNS, int(_COLUMN_BYTES / column))

  def factors(self, kernel: CompressedKernel) -> jax.Array:
    """`[n, R * n]`, matrices of a compressed kernel on the training data."""
    rank = self.timed('compression', lambda: kernel.family.rank)
    if kernel.computed:
      return kernel.factors()
    matrix = len(self.y)**2 * self.dtype.itemsize
    others = _OTHERS if len(self.y) <= ALL_MODES else _OTHERS_OF_MANY
    self.stats['planned_bytes'] = memory.check(
        matrix, 0 if self.store else rank,
        max(others * matrix,
            2 * matrix + self.evaluator.temporary_bytes(kernel.get)) +
        rank * ROOM * matrix // len(self.y) * min(
            self.y.shape[1], self.columns_together) + ROOM * self.y.nbytes)
    size = f', {rank} x {matrix / 1e9:.2f} GB' if matrix > 1e7 else ''
    bar = self.bar(f'Kernels{size}', rank)
    out = self.timed('kernels', lambda: kernel.factors(bar.to))
    bar.close()
    return out

  def defect(self, integrals: Sequence[tuple[float, Measure]], x_test: PyTree,
             kwargs: dict[str, Any]) -> float:
    """Errors of integrals of the NDK, see `CompressedKernel.defect`."""
    return self.ndk.defect(integrals, x_test, self.test_arrays(kwargs))

  def test_arrays(self, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments that have a part for test inputs, that part."""
    return {k: kwargs[k][0] if k in kwargs else v
            for k, v in self.evaluator.arrays.items()}

  def include(self, kernel: CompressedKernel, x_test: PyTree,
              kwargs: dict[str, Any]) -> None:
    """Makes sure that a kernel is right between test and training data."""
    if x_test is not None:
      self.timed('compression', lambda: kernel.include(x_test,
                                                       self.test_arrays(kwargs)))

  def rows(self, x_test: PyTree) -> int:
    if x_test is None:
      return len(self.y)
    return length(x_test) * self.evaluator.locations

  def question(self, x_test: PyTree, kwargs: dict[str, Any],
               *times: Any) -> tuple[PyTree, dict[str, Any]]:
    """Test inputs and keyword arguments as arrays, if they make sense."""
    unknown = set(kwargs) - set(self.kwargs)
    if unknown:
      raise TypeError(f'`predict_fn` got keyword arguments {sorted(unknown)} '
                      'that the predictor was not made with.')
    kwargs = functions.canonicalize_keywords(kwargs)
    # NaN is one object.
    if kwargs.get('mask_constant', self._mask_constant) not in (
        self._mask_constant,):
      raise ValueError('`mask_constant` must be that of the training inputs, '
                       f'{self._mask_constant}, got {kwargs["mask_constant"]}.')
    if x_test is not None:
      x_test = arguments.to_floats('x_test', x_test, self._mask_constant)
      arguments.check_test_data(x_test, self.x_train, self._mask_constant)
    check_same('times and test inputs', (times, x_test, kwargs))
    return x_test, kwargs

  def kernel_error(self) -> float:
    """What the error of the NDK can make of the mean, relative to targets.

    The NDK is fitted again if that error is too large.
    """
    for _ in range(_MAX_FITS):
      error = _SAFETY * self.timed('check', self.ndk.weighted_error)
      if error <= self.rtol or self.ndk.exact:
        break
      if not self.timed('compression',
                        lambda: self.ndk.tighten(self.rtol / error)):
        break
    return error

  def _some_weights(self, rows: Optional[np.ndarray]) -> Weights:
    """Of the training outputs along learning, relative to targets.

    Those of ridge regression with the first and with the last kernel: at a
    diffusion time, modes are learned whose eigenvalues are larger than the
    temperature divided by that time.

    Args:
      rows: training outputs that are learned. They stand for all, of which
        errors add up. `None` means all.
    """
    out, since = [], []
    matrix = len(self.y)**2 * self.dtype.itemsize
    others = _OTHERS if rows is None else _OTHERS_OF_MANY - 1
    memory.check(matrix, 1, others * matrix)
    if rows is None:
      y = self.y
      kernels: tuple[Matrices, ...] = self.ndk.initial, self.prior_kernel
    else:
      y = (len(self.y) / len(rows))**.5 * self.y[rows]
      kernels = self.ndk.among(rows), self.prior_kernel[np.ix_(rows, rows)]
    if y.shape[1] > _COLUMNS:
      signs = np.random.RandomState(0).choice(
          [-1., 1.], (y.shape[1], _COLUMNS)) / y.shape[1]**.5
      y = y @ signs
    for kernel in kernels:
      evals, evecs = np.linalg.eigh(finite(np.asarray(to_host(kernel), float)))
      size = float(jnp.finfo(self.dtype).eps) * len(y) * evals[-1]
      smallest = max(self.temperature, size)
      for ridge in np.geomspace(smallest, max(evals[-1], 10 * smallest),
                                _RIDGES):
        modes = np.maximum(evals, 0.) + ridge
        out.append(evecs @ ((evecs.T @ y) / modes[:, None]))
        since.append(smallest / ridge)
    # Rounded, so that nothing is chosen by rounding errors.
    return Weights((np.stack(out) / self.y_scale).astype(np.float32).astype(
        float), np.array(since), rows)

  # Equilibrium.

  @functools.cached_property
  def prior_kernel(self) -> jax.Array:
    """Covariance of the training outputs under the prior of what learns."""
    kernel = self.timed('kernels', lambda: self.evaluator.train_train(
        'nngp', np.full((1, 2), self.late)))
    fixed = self.fixed_kernel
    return kernel if fixed is None else kernel - fixed

  @functools.cached_property
  def fixed_kernel(self) -> Optional[jax.Array]:
    """Covariance of what frozen weights make of the training outputs.

    Averaged over weights that learn, which is what outputs at times far apart
    have in common; `None` if no weights are frozen.
    """
    frozen = two_time.frozen(self.kernel_fn)
    if frozen is not None and not any(frozen):
      return None
    return self.timed('kernels', lambda: self.evaluator.train_train(
        'nngp', np.array([[self.late, self.late / 2]])))

  @functools.cached_property
  def _smallest_eigenvalue(self) -> float:
    """Of the NTK of outputs that are not always zero."""
    kernel = of_kind(self.ndk.initial)
    seen = np.flatnonzero(to_host(kernel.diagonal()))
    if len(seen) < len(kernel):
      kernel = kernel[np.ix_(seen, seen)]
    return float(to_host(numpy_of(kernel).linalg.eigvalsh(kernel)[0]))

  def check_gradient_flow(self):
    """Raises if learning without noise has no end that can be computed."""
    size = float(to_host(of_kind(self.ndk.initial).diagonal().max()))
    smallest = self._smallest_eigenvalue
    if not smallest > 4 * self.ndk.rounding * size:
      raise ArithmeticError(
          'The NTK of the training inputs is singular to rounding: its '
          f'smallest eigenvalue is {smallest:.1e}, its largest entry '
          f'{size:.1e}. Without noise, what is learned of duplicated inputs is '
          'not defined. Leave these out, take fewer samples or a deeper '
          'network, or use `markov_proximal_mse_ensemble` with a temperature.')

  def lesson(self, stage: Stage) -> 'Lesson':
    """What a stage of learning teaches."""
    weight = np.repeat(stage.weight, self.evaluator.locations)
    return Lesson(stage.temperature,
                  self.flatten_mean(stage.y).astype(self.dtype),
                  None if np.all(weight == 1) else weight)

  # Shapes.

  def restore_mean(self, out: Any, t_shape: tuple[int, ...] = ()) -> jax.Array:
    """`t_shape + [rows, columns]` to `t_shape + (n, ..., k)`."""
    n = out.shape[-2] // self.evaluator.locations
    out = out.reshape(t_shape + (n,) + self._locations + self._trace_shape)
    return jnp.asarray(np.moveaxis(
        out, range(-len(self.trace_axes), 0), self.trace_axes), self.dtype)

  def flatten_mean(self, mean: Any) -> np.ndarray:
    """`(n, ..., k)` to `[rows, columns]`."""
    last = range(-len(self.trace_axes), 0)
    mean = np.moveaxis(np.asarray(mean), self.trace_axes, last)
    return mean.reshape((len(mean) * self.evaluator.locations, -1))

  def flatten_covariance(self, covariance: jax.Array,
                         diagonal: bool) -> jax.Array:
    """`(n, a, ...)` to `[rows]`, or `(n, n, a, a, ...)` to `[rows, rows]`."""
    return covariance.ravel() if diagonal else to_matrix(covariance)

  def restore_covariance(self, out: Any, t_shape: tuple[int, ...] = (),
                         diagonal: bool = False) -> jax.Array:
    """To `t_shape + (n, a, ...)`, or `t_shape + (n, n, a, a, ...)` of NT."""
    n = out.shape[-1] // self.evaluator.locations
    shape = (n,) + self._locations
    if diagonal:
      return jnp.asarray(out.reshape(t_shape + shape), self.dtype)
    out = out.reshape(t_shape + 2 * shape)
    start, size = len(t_shape), len(shape)
    order = [start + i + j * size for i in range(size) for j in range(2)]
    return jnp.asarray(np.transpose(out, (*range(start), *order)), self.dtype)
