# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
r"""Protocols: what changes while a network learns, and its clocks.

A protocol is a sequence of phases. In each, temperature, learning rate, targets
and weights of samples stand still. Time is measured by three clocks: training
time :math:`t`, that of the user; the time of the loss, :math:`\int \eta\, dt`,
in which gradients have no factor; and diffusion time :math:`\tau = \int \eta\,
T\, dt`, the only one that kernels know of, and which stands still at
temperature 0.
"""

from typing import Any, NamedTuple, Optional, Sequence

import jax
import numpy as np

from nt_ndk._src.base import arguments


class Phase(NamedTuple):
  r"""A time in which nothing but the weights of a network changes.

  Predictors and ensembles take several of these, one after the other, as their
  `schedule`. `None` means "as in the call".

  Attributes:
    duration: how long the phase lasts, in the units of `t`; of the last one,
      and of no other, infinity.
    temperature: :math:`T \geq 0`; 0 is gradient flow.
    learning_rate: factor of time, positive.
    y_train: targets, of the shape of those of the call.
    sample_weight: `[n]`, factors :math:`a_\mu \geq 0` of the losses of the
      samples; 0 where a sample is not in the training set. `None` is 1.

  Example:
    >>> import numpy as np
    >>> from nt_ndk import predict
    >>> #
    >>> schedule = (predict.Phase(1e3, temperature=.1),
    >>>             predict.Phase(1e3, temperature=.01),
    >>>             predict.Phase(np.inf, temperature=.01,
    >>>                           sample_weight=[1., 1., 0.]))
  """
  duration: float
  temperature: Optional[float] = None
  learning_rate: Optional[float] = None
  y_train: Any = None
  sample_weight: Any = None


class Stage(NamedTuple):
  """A phase, with all that it takes from the call.

  Attributes:
    start, stop: training times at which it begins and ends.
    temperature: not negative.
    rate: time of the loss that passes in a unit of training time.
    y: targets, as given.
    weight: `[n]`, of samples.
    clock: time of the loss at which it begins.
    tau: diffusion time at which it begins.
  """
  start: float
  stop: float
  temperature: float
  rate: float
  y: Any
  weight: np.ndarray
  clock: float
  tau: float

  @property
  def same_weights(self) -> bool:
    """Whether all samples have weight 1."""
    return bool(np.all(self.weight == 1))


class Protocol:
  """All stages of learning.

  Attributes:
    stages: one after the other, the last one without end.
  """

  def __init__(self, schedule: Optional[Sequence[Phase]], y_train: Any,
               temperature: float, learning_rate: float,
               unit: float = 1.) -> None:
    """Checks a schedule.

    Args:
      schedule: phases; `None` is a single one.
      y_train: `(n, ...)`, targets of the call.
      temperature: of the call.
      learning_rate: of the call.
      unit: time of the loss that passes in a unit of training time at a
        learning rate of 1.

    Raises:
      TypeError: if something is of the wrong kind.
      ValueError: if something is out of range.
    """
    phases = _phases(schedule)
    start = clock = tau = 0.
    stages = []
    for i, phase in enumerate(phases):
      name = f'schedule[{i}]'
      duration = _duration(f'{name}.duration', phase.duration,
                           i == len(phases) - 1)
      given = lambda value, default: default if value is None else value
      T = given(phase.temperature, temperature)
      arguments.check_number(f'{name}.temperature', T, 0., strict=False)
      rate = given(phase.learning_rate, learning_rate)
      arguments.check_number(f'{name}.learning_rate', rate, 0., strict=True)
      T, rate = float(T), float(rate) * unit
      stages.append(Stage(
          start, start + duration, T, rate,
          y_train if phase.y_train is None else _targets(
              f'{name}.y_train', phase.y_train, y_train),
          _weights(f'{name}.sample_weight', phase.sample_weight, len(y_train)),
          clock, tau))
      start, clock, tau = (start + duration, clock + rate * duration,
                           tau + (rate * T * duration if T else 0.))
    self.stages = tuple(stages)

  def stage(self, t: np.ndarray) -> np.ndarray:
    """Number of the stage that each time is in; ends belong to what ends."""
    starts = np.array([stage.start for stage in self.stages[1:]])
    return np.searchsorted(starts, t, side='left')

  def since(self, number: int, t: float) -> float:
    """Time within a stage: diffusion time, or that of the loss without noise.

    It is measured from the beginning of the stage, so that none of it is lost
    to rounding, however long other stages have been.
    """
    stage = self.stages[number]
    return (stage.temperature or 1.) * stage.rate * (t - stage.start)

  def locate(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of stages and times within them, for training times `[T]`."""
    numbers = self.stage(t)
    return numbers, np.array([self.since(p, u) for p, u in zip(numbers, t)])

  def clock(self, t: np.ndarray) -> np.ndarray:
    """Time of the loss at training times."""
    return self._since(t, 'clock', [s.rate for s in self.stages])

  def diffusion_time(self, t: np.ndarray) -> np.ndarray:
    """Diffusion time at training times."""
    return self._since(t, 'tau', [s.rate * s.temperature for s in self.stages])

  def diffusion_lag(self, start: float, t: np.ndarray) -> np.ndarray:
    """Diffusion time that passes in times `t` after a training time."""
    out = np.zeros(np.shape(t))
    for stage in self.stages:
      begin = max(stage.start - start, 0.)
      if stage.temperature and stage.stop > start:
        out = out + stage.rate * stage.temperature * (
            np.clip(t, begin, stage.stop - start) - begin)
    return out

  def _since(self, t: np.ndarray, name: str, rates: list[float]) -> np.ndarray:
    i = self.stage(t)
    starts, values = (np.array([getattr(s, n) for s in self.stages])[i]
                      for n in ('start', name))
    rate = np.array(rates)[i]
    # At infinity, too, no diffusion time passes without noise.
    return values + rate * np.where(rate > 0, t - starts, 0.)

  def training_time(self, tau: float) -> float:
    """Training time at which a diffusion time is reached, if it ever is."""
    for stage in reversed(self.stages):
      if stage.temperature > 0 and tau >= stage.tau:
        return stage.start + (tau - stage.tau) / (stage.rate *
                                                  stage.temperature)
    return next((s.start for s in self.stages if s.temperature > 0), np.inf)


def _phases(schedule: Any) -> list[Phase]:
  if schedule is None:
    return [Phase(np.inf)]
  if isinstance(schedule, Phase) or not (
      isinstance(schedule, (list, tuple)) and schedule and
      all(isinstance(phase, Phase) for phase in schedule)):
    raise TypeError(
        '`schedule` must be a tuple of one or more `predict.Phase`, such as '
        '`(predict.Phase(10., temperature=.1), predict.Phase(np.inf))`, got '
        f'{schedule!r:.80}.')
  return list(schedule)


def _duration(name: str, value: Any, last: bool) -> float:
  arguments.check_not_traced(name, value)
  if np.ndim(value) or not np.isreal(value):
    raise TypeError(f'`{name}` must be a real number, got {value!r}.')
  if last and value != np.inf:
    raise ValueError(f'`{name}` must be infinite, as it is that of the last '
                     f'phase, got {value!r}. Pass `np.inf`, and ask for the '
                     'times that are of interest.')
  if not last and not 0 < value < np.inf:
    raise ValueError(f'`{name}` must be positive and finite, as another phase '
                     f'follows, got {value!r}. Leave out phases that do not '
                     'last.')
  return float(value)


def _targets(name: str, value: Any, y_train: Any) -> Any:
  arguments.check_not_traced(name, value)
  out = arguments.to_arrays(name, value)
  shapes = jax.tree_util.tree_map(np.shape, out)
  if shapes != np.shape(y_train):
    raise ValueError(
        f'`{name}` must have the shape of `y_train`, {np.shape(y_train)}, got '
        f'{shapes}. For other samples, put the inputs of all phases '
        'into `x_train`, and choose among them by `sample_weight`.')
  arguments.check_finite(name, out)
  return out


def _weights(name: str, value: Any, n: int) -> np.ndarray:
  if value is None:
    return np.ones(n)
  arguments.check_not_traced(name, value)
  out = np.asarray(arguments.to_arrays(name, value), float)
  if out.shape != (n,):
    raise ValueError(f'`{name}` must have one number for each training sample, '
                     f'shape {(n,)}, got {out.shape}.')
  if not np.all(np.isfinite(out) & (out >= 0)):
    raise ValueError(f'`{name}` must be finite and not negative, got '
                     f'{out[~(np.isfinite(out) & (out >= 0))][:3]}. A sample '
                     'that is not in the training set has weight 0.')
  if not np.any(out > 0):
    raise ValueError(f'`{name}` must be positive for at least one sample, got '
                     'zeros only. Leave the phase out, or keep a sample in it.')
  return out
