# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Predictors of infinitely wide networks during and after learning."""

import collections
from typing import Any, Callable, cast, Optional

import jax
import jax.numpy as jnp
from neural_tangents import predict as nt_predict
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.devices import in_full_precision
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import ComputeCov
from nt_ndk._src.base.typing import Get
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PredictFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.kernels.evaluation import length
from nt_ndk._src.predictors.drift import check_readout
from nt_ndk._src.predictors.drift import Drift
from nt_ndk._src.predictors.fluctuations import Fluctuations
from nt_ndk._src.predictors.problem import Problem
from nt_ndk._src.predictors.stopping import LearningPredictFn
from nt_ndk._src.predictors.stopping import Phases
from nt_ndk._src.predictors.trajectory import Trajectory

# Test inputs whose joint covariance is computed if only variances are wanted.
_BLOCK = 64


@in_full_precision
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
      tolerance of the mean, relative to the root mean square of `y_train`, and
      of the covariance, relative to the variance without data.

    progress:
      whether to show progress bars (needs `tqdm`).

    batch_size:
      number of samples whose kernels with as many others are computed at a
      time, on every device, by :obj:`neural_tangents.batch`; any number of
      samples will do. Bounds the memory of kernel evaluations. 0 is all at
      once.

    store_dir:
      folder in which kernel matrices and the learning trajectory are kept.
      Matrices are mapped into memory from there, rather than held in memory,
      and the same calls in another process go on where this one was stopped.
      Of any number of problems, each finds its own results. `None` keeps all
      in memory.

    **kernel_fn_train_train_kwargs:
      keyword arguments passed to `kernel_fn`. Tuples of two arrays belong to
      the first and to the second inputs.

  Returns:
    A function `predict_fn(t=None, x_test=None, get=None, compute_cov=False,
    **kernel_fn_test_test_kwargs)` that returns predictions at times `t`. Its
    attribute `stats` tells what the last prediction took, and
    `predict_fn.two_time_covariance(t1, t2, x_test=None, compute_cov="diag")`
    is the covariance between predictions at two times.

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
  """
  arguments.check_number('learning_rate', learning_rate, 0., strict=True)
  problem = Problem(kernel_fn, x_train, y_train, temperature, trace_axes, rtol,
                    progress, batch_size, store_dir,
                    kernel_fn_train_train_kwargs)
  rate = temperature * learning_rate / problem.y_train.size
  trajectory = Trajectory(problem)
  fluctuations = Fluctuations(problem)
  gradient_flow_fn = nt_predict.gradient_descent_mse_ensemble(
      problem.kernel_fn, x_train, problem.y_train, learning_rate,
      trace_axes=problem.trace_axes, **kernel_fn_train_train_kwargs)

  def learning(t: Optional[np.ndarray], x_test: PyTree, compute_cov: ComputeCov,
               **kwargs: Any) -> Any:
    """Mean, or mean and covariance, at the given temperature."""
    t_shape = () if t is None else t.shape
    if t is None:
      problem.stats.update(estimated_error=0., estimated_covariance_error=0.)
      mean, covariance = problem.equilibrium(x_test, compute_cov, **kwargs)
    else:
      tau = rate * t.ravel()
      mean = trajectory.mean(tau, x_test, **kwargs)
      covariance = compute_cov and problem.timed(
          'covariance', lambda: _covariance(
              problem, fluctuations, tau, x_test, compute_cov, mean, **kwargs))
    return _restore(problem, mean, covariance, t_shape, compute_cov)

  @in_full_precision
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
        test inputs. `None` means the predictor on the training inputs.

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
    problem.check_question(x_test, kernel_fn_test_test_kwargs, t)
    out = {}
    for name in names:
      if name == 'ndk' and temperature > 0:
        out[name] = learning(t, x_test, compute_cov,
                             **kernel_fn_test_test_kwargs)
      else:
        if name == 'ndk' and (t is None or np.any(np.isinf(t))):
          problem.check_gradient_flow()
        out[name] = _gradient_flow(
            gradient_flow_fn, t, x_test, 'ntk' if name == 'ndk' else name,
            compute_cov, problem, **kernel_fn_test_test_kwargs)
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
    if not compute_cov or temperature == 0:
      raise ValueError('`two_time_covariance` needs `compute_cov` True or '
                       f'"diag" and a positive temperature, got {compute_cov!r}'
                       f' and {temperature}.')
    t1, t2 = arguments.canonicalize_two_times(t1, t2)
    problem.check_question(x_test, kernel_fn_test_test_kwargs, t1, t2)
    fluctuations.include(x_test, kernel_fn_test_test_kwargs)
    diagonal = compute_cov == 'diag'
    shape = (problem.rows(x_test),) * (2 - diagonal)
    out = np.empty((t1.size,) + shape)
    for i, (a, b) in enumerate(zip(rate * t1.ravel(), rate * t2.ravel())):
      out[i] = fluctuations.two_time_covariance(
          max(a, b), min(a, b), x_test, diagonal, **kernel_fn_test_test_kwargs)
      if a < b and not diagonal:
        out[i] = out[i].T
    return problem.restore_covariance(
        jnp.asarray(out, problem.dtype), t1.shape, diagonal)

  @in_full_precision
  def phases() -> Phases:
    """Times that separate the phases of learning."""
    scales = problem.ndk.scales
    size = float(to_host(jnp.linalg.norm(problem.ndk.initial)))
    return Phases(start=.1 * temperature / size / rate,
                  diffusive=scales.lag / rate,
                  equilibrium=fluctuations.end / rate)

  out = cast(LearningPredictFn, predict_fn)
  out.stats = problem.stats
  out.two_time_covariance = two_time_covariance
  out.phases = phases if temperature > 0 else None
  return out


@in_full_precision
def diffusive_limit_mse_ensemble(
    kernel_fn: KernelFn,
    x_train: PyTree,
    y_train: jax.Array,
    trace_axes: Axes = (-1,),
    rtol: float = 1e-5,
    progress: bool = False,
    batch_size: int = 0,
    store_dir: Optional[str] = None,
    **kernel_fn_train_train_kwargs: Any) -> PredictFn:
  r"""Predicts the slow, diffusive phase of learning at vanishing temperature.

  As the temperature :math:`T` goes to 0 at fixed diffusion time
  :math:`\tau = T t`, gradient descent is an impulse at :math:`\tau = 0`, and
  what follows is one curve for all small temperatures:

  .. math::
    \mathrm{NDK}(X, \tau; X, 0)\, Q + \int_0^\tau \mathrm{NDK}(X, \tau; X,
    \tau')\, q(\tau')\, d\tau' = Y, \qquad
    f(x, \tau) = \mathrm{NDK}(x, \tau; X, 0)\, Q + \int_0^\tau
    \mathrm{NDK}(x, \tau; X, \tau')\, q(\tau')\, d\tau'.

  It starts at the predictor of the NTK at infinite time, with the training
  targets learned, and ends at the posterior of the NNGP without noise. The
  limit is that of :func:`markov_proximal_mse_ensemble` (Avidan, Li and
  Sompolinsky, arXiv:2309.04522); the equations of the first kind are solved for
  the rows of the resolvent, mean and covariance together. The deviation at a
  small temperature is of first order in :math:`T`.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`.

    x_train:
      training inputs, the batch axis first, no two of them equal.

    y_train:
      training targets, of shape `(n, ..., k)`.

    trace_axes:
      axes of `y_train` along which outputs are independent and identically
      distributed, so that the kernel lacks them.

    rtol:
      tolerance of the mean, relative to the root mean square of `y_train`, and
      of the covariance, relative to the variance without data.

    progress:
      whether to show progress bars (needs `tqdm`).

    batch_size:
      number of samples whose kernels with as many others are computed at a
      time, on every device, by :obj:`neural_tangents.batch`; any number of
      samples will do. Bounds the memory of kernel evaluations. 0 is all at
      once.

    store_dir:
      folder in which kernel matrices and the learning trajectory are kept.
      Matrices are mapped into memory from there, rather than held in memory,
      and the same calls in another process go on where this one was stopped.
      Of any number of problems, each finds its own results. `None` keeps all
      in memory.

    **kernel_fn_train_train_kwargs:
      keyword arguments passed to `kernel_fn`. Tuples of two arrays belong to
      the first and to the second inputs.

  Returns:
    A function `predict_fn(diffusion_time=None, x_test=None, compute_cov=False,
    **kernel_fn_test_test_kwargs)`. Its attribute `stats` tells what the last
    prediction took.

  Raises:
    TypeError: if an argument is of the wrong kind.
    ValueError: if an argument is out of range.

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
    >>> predict_fn = predict.diffusive_limit_mse_ensemble(
    >>>     kernel_fn, x_train, y_train)
    >>> # (30, 5, 1) mean and (30, 5) variance.
    >>> mean, variance = predict_fn(jnp.linspace(0., 8., 30), x_test, 'diag')
  """
  problem = Problem(kernel_fn, x_train, y_train, 0., trace_axes, rtol, progress,
                    batch_size, store_dir, kernel_fn_train_train_kwargs)
  fluctuations = Fluctuations(problem)
  gradient_flow_fn = nt_predict.gradient_descent_mse_ensemble(
      problem.kernel_fn, x_train, problem.y_train,
      trace_axes=problem.trace_axes, **kernel_fn_train_train_kwargs)

  @in_full_precision
  def predict_fn(diffusion_time: Times = None, x_test: PyTree = None,
                 compute_cov: ComputeCov = False,
                 **kernel_fn_test_test_kwargs: Any) -> Any:
    """Returns mean (and covariance) of the predictor.

    Args:
      diffusion_time:
        a scalar or an array of any shape, temperature times training time. 0
        means just after gradient descent, `None` is equilibrium.

      x_test:
        test inputs. `None` means the predictor on the training inputs.

      compute_cov:
        `True` for the covariance between inputs at each time; `"diag"` for the
        variance of each input alone.

      **kernel_fn_test_test_kwargs:
        keyword arguments passed to `kernel_fn`.

    Returns:
      The mean, of shape `diffusion_time.shape + (n_test, ..., k)`; with
      `compute_cov`, a `Gaussian(mean, covariance)`.

    Raises:
      ArithmeticError: if the tolerance is out of reach, or the kernel singular.
      TypeError: if a keyword argument is unknown.
      ValueError: if an argument is out of range.
    """
    tau = arguments.canonicalize_time(diffusion_time)
    arguments.check_compute_cov(compute_cov)
    kwargs = kernel_fn_test_test_kwargs
    problem.check_question(x_test, kwargs, tau)
    problem.check_gradient_flow()
    cov = compute_cov or 'diag'
    shape = () if tau is None else tau.shape
    flat = np.full(1, np.inf) if tau is None else tau.ravel()
    mean, covariance = _allocate(problem, len(flat), x_test, cov)
    start, late = flat == 0, flat >= fluctuations.end
    if np.any(start):
      # Gradient flow at infinite time, in shapes of its own.
      first = _gradient_flow(gradient_flow_fn, None, x_test, 'ntk', cov,
                             problem, **kwargs)
      mean[start] = problem.flatten_mean(first.mean)
      covariance[start] = problem.flatten_covariance(first.covariance,
                                                     cov == 'diag')
    if np.any(late):
      mean[late], covariance[late] = problem.equilibrium(x_test, cov, **kwargs)
    between = ~(start | late)
    if np.any(between):
      fluctuations.include(x_test, kwargs)
      kernel_error = problem.kernel_error()
      mean[between], covariance[between] = problem.timed(
          'covariance', lambda: fluctuations.predictions(
              flat[between], x_test, cov, **kwargs))
      problem.stats.update(
          estimated_error=fluctuations.error + kernel_error,
          estimated_covariance_error=fluctuations.error)
    return _restore(problem, mean, covariance, shape, compute_cov)

  out = cast(PredictFn, predict_fn)
  out.stats = problem.stats
  return out


@in_full_precision
def representational_drift_mse_ensemble(
    kernel_fn: KernelFn,
    x_train: PyTree,
    y_train: jax.Array,
    temperature: float,
    t_freeze: Optional[float] = None,
    hidden_learning: bool = False,
    learning_rate: float = 1.,
    trace_axes: Axes = (-1,),
    rtol: float = 1e-5,
    progress: bool = False,
    batch_size: int = 0,
    store_dir: Optional[str] = None,
    **kernel_fn_train_train_kwargs: Any) -> PredictFn:
  r"""Predicts what a frozen readout makes of hidden weights that drift.

  An infinite ensemble learns as in :func:`markov_proximal_mse_ensemble` up to
  time `t_freeze`. Then its readout, the last layer of weights, is frozen, while
  the hidden weights go on diffusing under noise and regularisation, without (or
  with) the learning signal. For `t >= t_freeze` the mean predictor is

  .. math::
    \langle f(x, t) \rangle = \int_0^{t_{freeze}} \mathrm{NDK}'(x, t; X, s)
    \big(Y - \langle f(X, s) \rangle\big)\, ds,

  with the readout's time in :math:`\mathrm{NDK}'` stopped at `t_freeze`. At
  equilibrium this is

  .. math::
    s^2 K^L(t - t_{freeze}; x, X)\, \big(s^2 K^L(0; X, X) + T\big)^{-1} Y

  with :math:`K^L` the two-time kernel of the last hidden layer (Avidan, Li and
  Sompolinsky, arXiv:2309.04522; the formula for any `t_freeze`, the covariance,
  and learning hidden weights go past the paper). Hidden weights that have come
  to equilibrium and keep learning do not change the distribution of predictions
  at all.

  Args:
    kernel_fn:
      kernel function of a network made by :mod:`nt_ndk.stax`, with hidden
      weights, and one last layer of weights.

    x_train:
      training inputs, the batch axis first.

    y_train:
      training targets, of shape `(n, ..., k)`.

    temperature:
      :math:`T > 0`.

    t_freeze:
      time at which the readout is frozen, in the units of
      :func:`neural_tangents.predict.gradient_descent_mse_ensemble`. `None` is
      equilibrium.

    hidden_learning:
      whether the hidden weights keep learning after `t_freeze`.

    learning_rate:
      factor of time.

    trace_axes:
      axes of `y_train` along which outputs are independent and identically
      distributed, so that the kernel lacks them.

    rtol:
      tolerance of the mean, relative to the root mean square of `y_train`, and
      of the covariance, relative to the variance without data.

    progress:
      whether to show progress bars (needs `tqdm`).

    batch_size:
      number of samples whose kernels with as many others are computed at a
      time, on every device, by :obj:`neural_tangents.batch`; any number of
      samples will do. Bounds the memory of kernel evaluations. 0 is all at
      once.

    store_dir:
      folder in which kernel matrices and the learning trajectory are kept.
      Matrices are mapped into memory from there, rather than held in memory,
      and the same calls in another process go on where this one was stopped.
      Of any number of problems, each finds its own results. `None` keeps all
      in memory.

    **kernel_fn_train_train_kwargs:
      keyword arguments passed to `kernel_fn`. Tuples of two arrays belong to
      the first and to the second inputs.

  Returns:
    A function `predict_fn(t=None, x_test=None, compute_cov=False,
    **kernel_fn_test_test_kwargs)`, `t` being the time since `t_freeze`. Its
    attribute `stats` tells what the last prediction took.

  Raises:
    TypeError: if an argument is of the wrong kind.
    ValueError: if an argument is out of range, or the network has no hidden
      weights or no single last layer of weights.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512), stax.Erf(), stax.Dense(1))
    >>> x_train = random.normal(random.PRNGKey(0), (20, 10))
    >>> y_train = jnp.sign(x_train[:, :1])
    >>> x_test = random.normal(random.PRNGKey(1), (5, 10))
    >>> #
    >>> predict_fn = predict.representational_drift_mse_ensemble(
    >>>     kernel_fn, x_train, y_train, temperature=1e-2)
    >>> # (50, 5, 1) mean predictor, which decays to 0 as `erf` is odd.
    >>> mean = predict_fn(jnp.linspace(0., 1e4, 50), x_test)
  """
  arguments.check_number('temperature', temperature, 0., strict=True)
  arguments.check_number('learning_rate', learning_rate, 0., strict=True)
  if t_freeze is not None:
    arguments.check_number('t_freeze', t_freeze, 0., strict=False)
  problem = Problem(kernel_fn, x_train, y_train, temperature, trace_axes, rtol,
                    progress, batch_size, store_dir,
                    kernel_fn_train_train_kwargs)
  check_readout(problem)
  rate = temperature * learning_rate / problem.y_train.size
  slow = max(problem.ndk.scales.slow, problem.nngp.scales.slow)
  freeze = np.inf if t_freeze is None else rate * t_freeze
  settled = freeze >= slow
  if settled:
    # A time at which equilibrium has been reached to rounding.
    freeze = 4 * slow
  frozen = problem.evaluator.with_keywords(readout_freeze=freeze)
  drift = Drift(problem, freeze, hidden_learning)

  @in_full_precision
  def predict_fn(t: Times = None, x_test: PyTree = None,
                 compute_cov: ComputeCov = False,
                 **kernel_fn_test_test_kwargs: Any) -> Any:
    """Returns mean (and covariance) of the predictor at times after `t_freeze`.

    Args:
      t:
        a scalar or an array of any shape, times since `t_freeze`. `None` is
        infinity.

      x_test:
        test inputs. `None` means the predictor on the training inputs.

      compute_cov:
        `True` for the covariance between inputs at each time; `"diag"` for the
        variance of each input alone.

      **kernel_fn_test_test_kwargs:
        keyword arguments passed to `kernel_fn`.

    Returns:
      The mean, of shape `t.shape + (n_test, ..., k)`; with `compute_cov`, a
      `Gaussian(mean, covariance)`.

    Raises:
      ArithmeticError: if the tolerance is out of reach.
      TypeError: if a keyword argument is unknown.
      ValueError: if an argument is out of range.
    """
    t = arguments.canonicalize_time(t)
    arguments.check_compute_cov(compute_cov)
    kwargs = kernel_fn_test_test_kwargs
    problem.check_question(x_test, kwargs, t)
    cov = compute_cov or 'diag'
    shape = () if t is None else t.shape
    lag = np.full(1, np.inf) if t is None else rate * t.ravel()
    lag = np.minimum(lag, 4 * slow)  # Nothing changes after that.
    mean, covariance = _allocate(problem, len(lag), x_test, cov)
    if not len(lag):
      pass
    elif settled and hidden_learning:
      mean[:], covariance[:] = problem.equilibrium(x_test, cov, **kwargs)
    elif settled:
      for i, d in enumerate(lag):
        mean[i], covariance[i] = problem.posterior(
            frozen, freeze + d, freeze, x_test, cov, **kwargs)
    else:
      mean[:], covariance[:] = problem.timed(
          'covariance', lambda: drift.predictions(lag, x_test, cov, **kwargs))
      problem.stats.update(
          estimated_error=drift.error + drift.kernel_error,
          estimated_covariance_error=drift.error)
    return _restore(problem, mean, covariance, shape, compute_cov)

  out = cast(PredictFn, predict_fn)
  out.stats = problem.stats
  return out


def _allocate(problem: Problem, times: int, x_test: PyTree,
              compute_cov: ComputeCov) -> tuple[np.ndarray, np.ndarray]:
  """Room for means `[T, m, k]` and covariances `[T, m, m]` or `[T, m]`."""
  m = problem.rows(x_test)
  return (np.empty((times, m, problem.y.shape[1])),
          np.empty((times, m) if compute_cov == 'diag' else (times, m, m)))


def _restore(problem: Problem, mean: Any, covariance: Any,
             t_shape: tuple[int, ...], compute_cov: ComputeCov) -> Any:
  """Predictions in the shapes of users, and a warning if they are not good."""
  problem.warn(problem.stats['estimated_error'])
  mean = problem.restore_mean(jnp.asarray(mean, problem.dtype), t_shape)
  if not compute_cov:
    return mean
  return nt_predict.Gaussian(mean, problem.restore_covariance(
      jnp.asarray(covariance, problem.dtype), t_shape, compute_cov == 'diag'))


def _covariance(problem: Problem, fluctuations: Fluctuations, tau: np.ndarray,
                x_test: PyTree, compute_cov: ComputeCov, mean: jax.Array,
                **kwargs: Any) -> np.ndarray:
  """Covariance `[T, m, m]` or variance `[T, m]` at diffusion times `[T]`."""
  fluctuations.include(x_test, kwargs)
  late = tau >= fluctuations.end
  out = np.empty((len(tau),) + (problem.rows(x_test),) * (
      1 if compute_cov == 'diag' else 2))
  if np.any(late):
    _, out[late] = problem.equilibrium(x_test, compute_cov, **kwargs)
  if not np.all(late):
    _, out[~late] = fluctuations.predictions(
        tau[~late], x_test, compute_cov, mean[~late], **kwargs)
    stats = problem.stats
    stats['estimated_covariance_error'] = fluctuations.error
    # Rows of the resolvent give the mean too, in another way.
    stats['estimated_error'] = max(stats['estimated_error'],
                                   fluctuations.mean_difference)
  return out


def _gradient_flow(predict_fn: Callable[..., Any], t: Optional[np.ndarray],
                   x_test: PyTree, get: str, compute_cov: ComputeCov,
                   problem: Problem, **kwargs: Any) -> Any:
  """What Neural Tangents knows, and its variance in blocks of test inputs."""
  if t is None and get == 'ntk' and not compute_cov:
    # Neural Tangents keeps what it finds for infinite time, and would miss the
    # NNGP if it is later asked for the covariance.
    return _finite(predict_fn(t=t, x_test=x_test, get=('nngp', 'ntk'),
                              **kwargs).ntk)
  if compute_cov != 'diag':
    return _finite(predict_fn(t=t, x_test=x_test, get=get,
                              compute_cov=compute_cov, **kwargs))
  x = problem.x_train if x_test is None else x_test

  def part(start: int) -> Any:
    take = lambda tree: jax.tree_util.tree_map(
        lambda a: a[start:start + _BLOCK], tree)
    here = {k: take(v) if isinstance(v, tuple) else v
            for k, v in kwargs.items()}
    return predict_fn(t=t, x_test=take(x), get=get, compute_cov=True, **here)

  parts = [part(start) for start in range(0, length(x), _BLOCK)]
  t_shape = np.shape(t) if t is not None else ()
  diagonal = [_diagonal(part.covariance, len(t_shape)) for part in parts]
  axis = len(t_shape)
  return _finite(nt_predict.Gaussian(
      jnp.concatenate([part.mean for part in parts], axis),
      jnp.concatenate(diagonal, axis)))


def _finite(prediction: PyTree) -> PyTree:
  """Raises if there are NaNs."""
  if not all(bool(jnp.all(jnp.isfinite(a)))
             for a in jax.tree_util.tree_leaves(prediction)):
    raise ArithmeticError(
        'Gradient flow without noise gives no finite prediction: the kernel of '
        'the training inputs is singular. Leave out duplicated inputs, take a '
        'finite time, or use `get="ndk"` with a temperature.')
  return prediction


def _diagonal(covariance: jax.Array, start: int) -> jax.Array:
  """`[..., n, n, a, a, ...]` to `[..., n, a, ...]`."""
  while covariance.ndim > start:
    covariance = jnp.diagonal(covariance, axis1=start, axis2=start + 1)
    covariance = jnp.moveaxis(covariance, -1, start)
    start += 1
  return covariance
