# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of learning; Matplotlib is imported when one is drawn."""

from typing import Any, Optional

import jax
from jax.typing import ArrayLike
import numpy as np
from scipy import special

from nt_ndk._src.base import arguments
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.base.typing import Times
from nt_ndk._src.kernels.evaluation import length
from nt_ndk._src.predictors.stopping import LearningPredictFn
from nt_ndk._src.predictors.stopping import Phases

# Of Matplotlib.
Axes = Any

_NTK, _NNGP, _TEST = '#c8611a', '#0b7a75', '#20306b'
_COLORS = '#20306b', '#c8611a', '#0b7a75', '#7b3fa0', '#3a76c4', '#8a8f9c'
_TIMES = 60
# Relative gain below which stopping before the last time is not worth its name.
_NO_GAIN = 1e-3


def learning_curve(predict_fn: LearningPredictFn, x_test: PyTree,
                   y_test: ArrayLike, t: Times = None, n_std: float = 1.,
                   ax: Optional[Axes] = None,
                   **kernel_fn_test_test_kwargs: Any) -> Axes:
  r"""Draws the squared error on test data along learning.

  The error of a network of the ensemble: its mean over networks, with a band of
  standard deviations over networks. Of outputs with mean :math:`\mu_c` and
  covariance :math:`\Sigma` these are

  .. math::
    \frac1{m k} \sum_c |\mu_c - y_c|^2 + \frac{\mathrm{tr}\,\Sigma}m, \qquad
    \frac1{m k} \Big[\sum_c 4 (\mu_c - y_c)^T \Sigma (\mu_c - y_c) +
    2 k\, \mathrm{tr}\, \Sigma^2\Big]^{1/2}.

  Beside it is the error of the mean predictor, dotted, and dashed are the
  errors of the NTK at infinite time and of equilibrium, the posterior of the
  NNGP. The phases are shaded, and a circle is at the best time.

  Args:
    predict_fn:
      made by :func:`nt_ndk.predict.markov_proximal_mse_ensemble` at a positive
      temperature.

    x_test:
      test inputs.

    y_test:
      test targets, `(m, k)`.

    t:
      1D array of times, in the units of `predict_fn`; `None` is 60 that cover
      learning.

    n_std:
      number of standard deviations in the band. 0 leaves out what networks
      differ by, and draws the errors of the mean predictor alone, which takes
      less time.

    ax:
      axes of Matplotlib to draw into; `None` makes a figure.

    **kernel_fn_test_test_kwargs:
      keyword arguments passed to `predict_fn`.

  Returns:
    The axes.

  Raises:
    ValueError: if `predict_fn` has no noise, or shapes do not fit.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import plot, predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512, W_init_std=2.), stax.Erf(), stax.Dense(1))
    >>> x_train, x_test = random.normal(random.PRNGKey(0), (2, 20, 10))
    >>> y_train, y_test = jnp.sign(x_train[:, :1]), jnp.sign(x_test[:, :1])
    >>> #
    >>> predict_fn = predict.markov_proximal_mse_ensemble(
    >>>     kernel_fn, x_train, y_train, temperature=1e-2)
    >>> ax = plot.learning_curve(predict_fn, x_test, y_test)
  """
  times = _learning_times(predict_fn, t)
  phases = _phases(predict_fn)
  y = np.asarray(arguments.to_floats('y_test', y_test))
  ask = lambda t, get='ndk', compute_cov=n_std > 0: predict_fn(
      t=t, x_test=x_test, get=get, compute_cov=compute_cov,
      **kernel_fn_test_test_kwargs)
  mean = ask(times, compute_cov=False)
  if np.shape(mean)[1:] != y.shape or n_std > 0 and y.ndim > 2:
    raise ValueError(
        '`y_test` must have the shape of a prediction, '
        f'{np.shape(mean)[1:]}, and two axes for a band, got {y.shape}. Leave '
        'the band out by `n_std=0`.')

  def errors(prediction: Any) -> tuple[Any, Any, Any]:
    """Of the mean, of a network, and the standard deviation of the latter."""
    mean, covariance = prediction if n_std > 0 else (prediction, None)
    off = np.asarray(mean) - y
    bias = np.mean(off**2, tuple(range(-y.ndim, 0)))
    if covariance is None:
      return bias, bias, np.zeros_like(bias)
    covariance = np.asarray(covariance)
    if covariance.shape[-2:] != (len(y), len(y)):
      raise ValueError('A band needs outputs that are independent: all axes of '
                       'targets but the first one in `trace_axes`. Leave it '
                       'out by `n_std=0`.')
    variance = 4 * np.einsum('...ic,...ij,...jc', off, covariance, off) + (
        2 * y.shape[1] * np.sum(covariance**2, (-2, -1)))
    return (bias, bias + np.trace(covariance, axis1=-2, axis2=-1) / len(y),
            np.sqrt(variance) / y.size)

  bias, error, std = errors(ask(times) if n_std > 0 else mean)
  ends = {'NNGP': (errors(ask(None))[1], _NNGP)}
  try:
    ends['NTK'] = errors(ask(None, 'ntk'))[1], _NTK
  except ArithmeticError:  # Duplicated inputs.
    pass

  ax = _axes(ax)
  _shade(ax, times, phases.diffusive, names=True)
  high = np.max(error)
  low = min(np.min(bias), *(value for value, _ in ends.values()))
  for name, (value, color) in ends.items():
    above = value >= max(other for other, _ in ends.values())
    ax.axhline(value, color=color, ls=(0, (5, 3)), lw=1.3)
    ax.annotate(f'{name} {value:.3g}', (times[0], value), (6, 3 * (2 * above -
                1)), textcoords='offset points', color=color,
                va='bottom' if above else 'top')
  if n_std > 0:
    ax.fill_between(times, np.maximum(error - n_std * std, low / 2), error +
                    n_std * std, color=_TEST, alpha=.16, lw=0,
                    label=f'{n_std:g} standard deviation' + 's' * (n_std != 1))
    ax.plot(times, error, color=_TEST, lw=2.2, label='test, a network')
  ax.plot(times, bias, color=_TEST, lw=2.2 if n_std == 0 else 1.2,
          ls='-' if n_std == 0 else ':', label='test, mean predictor')
  best = int(np.argmin(error))
  if error[best] >= error[-1] * (1 - _NO_GAIN):
    best = len(times) - 1
  ax.plot(times[best], error[best], 'o', ms=7, mfc='white', mec=_TEST, mew=1.8,
          zorder=5, clip_on=False, label=f'best, {error[best]:.3g}')
  ax.set(yscale='log', ylim=(low / 2, 3 * high), xlabel='training time $t$',
         ylabel='mean squared error')
  ax.legend(frameon=False, loc='upper right', bbox_to_anchor=(1, .92))
  return ax


def two_time_kernel(kernel_fn: KernelFn, x1: PyTree, x2: PyTree,
                    tau: ArrayLike, get: str = 'ndk',
                    ax: Optional[Axes] = None,
                    **kernel_fn_kwargs: Any) -> Axes:
  """Draws a kernel of two inputs over both diffusion times, as a map.

  The NDK is drawn where the first time is the later one, which is where it is
  used.

  Args:
    kernel_fn: kernel function of a network made by :mod:`nt_ndk.stax`.
    x1: one input, `(1, ...)`, at the first time.
    x2: one input, `(1, ...)`, at the second time.
    tau: 1D array of increasing diffusion times, at least two.
    get: `"ndk"` or `"nngp"`.
    ax: axes of Matplotlib to draw into; `None` makes a figure.
    **kernel_fn_kwargs: keyword arguments passed to `kernel_fn`.

  Returns:
    The axes.

  Raises:
    ValueError: if shapes do not fit.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import plot, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512, W_init_std=2.), stax.Erf(), stax.Dense(1))
    >>> x1, x2 = random.normal(random.PRNGKey(0), (2, 1, 10))
    >>> ax = plot.two_time_kernel(kernel_fn, x1, x2, jnp.linspace(0., 2., 50))
  """
  tau = arguments.canonicalize_finite_time(tau)
  if tau.ndim != 1 or len(tau) < 2 or np.any(np.diff(tau) <= 0):
    raise ValueError('`tau` must be a 1D array of at least two increasing '
                     f'diffusion times, got shape {tau.shape}.')
  if get not in ('ndk', 'nngp'):
    raise ValueError(f'`get` must be "ndk" or "nngp", got {get!r}.')
  if length(x1) != 1 or length(x2) != 1:
    raise ValueError('`x1` and `x2` must be one input each, of shape `(1, ...)`'
                     f', got {length(x1)} and {length(x2)}.')
  repeat = lambda x: jax.tree_util.tree_map(
      lambda a: np.repeat(np.asarray(a), len(tau), 0), x)
  kernel = np.asarray(kernel_fn(repeat(x1), repeat(x2), get,
                                diffusion_time=(tau, tau), **kernel_fn_kwargs))
  if kernel.shape != (len(tau),) * 2:
    raise ValueError(
        'The network must have one output for each input, without pixels, but '
        f'the kernel has shape {kernel.shape} for {len(tau)} times. End it in '
        '`Flatten` or pooling.')
  if get == 'ndk':
    kernel = np.where(tau[:, None] >= tau, kernel, np.nan)
  ax = _axes(ax)
  picture = ax.pcolormesh(tau, tau, kernel, cmap='magma', shading='gouraud',
                          rasterized=True)
  ax.figure.colorbar(picture, ax=ax, label=(
      f'{get.upper()}$(\\tau, \\tau^\\prime)$'))
  ax.set(xlabel=r'diffusion time $\tau^\prime$ of the second input',
         ylabel=r'diffusion time $\tau$ of the first input', aspect='equal')
  return ax


def trajectories(predict_fn: LearningPredictFn, x_test: PyTree,
                 t: Times = None, n_samples: int = 5,
                 key: Optional[jax.Array] = None, output: int = 0,
                 n_std: float = 2., ax: Optional[Axes] = None,
                 **kernel_fn_test_test_kwargs: Any) -> Axes:
  """Draws outputs of single networks along learning, over their mean.

  For each test input, in a colour of its own: draws of `predict_fn.sample`, the
  mean predictor, and a band of standard deviations over networks.

  Args:
    predict_fn:
      made by :func:`nt_ndk.predict.markov_proximal_mse_ensemble` at a positive
      temperature.

    x_test:
      a few test inputs.

    t:
      1D array of times, in the units of `predict_fn`; `None` is 60 that cover
      learning.

    n_samples:
      number of networks; the same ones for all inputs.

    key:
      random key; `None` is `jax.random.PRNGKey(0)`.

    output:
      which output to draw.

    n_std:
      number of standard deviations in the band.

    ax:
      axes of Matplotlib to draw into; `None` makes a figure.

    **kernel_fn_test_test_kwargs:
      keyword arguments passed to `predict_fn`.

  Returns:
    The axes.

  Raises:
    ValueError: if `predict_fn` has no noise, or shapes do not fit.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import plot, predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512, W_init_std=2.), stax.Erf(), stax.Dense(1))
    >>> x_train, x_test = random.normal(random.PRNGKey(0), (2, 20, 10))
    >>> y_train = jnp.sign(x_train[:, :1])
    >>> #
    >>> predict_fn = predict.markov_proximal_mse_ensemble(
    >>>     kernel_fn, x_train, y_train, temperature=1e-2)
    >>> ax = plot.trajectories(predict_fn, x_test[:2],
    >>>                        jnp.geomspace(.1, 1e4, 20))
  """
  times = _learning_times(predict_fn, t)
  mean, variance = (np.asarray(a) for a in predict_fn(
      t=times, x_test=x_test, get='ndk', compute_cov='diag',
      **kernel_fn_test_test_kwargs))
  if mean.ndim != 3 or variance.ndim != 2:
    raise ValueError('Outputs must be of shape `(n, k)`, and independent of '
                     f'each other, got {mean.shape[1:]}.')
  key = jax.random.PRNGKey(0) if key is None else key
  draws = np.asarray(predict_fn.sample(key, n_samples, times, x_test,
                                       **kernel_fn_test_test_kwargs))
  ax = _axes(ax)
  _shade(ax, times, _phases(predict_fn).diffusive, names=False)
  for i in range(mean.shape[1]):
    color = _COLORS[i % len(_COLORS)]
    middle, std = mean[:, i, output], np.sqrt(variance[:, i])
    ax.fill_between(times, middle - n_std * std, middle + n_std * std,
                    color=color, alpha=.14, lw=0)
    ax.plot(times, middle, color=color, lw=2.2, label=f'input {i}')
    ax.plot(times, draws[:, :, i, output].T, color=color, lw=.8, alpha=.7)
  ax.set(xlabel='training time $t$', ylabel='output')
  ax.legend(frameon=False)
  return ax


def calibration(predict_fn: LearningPredictFn, x_test: PyTree,
                y_test: ArrayLike, t: Times = None, noise: float = 0.,
                ax: Optional[Axes] = None,
                **kernel_fn_test_test_kwargs: Any) -> Axes:
  """Draws how often targets lie in the intervals that are predicted for them.

  The fraction of test targets in the central interval of the Gaussian of each
  prediction, against the probability of that interval, one curve for each time.
  On the diagonal, predictions know how wrong they are; below, they are too
  sure. The grey band is two standard deviations of as many independent targets.

  Args:
    predict_fn:
      made by :func:`nt_ndk.predict.markov_proximal_mse_ensemble`.

    x_test:
      test inputs.

    y_test:
      test targets, `(m, ..., k)`.

    t:
      a time or a 1D array of times, in the units of `predict_fn`; `None` is
      equilibrium.

    noise:
      variance of the noise of test targets, on top of that of networks: the
      temperature, if it was chosen as that.

    ax:
      axes of Matplotlib to draw into; `None` makes a figure.

    **kernel_fn_test_test_kwargs:
      keyword arguments passed to `predict_fn`.

  Returns:
    The axes.

  Raises:
    ValueError: if shapes do not fit.

  Example:
    >>> from jax import random
    >>> import jax.numpy as jnp
    >>> from nt_ndk import plot, predict, stax
    >>> #
    >>> _, _, kernel_fn = stax.serial(
    >>>     stax.Dense(512, W_init_std=2.), stax.Erf(), stax.Dense(1))
    >>> x_train, x_test = random.normal(random.PRNGKey(0), (2, 20, 10))
    >>> y_train, y_test = jnp.sin(x_train[:, :1]), jnp.sin(x_test[:, :1])
    >>> #
    >>> predict_fn = predict.markov_proximal_mse_ensemble(
    >>>     kernel_fn, x_train, y_train, temperature=1e-2)
    >>> ax = plot.calibration(predict_fn, x_test, y_test, [10., jnp.inf],
    >>>                       noise=1e-2)
  """
  at = arguments.canonicalize_time(t)
  times = np.full(1, np.inf) if at is None else np.atleast_1d(at)
  y = np.asarray(arguments.to_floats('y_test', y_test))
  mean, variance = (np.asarray(a) for a in predict_fn(
      t=times, x_test=x_test, get='ndk', compute_cov='diag',
      **kernel_fn_test_test_kwargs))
  if times.ndim != 1 or mean.shape[1:] != y.shape:
    raise ValueError(
        '`t` must have one axis at most, and `y_test` the shape of a '
        f'prediction, got {times.shape} and {y.shape} for {mean.shape[1:]}.')
  std = np.sqrt(variance + noise)
  # Variances lack the axes along which outputs are alike.
  std = std.reshape(std.shape + (1,) * (mean.ndim - std.ndim))
  # Probability of the smallest central interval that has a target in it.
  needed = special.erf(np.abs(mean - y) / (2**.5 * std)).reshape(
      (len(times), -1))
  levels = np.linspace(0., 1., 101)
  ax = _axes(ax)
  spread = 2 * np.sqrt(levels * (1 - levels) / y.size)
  ax.fill_between(levels, levels - spread, levels + spread, color='#888888',
                  alpha=.2, lw=0)
  ax.plot([0, 1], [0, 1], color='#888888', lw=1)
  for i, (time, values) in enumerate(zip(times, needed)):
    ax.plot(levels, np.mean(values <= levels[:, None], 1), lw=2,
            color=_COLORS[i % len(_COLORS)],
            label='equilibrium' if np.isinf(time) else f'$t$ = {time:.3g}')
  ax.set(xlabel='probability of the interval', aspect='equal', xlim=(0, 1),
         ylabel='fraction of targets in it', ylim=(0, 1))
  ax.legend(frameon=False)
  return ax


def _axes(ax: Optional[Axes]) -> Axes:
  if ax is not None:
    return ax
  from matplotlib import pyplot as plt  # pylint: disable=g-import-not-at-top

  return plt.subplots(layout='constrained')[1]


def _phases(predict_fn: LearningPredictFn) -> Phases:
  phases_fn = getattr(predict_fn, 'phases', None)
  if phases_fn is None:
    raise ValueError('`predict_fn` must be made by `nt_ndk.predict.'
                     'markov_proximal_mse_ensemble` with a positive '
                     f'temperature, got {predict_fn!r}.')
  return phases_fn()


def _learning_times(predict_fn: LearningPredictFn, t: Times) -> np.ndarray:
  """Times on an axis, which is logarithmic."""
  if t is None:
    phases = _phases(predict_fn)
    return np.geomspace(phases.start, phases.equilibrium, _TIMES)
  t = arguments.canonicalize_finite_time(t)
  if t.ndim != 1 or len(t) < 2 or np.any(t == 0):
    raise ValueError('`t` must be a 1D array of at least two positive times, '
                     f'got shape {t.shape}.')
  return np.unique(t)


def _shade(ax: Axes, times: np.ndarray, diffusive: float, names: bool) -> None:
  """Draws the phases of learning behind curves."""
  start, end = times[0], times[-1]
  middle = float(np.clip(diffusive, start, end))
  ax.set(xscale='log', xlim=(start, end))
  for a, b, color, name in ((start, middle, _NTK, 'gradient-driven'),
                            (middle, end, _NNGP, 'diffusive')):
    if a == b:
      continue
    ax.axvspan(a, b, color=color, alpha=.08, lw=0)
    if names:
      ax.text((a * b)**.5, .97, name, transform=ax.get_xaxis_transform(),
              color=color, ha='center', va='top', fontweight='bold')
