# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Independent references for the tests: plain NumPy, float64, no low rank.

Slow and simple on purpose. Times are those of the theory (sum-of-squares
loss), and nothing is shared with the package under test.
"""

import collections
import functools

import numpy as np


TwoTime = collections.namedtuple('TwoTime', ['nngp', 'ndk', 'cov1', 'cov2'])


def dense(W_std=1., b_std=None, W_init_std=1., W_prior_std=1.,
          b_init_std=1., b_prior_std=1.):
  """A dense layer of a network description, in the keywords of `stax.Dense`."""
  return dict(W_std=W_std, b_std=b_std,
              W_init_std=W_init_std, W_prior_std=W_prior_std,
              b_init_std=b_init_std, b_prior_std=b_prior_std)


def m(tau1, tau2, s0, s):
  """Autocovariance of a free weight."""
  return (s**2 * np.exp(-np.abs(tau1 - tau2) / s**2)
          + (s0**2 - s**2) * np.exp(-(tau1 + tau2) / s**2))


def r(tau1, tau2, s):
  """Response of a free weight."""
  return np.exp(-np.abs(tau1 - tau2) / s**2)


def relu_moments(q1, q2, c):
  """E[relu(u) relu(v)] and E[relu'(u) relu'(v)]: arc-cosine kernels."""
  scale = np.sqrt(q1 * q2)
  cos = np.clip(c / scale, -1., 1.)
  sin = np.sqrt((1. - cos) * (1. + cos))
  angle = np.arctan2(sin, cos)
  return (scale * (sin + (np.pi - angle) * cos) / (2. * np.pi),
          (np.pi - angle) / (2. * np.pi))


def erf_moments(q1, q2, c):
  """E[erf(u) erf(v)] and E[erf'(u) erf'(v)]: arc-sine kernels."""
  d = (1. + 2. * q1) * (1. + 2. * q2)
  root = np.sqrt(d - 4. * c**2)
  return 2. / np.pi * np.arctan2(2. * c, root), 4. / np.pi / root


def linear_moments(q1, q2, c):
  return c, np.ones_like(c)


MOMENTS = dict(relu=relu_moments, erf=erf_moments, linear=linear_moments)


def two_time_kernels(x1, x2, tau1, tau2, layers) -> TwoTime:
  """Two-time NNGP kernel, NDK and equal-time variances of a dense network.

  Args:
    x1: `(n1, features)`.
    x2: `(n2, features)`.
    tau1: diffusion times that broadcast against `(n1, n2)`: a scalar, `(n1, 1)`
      for one time per sample, `(..., 1, 1)` for a batch of times.
    tau2: the same, `(1, n2)` for one time per sample.
    layers: list of `dense(...)` descriptions and names in `MOMENTS`.

  Returns:
    Four arrays of one shape `(..., n1, n2)`.
  """
  x1, x2 = np.asarray(x1, np.float64), np.asarray(x2, np.float64)
  tau1, tau2 = np.asarray(tau1, np.float64), np.asarray(tau2, np.float64)
  n0 = x1.shape[1]
  shape = np.broadcast_shapes(
      tau1.shape, tau2.shape, (x1.shape[0], x2.shape[0]))

  q1 = np.broadcast_to((x1**2).sum(1)[:, None] / n0, shape)
  q2 = np.broadcast_to((x2**2).sum(1)[None, :] / n0, shape)
  c = np.broadcast_to(x1 @ x2.T / n0, shape)
  d = np.zeros(shape)

  for layer in layers:
    if isinstance(layer, str):
      moments = MOMENTS[layer]
      k1, k2 = moments(q1, q1, q1)[0], moments(q2, q2, q2)[0]
      c, slope = moments(q1, q2, c)
      q1, q2, d = k1, k2, slope * d
    else:
      scale = layer['W_std']**2
      s0, s = layer['W_init_std'], layer['W_prior_std']
      d = scale * (m(tau1, tau2, s0, s) * d + r(tau1, tau2, s) * c)
      c = scale * m(tau1, tau2, s0, s) * c
      q1 = scale * m(tau1, tau1, s0, s) * q1
      q2 = scale * m(tau2, tau2, s0, s) * q2
      if layer['b_std']:
        scale = layer['b_std']**2
        s0, s = layer['b_init_std'], layer['b_prior_std']
        d = d + scale * r(tau1, tau2, s)
        c = c + scale * m(tau1, tau2, s0, s)
        q1 = q1 + scale * m(tau1, tau1, s0, s)
        q2 = q2 + scale * m(tau2, tau2, s0, s)

  return TwoTime(c, d, q1, q2)


@functools.lru_cache
def _radau(order):
  """Radau IIA points on [0, 1] (the right end is one) for collocation."""
  legendre = np.polynomial.legendre.Legendre.basis
  roots = np.sort((legendre(order) - legendre(order - 1)).roots().real)
  roots[-1] = 1.
  return (1. + roots) / 2.


def _lagrange(nodes, at):
  """Cardinal polynomials of `nodes` at the points `at`: `at.shape + (p,)`."""
  p = len(nodes)
  out = np.ones(np.shape(at) + (p,))
  for j in range(p):
    for i in range(p):
      if i != j:
        out[..., j] *= (at - nodes[i]) / (nodes[j] - nodes[i])
  return out


def _panels(first, longest, end):
  """Ends of panels that double from `first` until they are `longest`."""
  ends = [0., first]
  while ends[-1] < end:
    ends.append(ends[-1] + min(ends[-1], longest))
  return np.array(ends)


def volterra_mean(kernel, x_train, y_train, x_test, temperature, times,
                  order=10, refine=1., prior_std=1.):
  """Mean predictor on train and test data, by brute force.

  Solves `rho(t) + int_0^t NDK(t, t') rho(t') dt' = y` by collocation at
  Radau IIA points on panels that double in length from far below the fastest
  time scale, up to a fraction of `prior_std**2 / temperature`. The kernel is
  evaluated afresh at every pair of times. `w = sqrt(t - t')` is the variable
  of integration, in which the kernel is smooth for every activation.

  Args:
    kernel: `kernel(x1, x2, tau1, tau2)`, the NDK, vectorised in times as
      `two_time_kernels`.
    x_train: `(n, features)`.
    y_train: `(n, outputs)`.
    x_test: `(m, features)`.
    temperature: `T > 0`.
    times: 1D array of training times.
    order: collocation points per panel.
    refine: divides the length of the panels.
    prior_std: smallest prior standard deviation in the network.

  Returns:
    Means on train and test data, `(len(times), n or m, outputs)`.
  """
  times = np.asarray(times, np.float64)
  n, k = y_train.shape
  nodes = _radau(order)
  u, weights = np.polynomial.legendre.leggauss(3 * order // 2)
  u, weights = (1. + u) / 2., weights / 2.

  fastest = max(np.trace(kernel(x_train, x_train, tau, tau))
                for tau in [0., 100. * prior_std**2])
  relaxation = prior_std**2 / temperature
  ends = _panels(1e-4 * min(1. / fastest, relaxation) / refine,
                 .4 * relaxation / refine,
                 max(times.max(), 1e-3 * relaxation))

  def rows(x, t):
    """Matrix of `rho(nodes) -> int_0^t NDK(x, t; X, t') rho(t') dt'`.

    `t`, of shape `(T,)`, lies in one panel. Returns `(T, len(x), panels, p, n)`
    with as many panels as there are up to `t`.
    """
    last = max(int(np.searchsorted(ends, t.max() * (1. - 1e-14))), 1)
    a, b = ends[:last], ends[1:last + 1]
    w_a = np.sqrt(t[:, None] - a)
    w_b = np.sqrt(np.maximum(t[:, None] - b, 0.))
    w = w_b[..., None] + (w_a - w_b)[..., None] * u      # (T, panels, quad)
    past = t[:, None, None] - w**2
    measure = 2. * w * (w_a - w_b)[..., None] * weights
    basis = _lagrange(nodes, (past - a[:, None]) / (b - a)[:, None])
    values = kernel(x, x_train, temperature * t[:, None, None, None, None],
                    temperature * past[..., None, None])
    return np.einsum('tkq,tkqp,tkqij->tikpj', measure, basis, values,
                     optimize=True)

  rho = np.zeros((len(ends) - 1, order, n, k))
  for panel, (a, b) in enumerate(zip(ends[:-1], ends[1:])):
    matrix = rows(x_train, a + (b - a) * nodes)
    past = np.einsum('tikpj,kpjc->tic', matrix[:, :, :-1], rho[:panel])
    system = np.eye(order * n) + matrix[:, :, -1].reshape(order * n, order * n)
    rho[panel] = np.linalg.solve(
        system, (y_train - past).reshape(order * n, k)).reshape(order, n, k)

  def mean(x):
    out = np.zeros((len(times), len(x), k))
    for i, t in enumerate(times):
      if t > 0.:
        row = rows(x, np.array([t]))[0]
        out[i] = np.einsum('ikpj,kpjc->ic', row, rho[:row.shape[1]])
    return out

  return mean(x_train), mean(x_test)


def scalar_mean(g, y, temperature, t, prior_std=1.):
  """Mean of one sample without a hidden layer; `g = W_std^2 x.x / features`."""
  rate = g + temperature / prior_std**2
  return -g * y / rate * np.expm1(-rate * np.asarray(t))


def scalar_variance(g, temperature, t, init_std=1., prior_std=1.):
  """Variance of one sample without a hidden layer."""
  rate = g + temperature / prior_std**2
  late = temperature * g / rate
  return late + (init_std**2 * g - late) * np.exp(-2. * rate * np.asarray(t))


def gp_mean(c_train, y, temperature, c_test):
  """Posterior mean of a Gaussian process with noise variance `temperature`."""
  return c_test @ np.linalg.solve(c_train + temperature * np.eye(len(y)), y)
