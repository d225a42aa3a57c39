# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Predictors of infinitely wide networks during and after learning."""

import collections
import functools
import time
from typing import Any, Callable, Optional, Union
import warnings

import jax
import jax.numpy as jnp
from neural_tangents import predict as nt_predict
import numpy as np

from nt_ndk._src import kernel_family
from nt_ndk._src import layers
from nt_ndk._src.kernel_evaluation import KernelEvaluator
from nt_ndk._src.volterra import VolterraSolver

# Pairs of samples on which kernels are compressed, by angle.
_SAMPLE_PAIRS = 18
_POOL_SIZE = 1000
_MAX_FITS = 3
_FLOAT32_RTOL = 1e-3


def markov_proximal_mse_ensemble(
    kernel_fn,
    x_train,
    y_train: jax.Array,
    temperature: float,
    learning_rate: float = 1.,
    trace_axes: Union[int, tuple[int, ...]] = (-1,),
    rtol: float = 1e-5,
    progress: bool = False,
    **kernel_fn_train_train_kwargs):
  r"""Predicts an infinite ensemble under Markov proximal (Langevin) learning.

  The networks of the ensemble minimise the mean squared error with L2
  regularisation under noise of temperature :math:`T`: in units where the loss
  is :math:`\frac12 \sum (f(x_\mu) - y_\mu)^2`,

  .. math::
    d\theta = -\nabla \Big[ \frac12 \sum_\mu (f(x_\mu; \theta) - y_\mu)^2 +
    \frac T2 \sum_i \frac{\theta_i^2}{s_i^2} \Big] dt + \sqrt{2T}\, dB,
    \qquad \theta_i(0) \sim N(0, s_{0,i}^2),

  with :math:`s_0` the `W_init_std` and :math:`s` the `W_prior_std` of the
  layers. Learning starts with gradient flow in the neural tangent kernel (NTK)
  and ends at the Bayesian posterior of the neural network Gaussian process
  (NNGP) with noise of variance :math:`T`. In between, the mean predictor
  follows from the Neural Dynamical Kernel (NDK),

  .. math::
    \langle f(x, t) \rangle = \int_0^t \mathrm{NDK}(x, t; X, t')
    \big(Y - \langle f(X, t') \rangle\big)\, dt'

  (Avidan, Li and Sompolinsky, arXiv:2309.04522). It is solved for the training
  data when it is first needed, up to the latest time asked for, and kept.

  If not sure about `rtol`, keep 1e-5 and look at
  `predict_fn.stats['estimated_error']`. Small temperatures and tolerances need
  float64, `jax.config.update('jax_enable_x64', True)`.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`, with signature
      `kernel_fn(x1, x2, get, diffusion_time=(tau1, tau2))`; may be wrapped by
      `nt_ndk.batch`.

    x_train:
      training inputs, the batch axis first.

    y_train:
      training targets, of shape `(n, ..., k)`.

    temperature:
      :math:`T \geq 0`, variance of the label noise that the posterior assumes.
      0 is gradient flow.

    learning_rate:
      factor of time, as in
      :func:`neural_tangents.predict.gradient_descent_mse_ensemble`.

    trace_axes:
      axes of `y_train` along which outputs are independent and identically
      distributed, so that the kernel lacks them.

    rtol:
      tolerance of the mean, relative to the root mean square of `y_train`.

    progress:
      whether to show progress bars (needs `tqdm`).

    **kernel_fn_train_train_kwargs:
      keyword arguments passed to `kernel_fn`. Tuples of two arrays belong to
      the first and to the second inputs.

  Returns:
    A function `predict_fn(t=None, x_test=None, get=None, compute_cov=False,
    **kernel_fn_test_test_kwargs)` that returns predictions at times `t`. Its
    attribute `stats` tells what the last prediction took.

  Raises:
    TypeError: if an argument is of the wrong kind.
    ValueError: if an argument is out of range, or `kernel_fn` does not depend
      on `diffusion_time`.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512, W_init_std=2.), stax.Relu(), stax.Dense(1))
    >>> x_train = random.normal(random.PRNGKey(0), (20, 10))
    >>> y_train = jnp.sign(x_train[:, :1])
    >>> x_test = random.normal(random.PRNGKey(1), (5, 10))
    >>> #
    >>> predict_fn = predict.markov_proximal_mse_ensemble(
    >>>     kernel_fn, x_train, y_train, temperature=1e-2)
    >>> t = jnp.logspace(-1, 5, 50)
    >>> # (50, 5, 1) mean predictor along the trajectory.
    >>> mean = predict_fn(t=t, x_test=x_test, get='ndk')
  """
  predictor = _Predictor(kernel_fn, x_train, y_train, temperature,
                         learning_rate, trace_axes, rtol, progress,
                         kernel_fn_train_train_kwargs)

  def predict_fn(t=None, x_test=None, get=None, compute_cov=False,
                 **kernel_fn_test_test_kwargs):
    """Returns the mean predictor at time[s] `t`.

    Args:
      t:
        a scalar or an array of any shape, times in the units of
        :func:`neural_tangents.predict.gradient_descent_mse_ensemble`: with the
        sum of squares as loss, the time is `t * learning_rate / y_train.size`.
        `None` (or infinity) is equilibrium.

      x_test:
        test inputs. `None` means the predictor on the training inputs.

      get:
        `"ndk"`, the learning trajectory at the given temperature; `"ntk"` or
        `"nngp"`, what Neural Tangents predicts for gradient flow from the same
        initialisation without noise and regularisation; a tuple of these; or
        `None` for all three.

      compute_cov:
        whether to return the covariance too. Not yet implemented for `"ndk"`.

      **kernel_fn_test_test_kwargs:
        keyword arguments passed to `kernel_fn`, see
        `kernel_fn_train_train_kwargs`.

    Returns:
      The mean, of shape `t.shape + (n_test, ..., k)`, or a namedtuple of means.

    Raises:
      NotImplementedError: if `compute_cov` is set for `"ndk"`.
      ValueError: if an argument is out of range.
    """
    names = _canonicalize_get(get)
    t = _canonicalize_time(t)
    out = {}
    for name in names:
      if name == 'ndk' and temperature > 0:
        if compute_cov:
          raise NotImplementedError(
              'The covariance of `get="ndk"` is not implemented yet; leave out '
              '`compute_cov`, or use `get="ntk"` or "nngp".')
        out[name] = predictor.mean(t, x_test, **kernel_fn_test_test_kwargs)
      else:
        out[name] = predictor.gradient_flow(
            t, x_test, 'ntk' if name == 'ndk' else name, compute_cov,
            **kernel_fn_test_test_kwargs)
    if isinstance(get, str):
      return out[names[0]]
    return collections.namedtuple('Gaussians', names)(**out)

  predict_fn.stats = predictor.stats
  return predict_fn


# Arguments.


def _canonicalize_get(get) -> tuple[str, ...]:
  names = ('ndk', 'ntk', 'nngp') if get is None else (
      (get,) if isinstance(get, str) else tuple(get))
  names = tuple(name.lower() for name in names)
  if not names or not set(names) <= {'ndk', 'ntk', 'nngp'} or (
      len(set(names)) < len(names)):
    raise ValueError('`get` must be "ndk", "ntk", "nngp", a tuple of different '
                     f'ones of these, or `None` for all, got {get!r}.')
  return names


def _canonicalize_time(t) -> Optional[np.ndarray]:
  if t is None:
    return None
  t = np.asarray(t, float)
  if np.any(np.isnan(t)) or np.any(t < 0):
    raise ValueError('Times `t` must be numbers and not negative, got '
                     f'{t[np.isnan(t) | (t < 0)].ravel()[:3]}. `None` is '
                     'equilibrium.')
  return t


def _check_number(name: str, value, low: float, strict: bool):
  if isinstance(value, jax.core.Tracer):
    raise TypeError(f'`{name}` must be a number, got a traced value; build the '
                    'predictor outside of `jax.jit`.')
  if not (np.ndim(value) == 0 and np.isreal(value)):
    raise TypeError(f'`{name}` must be a real number, got {value!r}.')
  if not (np.isfinite(value) and (value > low or value == low and not strict)):
    raise ValueError(f'`{name}` must be finite and {">" if strict else ">="} '
                     f'{low:g}, got {value!r}.')


def _check_data(x, y):
  leaves = jax.tree_util.tree_leaves(x)
  if not leaves or not all(np.ndim(a) >= 2 for a in leaves):
    raise ValueError('`x_train` must be arrays of shape `(n, ..., channels)`, '
                     f'got shapes {[np.shape(a) for a in leaves]}.')
  if np.ndim(y) < 2:
    raise ValueError('`y_train` must have shape `(n, ..., k)`, got '
                     f'{np.shape(y)}. One output is `y_train[:, None]`.')
  n = len(y)
  if any(len(a) != n for a in leaves):
    raise ValueError(f'`x_train` and `y_train` must have as many samples, got '
                     f'{[len(a) for a in leaves]} and {n}.')
  if np.size(y) == 0:
    raise ValueError('There must be at least one training sample and one '
                     f'output, got `y_train` of shape {np.shape(y)}.')
  if n**2 > np.iinfo(np.int32).max:
    raise ValueError(
        f'A kernel of {n} x {n} samples has more than 2**31 - 1 entries, the '
        f'most that can be indexed. Use at most {int(2**15.5)} samples.')
  for name, a in [('x_train', a) for a in leaves] + [('y_train', y)]:
    if not bool(jnp.all(jnp.isfinite(jnp.asarray(a)))):
      raise ValueError(f'`{name}` must be finite, but has NaN or infinity.')


def _check_kernel_fn(kernel_fn, x, kwargs):
  """Raises unless the kernel depends on `diffusion_time`."""
  if layers.is_two_time(kernel_fn):
    return
  remedy = ('Build the network with `nt_ndk.stax` in place of '
            '`neural_tangents.stax`; a wrapper must pass `diffusion_time` on.')
  try:
    evaluator = KernelEvaluator(kernel_fn, x, 1, **kwargs)
    zero = np.zeros(1, int)
    start, later = (evaluator.sample(zero, zero, np.array([tau]), np.zeros(1))
                    for tau in (0., 1e10))
  except Exception as e:  # pylint: disable=broad-exception-caught
    raise ValueError('`kernel_fn` must take `get="ndk"` and `diffusion_time=`'
                     f'`(tau1, tau2)`, but raised {e!r}. {remedy}') from e
  if np.allclose(start, later):
    raise ValueError('`kernel_fn` does not depend on `diffusion_time`. ' +
                     remedy)


def _features(x) -> np.ndarray:
  """Inputs as one vector for each sample."""
  return np.concatenate([np.asarray(a, float).reshape((len(a), -1))
                         for a in jax.tree_util.tree_leaves(x)], 1)


def _choose_pairs(a: np.ndarray, b: np.ndarray,
                  rng: np.random.RandomState) -> np.ndarray:
  """Pairs of rows at all angles and with extreme norms.

  Args:
    a: `[n, d]`.
    b: `[m, d]`.
    rng: draws pairs.

  Returns:
    `[P, 2]`, indices of rows of `a` and of `b`.
  """
  size = _SAMPLE_PAIRS
  if len(a) * len(b) <= 2 * size:
    return np.stack(np.meshgrid(np.arange(len(a)), np.arange(len(b)),
                                indexing='ij'), -1).reshape((-1, 2))

  norm_a, norm_b = (np.linalg.norm(v, axis=1) for v in (a, b))
  cosine = a @ b.T / np.maximum(np.outer(norm_a, norm_b), 1e-300)
  angle = np.arccos(np.clip(cosine, -1, 1))
  # Exact duplicates are like a point with itself.
  others = angle[cosine < 1 - 1e-10]
  low, high = (others.min(), others.max()) if others.size else (0., 0.)
  levels = low + (high - low) * np.append([0., 1.], rng.uniform(size=size))
  extreme_a, extreme_b = ([np.argmin(v), np.argmax(v)]
                          for v in (norm_a, norm_b))
  return np.unique(
      [np.unravel_index(np.argmin(np.abs(angle - level)), angle.shape)
       for level in levels] +
      list(zip(rng.randint(len(a), size=size // 2),
               rng.randint(len(b), size=size // 2))) +
      [(i, j) for i in extreme_a for j in extreme_b], axis=0)


def _length(x) -> int:
  return len(jax.tree_util.tree_leaves(x)[0])


def _take(tree, i: np.ndarray):
  return jax.tree_util.tree_map(lambda a: jnp.asarray(a)[i], tree)


class _Bar:
  """A progress bar, if wanted."""

  def __init__(self, wanted: bool, description: str, total: float):
    self._bar = None
    if wanted:
      try:
        from tqdm import auto  # pylint: disable=g-import-not-at-top
      except ImportError as e:
        raise ImportError('`progress=True` needs `pip install tqdm`.') from e
      self._bar = auto.tqdm(
          desc=description, total=total,
          bar_format='{l_bar}{bar}| [{elapsed}<{remaining}]')

  def to(self, n: float):
    if self._bar is not None:
      self._bar.update(max(min(n, self._bar.total) - self._bar.n, 0))

  def close(self):
    if self._bar is not None:
      self._bar.close()


# The predictor.


class _Predictor:
  """Kernels and trajectory of one training set, computed when needed."""

  def __init__(self, kernel_fn, x_train, y_train, temperature, learning_rate,
               trace_axes, rtol, progress, kwargs):
    _check_number('temperature', temperature, 0., strict=False)
    _check_number('learning_rate', learning_rate, 0., strict=True)
    _check_number('rtol', rtol, 0., strict=True)
    _check_data(x_train, y_train)
    _check_kernel_fn(kernel_fn, x_train, kwargs)
    self._kernel_fn, self._x_train, self._kwargs = kernel_fn, x_train, kwargs
    self._y_train = y_train = jnp.asarray(y_train)
    self._temperature = float(temperature)
    self._rate = temperature * learning_rate / y_train.size
    self._learning_rate = learning_rate
    self._progress = progress

    dtype = jax.dtypes.canonicalize_dtype(jnp.float64)
    self._rtol = float(rtol)
    if dtype == jnp.float32 and rtol < _FLOAT32_RTOL:
      self._rtol = _FLOAT32_RTOL
      warnings.warn(
          f'In float32 the tolerance of `get="ndk"` is {_FLOAT32_RTOL:g} '
          f'instead of {rtol:g}. For more, call '
          '`jax.config.update("jax_enable_x64", True)` first.')

    # Outputs along trace axes are columns; all others are rows.
    ndim = y_train.ndim
    axes = (trace_axes,) if isinstance(trace_axes, int) else tuple(trace_axes)
    self._trace_axes = tuple(sorted(a % ndim - ndim for a in axes))
    if -ndim in self._trace_axes:
      raise ValueError('`trace_axes` must not contain the batch axis 0 of '
                       f'`y_train`, got {trace_axes} for {ndim} axes.')
    last = range(-len(self._trace_axes), 0)
    y = jnp.moveaxis(y_train, self._trace_axes, last)
    rows = ndim - len(self._trace_axes)
    self._locations, self._trace_shape = y.shape[1:rows], y.shape[rows:]
    self._y = y.reshape((int(np.prod(y.shape[:rows])), -1)).astype(dtype)

    # Equilibrium is reached long before this time.
    self._late = float(np.sqrt(jnp.finfo(dtype).max))
    self._evaluator = self._make_evaluator(x_train, kwargs)
    self._extra = []  # Test points on which the kernels have to be right too.
    self._tightening = 1.
    self._solver = None
    self._test_error = 0.
    self.stats = dict(kernel_evaluations=0, rank=0, panels=0,
                      estimated_error=0., seconds=dict(
                          compression=0., kernels=0., solver=0., test=0.))

  def _make_evaluator(self, x, kwargs) -> KernelEvaluator:
    return KernelEvaluator(self._kernel_fn, x, int(np.prod(self._locations)),
                           **kwargs)

  def _timed(self, part: str, f: Callable[[], Any]):
    begin = time.perf_counter()
    out = jax.block_until_ready(f())
    self.stats['seconds'][part] += time.perf_counter() - begin
    self.stats['kernel_evaluations'] = self._evaluator.evaluations
    return out

  def _restore_shape(self, out: jax.Array, t_shape=()) -> jax.Array:
    """`t_shape + [rows, columns]` to `t_shape + (n, ..., k)`."""
    n = out.shape[-2] // int(np.prod(self._locations))
    out = out.reshape(t_shape + (n,) + self._locations + self._trace_shape)
    return jnp.moveaxis(out, range(-len(self._trace_axes), 0),
                        self._trace_axes)

  # What Neural Tangents knows: gradient flow, and equilibrium.

  @functools.cached_property
  def _gradient_flow(self):
    return nt_predict.gradient_descent_mse_ensemble(
        self._kernel_fn, self._x_train, self._y_train, self._learning_rate,
        trace_axes=self._trace_axes, **self._kwargs)

  def gradient_flow(self, t, x_test, get, compute_cov, **kwargs):
    return self._gradient_flow(t=t, x_test=x_test, get=get,
                               compute_cov=compute_cov, **kwargs)

  @functools.cached_property
  def _prior_kernel(self) -> jax.Array:
    return self._timed('kernels', lambda: self._evaluator.train_train(
        'nngp', self._late, self._late))

  @functools.cached_property
  def _posterior(self):
    return nt_predict.gp_inference(
        self._prior_kernel, self._y, diag_reg=self._temperature,
        diag_reg_absolute_scale=True)

  def _equilibrium(self, x_test, **kwargs) -> jax.Array:
    kernel = (self._prior_kernel if x_test is None else
              self._evaluator.test_train(x_test, 'nngp', self._late,
                                         self._late, **kwargs))
    return self._posterior(get='nngp', k_test_train=kernel)

  # The trajectory.

  def mean(self, t, x_test, **kwargs) -> jax.Array:
    unknown = set(kwargs) - set(self._kwargs)
    if unknown:
      raise TypeError(f'`predict_fn` got keyword arguments {sorted(unknown)} '
                      'that the predictor was not made with.')
    if x_test is not None and not all(
        bool(jnp.all(jnp.isfinite(jnp.asarray(a))))
        for a in jax.tree_util.tree_leaves(x_test)):
      raise ValueError('`x_test` must be finite, but has NaN or infinity.')
    if t is None:
      return self._restore_shape(self._equilibrium(x_test, **kwargs))
    tau = self._rate * t
    if x_test is not None:
      self._include(x_test, kwargs)
    self._solve(np.max(tau, initial=0.))

    # What is later than the trajectory, which ends where it has settled.
    solver, flat, end = self._solver, tau.ravel(), self._solver.ends[-1]
    inside = flat <= end * (1 + 1e-6)
    flat = np.minimum(flat, end)
    rows = len(self._y) if x_test is None else (
        _length(x_test) * int(np.prod(self._locations)))
    out = np.empty((flat.size, rows, self._y.shape[1]))
    if np.any(inside):
      out[inside] = (self._y - solver.solution(flat[inside]) if x_test is None
                     else self._timed('test', lambda: solver.integral(
                         self._test_factors(x_test, kwargs), flat[inside])))
    if not np.all(inside):
      out[~inside] = self._equilibrium(x_test, **kwargs)
    return self._restore_shape(jnp.asarray(out, self._y.dtype), tau.shape)

  def _test_factors(self, x_test, kwargs) -> jax.Array:
    return jnp.concatenate([
        self._evaluator.test_train(x_test, 'ndk', tau, tau_, **kwargs)
        for tau, tau_ in self._family.tau], 1)

  @property
  def _family_tol(self) -> float:
    # Kernels carry rounding errors.
    return max(.1 * self._rtol * self._tightening,
               200 * float(jnp.finfo(self._y.dtype).eps))

  def _build(self):
    """Compresses the kernels, computes them, and prepares the solver."""
    rng = np.random.RandomState(0)
    n, locations = len(self._y_train), int(np.prod(self._locations))
    pool = rng.permutation(n)[:_POOL_SIZE]
    features = _features(_take(self._x_train, pool))

    def choose():
      # Kernels at different times are not symmetric: pairs in random order.
      other = rng.permutation(len(pool))
      i, j = _choose_pairs(features, features[other], rng).T
      pairs = np.stack([pool[i], pool[other[j]]], 1)
      itself = rng.permutation(np.unique(pairs))[:_SAMPLE_PAIRS // 2]
      return np.concatenate([pairs, np.stack([itself, itself], 1)])

    pairs = choose()
    held_out = np.concatenate([choose() for _ in range(3)])
    x, kwargs = self._x_train, self._kwargs
    for (x_test, kwargs_test), test_train in self._extra:
      start = _length(x)
      pairs = np.concatenate([pairs, test_train + [start, 0]])
      x, kwargs_arrays = jax.tree_util.tree_map(
          lambda a, b: jnp.concatenate([a, b]),
          (x, {k: kwargs[k] for k in kwargs_test}), (x_test, kwargs_test))
      kwargs = {**kwargs, **kwargs_arrays}
    spread = lambda p: p * locations + rng.randint(locations, size=p.shape)
    pairs, held_out = spread(pairs), spread(held_out)
    kernel = self._make_evaluator(x, kwargs).sample

    def compress():
      scales = kernel_family.time_scales(kernel, np.unique(pairs)[:3],
                                         1e-2 * self._rtol)
      return scales, kernel_family.fit(kernel, pairs, held_out, scales,
                                       2 * scales.slow, self._family_tol, rng)

    begin = time.perf_counter()
    scales, self._family = compress()
    self.stats['seconds']['compression'] += time.perf_counter() - begin

    bar = _Bar(self._progress, 'Kernels', self._family.rank)
    def kernels():
      out = []
      for tau, tau_ in self._family.tau:
        out.append(self._evaluator.train_train('ndk', tau, tau_))
        bar.to(len(out))
      return jnp.concatenate(out, 1)

    factors = self._timed('kernels', kernels)
    bar.close()
    self._solver = VolterraSolver(
        self._family, factors, self._y, 1 / self._temperature, self._rtol,
        limit=lambda: (self._y - self._equilibrium(None), self._prior_kernel),
        limit_from=.2 * scales.slow,
        max_step=scales.slow / np.log(1e2 / self._rtol))

  def _include(self, x_test, kwargs):
    """Makes sure that the kernels are right between test and training data.

    The functions of time were fitted on training data. Test data that are
    unlike them make it necessary to fit and solve again.
    """
    rng = np.random.RandomState(1)
    arrays = {k: v for k, v in self._kwargs.items() if isinstance(v, tuple)}
    test = x_test, {k: kwargs.get(k, v) for k, v in arrays.items()}
    train = self._x_train, arrays
    pools = [rng.permutation(_length(x))[:_POOL_SIZE] for x, _ in (test, train)]
    features = [_features(_take(x, pool))
                for pool, (x, _) in zip(pools, (test, train))]

    def choose():
      """Test samples of some pairs, and pairs of these and training samples."""
      i, j = _choose_pairs(*features, rng).T
      return (_take(test, pools[0][i]),
              np.stack([np.arange(len(i)), pools[1][j]], 1))

    if self._solver is None:
      self._extra.append(choose())
      self._build()
    for attempt in range(_MAX_FITS):
      extra, pairs = choose()
      x, joined = jax.tree_util.tree_map(
          lambda a, b: jnp.concatenate([a, b]), train, extra)
      kernel = self._make_evaluator(x, {**self._kwargs, **joined}).sample
      pairs = pairs + [_length(self._x_train), 0]
      self._test_error = np.max(kernel_family.check(
          kernel, self._family, pairs * int(np.prod(self._locations)), rng))
      if self._test_error <= self._rtol:
        return
      if attempt < _MAX_FITS - 1:
        self._extra.append((extra, pairs - [_length(self._x_train), 0]))
        self._build()
    warnings.warn(
        'Kernels between test and training data have a relative error of '
        f'{self._test_error:.1e}; predictions may be less accurate than '
        '`rtol`.')

  def _solve(self, tau: float):
    if self._solver is None:
      self._build()
    for _ in range(2):
      solver = self._solver
      bar = _Bar(self._progress, 'Learning', 1.)
      first = []

      def report(reached):
        first.append(reached)
        bar.to(np.log(reached / first[0]) / max(np.log(tau / first[0]), 1e-9))

      begin = time.perf_counter()
      solver.extend(tau, report)
      bar.to(1.)
      self.stats['seconds']['solver'] += time.perf_counter() - begin
      bar.close()
      stuck = (not solver.settled and tau > solver.ends[-1])
      if not stuck or solver.limit_error <= self._rtol:
        break
      # At the end of time the trajectory is known. If it is missed, the kernels
      # were not accurate enough for this problem.
      if self._tightening < 1:
        warnings.warn(
            f'The trajectory ends {solver.limit_error:.1e} away from the '
            f'posterior (relative to `y_train`; `rtol` is {self._rtol:.1e}). '
            'Predictions at late times may be as far off. The kernel may be '
            'too ill-conditioned for this temperature.')
        break
      self._tightening = .01
      self._build()
    self.stats.update(
        rank=self._family.rank, panels=solver.stats['panels'],
        kernel_evaluations=self._evaluator.evaluations)
    errors = [.3 * max(solver.errors, default=0.) +
              10 * self._family.error + self._test_error]
    if np.isfinite(solver.limit_error):
      errors.append(solver.limit_error)
    self.stats['estimated_error'] = float(max(errors))
