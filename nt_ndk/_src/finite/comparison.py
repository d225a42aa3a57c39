# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Theory against experiment: predictors beside ensembles of finite networks."""

from typing import Any, NamedTuple, Optional, Sequence, Union

from jax.typing import ArrayLike
import numpy as np

from nt_ndk._src.finite.langevin import Ensemble

# Mean, or mean and variance, or draws with both and their standard errors.
Prediction = Union[ArrayLike, tuple[ArrayLike, ArrayLike], Any]


class Comparison(NamedTuple):
  """Ensemble minus theory.

  All arrays have the shape of the times, then that of the outputs.

  Attributes:
    mean_deviation: of the mean.
    mean_z: the same in standard errors.
    variance_deviation: of the variance, or `None`.
    variance_z: the same in standard errors, or `None`.
  """
  mean_deviation: np.ndarray
  mean_z: np.ndarray
  variance_deviation: Any
  variance_z: Any


class WidthScan(NamedTuple):
  """How deviations fall with the width.

  Attributes:
    widths: `[W]`.
    rms: `[W]`, root-mean-square deviations.
    error: `[W]`, root-mean-square standard errors.
    bias: `[W]`, what of the deviation the sampling error does not explain.
    resolved: `[W]`, whether it is above twice that error.
    slope: of the logarithm of the resolved bias over that of the width; NaN for
      fewer than two.
  """
  widths: np.ndarray
  rms: np.ndarray
  error: np.ndarray
  bias: np.ndarray
  resolved: np.ndarray
  slope: float


def _z(deviation: np.ndarray, error: np.ndarray) -> np.ndarray:
  """In standard errors; 0 where both vanish, as at time 0 without spread."""
  return np.divide(deviation, error, out=np.where(deviation == 0, 0., np.inf),
                   where=error > 0)


def _prediction(prediction: Prediction, shape: tuple[int, ...]) -> tuple[
    np.ndarray, Optional[np.ndarray]]:
  """Mean and variance of a predictor, the second one of each output."""
  draws: Any = prediction
  sampled = hasattr(draws, 'mean_error')
  mean, variance = ((draws.mean, draws.variance) if sampled else
                    prediction if isinstance(prediction, tuple) else
                    (prediction, None))
  if np.shape(mean) != shape:
    raise ValueError(f'The mean must have the shape of the ensemble, {shape}, '
                     f'got {np.shape(mean)}: predict at the same `t` and '
                     '`x_test`.')
  if variance is None:
    return np.asarray(mean), None
  if sampled:
    return np.asarray(mean), np.asarray(variance)
  if np.shape(variance) != shape[:-1]:
    raise ValueError(
        f'The variance must have shape {shape[:-1]}, got {np.shape(variance)}: '
        'predict with `compute_cov="diag"`.')
  return np.asarray(mean), np.asarray(variance)[..., None]


def compare(ensemble: Ensemble, prediction: Prediction) -> Comparison:
  """Compares an ensemble of finite networks with a predictor.

  Args:
    ensemble: of :func:`nt_ndk.langevin.markov_proximal_ensemble`.
    prediction: mean, or mean and variance (`compute_cov="diag"`), of
      :func:`nt_ndk.predict.markov_proximal_mse_ensemble` for the same network,
      data, temperature, learning rate, times and test inputs; or draws of
      :func:`nt_ndk.predict.markov_proximal_ensemble`, whose standard errors
      count, too.

  Returns:
    :class:`Comparison`.

  Raises:
    ValueError: if shapes differ.

  Example:
    >>> from jax import numpy as jnp, random
    >>> from nt_ndk import langevin, predict, stax
    >>> #
    >>> init_fn, apply_fn, kernel_fn = stax.serial(
    >>>     stax.Dense(128), stax.Relu(), stax.Dense(1))
    >>> x = random.normal(random.PRNGKey(0), (3, 4))
    >>> y = jnp.sign(x[:, :1])
    >>> t = jnp.array([1., 10.])
    >>> ensemble = langevin.markov_proximal_ensemble(
    >>>     init_fn, apply_fn, x, y, .1)(random.PRNGKey(1), 20, t)
    >>> prediction = predict.markov_proximal_mse_ensemble(
    >>>     kernel_fn, x, y, .1)(t=t, get='ndk', compute_cov='diag')
    >>> comparison = langevin.compare(ensemble, prediction)
  """
  mean, variance = _prediction(prediction, ensemble.mean.shape)
  error = lambda name: np.hypot(getattr(ensemble, name),
                                getattr(prediction, name, 0.))
  deviation = ensemble.mean - mean
  out = Comparison(deviation, _z(deviation, error('mean_error')), None, None)
  if variance is None:
    return out
  deviation = ensemble.variance - variance
  return out._replace(variance_deviation=deviation,
                      variance_z=_z(deviation, error('variance_error')))


def width_scan(widths: Sequence[int], ensembles: Sequence[Ensemble],
               prediction: Prediction, statistic: str = 'mean') -> WidthScan:
  r"""How the deviation from theory falls with the width of networks.

  The square of the bias is the mean square deviation minus the mean square
  standard error, over times and outputs. The theory being that of infinite
  width, it should be a power of the width. The slope is that of a straight line
  through the logarithms where the bias is resolved.

  Args:
    widths: of the networks.
    ensembles: one for each width, at the same times and test inputs.
    prediction: see :func:`compare`.
    statistic: "mean" or "variance".

  Returns:
    :class:`WidthScan`.

  Raises:
    ValueError: if there is not one ensemble for each width, shapes differ, or
      the prediction has no variance that is asked for.
  """
  if statistic not in ('mean', 'variance'):
    raise ValueError('`statistic` must be "mean" or "variance", got '
                     f'{statistic!r}.')
  if len(widths) != len(ensembles):
    raise ValueError(f'There must be one ensemble for each of the widths, got '
                     f'{len(ensembles)} for {len(widths)}.')
  rms = lambda a: np.sqrt(np.mean(np.square(a)))
  deviations = [getattr(compare(e, prediction), f'{statistic}_deviation')
                for e in ensembles]
  if deviations[0] is None:
    raise ValueError('`statistic="variance"` needs a prediction of the '
                     'variance, with `compute_cov="diag"`.')
  total = np.array([rms(d) for d in deviations])
  error = np.array([rms(getattr(e, f'{statistic}_error')) for e in ensembles])
  bias = np.sqrt(np.maximum(total**2 - error**2, 0.))
  resolved = bias > 2 * error
  sizes, slope = np.asarray(widths), np.nan
  if np.sum(resolved) > 1:
    slope = np.polyfit(np.log(sizes[resolved]), np.log(bias[resolved]), 1)[0]
  return WidthScan(sizes, total, error, bias, resolved, float(slope))


def plot(ensemble: Ensemble, prediction: Prediction, labels: Sequence[str] = (),
         axes: Any = None) -> Any:
  """Draws an ensemble with its error bands over the predictor's curves.

  Needs Matplotlib.

  Args:
    ensemble: see :func:`compare`; its times are an array of one axis.
    prediction: see :func:`compare`.
    labels: one for each output that is shown; the first ones are.
    axes: two of Matplotlib, for mean and variance; `None` makes new ones.

  Returns:
    The two axes.

  Raises:
    ValueError: if shapes differ, or times are not an array of one axis.
  """
  from matplotlib import pyplot as plt  # pylint: disable=g-import-not-at-top

  if np.ndim(ensemble.t) != 1:
    raise ValueError('Times must be an array of one axis, got shape '
                     f'{np.shape(ensemble.t)}.')
  predicted = _prediction(prediction, ensemble.mean.shape)
  if axes is None:
    _, axes = plt.subplots(2, 1, sharex=True, figsize=(7., 6.), dpi=120,
                           layout='constrained')
  order = np.argsort(ensemble.t)
  t = ensemble.t[order]
  measured = ((ensemble.mean, ensemble.mean_error),
              (ensemble.variance, ensemble.variance_error))
  columns = lambda a: a[order].reshape((len(t), -1)).T
  for ax, theory, (value, error), name in zip(
      axes, predicted, measured, ('mean', 'variance')):
    count = len(labels) or min(4, len(columns(value)))
    for i, (v, e) in enumerate(zip(*map(columns, (value, error)))):
      if i == count:
        break
      color = f'C{i}'
      if theory is not None:
        curve = columns(np.broadcast_to(theory, value.shape))[i]
        ax.plot(t, curve, color=color, lw=1.5,
                label=labels[i] if labels else None)
      ax.errorbar(t, v, 2 * e, fmt='o', ms=3, capsize=2, lw=1, color=color)
    start = np.min(t[t > 0], initial=max(t[-1], 1.))
    ax.set_xscale('symlog', linthresh=start)
    ax.set_xticks(np.append(0., 10.**np.arange(np.ceil(np.log10(start)),
                                               np.log10(max(t[-1], 1.)))))
    ax.set_ylabel(name)
    ax.spines[['top', 'right']].set_visible(False)
  axes[1].set_xlabel('time t')
  axes[0].set_title('Theory (lines) and finite networks (points, two standard '
                    'errors)', fontsize=10)
  if labels:
    axes[0].legend(frameon=False, fontsize=8)
  return axes
