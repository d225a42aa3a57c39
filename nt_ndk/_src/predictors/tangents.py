# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""The mean trajectory, and its derivatives in all that it depends on.

In a parameter of the network, at fixed times, the residual on the training data
:math:`\rho = Y - \langle f(X) \rangle` changes as

.. math::
  \partial \rho + \gamma \int_0^\tau \mathrm{NDK}\, \partial \rho\, d\tau' =
  -\gamma \int_0^\tau (\partial\, \mathrm{NDK})\, \rho\, d\tau',
  \qquad \gamma = 1 / T,

its own equation with another right-hand side, which is solved for all
derivatives at once, on the panels of the solution. If both times of the kernel
are multiplied by a factor, the derivative in its logarithm, :math:`(\tau
\partial_\tau + \tau' \partial_{\tau'}) \mathrm{NDK}`, is one of these: that in
:math:`\log T` at a fixed training time. With :math:`-(Y - \rho)` beside it on
the right-hand side, which is what a longer integral makes, it is that in
:math:`\log t`.
"""

import functools
from typing import Any, Callable, Iterable, NamedTuple, Optional

import numpy as np

from nt_ndk._src.base import memory
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.protocol import Protocol
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.dynamics.volterra import VolterraSolver
from nt_ndk._src.kernels import derivatives
from nt_ndk._src.kernels.derivatives import CompressedDerivatives
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.sample import Weights
from nt_ndk._src.kernels.tangent import Parameters
from nt_ndk._src.kernels.tangent import tangent
from nt_ndk._src.predictors.posterior import Posterior
from nt_ndk._src.predictors.problem import Problem
from nt_ndk._src.predictors.trajectory import BETWEEN
from nt_ndk._src.predictors.trajectory import integrals
from nt_ndk._src.predictors.trajectory import time_error
from nt_ndk._src.predictors.trajectory import Trajectory

# Times and columns of the solution for whose products derivatives of kernels
# are chosen.
_VECTORS, _COLUMNS = 8, 4
# Error because of kernels that is worth another fit, and what that aims at, in
# `rtol`; number of fits, and largest error of all inputs for that of a few.
_WORTH, _AIM, _MAX_FITS, _SAFETY = 15., 5., 3, 5.
# Times that are the end of a solution, relative to it.
_AT_END = 1 + 1e-6


class _Group(NamedTuple):
  """Derivatives of some columns of targets, on the training data.

  Attributes:
    residual: solution of the mean.
    mix: `[c, k]`, the columns that these are components of, or `None`.
    parts: solutions of derivatives, `[n, d * c]` each.
  """
  residual: VolterraSolver
  mix: Optional[np.ndarray]
  parts: list[VolterraSolver]


class Tangents:
  """Mean predictions and their derivatives, solved when and as far as needed.

  Equations are solved for derivatives in units in which those of kernels are as
  large as kernels.

  Attributes:
    problem: data and kernels.
    error: estimated error of the latest derivatives, relative to targets.
  """

  def __init__(self, network: Callable[[PyTree], KernelFn],
               parameters: Parameters, problem: Problem,
               protocol: Protocol) -> None:
    """Solves nothing yet.

    Args:
      network: takes parameters to a kernel function.
      parameters: where derivatives are taken.
      problem: that of the network there.
      protocol: a single stage with noise.
    """
    self.problem, self.error = problem, 0.
    self._count = len(parameters.values)
    stage, = protocol.stages
    self._temperature, self._rate = stage.temperature, stage.rate
    self._trajectory = Trajectory(problem, protocol)
    self._posterior = Posterior(problem, problem.lesson(stage))
    keywords = getattr(problem.kernel_fn, 'keywords', None)
    self._along = lambda direction: KernelEvaluator(
        tangent(network, parameters, direction, keywords), problem.x_train,
        problem.evaluator.locations, **problem.kwargs)
    # Test inputs on which derivatives of kernels have to be right too.
    self._tests: list[tuple[PyTree, Any]] = []
    self._compressed: Any = None
    self._fits = 0
    self._groups: list[_Group] = []
    self._solved: Any = None

  def mean(self, t: np.ndarray, x_test: PyTree, **kwargs: Any) -> np.ndarray:
    """Mean predictions `[T, m, k]` at training times, also infinite ones."""
    if not np.all(np.isinf(t)):
      return self._trajectory.mean(t, x_test, **kwargs)
    self.problem.stats['estimated_error'] = 0.
    mean, _ = self._posterior.predictions(x_test, **kwargs)
    return np.broadcast_to(mean, t.shape + mean.shape)

  def derivatives(self, t: np.ndarray, x_test: PyTree,
                  **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean predictions, and all derivatives of each.

    Returns:
      `[T, m, k]`, and `[T, P + 2, m, k]`: derivatives in parameters at fixed
      times, in the temperature, and in the time.
    """
    mean = self.mean(t, x_test, **kwargs)
    out = np.zeros((len(t), self._count + 2) + mean.shape[1:])
    late = functools.cache(lambda: self._late(x_test, kwargs))
    self.error = self.problem.stats['estimated_error']
    if np.all(np.isinf(t)):
      out += late()
    elif np.any(t > 0):
      tau = self._rate * self._temperature * t
      self._solve(tau, x_test, kwargs)
      for group in self._groups:
        self._add_group(out, group, tau, x_test, kwargs, late)
    # From those in logarithms.
    out[:, -2] /= self._temperature
    out[:, -1] /= np.where(t > 0, t, 1.)[:, None, None]
    if np.any(t == 0):
      out[t == 0, -1] = self._rate * self._initial(x_test, kwargs)
    return mean, out

  # Derivatives of kernels.

  @functools.cached_property
  def _units(self) -> np.ndarray:
    """`[P + 1]`, sizes of derivatives of the kernel, the last that in time."""
    return np.array([
        derivatives.size(self.problem.evaluator, self._along(direction),
                         self.problem.ndk.scales)
        for direction in np.eye(self._count + 1)])

  @functools.cached_property
  def _some(self) -> np.ndarray:
    """Numbers of parameters on which the kernel depends."""
    return np.flatnonzero(self._units[:-1])

  @property
  def _directions(self) -> np.ndarray:
    """`[D, P + 1]`, those of derivatives of the kernel, the last that in time.

    A kernel that does not move would have been refused.
    """
    units = np.where(self._units > 0, self._units, 1.)
    return np.diag(1 / units)[np.append(self._some, self._count)]

  def _compress(self) -> CompressedDerivatives:
    """Derivatives of the kernel, for the products that this solution needs."""
    problem = self.problem
    solver, _, _ = self._trajectory.solutions[0]
    some = np.linspace(1, len(solver.ends) - 1, _VECTORS).astype(int)
    tau = solver.ends[np.unique(some)]
    vectors = (tau[:, None, None] * solver.solution(tau)[..., :_COLUMNS] /
               (self._temperature * self._trajectory.scale))
    return CompressedDerivatives(
        problem.ndk.family, problem.ndk.scales, problem.evaluator,
        [self._along(direction) for direction in self._directions],
        problem.rtol, Weights(vectors, tau), self._tests)

  def _kernel_error(self, residual: VolterraSolver, test: Any) -> float:
    """What errors of derivatives of kernels make, measured on a few inputs.

    That of all derivatives together, with random signs.
    """
    signs = np.random.RandomState(0).choice([-1., 1.], len(self._directions))
    mixture = self._along(signs @ self._directions)
    along = integrals(residual, self.problem.evaluator)
    return self._largest(
        self._compressed.defect(mixture, signs, along, inputs)
        for inputs in (None, test)[:1 + (test is not None)])

  def _largest(self, defects: Iterable[float]) -> float:
    """Largest error of all inputs, relative to targets."""
    return _SAFETY / self._trajectory.scale * max(defects)

  # Solutions.

  def _solve(self, tau: np.ndarray, x_test: PyTree,
             kwargs: dict[str, Any]) -> None:
    """Solves for derivatives as far as the mean is known."""
    problem = self.problem
    test = None if x_test is None else (x_test, problem.test_arrays(kwargs))
    seen = test is None
    for fits in range(_MAX_FITS):
      if self._compressed is None or self._fits != problem.ndk.fits:
        if test is not None and not seen:
          self._tests.append(test)
          seen = True
        self._compressed, self._fits = self._compress(), problem.ndk.fits
        self._solved = None
      kernels = max(self._kernel_error(solver, test)
                    for solver, _, _ in self._trajectory.solutions)
      if (kernels <= _WORTH * problem.rtol or self._compressed.exact or
          fits == _MAX_FITS - 1):
        break
      if seen:
        self._compressed.refine(_AIM * problem.rtol / kernels)
        self._solved = None
      else:
        self._compressed = None
    solutions = self._trajectory.solutions
    reached = self._fits, [len(solver.ends) for solver, _, _ in solutions]
    if self._solved != reached:
      self._groups = [self._group(*solution) for solution in solutions]
      self._solved = reached
    problem.stats['derivative_rank'] = self._compressed.rank
    inputs = (None, x_test)[:1 + (x_test is not None)]
    for part in (part for group in self._groups for part in group.parts):
      along = integrals(part, problem.evaluator)
      kernels = max(kernels, self._largest(
          problem.defect(along, x, kwargs) for x in inputs))
      self.error = max(self.error, kernels + part.tolerance + time_error(
          part, tau, self._trajectory.scale))
      if np.any(tau > part.ends[-1] * _AT_END):
        self.error = max(self.error, part.limit_error)

  def _group(self, residual: VolterraSolver, y: np.ndarray,
             mix: Optional[np.ndarray]) -> _Group:
    """Solves for derivatives of some columns."""
    problem, compressed = self.problem, self._compressed
    factors = problem.factors(problem.ndk)
    matrix = len(y)**2 * problem.dtype.itemsize
    memory.check(matrix, compressed.rank - problem.ndk.family.rank,
                 problem.evaluator.temporary_bytes('ndk'))
    integrals = residual.through(compressed.family,
                                 [factors] + compressed.factors())
    stretched = self._units[-1]
    limit = functools.cache(lambda: self._limit(mix))

    def before(tau: np.ndarray) -> np.ndarray:
      """What is subtracted at times, `[t, d, n, c]`."""
      out = integrals(tau)
      in_time = stretched * out[:, -1:]
      learned = (y - residual.solution(tau))[:, None]
      return np.concatenate([out[:, :-1], in_time, in_time + learned], 1)

    count, (n, columns) = len(self._some) + 2, y.shape
    together = max(1, problem.columns_together // columns)

    def part(some: np.ndarray) -> VolterraSolver:
      flat = lambda a: np.moveaxis(a[:, some], 1, 2).reshape((len(a), n, -1))
      out = VolterraSolver(
          problem.ndk.family, factors,
          np.zeros((n, len(some) * columns), problem.dtype),
          1 / self._temperature, problem.rtol,
          limit=lambda: (flat(limit()[None])[0], problem.prior_kernel),
          limit_from=.2 * problem.ndk.scales.slow, panels=residual.ends,
          scale=self._trajectory.scale, stop=residual.ends[-1],
          before=lambda tau: flat(before(tau)), like=residual)
      out.extend(residual.ends[-1])
      return out

    parts = [part(some) for some in np.array_split(np.arange(count),
                                                   -(-count // together))]
    return _Group(residual, mix, parts)

  def _limit(self, mix: Optional[np.ndarray]) -> np.ndarray:
    """Derivatives of the residual at late times, `[d, n, c]`."""
    late = self._late(None, {})
    out = -np.concatenate([late[self._some] / self._units[self._some, None,
                                                          None], late[-2:]])
    return out if mix is None else out @ mix.T

  def _add_group(self, out: np.ndarray, group: _Group, tau: np.ndarray,
                 x_test: PyTree, kwargs: dict[str, Any],
                 late: Callable[[], np.ndarray]) -> None:
    """Adds what some columns make of derivatives, `[T, P + 2, m, k]`."""
    problem, residual = self.problem, group.residual
    end = min(part.ends[-1] for part in group.parts)
    inside = tau <= end * _AT_END
    mixed = lambda a: a if group.mix is None else a @ group.mix
    if not np.all(inside):
      last = late()
      out[~inside] += last if group.mix is None else mixed(last @ group.mix.T)
    if not np.any(inside):
      return
    tau = np.minimum(tau[inside], end)
    if x_test is None:
      of_part = [-part.solution(tau) for part in group.parts]
    else:
      factors = problem.ndk.test_factors(x_test, **kwargs)
      checked = [part.checked_integral(factors, tau) for part in group.parts]
      of_part = [integral for integral, _ in checked]
      self.error = max(self.error, BETWEEN * max(
          missed for _, missed in checked) / self._trajectory.scale)
    m, columns = of_part[0].shape[1], residual.solution(tau[:1]).shape[-1]
    solved = np.concatenate([
        np.moveaxis(a.reshape((len(tau), m, -1, columns)), 2, 1)
        for a in of_part], 1)
    if x_test is not None:
      others = self._compressed.factors(x_test, **kwargs)
      kernels = residual.through(self._compressed.family,
                                 [factors] + others)(tau)
      in_time = self._units[-1] * kernels[:, -1]
      solved[:, :-2] += kernels[:, :-1]
      solved[:, -2] += in_time
      solved[:, -1] += in_time + residual.integral(factors, tau)
    solved[:, :-2] *= self._units[self._some, None, None]
    rows = np.append(self._some, [self._count, self._count + 1])
    out[np.ix_(inside, rows)] += mixed(solved)

  # Both ends of time.

  def _initial(self, x_test: PyTree, kwargs: dict[str, Any]) -> np.ndarray:
    """The NTK times targets, `[m, k]`."""
    problem = self.problem
    kernel = problem.ndk.initial if x_test is None else (
        problem.evaluator.test_train(x_test, 'ndk', np.zeros((1, 2)), **kwargs))
    return to_host(kernel) @ problem.y

  def _prior(self, evaluator: KernelEvaluator, x_test: PyTree,
             kwargs: dict[str, Any]) -> np.ndarray:
    """Covariance of what learns under the prior, or a derivative of that."""
    problem, late = self.problem, self.problem.late

    def at(tau: float) -> np.ndarray:
      times = np.array([[late, tau]])
      return to_host(evaluator.train_train('nngp', times) if x_test is None else
                     evaluator.test_train(x_test, 'nngp', times, **kwargs))

    out = at(late)
    return out if problem.fixed_kernel is None else out - at(late / 2)

  def _slopes(self, x_test: PyTree, kwargs: dict[str, Any]) -> np.ndarray:
    """Derivatives of `C` with training outputs times weights, `[P, m, k]`."""
    weights = to_host(self._posterior.weights)
    out = np.zeros((self._count, self.problem.rows(x_test), weights.shape[1]))
    for p, direction in enumerate(np.eye(self._count + 1)[:-1]):
      out[p] = self._prior(self._along(direction), x_test, kwargs) @ weights
    return out

  @functools.cached_property
  def _late_on_training(self) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of `(C + T)^-1 Y`, `[P + 1, n, k]`, and of the posterior."""
    slopes = self._slopes(None, {})
    changes = -np.stack([
        to_host(self._posterior.solve(right))
        for right in (*slopes, to_host(self._posterior.weights))])
    return changes, self._posterior_slopes(to_host(self.problem.prior_kernel),
                                           changes, slopes)

  def _late(self, x_test: PyTree, kwargs: dict[str, Any]) -> np.ndarray:
    """Derivatives of the posterior, `[P + 2, m, k]`, in `log T` and `log t`."""
    changes, on_training = self._late_on_training
    if x_test is None:
      return on_training
    return self._posterior_slopes(
        self._prior(self.problem.evaluator, x_test, kwargs), changes,
        self._slopes(x_test, kwargs))

  def _posterior_slopes(self, kernel: np.ndarray, changes: np.ndarray,
                        slopes: np.ndarray) -> np.ndarray:
    out = kernel @ changes
    out[:-1] += slopes
    out[-1] *= self._temperature
    return np.concatenate([out, np.zeros_like(out[:1])])
