# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The whole learning trajectory, at a given temperature."""

import collections
from typing import Any, Callable, cast, Optional, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.devices import in_full_precision
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.protocol import Phase
from nt_ndk._src.base.protocol import Protocol
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import Get
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.kernels import functions
from nt_ndk._src.kernels.family import TimeScales
from nt_ndk._src.layers.decay import decaying
from nt_ndk._src.predictors import answers
from nt_ndk._src.predictors import gradient_flow
from nt_ndk._src.predictors.documentation import documented
from nt_ndk._src.predictors.fluctuations import Fluctuations
from nt_ndk._src.predictors.joint import Joint
from nt_ndk._src.predictors.problem import Problem
from nt_ndk._src.predictors.stopping import LearningPredictFn
from nt_ndk._src.predictors.stopping import Phases
from nt_ndk._src.predictors.trajectory import Trajectory

# Smallest tolerance of weights that decay, whose kernels vary by many orders of
# magnitude, and time scales of these.
_DECAY_RTOL = 1e-4
_LAG, _EQUAL = .05, .025


@in_full_precision
@documented
def markov_proximal_mse_ensemble(
    kernel_fn: KernelFn,
    x_train: PyTree,
    y_train: jax.Array,
    temperature: float,
    learning_rate: float = 1.,
    trace_axes: Axes = (-1,),
    rtol: float = 1e-5,
    progress: bool = False,
    batch_size: int = 0,
    store_dir: Optional[str] = None,
    schedule: Optional[Sequence[Phase]] = None,
    weight_decay: Optional[float] = None,
    **kernel_fn_train_train_kwargs: Any) -> LearningPredictFn:
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
  data when it is first needed, up to the latest time asked for, and kept. The
  predictor is a Gaussian process in input and time. Its covariance over the
  networks of the ensemble is that of

  .. math::
    f(x, t) - \langle f(x, t) \rangle = g(x, t) -
    \int_0^t b(x, t; s)\, g(X, s)\, ds

  with :math:`g` the network without data, a Gaussian process, and :math:`b` the
  rows of the resolvent, one solution for each input and each time.

  If not sure about `rtol`, keep 1e-5 and look at
  `predict_fn.stats['estimated_error']`. Small temperatures and tolerances need
  float64, `jax.config.update('jax_enable_x64', True)`.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`, with signature
      `kernel_fn(x1, x2, get, diffusion_time=(tau1, tau2))`; may be wrapped by
      `nt_ndk.batch`.

    x_train:
      {x_train}

    y_train:
      {y_train}

    temperature:
      :math:`T \geq 0`, variance of the label noise that the posterior assumes.
      0 is gradient flow.

    learning_rate:
      factor of time, as in
      :func:`neural_tangents.predict.gradient_descent_mse_ensemble`.

    trace_axes:
      {trace_axes}

    rtol:
      {rtol}

    progress:
      {progress}

    batch_size:
      {batch_size}

    store_dir:
      {store_dir}

    schedule:
      phases of learning, :class:`Phase`, one after the other, in which
      temperature, learning rate, targets and weights of samples differ; `None`
      is a single one. The loss is :math:`\frac12 \sum a_\mu (f(x_\mu) -
      y_\mu)^2`, with weights :math:`a_\mu`.

    weight_decay:
      :math:`\kappa`, decay of all weights that learn, at temperature 0: adds
      :math:`\frac\kappa2 \sum_i \theta_i^2` to the loss. There is no posterior
      then, as outputs decay with the weights. At a positive temperature it is
      `temperature / W_prior_std**2` of each layer. `rtol` is at least 1e-4.

    **kernel_fn_train_train_kwargs:
      {kernel_fn_train_train_kwargs}

  Returns:
    A function `predict_fn(t=None, x_test=None, get=None, compute_cov=False,
    **kernel_fn_test_test_kwargs)` that returns predictions at times `t`, an
    array of any shape, or at equilibrium for `None`, on `x_test` or the
    training inputs. `get` is `"ndk"`, `"ntk"` or `"nngp"`, a tuple of these, or
    `None` for all three. `compute_cov=True` returns a :class:`Gaussian` of mean
    and covariance, `"diag"` one of mean and variance.

    Its attribute `stats` tells what the last prediction took, and

    * `predict_fn.phases()` when learning starts, when weights begin to diffuse,
      and when nothing changes any more, :class:`Phases`;
    * `predict_fn.two_time_covariance(t1, t2, x_test=None, compute_cov="diag")`
      is the covariance between predictions at two times;
    * `predict_fn.sample(key, n_samples, t, x_test=None)` draws networks of the
      ensemble, along learning;
    * `predict_fn.with_schedule(schedule)` is the predictor of another schedule,
      which shares all kernels.

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
    >>> # Mean again, and (50, 5) variance over the ensemble of networks.
    >>> mean, variance = predict_fn(t=t, x_test=x_test, get='ndk',
    >>>                             compute_cov='diag')
    >>> # (100, 5, 5, 1) outputs of 100 networks.
    >>> draws = predict_fn.sample(random.PRNGKey(2), 100, t[::10], x_test)
    >>> annealed_fn = predict_fn.with_schedule((
    >>>     predict.Phase(1e3), predict.Phase(jnp.inf, temperature=1e-3)))
    >>> mean = annealed_fn(t=t, x_test=x_test, get='ndk')
  """
  arguments.check_number('temperature', temperature, 0., strict=False)
  arguments.check_number('learning_rate', learning_rate, 0., strict=True)

  if weight_decay is not None:
    arguments.check_number('weight_decay', weight_decay, 0., strict=True)
    if temperature:
      raise ValueError(
          f'`weight_decay` needs temperature 0, got {temperature}. At a '
          'positive one it is `temperature / W_prior_std**2` of each layer: '
          'choose `W_prior_std`.')
    kernel_fn, bound = functions.unwrapped(kernel_fn)
    kernel_fn = decaying(kernel_fn)
    kernel_fn_train_train_kwargs = {**bound, **kernel_fn_train_train_kwargs}
    if not jax.config.read('jax_enable_x64'):
      raise ValueError('`weight_decay` needs float64, as kernels decay to zero:'
                       ' `jax.config.update("jax_enable_x64", True)`.')
    # What a temperature is at a `W_prior_std` of 1.
    temperature, rtol = weight_decay, max(rtol, _DECAY_RTOL)

  def protocol(problem: Problem, schedule: Optional[Sequence[Phase]]
               ) -> Protocol:
    out = Protocol(schedule, problem.y_train, temperature, learning_rate,
                   1 / problem.y_train.size)
    if weight_decay is not None and any(
        stage.temperature != temperature for stage in out.stages):
      raise ValueError('With `weight_decay` no phase may have a temperature: '
                       'leave it out.')
    return out

  problem = Problem(kernel_fn, x_train, y_train, temperature, trace_axes, rtol,
                    progress, batch_size, store_dir,
                    kernel_fn_train_train_kwargs,
                    # In units of the time in which weights decay.
                    None if weight_decay is None else TimeScales(
                        _LAG, _EQUAL, -.5 * np.log(rtol)))
  # Kernels have to be accurate for the smallest noise.
  problem.temperature = min(
      (stage.temperature / np.max(stage.weight)
       for stage in protocol(problem, schedule).stages if stage.temperature),
      default=0.)
  gradient_flow_fn = gradient_flow.predict_fn(problem, learning_rate)

  def with_schedule(schedule: Optional[Sequence[Phase]]) -> LearningPredictFn:
    """The same network and data, and another schedule.

    Kernels are shared: none between training data is computed again.

    Args:
      schedule: phases, see :func:`markov_proximal_mse_ensemble`.

    Returns:
      Another predictor.
    """
    out = _predictor(problem, protocol(problem, schedule), gradient_flow_fn,
                     noise=weight_decay is None)
    out.with_schedule = with_schedule
    return out

  return with_schedule(schedule)


def _predictor(problem: Problem, protocol: Protocol,
               gradient_flow_fn: Callable[..., Any],
               noise: bool) -> LearningPredictFn:
  """A predictor of one protocol, with noise or else weights that decay."""
  stages = protocol.stages
  trajectory = Trajectory(problem, protocol, noise)
  fluctuations = Fluctuations(
      problem, [problem.lesson(stage) for stage in stages],
      [protocol.since(p, stage.stop) for p, stage in enumerate(stages)],
      flow=True)
  # What Neural Tangents computes.
  plain = len(stages) == 1 and not stages[0].temperature and (
      stages[0].same_weights) and stages[0].y is problem.y_train

  def learning(t: Optional[np.ndarray], x_test: PyTree, compute_cov: ComputeCov,
               **kwargs: Any) -> Any:
    """Mean, or mean and covariance, of all stages of learning."""
    t_shape = () if t is None else t.shape
    if t is None and stages[-1].temperature:
      problem.stats.update(estimated_error=0., estimated_covariance_error=0.)
      mean, covariance = trajectory.equilibrium(x_test, compute_cov, **kwargs)
    else:
      t = np.full((), np.inf) if t is None else t
      mean = trajectory.mean(t.ravel(), x_test, **kwargs)
      covariance = compute_cov and problem.timed(
          'covariance', lambda: covariances(t.ravel(), x_test, compute_cov,
                                            **kwargs))
    return answers.restore(problem, mean, covariance, t_shape, compute_cov)

  def covariances(t: np.ndarray, x_test: PyTree, compute_cov: ComputeCov,
                  **kwargs: Any) -> np.ndarray:
    """Covariance `[T, m, m]` or variance `[T, m]` at times `[T]`."""
    fluctuations.include(x_test, kwargs)
    numbers, since = protocol.locate(t)
    late = fluctuations.late(numbers, since)
    if not noise:
      # Nothing changes any more.
      late, since = np.zeros_like(late), np.where(late, fluctuations.end, since)
    out = np.empty((len(t),) + (problem.rows(x_test),) * (
        1 if compute_cov == 'diag' else 2))
    for number in np.unique(numbers[late]):
      _, out[late & (numbers == number)] = trajectory.equilibrium(
          x_test, compute_cov, int(number), **kwargs)
    if not np.all(late):
      _, out[~late] = fluctuations.predictions(
          numbers[~late], since[~late], x_test, compute_cov, **kwargs)
      problem.stats['estimated_covariance_error'] = fluctuations.error
    return out

  @in_full_precision
  @documented
  def predict_fn(t: Times = None, x_test: PyTree = None, get: Get = None,
                 compute_cov: ComputeCov = False,
                 **kernel_fn_test_test_kwargs: Any) -> Any:
    """Returns mean (and covariance) of the predictor at time[s] `t`.

    Args:
      t:
        a scalar or an array of any shape, times in the units of
        :func:`neural_tangents.predict.gradient_descent_mse_ensemble`: with the
        sum of squares as loss, the time is `t * learning_rate / y_train.size`.
        `None` (or infinity) is equilibrium.

      x_test:
        {x_test}

      get:
        `"ndk"`, the learning trajectory at the given temperature; `"ntk"` or
        `"nngp"`, what Neural Tangents predicts for gradient flow from the same
        initialisation without noise and regularisation; a tuple of these; or
        `None` for all three.

      compute_cov:
        `True` for the covariance between inputs at each time; `"diag"` for the
        variance of each input alone, which takes less time and memory.

      **kernel_fn_test_test_kwargs:
        keyword arguments passed to `kernel_fn`, see
        `kernel_fn_train_train_kwargs`.

    Returns:
      The mean, of shape `t.shape + (n_test, ..., k)`; with `compute_cov`, a
      `Gaussian(mean, covariance)` with covariance of shape
      `t.shape + (n_test, n_test, ...)`, or `t.shape + (n_test, ...)` for
      `"diag"`, the same for all outputs along `trace_axes`. A namedtuple of
      these if `get` is not a string.

    Raises:
      ArithmeticError: if the tolerance is out of reach.
      TypeError: if a keyword argument is unknown.
      ValueError: if an argument is out of range.
    """
    names = arguments.canonicalize_get(get)
    t = arguments.canonicalize_time(t)
    arguments.check_compute_cov(compute_cov)
    x_test, kwargs = problem.question(x_test, kernel_fn_test_test_kwargs, t)
    out = {}
    if 'ndk' in names and not noise and (t is None or not np.all(
        np.isfinite(t))):
      raise ValueError(
          'There is no equilibrium of weights that decay without noise but 0, '
          'nor a posterior: pass finite times, `weight_decay * t * '
          'learning_rate / y_train.size` of about 1 or less.')
    for name in names:
      if name == 'ndk' and not plain:
        out[name] = learning(t, x_test, compute_cov, **kwargs)
      else:
        if name == 'ndk' and (t is None or np.any(np.isinf(t))):
          problem.check_gradient_flow()
        out[name] = gradient_flow.predictions(
            gradient_flow_fn, t, x_test, 'ntk' if name == 'ndk' else name,
            compute_cov, problem, **kwargs)
    if isinstance(get, str):
      return out[names[0]]
    return collections.namedtuple('Gaussians', names)(**out)

  @in_full_precision
  def two_time_covariance(t1: Times, t2: Times, x_test: PyTree = None,
                          compute_cov: ComputeCov = 'diag',
                          **kernel_fn_test_test_kwargs: Any) -> jax.Array:
    r"""Covariance :math:`Cov[f(x, t_1), f(x', t_2)]` of the predictor.

    Args:
      t1: times, in the units of `predict_fn`, a scalar or an array.
      t2: times, which broadcast against `t1`.
      x_test: test inputs. `None` means the training inputs.
      compute_cov: `True` for all pairs of inputs; `"diag"` for each input with
        itself, the autocorrelation.
      **kernel_fn_test_test_kwargs: keyword arguments passed to `kernel_fn`.

    Returns:
      An array of shape `t.shape + (n_test, n_test, ...)`, with inputs at `t1`
      before those at `t2`, or `t.shape + (n_test, ...)`, where `t` is
      `t1 + t2`.

    Raises:
      ArithmeticError: if the tolerance is out of reach.
      TypeError: if a keyword argument is unknown.
      ValueError: if an argument is out of range.
    """
    arguments.check_compute_cov(compute_cov)
    if not compute_cov or plain:
      raise ValueError('`two_time_covariance` needs `compute_cov` True or '
                       f'"diag" and a positive temperature, got {compute_cov!r}'
                       f' and {stages[0].temperature}.')
    t1, t2 = arguments.canonicalize_two_times(t1, t2)
    x_test, kwargs = problem.question(x_test, kernel_fn_test_test_kwargs, t1,
                                      t2)
    fluctuations.include(x_test, kwargs)
    diagonal = compute_cov == 'diag'
    times, place = np.unique(np.stack([t1.ravel(), t2.ravel()]),
                             return_inverse=True)
    joint = Joint(problem, fluctuations, x_test, diagonal, kwargs)
    first, second = place.reshape((2, -1))
    out = problem.timed('covariance', lambda: joint.covariance(
        *protocol.locate(times)))[first, second]
    return problem.restore_covariance(out, t1.shape, diagonal)

  @in_full_precision
  @documented
  def sample(key: jax.Array, n_samples: int, t: Times = None,
             x_test: PyTree = None,
             **kernel_fn_test_test_kwargs: Any) -> jax.Array:
    """Draws of whole learning trajectories, of networks of the ensemble.

    Those of the Gaussian process whose mean `predict_fn` returns and whose
    covariance `two_time_covariance`: joint over times, inputs and outputs. It
    takes about one solution for each time, not for each pair of times.

    Args:
      key: random key.

      n_samples: number of draws.

      t:
        times, in the units of `predict_fn`, a scalar or an array. `None` is
        equilibrium.

      x_test:
        {x_test}

      **kernel_fn_test_test_kwargs:
        {kernel_fn_test_test_kwargs}

    Returns:
      An array of shape `(n_samples,) + t.shape + (n_test, ..., k)`.

    Raises:
      ArithmeticError: if the tolerance is out of reach.
      TypeError: if a keyword argument is unknown.
      ValueError: if an argument is out of range.
    """
    arguments.check_count('n_samples', n_samples)
    t = arguments.canonicalize_time(t)
    t = np.full((), np.inf) if t is None else t
    x_test, kwargs = problem.question(x_test, kernel_fn_test_test_kwargs, t)
    times, place = np.unique(t, return_inverse=True)
    mean = trajectory.mean(times, x_test, **kwargs)
    fluctuations.include(x_test, kwargs)
    joint = Joint(problem, fluctuations, x_test, False, kwargs)
    covariance = problem.timed('covariance', lambda: joint.covariance(
        *protocol.locate(times)))
    problem.stats['estimated_covariance_error'] = fluctuations.error
    problem.warn(problem.stats['estimated_error'])
    problem.warn_of_covariance(fluctuations.error)
    rows = mean.shape[0] * mean.shape[1]
    evals, evecs = np.linalg.eigh(np.swapaxes(covariance, 1, 2).reshape(
        (rows, rows)))
    # What a finite tolerance leaves of negative eigenvalues is an error.
    root = evecs * np.sqrt(np.maximum(evals, 0.))
    noise = np.asarray(jax.random.normal(
        key, (n_samples, rows, mean.shape[2]), problem.dtype))
    out = mean + np.tensordot(noise, root, (1, 1)).swapaxes(1, 2).reshape(
        (n_samples,) + mean.shape)
    return problem.restore_mean(out[:, place.reshape(t.shape)],
                                (n_samples,) + t.shape)

  @in_full_precision
  def phases() -> Phases:
    """Times that separate the phases of learning."""
    scales = problem.ndk.scales
    size = float(to_host(jnp.linalg.norm(problem.ndk.initial)))
    last = stages[-1]
    return Phases(
        start=.1 / (size * stages[0].rate),
        diffusive=float(protocol.training_time(scales.lag)),
        equilibrium=float(last.start + fluctuations.end / (
            last.rate * last.temperature)))

  out = cast(LearningPredictFn, predict_fn)
  out.stats = problem.stats
  out.two_time_covariance = two_time_covariance
  out.sample = sample
  out.phases = phases if noise and stages[-1].temperature > 0 else None
  return out
