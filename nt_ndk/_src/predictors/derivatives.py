# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The mean along learning as a function that JAX and SciPy differentiate."""

import contextlib
from typing import Any, Callable, cast, Generator, NamedTuple
from typing import Protocol as Interface
import warnings

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.devices import in_full_precision
from nt_ndk._src.base.protocol import Protocol
from nt_ndk._src.base.typing import Axes
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.kernels import functions
from nt_ndk._src.kernels.tangent import Parameters
from nt_ndk._src.layers import two_time
from nt_ndk._src.predictors.documentation import documented
from nt_ndk._src.predictors.problem import Problem
from nt_ndk._src.predictors.tangents import Tangents

# Estimated error that the user is told of, if it is that many tolerances.
_WARN, _TOLERANCES = 1e-3, 100


class MeanDerivatives(NamedTuple):
  """Derivatives of mean predictions of shape `t.shape + (n_test, ..., k)`.

  Attributes:
    parameters: in the parameters at fixed times, a container like theirs; of
      each array, of the shape of the mean followed by that of the array.
    temperature: in the temperature at fixed times, of the shape of the mean.
    t: of each prediction in its own time, of the shape of the mean.
  """
  parameters: PyTree
  temperature: jax.Array
  t: jax.Array


class MeanFn(Interface):
  """The mean along learning, see :func:`differentiable_mean`.

  Attributes:
    stats: what the last call took.
    with_derivatives: takes the same arguments to mean predictions and
      :class:`MeanDerivatives`.
  """
  stats: dict[str, Any]
  with_derivatives: Callable[..., tuple[jax.Array, MeanDerivatives]]

  def __call__(self, parameters: PyTree, temperature: ArrayLike,
               t: Times = None, x_test: PyTree = None,
               **kernel_fn_test_test_kwargs: Any) -> jax.Array:
    """Mean predictions, of shape `t.shape + (n_test, ..., k)`."""


@documented
def differentiable_mean(
    network: Callable[[PyTree], KernelFn],
    x_train: PyTree,
    y_train: ArrayLike,
    learning_rate: float = 1.,
    trace_axes: Axes = (-1,),
    rtol: float = 1e-5,
    progress: bool = False,
    **kernel_fn_train_train_kwargs: Any) -> MeanFn:
  r"""The mean along learning, a function that JAX and SciPy differentiate.

  It is that of :func:`markov_proximal_mse_ensemble`, as a function of the
  parameters that a network is built from, of the temperature and of time, for
  instance to choose these by the error on validation data. At fixed times the
  residual :math:`\rho = Y - \langle f(X) \rangle` on the training data changes
  with a parameter :math:`p` as

  .. math::
    \partial_p \rho(t) + \int_0^t \mathrm{NDK}(t, t')\, \partial_p \rho(t')\,
    dt' = -\int_0^t \partial_p \mathrm{NDK}(t, t')\, \rho(t')\, dt',

  with derivatives of the Neural Dynamical Kernel (NDK) by JAX. It is solved for
  all derivatives at once. For six numbers, mean and derivatives take four or
  five times as long as the mean alone for images, and seven times for a table
  with biases.

  Derivatives in the temperature are at fixed times :math:`t`, and those in time
  at a fixed temperature. There are none in inputs and targets (the mean is
  linear in the targets), none of the covariance (take differences of
  predictions at a small `rtol`), and no second ones. What is computed depends
  on values, so that the function cannot be traced by `jax.jit` or `jax.vmap`;
  `jax.grad`, `jax.value_and_grad`, `jax.jvp` and `jax.jacobian` of what is
  computed from it work as they are. `mean_fn.with_derivatives` has the same
  derivatives as arrays.

  Args:
    network:
      function of parameters that returns the kernel function of a network made
      by :mod:`nt_ndk.stax`. Parameters are numbers, arrays, or any container of
      these: standard deviations and multipliers, the same for several layers or
      of each, and whatever else JAX can differentiate kernels in. Make it once,
      and pass other parameters: what is compiled belongs to it.

    x_train:
      {x_train}

    y_train:
      {y_train}

    learning_rate:
      factor of time, as in
      :func:`neural_tangents.predict.gradient_descent_mse_ensemble`.

    trace_axes:
      {trace_axes}

    rtol:
      tolerance of the mean, relative to the root mean square of `y_train`, and
      of derivatives, in units in which those of kernels are as large as
      kernels. These are usually less accurate than the mean by a factor of a
      few. If not sure, keep 1e-5 and look at
      `mean_fn.stats['estimated_derivative_error']`.

    progress:
      {progress}

    **kernel_fn_train_train_kwargs:
      {kernel_fn_train_train_kwargs}

  Returns:
    A function `mean_fn(parameters, temperature, t=None, x_test=None,
    **kernel_fn_test_test_kwargs)` that returns the mean at times `t`, of shape
    `t.shape + (n_test, ..., k)`, and has the attributes `stats` and
    `with_derivatives`, a function of the same arguments that returns the mean
    and :class:`MeanDerivatives`. Of the latest parameters and temperature
    solutions are kept, so that other inputs and times take little.

  Raises:
    ArithmeticError: if the tolerance is out of reach.
    TypeError: if an argument is of the wrong kind, or traced.
    ValueError: if an argument is out of range.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from nt_ndk import predict, stax
    >>> #
    >>> x_train, x_valid = jax.random.normal(jax.random.PRNGKey(0), (2, 20, 5))
    >>> y_train, y_valid = jnp.sin(x_train[:, :1]), jnp.sin(x_valid[:, :1])
    >>> #
    >>> def network(parameters):
    >>>   stds = dict(W_init_std=parameters['s0'], W_prior_std=parameters['s'])
    >>>   return stax.serial(
    >>>       stax.Dense(512, **stds), stax.Erf(), stax.Dense(1, **stds))[2]
    >>> #
    >>> mean_fn = predict.differentiable_mean(network, x_train, y_train,
    >>>                                       rtol=1e-3)
    >>> #
    >>> def loss(logs):
    >>>   parameters, temperature, t = jax.tree_util.tree_map(jnp.exp, logs)
    >>>   mean = mean_fn(parameters, temperature, t, x_valid)
    >>>   return jnp.mean((mean - y_valid)**2)
    >>> #
    >>> logs = dict(s0=.3, s=-.1), -2., 5.
    >>> value, slope = jax.value_and_grad(loss)(logs)
    >>> mean, derivatives = mean_fn.with_derivatives(
    >>>     dict(s0=1.3, s=.9), .1, jnp.array([1., 10., 100.]), x_valid)
    >>> # (3, 20, 1)
    >>> in_s0 = derivatives.parameters['s0']

  Source: the equation of the mean of Avidan, Li and Sompolinsky,
  arXiv:2309.04522, differentiated.
  """
  if not callable(network):
    raise TypeError('`network` must be a function of parameters that returns a '
                    f'kernel function, got {network!r:.80}.')
  arguments.check_number('learning_rate', learning_rate, 0., strict=True)
  arguments.check_number('rtol', rtol, 0., strict=True)
  known: dict[Any, Tangents] = {}
  stats: dict[str, Any] = {}

  def at(parameters: PyTree, temperature: Any) -> Tangents:
    """Of the latest parameters all is kept, for other times and inputs."""
    here = _canonicalize(parameters)
    arguments.check_number('temperature', temperature, 0., strict=True)
    key = here.values.tobytes(), here.treedef, here.shapes, float(temperature)
    if key not in known:
      known.clear()
      problem = Problem(
          _kernel_fn(network, here), x_train, cast(Any, y_train),
          float(temperature), trace_axes, rtol, progress, 0, None,
          kernel_fn_train_train_kwargs)
      known[key] = Tangents(network, here, problem, Protocol(
          None, problem.y_train, problem.temperature, learning_rate,
          1 / problem.y_train.size))
    return known[key]

  def question(tangents: Tangents, t: Times, x_test: PyTree,
               kwargs: dict[str, Any]) -> Any:
    t = arguments.canonicalize_time(t)
    t = np.full((), np.inf) if t is None else t
    return t, *tangents.problem.question(x_test, kwargs, t)

  def report(problem: Problem, **more: Any) -> None:
    stats.clear()
    stats.update(problem.stats, **more)
    problem.warn(stats['estimated_error'])

  @in_full_precision
  def mean(parameters: PyTree, temperature: Any, t: Times, x_test: PyTree,
           kwargs: dict[str, Any]) -> jax.Array:
    tangents = at(parameters, temperature)
    t, x_test, kwargs = question(tangents, t, x_test, kwargs)
    out = tangents.mean(t.ravel(), x_test, **kwargs)
    report(tangents.problem)
    return tangents.problem.restore_mean(np.asarray(out), t.shape)

  @in_full_precision
  @documented
  def with_derivatives(
      parameters: PyTree, temperature: float, t: Times = None,
      x_test: PyTree = None, **kernel_fn_test_test_kwargs: Any
  ) -> tuple[jax.Array, MeanDerivatives]:
    """Mean predictions, and their derivatives as arrays.

    Args:
      parameters:
        of the network.

      temperature:
        positive.

      t:
        times, as of `mean_fn`.

      x_test:
        {x_test}

      **kernel_fn_test_test_kwargs:
        {kernel_fn_test_test_kwargs}

    Returns:
      The mean, of shape `t.shape + (n_test, ..., k)`, and `MeanDerivatives`.
    """
    tangents = at(parameters, temperature)
    t, x_test, kwargs = question(tangents, t, x_test,
                                 kernel_fn_test_test_kwargs)
    problem = tangents.problem
    out, derivatives = tangents.derivatives(t.ravel(), x_test, **kwargs)
    report(problem, estimated_derivative_error=tangents.error)
    _warn(tangents.error, problem)
    restored = problem.restore_mean(
        np.moveaxis(derivatives, 1, 0), (derivatives.shape[1],) + t.shape)
    return problem.restore_mean(np.asarray(out), t.shape), MeanDerivatives(
        _canonicalize(parameters).restore(jnp.moveaxis(restored[:-2], 0, -1)),
        *restored[-2:])

  @documented
  def mean_fn(parameters: PyTree, temperature: ArrayLike, t: Times = None,
              x_test: PyTree = None, **kernel_fn_test_test_kwargs: Any
              ) -> jax.Array:
    """Mean predictions, a function that JAX differentiates.

    Args:
      parameters:
        of the network.

      temperature:
        positive.

      t:
        a scalar or an array of any shape, times in the units of
        :func:`neural_tangents.predict.gradient_descent_mse_ensemble`. `None`
        (or infinity) is equilibrium.

      x_test:
        {x_test}

      **kernel_fn_test_test_kwargs:
        {kernel_fn_test_test_kwargs}

    Returns:
      An array of shape `t.shape + (n_test, ..., k)`.
    """
    dtype = jax.dtypes.canonicalize_dtype(jnp.float64)
    try:
      numbers = jax.tree_util.tree_map(
          lambda a: jnp.asarray(a, dtype),
          (parameters, temperature, np.inf if t is None else t))
    except (TypeError, ValueError) as e:
      raise TypeError(
          '`parameters`, `temperature` and `t` must be numbers, arrays, or '
          f'containers of these: {e}') from e

    @jax.custom_jvp
    def f(parameters: PyTree, temperature: jax.Array,
          t: jax.Array) -> jax.Array:
      with _evaluated(parameters, temperature, t):
        return mean(parameters, temperature, t, x_test,
                    kernel_fn_test_test_kwargs)

    @f.defjvp
    def f_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
      with _evaluated(*primals):
        parameters, temperature, t = primals
        out, derivatives = with_derivatives(
            parameters, temperature, t, x_test, **kernel_fn_test_test_kwargs)
      in_parameters, in_temperature, in_t = tangents
      more = out.ndim - jnp.ndim(in_t)
      change = derivatives.temperature * in_temperature + (
          derivatives.t * jnp.expand_dims(in_t, range(-more, 0)))
      for slope, tangent in zip(*map(jax.tree_util.tree_leaves, (
          derivatives.parameters, in_parameters))):
        change += jnp.tensordot(slope, tangent, jnp.ndim(tangent))
      return out, change

    return f(*numbers)

  out = cast(MeanFn, mean_fn)
  out.with_derivatives = with_derivatives
  out.stats = stats
  return out


def _canonicalize(parameters: PyTree) -> Parameters:
  """Finite numbers of a container."""
  arguments.check_not_traced('parameters', parameters)
  try:
    out = Parameters.of(parameters)
  except (TypeError, ValueError) as e:
    raise TypeError('`parameters` must be a number, an array, or a container of'
                    f' these, got {parameters!r}.') from e
  if not np.all(np.isfinite(out.values)):
    raise ValueError(f'`parameters` must be finite, got {out.values}.')
  return out


def _kernel_fn(network: Callable[[PyTree], KernelFn],
               parameters: Parameters) -> KernelFn:
  """That of the network, which must be one that derivatives are known of."""
  numbers = jax.tree_util.tree_map(
      lambda a: a.item() if a.ndim == 0 else a,
      parameters.restore(parameters.values))
  out = network(numbers)
  if not (callable(out) and two_time.is_pure(functions.unwrapped(out)[0])):
    raise TypeError(
        '`network(parameters)` must return the `kernel_fn` of a network made by'
        f' `nt_ndk.stax`, and not one in batches, got {out!r:.80}. Of '
        '`(init_fn, apply_fn, kernel_fn)`, return the third.')
  return out


@contextlib.contextmanager
def _evaluated(*numbers: PyTree) -> Generator[None, None, None]:
  """Evaluates at once what is computed, which JAX would otherwise trace."""
  if any(isinstance(a, jax.core.Tracer)
         for a in jax.tree_util.tree_leaves(numbers)):
    raise TypeError(
        'The mean along learning needs parameters, temperature and times whose '
        'values are known: take it out of `jax.jit`, `jax.vmap` and second '
        'derivatives. `jax.grad` and `jax.jacobian` of it need no `jax.jit`, '
        'and `t` may be an array.')
  with jax.core.eval_context():
    yield


def _warn(error: float, problem: Problem) -> None:
  """Says that derivatives are less accurate than users expect."""
  if error > max(_TOLERANCES * problem.rtol, _WARN):
    warnings.warn(
        f'The estimated error of derivatives of the mean is {error:.1e}, '
        'relative to `y_train`, in units in which derivatives of kernels are as'
        f' large as kernels (`rtol` is {problem.rtol:.1e}). '
        f'{problem.precision_advice}Lower `rtol`, leave out nearly equal '
        'inputs, or raise the temperature.')
