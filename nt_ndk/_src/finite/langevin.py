# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Ensembles of finite networks that learn by Markov proximal learning."""

import collections
import functools
import operator
import typing
from typing import Any, cast, NamedTuple, Optional, Sequence, Union

import jax
from jax import random
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np

from nt_ndk._src.base import arguments
from nt_ndk._src.base.checkpoint import Checkpoint
from nt_ndk._src.base.moments import Estimate
from nt_ndk._src.base.moments import Moments
from nt_ndk._src.base.progress import Bar
from nt_ndk._src.base.protocol import Phase
from nt_ndk._src.base.protocol import Protocol
from nt_ndk._src.base.typing import ApplyFn
from nt_ndk._src.base.typing import Get
from nt_ndk._src.base.typing import InitFn
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import LossFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.finite import empirical
from nt_ndk._src.finite import networks
from nt_ndk._src.finite import proximal as proximal_lib

# Steps in one call of the compiled program, after which progress is kept.
_BLOCK = 256
# Step of the data term, in units of the inverse of its largest curvature.
_SAFE_STEP = .25


class Ensemble(NamedTuple):
  """Outputs of an ensemble of finite networks.

  All but the first and the last have the shape of `t`, then that of the outputs
  on test inputs, `(m, ..., k)`.

  Attributes:
    t: times, as they were given.
    mean: average over networks.
    variance: over networks, of each output.
    mean_error: standard error of the mean.
    variance_error: standard error of the variance; for antithetic pairs, a
      bound.
    n_networks: number of networks.
  """
  t: np.ndarray
  mean: np.ndarray
  variance: np.ndarray
  mean_error: np.ndarray
  variance_error: np.ndarray
  n_networks: int


class EnsembleFn(typing.Protocol):
  """Trains an ensemble.

  Attributes:
    two_time_kernel_fn: kernels of the ensemble at two times.
  """
  two_time_kernel_fn: KernelFn

  def __call__(self, key: jax.Array, n_networks: int, t: Times,
               x_test: PyTree = None, t_freeze: Optional[float] = None,
               hidden_learning: bool = False,
               checkpoint: Optional[str] = None) -> Ensemble:
    """Outputs of networks at times `t`."""


class _Block(NamedTuple):
  """Steps of one call, or a record of outputs.

  Attributes:
    count: number of steps; 0 is a record.
    step: their size.
    frozen: whether the readout stands still.
    stage: number of the stage of learning.
  """
  count: int  # type: ignore[assignment]  # Hides that of tuples.
  step: float
  frozen: bool
  stage: int


def _plan(times: np.ndarray, starts: np.ndarray, freeze: float, step: float,
          proximal: bool, hidden_learning: bool) -> list[_Block]:
  """All blocks of a training run, in units of the loss `E`.

  Args:
    times: `[T]`, sorted and different, when outputs are wanted.
    starts: `[stages]`, when stages of learning begin.
    freeze: when the readout stops.
    step: largest step; that of the proximal chain.
    proximal: whether all steps must be of this size.
    hidden_learning: whether the others go on learning then.

  Returns:
    As many records as there are times, and what is between them.
  """
  plan, now = [], 0.
  stops = np.unique(np.concatenate([times, starts, [freeze]]))
  for stop in stops[stops <= times[-1]]:
    duration, frozen = stop - now, now >= freeze
    stage = int(np.searchsorted(starts, now, side='right')) - 1
    free = frozen and not hidden_learning
    count = int(np.ceil(duration / step * (1 - 1e-12)))
    if proximal and not free:
      count = int(np.rint(duration / step))
      if not np.isclose(count * step, duration, rtol=1e-6, atol=1e-6 * step):
        raise ValueError('Times of the proximal chain must be multiples of '
                         f'`step_size`, but {stop / step} steps were asked '
                         'for.')
    # Without data, a step of any size is exact.
    count = min(count, 1) if free else count
    size = duration / max(count, 1)
    counts = [_BLOCK] * (count // _BLOCK) + [count % _BLOCK]
    plan += [_Block(c, size, frozen, stage) for c in counts if c]
    if stop in times:
      plan.append(_Block(0, 0., frozen, stage))
    now = stop
  return plan


class _Lesson(NamedTuple):
  """What networks learn in a stage.

  Attributes:
    temperature: of noise and weight decay.
    y: targets.
    root: roots of the weights of samples, which broadcast against `y`.
  """
  temperature: float
  y: jax.Array
  root: jax.Array


class _Network:
  """Networks of one kind, side by side: arrays have an axis of networks."""

  def __init__(self, init_fn, apply_fn, x, y, lessons, prior_std, readout,
               proximal, batch_size, loss):
    self._init, self._apply = networks.canonicalize(init_fn, apply_fn)
    self._x, self._y = x, y
    self.lessons, self._loss = lessons, loss
    self._proximal, self._batch_size = proximal, batch_size
    params, rest = jax.jit(self._init)(random.PRNGKey(0), x)
    self._prior = networks.prior(init_fn, prior_std, params, rest)
    if not any(s > 0 for s in jax.tree_util.tree_leaves(self._prior)):
      raise ValueError('All parameters of the network are frozen: let a layer '
                       'learn, with `trainable=True`.')
    self._readout = readout
    if readout is None:
      self._readout = getattr(networks.bare(init_fn), 'readout', None)
    shape = jax.eval_shape(self._apply, params, rest, x).shape
    self._ones = jnp.ones((len(y),) + (1,) * (len(shape) - 1))
    if loss is None and shape != y.shape:
      raise ValueError('`y_train` must have the shape of the outputs, '
                       f'{shape}, got {y.shape}.')
    self.bytes_of_parameters = sum(
        p.nbytes for p in jax.tree_util.tree_leaves(params))
    # Keys of steps are folded from the other half.
    self.draw = jax.jit(jax.vmap(
        lambda key: self._init(random.split(key)[0], x)))
    self.outputs = jax.jit(jax.vmap(self._apply, (0, 0, None)))
    self.learn = jax.jit(jax.vmap(
        functools.partial(self._advance, frozen=False, free=False),
        (0, 0, 0, 0, None, None, None)))
    self.drift = {free: jax.jit(jax.vmap(
        functools.partial(self._advance, frozen=True, free=free),
        (0, 0, 0, 0, None, None, None))) for free in (False, True)}
    self.curvature = jax.jit(self._curvature)

  def _hidden(self) -> PyTree:
    structures: list[Any] = [jax.tree_util.tree_structure(t)
                             for t in (self._prior, self._readout)]
    if structures[0] != structures[1]:
      raise ValueError(
          '`t_freeze` and `antithetic` need to know the readout: pass '
          '`readout`, a tree of Booleans like the parameters, '
          f'{structures[0]}. Only networks of `nt_ndk.stax` that end in one '
          'layer of weights know their own.')
    return jax.tree_util.tree_map(lambda r: not r, self._readout)

  def _moving(self, frozen: bool) -> PyTree:
    trainable = jax.tree_util.tree_map(lambda s: s > 0, self._prior)
    if not frozen:
      return trainable
    return jax.tree_util.tree_map(operator.and_, trainable, self._hidden())

  def _on_rows(self, rest, root):
    """Outputs times roots of the weights of samples."""
    return lambda params, rows: root[rows] * self._apply(
        params, rest, jax.tree_util.tree_map(lambda a: a[rows], self._x))

  def check_odd(self):
    """Refuses networks whose outputs do not change sign with the readout."""
    params, rest = self._init(random.PRNGKey(0), self._x)
    opposite = jax.tree_util.tree_map(
        lambda hidden, p: p if hidden else -p, self._hidden(), params)
    one, two = (self._apply(p, rest, self._x) for p in (params, opposite))
    tol = 100 * float(jnp.finfo(one.dtype).eps * jnp.max(jnp.abs(one)))
    if not np.allclose(one, -two, rtol=0., atol=tol):
      raise ValueError(
          '`antithetic=True` needs a network whose outputs change sign when '
          'all parameters of the readout do.')

  def _advance(self, params, rest, sign, key, count, step, lesson, frozen,
               free):
    moving, (temperature, y, root) = self._moving(frozen), lesson
    if free:
      moved = networks.diffuse(params, self._prior, key, temperature * step)
      return proximal_lib.where(moving, moved, params)
    if self._loss is not None:
      return proximal_lib.langevin_steps(
          self._on_rows(rest, self._ones), y, self._prior, moving,
          temperature, self._batch_size, self._slope(y, root, sign))(
              params, key, count, step)
    y = sign.astype(y.dtype) * root * y
    args = self._on_rows(rest, root), y, self._prior, moving, temperature
    steps = (proximal_lib.proximal_steps(*args) if self._proximal else
             proximal_lib.langevin_steps(*args, self._batch_size))
    return steps(params, key, count, step)

  def _slope(self, y, root, sign=1.):
    """Gradient of the loss in outputs, or in outputs of the other sign."""

    def slope(fx, rows):
      some = jax.tree_util.tree_map(lambda a: a[rows], y)
      weight = root[rows].reshape((-1,) + (1,) * (fx.ndim - 1))**2
      return weight * sign * jax.grad(self._loss)(sign * fx, some)

    return slope

  def loss_curvature(self) -> float:
    """Largest of the loss, for outputs of some networks and smaller ones."""
    if self._loss is None:
      return 1.
    state = self.draw(random.split(random.PRNGKey(0), 8))
    outputs = self.outputs(*state, self._x)
    one = jax.jit(lambda fx, y, root: proximal_lib.largest_slope(
        self._slope(y, root * 0 + 1), fx, random.PRNGKey(0)))
    return max(float(one(size * fx, lesson.y, lesson.root))
               for lesson in self.lessons for fx in outputs
               for size in (0., .1, 1.))

  def _curvature(self):
    """The largest of some networks, at initialisation and under the prior."""
    late = 50 * max(s**2 for s in jax.tree_util.tree_leaves(self._prior))
    moving = self._moving(False)

    def of_one(key):
      draw_key, move_key = random.split(key)
      params, rest = self._init(draw_key, self._x)
      f = self._on_rows(rest, self._ones)
      at = lambda p: proximal_lib.largest_curvature(
          lambda p, rows: f(proximal_lib.where(
              moving, p, jax.lax.stop_gradient(p)), rows), self._y, p, key)
      return jnp.maximum(at(params), at(
          networks.diffuse(params, self._prior, move_key, late)))

    return jnp.max(jax.lax.map(of_one, random.split(random.PRNGKey(0), 8)))

  @staticmethod
  def keys(key, numbers):
    """A key for every number, or for every one of several keys."""
    axes = (None, 0) if np.ndim(numbers) else (0, None)
    return jax.vmap(random.fold_in, axes)(key, numbers)

  def two_time_kernel(self, x1, x2, get):
    """Function of parameters at two times, the rest, and both times."""
    kernel = empirical.response_weighted(
        self._apply, (-1,), None, nt.NtkImplementation.NTK_VECTOR_PRODUCTS)

    @jax.jit
    def on_all(params1, params2, rest, times):
      return jax.lax.map(lambda args: kernel(
          x1, x2, get, *args, self._prior, times), (params1, params2, rest))

    return on_all

  def fingerprint(self, key):
    """What tells this kind of network, and its learning, from others."""
    params, rest = self.draw(self.keys(key, np.arange(1)))
    outputs = self.outputs(params, rest, self._x)
    loss = self._loss and self._loss(outputs[0], self._y)
    return (self._y, outputs, params, self._prior, self.lessons,
            self._proximal, self._batch_size) + ((loss,) if self._loss else ())

  def bytes_for_one(self) -> int:
    """Memory that one network takes while it learns."""
    keys = random.split(random.PRNGKey(0), 1)
    state = jax.eval_shape(self.draw, keys)
    learn = self.learn.lower(*state, np.ones(1), keys, 1, .1,
                             self.lessons[0]).compile()
    memory: Any = learn.memory_analysis()
    return memory.temp_size_in_bytes + 2 * memory.output_size_in_bytes


def markov_proximal_ensemble(
    init_fn: InitFn,
    apply_fn: ApplyFn,
    x_train: PyTree,
    y_train: jax.Array,
    temperature: float,
    learning_rate: float = 1.,
    *,
    loss: Union[str, LossFn] = 'mean',
    prior_std: Any = None,
    step_size: Optional[float] = None,
    proximal: bool = False,
    batch_size: int = 0,
    readout: Any = None,
    antithetic: bool = False,
    max_bytes: int = 2**30,
    schedule: Optional[Sequence[Phase]] = None,
    progress: bool = False) -> EnsembleFn:
  r"""Returns a function that trains an ensemble by Markov proximal learning.

  Each network of the ensemble is drawn by `init_fn` and then moves by Langevin
  dynamics,

  .. math::
    d\theta = -\nabla_\theta E\, dt + \sqrt{2T}\, dB, \quad
    E = \frac 12 \sum_{\mu, c} (f_c(x_\mu; \theta) - y_{\mu c})^2 +
    \frac T2 \sum_i \frac{\theta_i^2}{s_i^2},

  to which Markov proximal learning tends for a large strength :math:`\lambda`
  (Avidan, Li and Sompolinsky, arXiv:2309.04522, section 2.1). As the width
  grows, mean and variance over networks become those of
  :func:`nt_ndk.predict.markov_proximal_mse_ensemble` with the same arguments.

  Noise and regularisation are integrated exactly, so that the size of a step is
  limited by the data term only. Means and variances have an error of the second
  order in `step_size`.

  Args:
    init_fn:
      function of :mod:`nt_ndk.stax` or the like, `init_fn(key, input_shape)`;
      or the `init` of a `flax.linen` module; or, without `apply_fn`, a function
      of `flax.nnx.Rngs` that makes a `flax.nnx` module.

    apply_fn:
      `apply_fn(params, x)`; or the `apply` of the same module; or `None`.

    x_train:
      training inputs, `(n, ...)`.

    y_train:
      targets, `(n, ..., k)`, of the shape of the outputs; or what `loss` takes,
      such as labels.

    temperature:
      :math:`T`, number that is not negative. 0 is gradient descent.

    learning_rate:
      positive number, factor of all times.

    loss:
      "mean" measures time as Neural Tangents does, whose loss is the mean: a
      time `t` is `t * learning_rate / y_train.size` in the equation above.
      "sum" leaves out the division. Or any function `loss(fx, y)` of outputs
      and targets in place of the squared loss, a sum over samples as in
      :func:`nt_ndk.predict.markov_proximal_ensemble`, in whose units time and
      temperature are. Such a loss needs `proximal=False`.

    prior_std:
      :math:`s`: a number, or a tree with a number for each array of
      parameters, 0 for those that are frozen: they neither learn nor decay, and
      have no noise. `None` reads those of a network of :mod:`nt_ndk.stax`.

    step_size:
      largest step, in the units of time. `None` is a quarter of the inverse of
      the largest curvature of the data term, in random networks at
      initialisation and under the prior.

    proximal:
      whether to take steps of the proximal chain itself, of the strength
      :math:`\lambda` that is the inverse of `step_size` (in the units of the
      equation). A step draws from the chain exactly where the network is linear
      in its parameters as far as a step goes.

    batch_size:
      number of samples in a minibatch, drawn anew for each step; 0 is all.

    readout:
      Booleans, a tree like the parameters: those that stop at `t_freeze`, and
      change sign between antithetic networks. `None` is the last layer of a
      network of :mod:`nt_ndk.stax`.

    antithetic:
      whether networks come in pairs, alike but for the sign of the readout's
      weights, at initialisation and in their noise. Each is a network of the
      ensemble. At infinite width half the sum of a pair's outputs is the mean
      without any spread, so that few networks give a precise mean; the variance
      gains nothing. Outputs must change sign with the readout, whose weights
      must be drawn symmetrically about 0. Applies to outputs, not to kernels.

    max_bytes:
      memory that networks trained side by side may take. One network is the
      least.

    schedule:
      phases of learning, :class:`nt_ndk.predict.Phase`, in which temperature,
      learning rate, targets and weights of samples differ; `None` is a single
      one.

    progress:
      whether to show a progress bar.

  Returns:
    A function `ensemble_fn(key, n_networks, t, x_test=None, t_freeze=None,
    hidden_learning=False, checkpoint=None)` that returns an `Ensemble`. Times
    `t` are an array of any shape. Outputs are those on `x_test`, or else on
    `x_train`. From `t_freeze` on the readout is frozen, and with
    `hidden_learning=False` all other parameters move without data
    (representational drift). A network depends on `key` and its number alone,
    whatever the memory. `checkpoint` is the path of a file that is written
    while networks are trained, and from which the same call goes on after it
    was killed, to the same numbers bit for bit.

    `ensemble_fn.two_time_kernel_fn(key, n_networks, t1, t2, x1, x2=None,
    get=None, checkpoint=None)` trains the same networks and returns their
    kernels between times `t1`, at `x1`, and `t2`, at `x2`: an `Estimate` of
    "nngp", "ndk" or both, with the shape of the times, then `(n1, n2)`. See
    :func:`nt_ndk.empirical.two_time_kernel_fn`.

  Raises:
    ValueError: if an argument is out of range, a step is too large, outputs do
      not have the shape of targets, a checkpoint is of another problem, or
      networks that are to be antithetic are not odd in their readout.
    FloatingPointError: if a network diverges, or the minimum of a proximal step
      is not found.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import langevin, stax
    >>> #
    >>> init_fn, apply_fn, _ = stax.serial(
    >>>     stax.Dense(64, W_prior_std=.8), stax.Relu(), stax.Dense(1))
    >>> x = random.normal(random.PRNGKey(1), (4, 3))
    >>> y = jnp.sign(x[:, :1])
    >>> ensemble_fn = langevin.markov_proximal_ensemble(
    >>>     init_fn, apply_fn, x, y, temperature=.1)
    >>> ensemble = ensemble_fn(random.PRNGKey(0), 10, t=jnp.array([1., 10.]))
    >>> z = ensemble.mean / ensemble.mean_error
  """
  arguments.check_number('temperature', temperature, 0., strict=False)
  arguments.check_number('learning_rate', learning_rate, 0., strict=True)
  arguments.check_number('max_bytes', max_bytes, 0., strict=True)
  if step_size is not None:
    arguments.check_number('step_size', step_size, 0., strict=True)
  elif proximal:
    raise ValueError('`proximal=True` needs a `step_size`, the inverse of the '
                     'strength of the chain.')
  x_train, y_train = (arguments.to_arrays(name, a) for name, a in (
      ('x_train', x_train), ('y_train', y_train)))
  n = len(y_train)
  arguments.check_data(x_train, np.zeros((n, 1)) if callable(loss) else y_train)
  if callable(loss):
    arguments.check_finite('y_train', y_train)
  elif loss not in ('mean', 'sum'):
    raise ValueError('`loss` must be "mean" or "sum", or a function '
                     f'`loss(fx, y)`, got {loss!r}.')
  if callable(loss) and proximal:
    raise ValueError('`proximal=True` is for the squared loss. Leave it out, '
                     'and take a small `step_size`.')
  if batch_size not in range(n + 1) or (proximal and batch_size):
    raise ValueError(
        '`batch_size` must be a whole number between 0 and the number of '
        f'samples, {n}, and 0 for proximal steps, got {batch_size}.')
  protocol = Protocol(schedule, y_train, temperature, learning_rate,
                      1 / np.size(y_train) if loss == 'mean' else 1.)
  rate = protocol.stages[0].rate
  x_train = jax.tree_util.tree_map(jnp.asarray, x_train)
  # Of Booleans and small integers there are no negative ones.
  y_train = jnp.asarray(y_train, y_train.dtype if callable(loss) else
                        jnp.promote_types(y_train.dtype, jnp.float32))
  expand = lambda a: a.reshape((-1,) + (1,) * (y_train.ndim - 1))
  lessons = [_Lesson(stage.temperature, jnp.asarray(stage.y, y_train.dtype),
                     jnp.asarray(expand(stage.weight)**.5,
                                 jnp.promote_types(y_train.dtype, jnp.float32)))
             for stage in protocol.stages]
  network = _Network(init_fn, apply_fn, x_train, y_train, lessons, prior_std,
                     readout, proximal, batch_size,
                     loss if callable(loss) else None)
  heaviest = network.loss_curvature() * max(np.max(stage.weight)
                                            for stage in protocol.stages)
  if not heaviest > 0 and step_size is None:
    raise ValueError('`step_size` must be given for a loss without curvature.')
  starts = np.array([stage.clock for stage in protocol.stages])
  if antithetic:
    network.check_odd()

  @functools.lru_cache(maxsize=1)
  def largest_step() -> float:
    if step_size is None:
      return _SAFE_STEP / (heaviest * float(network.curvature()))
    if proximal:
      return rate * step_size
    curvature = heaviest * float(network.curvature())
    if rate * step_size * curvature > 1:
      raise ValueError(
          f'`step_size` must be at most {1 / (rate * curvature):.2g}, the '
          'inverse of the largest curvature of the data term, got '
          f'{step_size:g}. `None` is a quarter of it.')
    return rate * step_size

  def run(key, n_networks, t, observer, freeze=np.inf, hidden_learning=False,
          checkpoint=None):
    """Moments of what is observed at times `t`, `[T]`, which are sorted."""
    if n_networks < 2 * observer.copies or n_networks % observer.copies:
      raise ValueError(
          f'`n_networks` must be at least {2 * observer.copies}'
          f'{", and even," if observer.copies > 1 else ","} got {n_networks}.')
    if not t.size:
      raise ValueError('There must be at least one time `t`.')
    plan = _plan(protocol.clock(t), starts,
                 float(protocol.clock(np.array(freeze))), largest_step(),
                 proximal, hidden_learning)
    file = Checkpoint(checkpoint, (
        network.fingerprint(key), jax.random.key_data(key), n_networks, plan,
        hidden_learning, observer.copies, observer.inputs))
    return _train(network, key, n_networks, plan, observer, hidden_learning,
                  max_bytes, file, progress)

  def ensemble_fn(key: jax.Array, n_networks: int, t: Times,
                  x_test: PyTree = None, t_freeze: Optional[float] = None,
                  hidden_learning: bool = False,
                  checkpoint: Optional[str] = None) -> Ensemble:
    t = arguments.canonicalize_finite_time(t)
    if t_freeze is not None:
      arguments.check_number('t_freeze', t_freeze, 0., strict=False)
    x_test = x_train if x_test is None else arguments.to_arrays('x_test',
                                                                x_test)
    arguments.check_test_data(x_test, x_train)
    times, place = np.unique(t, return_inverse=True)
    observer = _Outputs(network, x_test, antithetic)
    moments = run(key, n_networks, times, observer,
                  np.inf if t_freeze is None else t_freeze, hidden_learning,
                  checkpoint)
    mean, variance, mean_error, variance_error = (
        a[place.reshape(t.shape)] for a in observer.statistics(moments))
    return Ensemble(t, mean, variance, mean_error, variance_error, n_networks)

  def kernel_fn(key: jax.Array, n_networks: int, t1: Times, t2: Times,
                x1: PyTree, x2: PyTree = None, get: Get = None,
                checkpoint: Optional[str] = None) -> Any:
    t1, t2 = arguments.canonicalize_two_times(t1, t2)
    names = empirical.canonicalize_get(get)
    x1 = arguments.to_arrays('x1', x1)
    x2 = x1 if x2 is None else arguments.to_arrays('x2', x2)
    for x in (x1, x2):
      arguments.check_test_data(x, x_train)
    times, place = np.unique(np.stack([t1, t2]), return_inverse=True)
    place = place.reshape((2, -1))
    moments = run(
        key, n_networks, times,
        _Kernels(network, x1, x2, names, protocol.diffusion_time(times), place),
        checkpoint=checkpoint)
    pick = lambda a: a.reshape(t1.shape + a.shape[1:])
    out = [Estimate(pick(mean), pick(error)) for mean, error in zip(
        np.moveaxis(moments.mean, 1, 0), np.moveaxis(moments.mean_error, 1, 0))]
    if isinstance(get, str):
      return out[0]
    return collections.namedtuple('EnsembleKernel', names)(*out)

  out = cast(EnsembleFn, ensemble_fn)
  out.two_time_kernel_fn = kernel_fn
  return out


class _Outputs:
  """Observes outputs on test inputs, of networks or of antithetic pairs.

  The second of a pair, with a readout of the opposite sign and targets `y`, is
  minus the first one with targets `-y`: all that changes is this sign.
  """

  def __init__(self, network: _Network, x: PyTree, antithetic: bool) -> None:
    self.inputs = x
    self.copies = 2 if antithetic else 1
    self.bytes_for_one = 0  # Little beside parameters.
    self.observe = lambda params, rest: np.asarray(
        network.outputs(params, rest, x))

  def samples(self, observed: list[PyTree], rest: PyTree) -> np.ndarray:
    del rest
    outputs = np.stack(observed, 1)
    if self.copies == 1:
      return outputs
    one, two = outputs[::2], -outputs[1::2]
    return np.stack([(one + two) / 2, (one - two) / 2], 1)

  def statistics(self, moments: Moments) -> tuple[np.ndarray, ...]:
    """Mean and variance of outputs, and their standard errors."""
    all_of = (moments.mean, moments.variance, moments.mean_error,
              moments.variance_error)
    if self.copies == 1:
      return all_of
    # Half the difference has either sign alike, and no mean. Errors of both
    # parts of the variance may go together.
    (mean, _), variance, (mean_error, _), variance_error = all_of
    return mean, np.sum(variance, 0), mean_error, np.sum(variance_error, 0)


class _Kernels:
  """Observes parameters, of which kernels between two times are made."""

  def __init__(self, network: _Network, x1: PyTree, x2: PyTree,
               get: tuple[str, ...], tau: np.ndarray,
               place: np.ndarray) -> None:
    self.inputs = x1, x2
    self.copies = 1
    self.bytes_for_one = len(tau) * network.bytes_of_parameters
    self.observe = lambda params, rest: jax.tree_util.tree_map(np.asarray,
                                                               params)
    self._tau, self._place = tau, place
    self._kernel = network.two_time_kernel(x1, x2, get)

  def samples(self, observed: list[PyTree], rest: PyTree) -> np.ndarray:
    return np.stack([np.stack(self._kernel(
        observed[i], observed[j], rest, (self._tau[i], self._tau[j])), 1)
                     for i, j in self._place.T], 1)


def _train(network: _Network, key: jax.Array, n_networks: int,
           plan: list[_Block], observer: Union['_Outputs', '_Kernels'],
           hidden_learning: bool, max_bytes: int, file: Checkpoint,
           progress: bool) -> Moments:
  """Moments, over all networks, of what an observer makes of records."""
  state = file.load()
  if state is None:
    need = network.bytes_for_one() + observer.bytes_for_one
    size = int(np.clip(max_bytes // need, 1, n_networks))
    # Parts of equal size, for which one program is enough, of whole pairs.
    size = -(-n_networks // -(-n_networks // size))
    size += -size % observer.copies
    state = dict(size=size, first=0, block=0, params={}, observed={},
                 moments=None)
  size, moments = state['size'], state['moments']
  if moments is not None:
    moments = Moments(**moments)
  bar = Bar(progress, 'Networks', n_networks)
  for first in range(state['first'], n_networks, size):
    numbers = first + np.arange(size)
    keys = network.keys(key, numbers // observer.copies)
    signs = 1. - 2 * (numbers % observer.copies)
    params, rest = network.draw(keys)
    keys = jax.vmap(random.split)(keys)[:, 1]
    observed, start = [], 0
    if first == state['first'] and state['block']:
      # Goes on where an earlier run was killed.
      start = state['block']
      record = jax.tree_util.tree_structure(observer.observe(params, rest))
      params = _from_numbered(state['params'],
                              jax.tree_util.tree_structure(params))[0]
      observed = _from_numbered(state['observed'], record)
    for i, block in enumerate(plan[start:], start):
      if block.count:
        advance = (network.drift[not hidden_learning] if block.frozen else
                   network.learn)
        params = advance(params, rest, signs, network.keys(keys, i),
                         block.count, block.step, network.lessons[block.stage])
      else:
        observed.append(observer.observe(params, rest))
        _check_finite(observed[-1])
      bar.to(first + size * (i + 1) / len(plan))
      file.keep(lambda: dict(  # pylint: disable=cell-var-from-loop
          size=size, first=first, block=i + 1, observed=_numbered(observed),
          params=_numbered(params), moments=moments and moments._asdict()))
    samples = observer.samples(observed, rest)
    part = Moments.of(samples[:(n_networks - first) // observer.copies])
    moments = part if moments is None else moments.joined(part)
  bar.close()
  file.keep(lambda: dict(size=size, first=n_networks, block=0, params={},
                         observed={}, moments=moments._asdict()), force=True)
  return moments


def _check_finite(tree):
  if not all(np.all(np.isfinite(a)) for a in jax.tree_util.tree_leaves(tree)):
    raise FloatingPointError(
        'A network diverged, or the minimum of a proximal step was not found. '
        'Take a smaller `step_size`.')


def _numbered(tree: PyTree) -> dict[str, np.ndarray]:
  """Arrays of a tree, as a file keeps them."""
  return {str(i): np.asarray(a)
          for i, a in enumerate(jax.tree_util.tree_leaves(tree))}


def _from_numbered(arrays: dict[str, np.ndarray], tree: PyTree) -> list[Any]:
  """Trees of one structure, from the arrays of all of them."""
  leaves = [arrays[str(i)] for i in range(len(arrays))]
  n = tree.num_leaves
  return [tree.unflatten(leaves[i:i + n]) for i in range(0, len(leaves), n)]
