# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Draws of infinitely wide networks that learn with any loss."""

import copy
import functools
from typing import Any, NamedTuple, Optional, Protocol, Sequence
import warnings

import jax
from jax import random
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base import memory
from nt_ndk._src.base.devices import in_full_precision
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.moments import Moments
from nt_ndk._src.base.protocol import Phase
from nt_ndk._src.base.protocol import Protocol as Schedule
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import LossFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.dynamics import galerkin
from nt_ndk._src.dynamics.paths import Paths
from nt_ndk._src.dynamics.steps import FROM_MOMENTS
from nt_ndk._src.dynamics.steps import Scale
from nt_ndk._src.dynamics.steps import Steps
from nt_ndk._src.kernels.compressed import CompressedKernel
from nt_ndk._src.predictors.documentation import documented
from nt_ndk._src.predictors.losses import Loss
from nt_ndk._src.predictors.problem import Problem

# Tolerance of the NDK relative to `rtol`, its range, and what is left of it in
# single precision.
_KERNELS, _KERNEL_RTOL, _FLOAT32_RTOL = 1e-2, (1e-6, 1e-4), 1e-3
# That of the covariance, of which differences between near times matter.
_COVARIANCE = 1e-6
# Lengths of steps at first: relative to the time since the last change, in
# units of the fastest decay, and of the time in which kernels change by a
# tenth, for `rtol` of 1e-2. Errors are of second order in them.
_GROWTH, _FIRST, _LONGEST, _RTOL, _ORDER = .6, .3, 4., 1e-2, 2
# Least number of draws by which the error of steps is found, and numbers of
# outputs of more; how often steps are shortened.
_PILOT, _PILOT_OUTPUTS, _MAX_TRIALS = 32, 2**15, 3
# Numbers of one array of a block of draws that are solved for together.
_BLOCK = 2**17
# Memory of a process's past that is none, relative to `rtol`.
_FORGOTTEN = 1e-2
# Error of correlations of what is drawn, relative to `rtol`.
_PATHS = .3
# Key of the noise of gradients.
_NOISE = 2**31


class Draws(NamedTuple):
  """Outputs of draws of an infinitely wide network.

  All but the first and the last two have the shape of `t`, then that of the
  outputs on test inputs, `(m, ..., k)`.

  Attributes:
    t: times, as they were given.
    mean: average over draws.
    variance: over draws, of each output.
    mean_error: standard error of the mean.
    variance_error: standard error of the variance.
    n_networks: number of draws.
    draws: `[n_networks] + t.shape + (m, ..., k)`, each one network along
      learning.
  """
  t: Optional[np.ndarray]
  mean: np.ndarray
  variance: np.ndarray
  mean_error: np.ndarray
  variance_error: np.ndarray
  n_networks: int
  draws: np.ndarray


class SampleFn(Protocol):
  """Draws networks.

  Attributes:
    stats: what the last draws took.
  """
  stats: dict[str, Any]

  def __call__(self, key: jax.Array, n_samples: int, t: Times = None,
               x_test: PyTree = None, **kwargs: Any) -> Draws:
    """Outputs of draws at times `t`."""


class _Grid(NamedTuple):
  """Steps of a protocol.

  Attributes:
    steps: ends of steps.
    stage: `[N]`, number of the stage that each step is in.
    place: `[T]`, at which ends of steps outputs are wanted.
  """
  steps: Steps
  stage: np.ndarray
  place: np.ndarray

  def coarse(self) -> '_Grid':
    """Pairs of steps as one; only at their ends outputs are the same ones."""
    return _Grid(self.steps.coarse(), self.stage[::2], self.place // 2)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _normal(keys: jax.Array, number: Any, rows: int, columns: int) -> jax.Array:
  """Independent normal numbers, `[rows, columns, draws]`."""
  return jax.vmap(lambda key: random.normal(
      random.fold_in(key, number), (rows, columns), float), 0, -1)(keys)


class _Process:
  """Draws of the free process of a network, on training and test inputs.

  Attributes:
    place: `[N + 1]`, where ends of steps are among the times of `ends`.
    ends: `[U, outputs, k, draws]`, values at ends of steps, training outputs
      first.
    averages: `[N, rows, k, draws]`, of training outputs over steps.
  """

  def __init__(self, paths: Paths, columns: int, keys: jax.Array) -> None:
    """Draws `columns` independent copies for each key."""
    def draw(law, number):
      noise = np.asarray(_normal(keys, number, paths.outputs, columns))
      noise = noise[:law.root.shape[1]]
      out = law.root @ noise.reshape((len(noise), -1))
      if len(law.given):
        out += law.gain @ self.ends[law.given].reshape((law.gain.shape[1], -1))
      return out.reshape((-1,) + noise.shape[1:])

    self.place = paths.place
    shape = columns, len(keys)
    self.ends = np.empty((len(paths.tau), paths.outputs) + shape)
    for j, law in enumerate(paths.ends()):
      self.ends[j] = draw(law, 2 * j)
    self.averages = np.empty((len(paths.place) - 1, paths.rows) + shape)
    for j, law in enumerate(paths.averages()):
      self.averages[j] = draw(law, 2 * j + 1)

  @property
  def rows(self) -> int:
    return self.averages.shape[1]

  def some(self, draws: slice) -> '_Process':
    """Some of the draws."""
    out = copy.copy(self)
    out.ends, out.averages = self.ends[..., draws], self.averages[..., draws]
    return out

  def coarse(self, lengths: np.ndarray) -> '_Process':
    """Pairs of steps, of these lengths, as one."""
    out = copy.copy(self)
    out.place = self.place[::2]
    first, second = self.averages[::2], self.averages[1::2]
    share = (lengths[::2] / (lengths[::2] + lengths[1::2]))[:, None, None, None]
    out.averages = share * first + (1 - share) * second
    return out

  def at_points(self, j: int) -> np.ndarray:
    """Training outputs at the points of a step, `[2, rows, k, draws]`."""
    moments = self.averages[j], self.ends[self.place[j + 1], :self.rows]
    return np.tensordot(FROM_MOMENTS, np.stack(moments), 1)


class _Kernels(NamedTuple):
  """Matrices of compressed kernels.

  Attributes:
    ndk: `[rows, R * rows]`, NDK on training data.
    test: `[m, R * rows]`, between test and training data, or `None`.
    nngp: `[outputs, R' * outputs]`, covariance on training and test data.
  """
  ndk: jax.Array
  test: Optional[jax.Array]
  nngp: np.ndarray


class _Learning:
  """All that draws share: kernels, loss, protocol.

  Attributes:
    length: of steps, relative to those for `rtol` of 1e-2.
  """

  def __init__(self, problem: Problem, loss: Loss, schedule: Schedule,
               rtol: float, max_bytes: float) -> None:
    self._problem, self._loss, self._schedule = problem, loss, schedule
    self._rtol, self._max_bytes = rtol, max_bytes
    self._data = [(jax.tree_util.tree_map(jnp.asarray, stage.y),
                   jnp.asarray(stage.weight, problem.dtype))
                  for stage in schedule.stages]
    self.length = (rtol / _RTOL)**(1 / _ORDER)
    self._known: dict[Any, np.ndarray] = {}

  def __call__(self, key: jax.Array, count: int, times: np.ndarray,
               x_test: PyTree, kwargs: dict[str, Any]) -> np.ndarray:
    """Draws `[T, m, k, count]` at sorted training times."""
    problem, stats = self._problem, self._problem.stats
    kernels = self._kernels(x_test, kwargs)
    eps = float(jnp.finfo(problem.dtype).eps)
    keys = jax.vmap(lambda i: random.fold_in(key, i))(np.arange(count))
    for trial in range(_MAX_TRIALS):
      grid = self._grid(times)
      paths = Paths(problem.nngp.family, kernels.nngp, len(problem.y),
                    grid.steps, eps, _PATHS * self._rtol)
      group = self._group(paths, count)
      process = self._draw(paths, keys[:group])
      few = slice(0, min(max(_PILOT, _PILOT_OUTPUTS // problem.y.size), group))
      fine, coarse = (self._solve(kernels, g, p, keys[few], stride)
                      for g, p, stride in (
                          (grid, process.some(few), 1),
                          (grid.coarse(), process.some(few).coarse(
                              grid.steps.lengths), 2)))
      both = grid.place % 2 == 0
      error = _step_error(fine[both], coarse[both], paths.variances(
          grid.place[both])[:, -fine.shape[1]:])
      if error <= self._rtol or trial == _MAX_TRIALS - 1:
        break
      self.length *= float(np.clip(
          (.7 * self._rtol / error)**(1 / _ORDER), .25, .8))
    error = max(error, paths.error)
    stats.update(steps=len(grid.steps), estimated_error=error,
                 rank=problem.ndk.family.rank, fits=problem.ndk.fits)
    if error > self._rtol:
      warnings.warn(
          f'The estimated error of steps in time is {error:.1e}, relative to '
          f'the standard deviation without data (`rtol` is {self._rtol:.1e}). '
          'Take a smoother loss, or fewer decades of time.')
    out = [fine]
    done, first = fine.shape[-1], 0
    bar = problem.bar('Draws', count)
    while done < count:
      if done >= first + group:
        first += group
        process = self._draw(paths, keys[first:first + group])
      left = min(first + group, count) - done
      # Parts of equal size.
      stop = done + -(-left // -(-left // self._block()))
      out.append(self._solve(kernels, grid, process.some(
          slice(done - first, stop - first)), keys[done:stop], 1))
      done = stop
      bar.to(done)
    bar.close()
    return np.concatenate(out, -1)

  def _block(self) -> int:
    """Draws that are solved for together."""
    return max(1, _BLOCK // self._problem.y.size)

  def _group(self, paths: Paths, count: int) -> int:
    """Draws of the free process that are kept at a time."""
    columns = self._problem.y.shape[1]
    one = 8 * columns * (len(paths.tau) * paths.outputs +
                         3 * len(paths.place) * paths.rows)
    group = int(np.clip(self._max_bytes // one, 1, count))
    # Parts of equal size.
    group = -(-count // -(-count // group))
    self._problem.stats['planned_bytes'] = memory.require(
        group * one + paths.bytes, 'Draws', 'Pass a smaller `max_bytes`, fewer '
        'times or test inputs, or a larger `rtol`.')
    return group

  def _kernels(self, x_test: PyTree, kwargs: dict[str, Any]) -> _Kernels:
    """Matrices on the data."""
    problem = self._problem
    for kernel in (problem.ndk, problem.nngp):
      problem.include(kernel, x_test, kwargs)
    problem.kernel_error()
    ndk = problem.factors(problem.ndk)
    if x_test is None:
      return _Kernels(ndk, None, to_host(problem.factors(problem.nngp)))
    evaluator = problem.evaluator.joined(x_test, problem.test_arrays(kwargs))
    return _Kernels(
        ndk, problem.timed('test', lambda: problem.ndk.test_factors(
            x_test, **kwargs)),
        to_host(problem.timed('kernels', lambda: evaluator.train_train(
            'nngp', problem.nngp.family.tau))))

  # Steps.

  def _grid(self, times: np.ndarray) -> _Grid:
    """Steps that end at given training times, and where phases do."""
    ends, taus, stages, place = [0.], [0.], [], np.zeros(len(times), int)
    scales = self._problem.ndk.scales
    # Of what a process was this long ago nothing is left.
    memory_span = scales.slow * np.log(_FORGOTTEN * self._rtol) / np.log(
        1e-2 * self._problem.rtol)
    last = np.max(times, initial=0.)
    which = self._schedule.stage(times)
    for i, stage in enumerate(self._schedule.stages):
      if stage.start >= last and i:
        break
      inside = np.flatnonzero((which == i) & (times > 0))
      stops = np.unique(np.append(
          times[inside], stage.stop if stage.stop < last else []))
      if not stops.size:
        continue
      T = stage.temperature
      longest = memory_span / T if T else np.inf
      # Longer ones would tell nothing new.
      gaps = np.minimum(np.diff(stage.rate * (np.append(
          stage.start, stops[np.isfinite(stops)]) - stage.start)), longest)
      if np.isinf(stops[-1]):
        gaps = np.append(gaps, longest)
      local = np.cumsum(gaps)
      scale = self._scale(i, taus[-1], local[-1])
      start = ends[-1], taus[-1]
      for stop, steps in zip(stops, scale.divide(local)):
        ends.extend(start[0] + steps)
        taus.extend(start[1] + T * steps)
        stages.extend([i] * len(steps))
        place[inside[times[inside] == stop]] = len(stages)
    return _Grid(Steps(np.array(ends), np.array(taus)), np.array(stages, int),
                 place)

  def _scale(self, i: int, tau: float, end: float) -> Scale:
    """Lengths of steps of a stage that begins at a diffusion time."""
    problem, stage = self._problem, self._schedule.stages[i]
    family = problem.ndk.family
    kernel = np.tensordot(family.phi(tau, tau), np.asarray(to_host(
        problem.factors(problem.ndk)), float).reshape(
            (len(problem.y), family.rank, -1)), (0, 1))
    fastest = float(np.linalg.norm(kernel, 2)) * self._curvature(i)
    longest = self.length * _LONGEST * problem.ndk.scales.lag / max(
        stage.temperature, 1e-300)
    return Scale(self.length * _GROWTH, self.length * _FIRST / fastest,
                 min(longest, end))

  def _curvature(self, i: int) -> float:
    """Largest second derivative of the loss, of some outputs."""
    loss = self._loss
    rng = np.random.RandomState(2)
    f = self._typical * rng.standard_normal((loss.rows, loss.columns, 8))
    f[..., 0] = 0.
    second = galerkin.hessian(loss.gradient, jnp.asarray(f), self._data[i],
                              loss.locations)
    traces = np.abs(np.einsum('qqnb->nb', np.asarray(second)))
    return max(float(np.max(traces)), 1e-300)

  @functools.cached_property
  def _typical(self) -> float:
    """Size of outputs without data."""
    diagonal = np.diagonal(np.asarray(to_host(self._problem.prior_kernel)))
    return float(np.sqrt(np.mean(diagonal)))

  # Draws.

  def _draw(self, paths: Paths, keys: jax.Array) -> _Process:
    """The free process."""
    return self._problem.timed('covariance', lambda: _Process(
        paths, self._problem.y.shape[1], keys))

  def _solve(self, kernels: _Kernels, grid: _Grid, process: _Process,
             keys: jax.Array, stride: int) -> np.ndarray:
    """Outputs `[T, m, k, draws]` of the draws of a process."""
    return self._problem.timed('solver', lambda: self._steps(
        kernels, grid, process, keys, stride))

  def _steps(self, kernels, grid, process, keys, stride):
    rows, dtype = process.rows, self._problem.dtype
    weights = self._weights(grid.steps)
    start = process.ends[0]
    shown = slice(0, rows) if kernels.test is None else slice(rows, None)
    out = np.empty((len(grid.place),) + start[shown].shape)
    out[grid.place == 0] = start[shown]
    equations = galerkin.Equations(
        self._loss.gradient, kernels.ndk, weights,
        jnp.asarray(start[:rows], dtype), jax.vmap(
            lambda key: random.fold_in(key, _NOISE))(keys),
        self._loss.locations, .1 * self._rtol * self._typical)
    for j, stage in enumerate(grid.stage):
      f = equations.step(
          jnp.asarray(process.at_points(j), dtype), self._data[stage],
          self._schedule.stages[stage].temperature, stride * (j + 1))
      at = grid.place == j + 1
      if np.any(at):
        out[at] = f if kernels.test is None else (
            process.ends[process.place[j + 1], rows:] -
            equations.integral(kernels.test))
    self._problem.stats['iterations'] = equations.iterations
    return out

  def _weights(self, steps: Steps) -> np.ndarray:
    """Integrals of the NDK in time, kept for the same steps."""
    name = steps.s.tobytes(), steps.tau.tobytes(), self._problem.ndk.fits
    if name not in self._known:
      if len(self._known) > 1:
        self._known.clear()
      self._known[name] = steps.weights(self._problem.ndk.family)
    return self._known[name]


def _step_error(fine: np.ndarray, coarse: np.ndarray,
                variance: np.ndarray) -> float:
  """What twice as long steps make of mean and variance.

  Args:
    fine: `[T, m, k, draws]`, with the steps.
    coarse: of the same draws, with those twice as long.
    variance: `[T, m]`, without data.

  Returns:
    Root mean square over outputs, relative to the standard deviation or
    variance without data. What draws differ by, without any change of their
    mean, is left out.
  """
  count = fine.shape[-1]
  scale = np.where(variance > 0, variance, 1.)[..., None, None]
  centred = lambda a: a - np.mean(a, -1, keepdims=True)
  square = lambda a: centred(a)**2 * count / (count - 1)

  def size(change):
    noise = np.var(change, -1, ddof=1) / count
    return np.mean(np.mean(change, -1)**2 - noise)

  return float(np.sqrt(max(
      0., size((fine - coarse) / np.sqrt(scale)),
      size((square(fine) - square(coarse)) / scale))))


@in_full_precision
@documented
def markov_proximal_ensemble(
    loss: LossFn,
    kernel_fn: KernelFn,
    x_train: PyTree,
    y_train: Any,
    temperature: float,
    learning_rate: float = 1.,
    schedule: Optional[Sequence[Phase]] = None,
    trace_axes: Axes = (-1,),
    rtol: float = 1e-2,
    progress: bool = False,
    output_shape: Optional[tuple[int, ...]] = None,
    batch_size: int = 0,
    max_bytes: int = 2**30,
    **kernel_fn_train_train_kwargs: Any) -> SampleFn:
  r"""Draws infinitely wide networks that learn with any loss.

  The networks of the ensemble minimise a loss
  :math:`L = \sum_\mu \ell(f(x_\mu), y_\mu)` with L2 regularisation under noise
  of temperature :math:`T`,

  .. math::
    d\theta = -\eta \nabla \Big[ L(\theta) + \frac T2 \sum_i
    \frac{\theta_i^2}{s_i^2} \Big] dt + \sqrt{2 \eta T}\, dB,
    \qquad \theta_i(0) \sim N(0, s_{0,i}^2).

  At infinite width the outputs of each of them follow

  .. math::
    f(x, t) = g(x, t) - \int_0^t \mathrm{NDK}(x, t; X, t')
    \, \partial_f L(f(X, t'))\, \eta\, dt'

  with :math:`g` the network without data, a Gaussian process of covariance
  :math:`C` (the NNGP kernel at two times), independent for each output. Unless
  the loss is quadratic, :math:`f` is not Gaussian and its mean has no equation
  of its own: :math:`g` is drawn, and the equation solved for each draw. At late
  times draws are those of the posterior with the likelihood
  :math:`e^{-L / T}`.

  For the squared loss, :func:`markov_proximal_mse_ensemble` has no error of
  sampling. A loss that is not convex may have several minima, between which
  networks move at a rate that late times do not wait for.

  Args:
    loss:
      function `loss(fx, y)` of outputs `(n, ..., k)` and of `y_train`, as for
      :func:`neural_tangents.predict.gradient_descent`: a JAX function whose
      value is a number, the sum over samples (or any multiple of it). Time and
      temperature are in its units. Its gradient must be continuous.

    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`, with signature
      `kernel_fn(x1, x2, get, diffusion_time=(tau1, tau2))`; may be wrapped by
      `nt_ndk.batch`.

    x_train:
      {x_train}

    y_train:
      what `loss` takes, an array with one entry or row for each sample, such as
      labels.

    temperature:
      :math:`T \geq 0`; 0 is gradient flow, from random initial weights.

    learning_rate:
      factor of time, :math:`\eta`.

    schedule:
      phases, :class:`Phase`, in which temperature, learning rate, targets or
      weights of samples are others. `None` is a single one.

    trace_axes:
      axes of outputs along which they are independent and identically
      distributed without data, so that the kernel lacks them.

    rtol:
      tolerance of means and standard deviations that steps in time take,
      relative to the standard deviation without data. The error of sampling
      falls with the number of draws.

    progress:
      {progress}

    output_shape:
      shape of the outputs of one sample, `(..., k)`. `None` is that of the
      targets of one sample; labels need it.

    batch_size:
      {batch_size}

    max_bytes:
      memory that draws may take which are made at a time. One is the least.

    **kernel_fn_train_train_kwargs:
      {kernel_fn_train_train_kwargs}

  Returns:
    A function `sample_fn(key, n_samples, t=None, x_test=None,
    **kernel_fn_test_test_kwargs)` that returns :class:`Draws`. Its attribute
    `stats` tells what the last ones took.

  Raises:
    TypeError: if an argument is of the wrong kind.
    ValueError: if an argument is out of range, `loss` is not a sum over
      samples, or `kernel_fn` does not depend on `diffusion_time`.

  Example:
    >>> import jax
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512), stax.Relu(), stax.Dense(3))
    >>> x_train = random.normal(random.PRNGKey(0), (12, 4))
    >>> labels = jnp.argmax(x_train[:, :3], 1)
    >>> #
    >>> def cross_entropy(fx, y):
    >>>   return -jnp.sum(jax.nn.log_softmax(fx)[jnp.arange(len(y)), y])
    >>> #
    >>> sample_fn = predict.markov_proximal_ensemble(
    >>>     cross_entropy, kernel_fn, x_train, labels, temperature=.1,
    >>>     output_shape=(3,))
    >>> draws = sample_fn(random.PRNGKey(1), 20, t=jnp.array([1., 10.]))
    >>> # (20, 2, 12, 3) outputs on the training inputs.
    >>> outputs = draws.draws
    >>> # (2, 12, 3) probabilities of the ensemble.
    >>> probability = jax.nn.softmax(outputs).mean(0)
  """
  if not callable(loss):
    raise TypeError('`loss` must be a function `loss(fx, y)`, got '
                    f'{loss!r:.80}. For the squared loss there is '
                    '`predict.markov_proximal_mse_ensemble`.')
  for name, value in (('learning_rate', learning_rate), ('rtol', rtol),
                      ('max_bytes', max_bytes)):
    arguments.check_number(name, value, 0., strict=True)
  arguments.check_number('temperature', temperature, 0., strict=False)
  arguments.check_not_traced('y_train', y_train)
  y_train = arguments.to_arrays('y_train', y_train)
  if np.ndim(y_train) == 0:
    raise ValueError('`y_train` must have one entry for each sample, got '
                     f'{y_train!r}.')
  if output_shape is None:
    output_shape = np.shape(y_train)[1:]
  shape = (len(y_train),) + tuple(output_shape)
  if len(shape) < 2:
    raise ValueError('`output_shape`, the shape of the outputs of one sample '
                     'such as `(10,)` for ten classes, must be given where '
                     f'`y_train` is not like outputs, but has shape {shape}.')
  arguments.check_finite('y_train', y_train)
  axes = arguments.canonicalize_trace_axes(trace_axes, len(shape))
  on_matrix = Loss(loss, shape, axes)
  protocol = Schedule(schedule, y_train, temperature, learning_rate)
  for stage in protocol.stages:
    on_matrix.check(stage.y, 1.)
  pull = on_matrix.pull(protocol.stages[0].y)
  double = jax.dtypes.canonicalize_dtype(float) == np.float64
  problem = Problem(
      kernel_fn, x_train, jnp.asarray(pull), 0., axes,
      float(np.clip(_KERNELS * rtol, *_KERNEL_RTOL)) if double else
      _FLOAT32_RTOL, progress, batch_size, None, kernel_fn_train_train_kwargs)
  if double:
    problem.nngp = CompressedKernel(problem.evaluator, 'nngp', _COVARIANCE,
                                    float(np.finfo(float).eps))
  learning = _Learning(problem, on_matrix, protocol, rtol, max_bytes)

  @in_full_precision
  @documented
  def sample_fn(key: jax.Array, n_samples: int, t: Times = None,
                x_test: PyTree = None,
                **kernel_fn_test_test_kwargs: Any) -> Draws:
    """Draws networks, and their outputs at time[s] `t`.

    Args:
      key:
        random key. A network depends on it, on its number, and on the times
        asked for, but not on how many there are.

      n_samples:
        number of draws, at least 2.

      t:
        a scalar or an array of any shape, times in the units of `loss`. `None`
        (or infinity) is the end of learning, a time at which nothing is left of
        the initial weights; it needs a temperature.

      x_test:
        {x_test}

      **kernel_fn_test_test_kwargs:
        keyword arguments passed to `kernel_fn`, see
        `kernel_fn_train_train_kwargs`.

    Returns:
      `Draws`.

    Raises:
      ArithmeticError: if the equations of a step cannot be solved.
      MemoryError: if a draw does not fit into memory.
      TypeError: if a keyword argument is unknown.
      ValueError: if an argument is out of range.
    """
    times = arguments.canonicalize_time(t)
    arguments.check_count('n_samples', n_samples, 2)
    flat = np.array([np.inf]) if times is None else times.ravel()
    if not flat.size:
      raise ValueError('There must be at least one time `t`.')
    if np.any(np.isinf(flat)) and protocol.stages[-1].temperature == 0:
      raise ValueError('At temperature 0 the end of learning is not known for '
                       'any loss. Pass a late time `t`, or a temperature.')
    x_test, kwargs = problem.question(x_test, kernel_fn_test_test_kwargs, flat)
    sorted_times, place = np.unique(flat, return_inverse=True)
    draws = learning(key, int(n_samples), sorted_times, x_test, kwargs)
    t_shape = () if times is None else times.shape
    draws = np.moveaxis(draws, -1, 0)[:, place].reshape(
        (-1,) + t_shape + draws.shape[1:3])
    draws = np.asarray(problem.restore_mean(draws, draws.shape[:-2]))
    moments = Moments.of(draws)
    return Draws(times, moments.mean, moments.variance, moments.mean_error,
                 moments.variance_error, len(draws), draws)

  sample_fn.stats = problem.stats  # type: ignore[attr-defined]
  return sample_fn  # type: ignore[return-value]
