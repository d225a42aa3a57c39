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
          b_init_std=1., b_prior_std=1., trainable=True):
  """A dense layer of a network description, in the keywords of `stax.Dense`."""
  out = dict(W_std=W_std, b_std=b_std,
             W_init_std=W_init_std, W_prior_std=W_prior_std,
             b_init_std=b_init_std, b_prior_std=b_prior_std)
  return out if trainable else dict(out, trainable=False)


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


def two_time_kernels(x1, x2, tau1, tau2, layers, readout_time=None,
                     readout_response=1.) -> TwoTime:
  """Two-time NNGP kernel, NDK and equal-time variances of a dense network.

  Args:
    x1: `(n1, features)`.
    x2: `(n2, features)`.
    tau1: diffusion times that broadcast against `(n1, n2)`: a scalar, `(n1, 1)`
      for one time per sample, `(..., 1, 1)` for a batch of times.
    tau2: the same, `(1, n2)` for one time per sample.
    layers: list of `dense(...)` descriptions and names in `MOMENTS`.
    readout_time: a pair of diffusion times of the last dense layer (weights and
      bias), if it has a clock of its own; default `(tau1, tau2)`.
    readout_response: factor of the response of the last dense layer, zero if
      that layer did not learn at `tau2`; broadcasts as the times.

  Returns:
    Four arrays of one shape `(..., n1, n2)`.
  """
  x1, x2 = np.asarray(x1, np.float64), np.asarray(x2, np.float64)
  clocks = [np.asarray(tau, np.float64)
            for tau in (tau1, tau2) + tuple(readout_time or (tau1, tau2))]
  n0 = x1.shape[1]
  shape = np.broadcast_shapes(
      (len(x1), len(x2)), np.shape(readout_response), *map(np.shape, clocks))
  readout = max(i for i, layer in enumerate(layers) if isinstance(layer, dict))

  q1 = (x1**2).sum(1)[:, None] / n0
  q2 = (x2**2).sum(1)[None, :] / n0
  c = x1 @ x2.T / n0
  d = np.zeros_like(c)

  for i, layer in enumerate(layers):
    if isinstance(layer, str):
      moments = MOMENTS[layer]
      k1, k2 = moments(q1, q1, q1)[0], moments(q2, q2, q2)[0]
      c, slope = moments(q1, q2, c)
      q1, q2, d = k1, k2, slope * d
      continue

    if i == readout:
      t1, t2 = clocks[2:]
      active = np.asarray(readout_response, np.float64)
    else:
      t1, t2 = clocks[:2]
      active = 1.

    if not layer.get('trainable', True):
      # Weights stay what they were at time 0, and do not respond.
      t1 = t2 = active = 0.

    scale = layer['W_std']**2
    s0, s = layer['W_init_std'], layer['W_prior_std']
    d = scale * (m(t1, t2, s0, s) * d + active * r(t1, t2, s) * c)
    c = scale * m(t1, t2, s0, s) * c
    q1 = scale * m(t1, t1, s0, s) * q1
    q2 = scale * m(t2, t2, s0, s) * q2
    if layer['b_std']:
      scale = layer['b_std']**2
      s0, s = layer['b_init_std'], layer['b_prior_std']
      d = d + scale * active * r(t1, t2, s)
      c = c + scale * m(t1, t2, s0, s)
      q1 = q1 + scale * m(t1, t1, s0, s)
      q2 = q2 + scale * m(t2, t2, s0, s)

  return TwoTime(*(np.broadcast_to(k, shape) for k in (c, d, q1, q2)))


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
  evaluated afresh at every pair of times. `w = sqrt(t - t')` is the variable of
  integration, in which the kernel is smooth for every activation but for inputs
  that are nearly parallel, for which intervals shrink towards `t' = t`.

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

  fastest = max(np.trace(kernel(x_train, x_train, tau, tau))
                for tau in [0., 100. * prior_std**2])
  relaxation = prior_std**2 / temperature
  ends = _panels(1e-4 * min(1. / fastest, relaxation) / refine,
                 .4 * relaxation / refine,
                 max(times.max(), 1e-3 * relaxation))

  def panel_rows(x, t, a, b, parts):
    """What follows for panels from `a` to `b`, `(T, len(x), panels, p, n)`.

    In the variable `w = sqrt(t - t')`, by Gauss points that are exact for the
    polynomials, on intervals that shrink towards `b`.
    """
    gauss, weights = np.polynomial.legendre.leggauss(3 * order // 2)
    ends = np.append(0., 6.**-np.arange(parts)[::-1])
    u = (ends[:-1, None] + np.diff(ends)[:, None] * (1. + gauss) / 2.).ravel()
    weights = (np.diff(ends)[:, None] * weights / 2.).ravel()
    w_a, w_b = (np.sqrt(np.maximum(t[:, None] - end, 0.)) for end in (a, b))
    w = w_b[..., None] + (w_a - w_b)[..., None] * u      # (T, panels, quad)
    past = t[:, None, None] - w**2
    measure = 2. * w * (w_a - w_b)[..., None] * weights
    basis = _lagrange(nodes, (past - a[:, None]) / (b - a)[:, None])
    values = kernel(x, x_train, temperature * t[:, None, None, None, None],
                    temperature * past[..., None, None])
    return np.einsum('tkq,tkqp,tkqij->tikpj', measure, basis, values,
                     optimize=True)

  def rows(x, t):
    """Matrix of `rho(nodes) -> int_0^t NDK(x, t; X, t') rho(t') dt'`.

    `t`, of shape `(T,)`, lies in one panel. Returns `(T, len(x), panels, p, n)`
    with as many panels as there are up to `t`.
    """
    last = max(int(np.searchsorted(ends, t.max() * (1. - 1e-14))), 1)
    a, b = ends[:last], ends[1:last + 1]
    # In the last two panels kernels of nearly parallel inputs may have cusps
    # on any scale.
    far, near = slice(0, max(last - 2, 0)), slice(max(last - 2, 0), None)
    return np.concatenate([
        panel_rows(x, t, a[far], b[far], 1),
        panel_rows(x, t, a[near], b[near], 6)], 2)

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


# Covariances, drift and the diffusive limit. The predictor is a functional of
# the free network g (section 4 of the theory),
#
#   f(x, t) = int b(x, t; s) ds y  +  g(x, t) - int b(x, t; s) g(X, s) ds,
#
# so that one function of s for every output time, b, gives mean and covariance.
# It has layers at s = t, and is found on a mesh that is graded towards s = t.

Response = collections.namedtuple('Response', [
    'impulse',  # `(m, n)`: part of b at s = time(0), times a delta function.
    'b',        # `(panels, order, m, n)`: density at the nodes.
    'ends',     # `(panels + 1,)`: ends of the panels, in a coordinate `a >= 0`.
    'nodes',    # `(order,)`: nodes in a panel [0, 1].
    'time',     # function: coordinate `a` -> time `s`, decreasing.
    'inverse',  # function: time `s` -> coordinate `a`.
])


def _mesh(end, corners, first, longest):
  """Ends of panels on `[0, end]`, halved until each is short enough.

  A panel is no longer than its distance from the nearest of `corners` (but
  never shorter than about `first`) and than `longest` (but an eighth of its
  distance from zero will do, where everything has decayed).
  """
  corners = sorted({c for c in corners if 0. <= c <= end})

  def halve(a, b):
    distance = min(max(a - c, c - b) for c in corners)
    if b - a <= min(max(distance, first), max(longest, a / 8.)):
      return [b]
    return halve(a, (a + b) / 2.) + halve((a + b) / 2., b)

  ends = [0.]
  for b in sorted({*corners, end} - {0.}):
    ends += halve(ends[-1], b)
  return np.array(ends)


def _quadrature(edges, kink, count):
  """Gauss points between `edges`, for functions with a kink or cusp.

  The variable of integration is `v = +-sqrt(|a - kink|)`, in which such
  functions are smooth on either side of the kink.

  Args:
    edges: `(S, E)`, ascending, with the kink among them if it is within.
    kink: `(S,)`.
    count: number of points between two edges.

  Returns:
    Points and weights, `(S, E - 1, count)`.
  """
  x, weights = np.polynomial.legendre.leggauss(count)
  v = edges - kink[:, None]
  v = np.sign(v) * np.sqrt(np.abs(v))
  length = np.diff(v)[..., None]
  v = v[:, :-1, None] + length * (1. + x) / 2.
  return kink[:, None, None] + v * np.abs(v), np.abs(v) * length * weights


def _batch(times):
  """Times as a batch that broadcasts against `(n1, n2)`."""
  return np.asarray(times)[..., None, None]


def _interpolate(b, ends, nodes, a):
  """The density at `a`.

  Args:
    b: values at the nodes of each panel, `(..., panels, order, m, n)`.
    ends: first and last end of each panel, `(..., panels, 2)`.
    nodes: `(order,)`.
    a: `(S, panels, Q)`; leading axes of the others broadcast.

  Returns:
    `(S, panels, Q, m, n)`.
  """
  first, last = ends[..., :1], ends[..., 1:]
  basis = _lagrange(nodes, (a - first) / (last - first))
  out = basis @ b.reshape(b.shape[:-2] + (-1,))
  return out.reshape(a.shape + b.shape[-2:])


def _solve(kernel, right, ends, order, kind=2):
  """Solves `b(a) + int_0^a b(a') kernel(a', a) da' = right(a)` by collocation.

  Args:
    kernel: maps coordinates `(..., 1, 1)` to `(..., n, n)`.
    right: maps coordinates `(S,)` to `(S, m, n)`.
    ends: ends of the panels.
    order: number of Radau points of a panel.
    kind: 1 to leave out the first term.

  Returns:
    `b` at the nodes, `(panels, order, m, n)`.
  """
  nodes = _radau(order)
  # The first kind is a differentiation, and less forgiving.
  count = 3 * order // kind
  pairs = np.stack([ends[:-1], ends[1:]], 1)
  b = np.zeros((len(pairs), order) + right(ends[:1]).shape[1:])
  n = b.shape[-1]
  for k, (first, last) in enumerate(pairs):
    at = first + (last - first) * nodes
    value = right(at)

    if k:
      edges = np.broadcast_to(ends[:k + 1], (order, k + 1))
      past, weights = _quadrature(edges, at, count)
      values = _batch(weights) * kernel(_batch(past), _batch(at[:, None, None]))
      known = _interpolate(b[:k], pairs[:k], nodes, past)
      value = value - np.einsum('skqmi,skqij->smj', known, values,
                                optimize=True)

    edges = np.stack([np.full(order, first), at], 1)
    past, weights = _quadrature(edges, at, count)
    values = _batch(weights) * kernel(_batch(past), _batch(at[:, None, None]))
    basis = _lagrange(nodes, (past - first) / (last - first))
    matrix = np.einsum('skqp,skqij->sjpi', basis, values, optimize=True)
    matrix = matrix.reshape(order * n, order * n)
    if kind == 2:
      matrix = matrix + np.eye(order * n)
    value = value.transpose(0, 2, 1).reshape(order * n, -1)
    solution = np.linalg.solve(matrix, value).reshape(order, n, -1)
    b[k] = solution.transpose(0, 2, 1)
  return b


def _integral(response):
  """Integral of `b` over all times, `(m, n)`."""
  # Integrals of the cardinal polynomials: the weights of the nodes.
  x, weights = np.polynomial.legendre.leggauss(len(response.nodes))
  weights = weights / 2. @ _lagrange(response.nodes, (1. + x) / 2.)
  return response.impulse + np.einsum(
      'k,p,kpmn->mn', np.diff(response.ends), weights, response.b)


def _covariance(nngp, x_train, x1, t1, response1, x2, t2, response2):
  """Covariance of two functionals of the free network.

  The inner of the two integrals, `Cov[g(x, s), f(x2, t2)]`, is split at `s`,
  where the covariance of the free network has a kink.

  Args:
    nngp: `nngp(x, x', s, s')`, the covariance of the free network.
    x_train: `(n, features)`.
    x1: `(m1, features)`.
    t1: time at which g enters `f(x1)` directly.
    response1: `Response` of `f(x1)`.
    x2: `(m2, features)`.
    t2: as `t1`, of `f(x2)`.
    response2: `Response` of `f(x2)`.

  Returns:
    `(m1, m2)`.
  """
  ends, order = response2.ends, len(response2.nodes)
  pairs = np.stack([ends[:-1], ends[1:]], 1)

  def inner(x, s):
    """`Cov[g(x, s), f(x2, t2)]`, `(S, len(x), m2)`, for times `s`, `(S,)`."""
    batch = _batch(s)
    out = nngp(x, x2, batch, t2) - np.einsum(
        'sin,mn->sim', nngp(x, x_train, batch, response2.time(0.)),
        response2.impulse)
    if len(pairs) == 0:
      return out
    kink = response2.inverse(s)
    edges = np.broadcast_to(ends, (len(s), len(ends)))
    inside = np.clip(kink, ends[0], ends[-1])[:, None]
    edges = np.sort(np.concatenate([edges, inside], 1), 1)
    owner = np.searchsorted(ends, (edges[:, 1:] + edges[:, :-1]) / 2.) - 1
    owner = np.clip(owner, 0, len(pairs) - 1)
    a, weights = _quadrature(edges, kink, 3 * order // 2)
    values = nngp(x, x_train, _batch(s[:, None, None]),
                  _batch(response2.time(a)))
    b = _interpolate(response2.b[owner], pairs[owner], response2.nodes, a)
    return out - np.einsum('skq,skqin,skqmn->sim', weights, values, b,
                           optimize=True)

  out = (inner(x1, np.array([t1]))[0]
         - response1.impulse @ inner(x_train, response1.time(np.zeros(1)))[0])
  x, weights = np.polynomial.legendre.leggauss(order)
  x, weights = (1. + x) / 2., weights / 2.
  for k, (first, last) in enumerate(zip(response1.ends, response1.ends[1:])):
    at = first + (last - first) * x
    b = _interpolate(response1.b[k:k + 1], np.array([[first, last]]),
                     response1.nodes, at[None, None])[0, 0]
    out = out - (last - first) * np.einsum(
        'q,qmn,qni->mi', weights, b, inner(x_train, response1.time(at)))
  return out


class _Predictor:
  """Functionals of the free network that training leads to.

  Args:
    kernels: see `volterra_covariance`, or `drift_mean` with a `freeze_time`.
    x_train: `(n, features)`.
    temperature: `T > 0`.
    prior_std: smallest prior standard deviation in the network.
    order: nodes of a panel.
    refine: divides the length of the panels.
    freeze_time: time at which the readout is frozen.
    hidden_learns: whether the other layers learn after that.
  """

  def __init__(self, kernels, x_train, temperature, prior_std, order, refine,
               freeze_time=None, hidden_learns=True):
    self.kernels, self.x_train, self.order = kernels, x_train, order
    self.temperature, self.freeze_time = temperature, freeze_time
    self.hidden_learns = hidden_learns
    fastest = max(
        np.trace(kernels(x_train, x_train, tau, tau).ndk)
        for tau in [0., 100. * prior_std**2])
    relaxation = prior_std**2 / temperature
    self.first = 1e-3 * min(1. / fastest, relaxation) / refine
    self.longest = .5 * relaxation / refine

  def two_time(self, x1, x2, t1, t2):
    """Kernels at training times `t1 >= t2`."""
    tau1, tau2 = self.temperature * t1, self.temperature * t2
    if self.freeze_time is None:
      return self.kernels(x1, x2, tau1, tau2)
    tau0 = self.temperature * self.freeze_time
    # Learning stops at `freeze_time` itself, which may be off by rounding.
    before = t2 < self.freeze_time * (1. - 1e-13)
    return self.kernels(
        x1, x2, tau1, tau2,
        readout_time=(np.minimum(tau1, tau0), np.minimum(tau2, tau0)),
        readout_response=np.where(before, 1., 0.))

  def nngp(self, x1, x2, t1, t2):
    return self.two_time(x1, x2, t1, t2).nngp

  def response(self, x, t, corners=()):
    """`b(x, t; s)`, on a mesh that is also graded towards other `corners`."""
    end = t if self.hidden_learns else min(t, self.freeze_time)
    if self.freeze_time is not None:
      corners = (*corners, self.freeze_time)
    ends = _mesh(end, [end - c for c in (end, *corners)],
                 self.first, self.longest) if end > 0. else np.zeros(1)
    b = _solve(
        lambda a1, a2: self.two_time(
            self.x_train, self.x_train, end - a1, end - a2).ndk,
        lambda a: self.two_time(x, self.x_train, t, end - _batch(a)).ndk,
        ends, self.order)
    return Response(np.zeros(b.shape[-2:]), b, ends, _radau(self.order),
                    lambda a: end - a, lambda s: end - s)

  def mean(self, x, times, y):
    return np.stack([_integral(self.response(x, t)) @ y for t in times])

  def covariance(self, x, t1, t2):
    response1 = self.response(x, t1, (t2,))
    response2 = response1 if t1 == t2 else self.response(x, t2, (t1,))
    return _covariance(self.nngp, self.x_train, x, t1, response1,
                       x, t2, response2)


class _Protocol(_Predictor):
  """The same where temperature, targets and training set change in steps.

  Time is that of the loss, in which gradients have no factor.

  Args:
    kernels: see `volterra_covariance`.
    x_train: `(n, features)`.
    phases: of each `(duration, temperature, targets, sample weights)`.
    prior_std: smallest prior standard deviation in the network.
    order: nodes of a panel.
    refine: divides the length of the panels.
    freeze_time: time at which the readout is frozen, and learning ends.
  """

  def __init__(self, kernels, x_train, phases, prior_std, order, refine,
               freeze_time=None):
    durations, temperatures, self.targets, self.weights = zip(*phases)
    super().__init__(kernels, x_train, max(temperatures), prior_std, order,
                     refine, freeze_time)
    self.first /= max(np.max(a) for a in self.weights)
    self.starts = np.cumsum((0.,) + durations[:-1])
    self.temperatures = np.array(temperatures)

  def phase(self, t):
    return np.searchsorted(self.starts, t, side='right') - 1

  def diffusion_time(self, t):
    out = np.zeros(np.shape(t))
    for start, stop, temperature in zip(
        self.starts, np.append(self.starts[1:], np.inf), self.temperatures):
      out = out + temperature * np.clip(t - start, 0., stop - start)
    return out

  def two_time(self, x1, x2, t1, t2):
    tau1, tau2 = self.diffusion_time(t1), self.diffusion_time(t2)
    if self.freeze_time is None:
      return self.kernels(x1, x2, tau1, tau2)
    tau0 = self.diffusion_time(self.freeze_time)
    return self.kernels(x1, x2, tau1, tau2, readout_time=(
        np.minimum(tau1, tau0), np.minimum(tau2, tau0)))

  def response(self, x, t, corners=()):
    """`b(x, t; s)`, a smooth function but for factors, the sample weights."""
    end = t if self.freeze_time is None else min(t, self.freeze_time)
    corners = (end, *corners, *self.starts)
    ends = _mesh(end, [end - c for c in corners if c <= end], self.first,
                 self.longest) if end > 0. else np.zeros(1)
    phases = self.phase(end - (ends[1:] + ends[:-1]) / 2.)
    weights = np.array(self.weights)

    def kernel(a1, a2):
      # `a1` is the later age of a quadrature, and never at an end of a phase.
      a = weights[self.phase(end - a1[..., 0, 0])]
      return a[..., :, None] * self.two_time(
          self.x_train, self.x_train, end - a1, end - a2).ndk

    b = _solve(kernel, lambda a: self.two_time(
        x, self.x_train, t, end - _batch(a)).ndk, ends, self.order)
    b = b * weights[phases][:, None, None, :]
    return phases, Response(np.zeros(b.shape[-2:]), b, ends,
                            _radau(self.order), lambda a: end - a,
                            lambda s: end - s)

  def mean(self, x, t):
    phases, response = self.response(x, t)
    out = 0.
    for panel, phase in enumerate(phases):
      part = response._replace(b=response.b[panel:panel + 1],
                               ends=response.ends[panel:panel + 2])
      out = out + _integral(part) @ self.targets[phase]
    return out

  def covariance(self, x, t1, t2):
    _, response1 = self.response(x, t1, (t2,))
    _, response2 = self.response(x, t2, (t1,))
    return _covariance(self.nngp, self.x_train, x, t1, response1, x, t2,
                       response2)


def protocol(kernels, x_train, x, phases, time1, time2=None, prior_std=1.,
             order=8, refine=1., freeze_time=None):
  """Mean and covariance of a predictor that learns in phases, by brute force.

  Args:
    kernels: `kernels(x1, x2, tau1, tau2)`, as `two_time_kernels`.
    x_train: `(n, features)`.
    x: `(m, features)`, of the predictions.
    phases: of each `(duration, temperature, targets (n, k), sample weights
      (n,))`, durations in time of the loss, in which gradients have no factor.
    time1: time of the loss.
    time2: of the second predictions, by default `time1`.
    prior_std: smallest prior standard deviation in the network.
    order: collocation points per panel.
    refine: divides the length of the panels.
    freeze_time: time at which the readout is frozen, after which hidden weights
      do not learn; `kernels` is then as in `drift_mean`.

  Returns:
    Mean at `time1`, `(m, k)`, and covariance, `(m, m)`.
  """
  predictor = _Protocol(kernels, x_train, phases, prior_std, order, refine,
                        freeze_time)
  time2 = time1 if time2 is None else time2
  return predictor.mean(x, time1), predictor.covariance(x, time1, time2)


def _blocks(matrix, n):
  """Train-train and test-test blocks."""
  return matrix[..., :n, :n], matrix[..., n:, n:]


def volterra_covariance(kernels, x_train, x_test, temperature, times,
                        prior_std=1., order=8, refine=1.):
  """Covariance of the predictor on train and on test data, by brute force.

  For every output time t the Volterra equation of `b(x, t; s)` is solved by
  collocation on panels in s whose length is proportional to the age `t - s`.
  The double integral against the covariance of the free network is split where
  the two times are equal. Kernels are evaluated afresh at every pair of times.

  Args:
    kernels: `kernels(x1, x2, tau1, tau2)`, as `two_time_kernels`.
    x_train: `(n, features)`.
    x_test: `(m, features)`.
    temperature: `T > 0`.
    times: 1D array of training times.
    prior_std: smallest prior standard deviation in the network.
    order: collocation points per panel.
    refine: divides the length of the panels.

  Returns:
    Covariances on train and test data, `(len(times), n or m, n or m)`.
  """
  predictor = _Predictor(
      kernels, x_train, temperature, prior_std, order, refine)
  x = np.concatenate([x_train, x_test])
  return _blocks(np.stack([predictor.covariance(x, t, t) for t in times]),
                 len(x_train))


def volterra_covariance_two_times(kernels, x_train, x_test, temperature,
                                  time1, time2, prior_std=1., order=8,
                                  refine=1.):
  """Covariance of the predictor at one time with itself at another time.

  Args:
    kernels: see `volterra_covariance`.
    x_train: `(n, features)`.
    x_test: `(m, features)`.
    temperature: `T > 0`.
    time1: training time of the rows.
    time2: training time of the columns.
    prior_std: smallest prior standard deviation in the network.
    order: collocation points per panel.
    refine: divides the length of the panels.

  Returns:
    `Cov[f(x, time1), f(x', time2)]` on train and test data, `(n, n)` and
    `(m, m)`.
  """
  predictor = _Predictor(
      kernels, x_train, temperature, prior_std, order, refine)
  x = np.concatenate([x_train, x_test])
  return _blocks(predictor.covariance(x, time1, time2), len(x_train))


def drift_mean(kernels, x_train, y_train, x_test, temperature, times,
               freeze_time, hidden_learns=False, prior_std=1., order=10,
               refine=1.):
  """Mean predictor after the readout is frozen.

  The last dense layer stays as it is at `freeze_time`. The other layers go on
  diffusing, with or without a learning signal. Before `freeze_time`, this is
  the predictor.

  Args:
    kernels: `kernels(x1, x2, tau1, tau2, readout_time=..., readout_response=
      ...)`, as `two_time_kernels`.
    x_train: `(n, features)`.
    y_train: `(n, outputs)`.
    x_test: `(m, features)`.
    temperature: `T > 0`.
    times: 1D array of training times.
    freeze_time: training time at which the readout is frozen.
    hidden_learns: whether the other layers go on learning.
    prior_std: smallest prior standard deviation in the network.
    order: collocation points per panel.
    refine: divides the length of the panels.

  Returns:
    Means on train and test data, `(len(times), n or m, outputs)`.
  """
  predictor = _Predictor(kernels, x_train, temperature, prior_std, order,
                         refine, freeze_time, hidden_learns)
  mean = predictor.mean(np.concatenate([x_train, x_test]), times, y_train)
  return mean[:, :len(x_train)], mean[:, len(x_train):]


def drift_covariance(kernels, x_train, x_test, temperature, times, freeze_time,
                     hidden_learns=False, prior_std=1., order=8, refine=1.):
  """Covariance of the predictor after the readout is frozen.

  Args:
    kernels: see `drift_mean`.
    x_train: `(n, features)`.
    x_test: `(m, features)`.
    temperature: `T > 0`.
    times: 1D array of training times.
    freeze_time: training time at which the readout is frozen.
    hidden_learns: whether the other layers go on learning.
    prior_std: smallest prior standard deviation in the network.
    order: collocation points per panel.
    refine: divides the length of the panels.

  Returns:
    Covariances on train and test data, `(len(times), n or m, n or m)`.
  """
  predictor = _Predictor(kernels, x_train, temperature, prior_std, order,
                         refine, freeze_time, hidden_learns)
  x = np.concatenate([x_train, x_test])
  return _blocks(np.stack([predictor.covariance(x, t, t) for t in times]),
                 len(x_train))


def diffusive_limit(kernels, x_train, y_train, x_test, diffusion_times,
                    prior_std=1., order=10, refine=1.):
  """Predictor at `T -> 0` and fixed diffusion time.

  In the limit `b(x, tau; s)` is an impulse at `s = tau`, `P = NDK(x, tau; X,
  tau) NDK(X, tau; X, tau)^-1`, and a density with a singularity there, found
  as a function of `v = sqrt(tau - s)` from the equation of the first kind

    P NDK(tau, s) + int_s^tau b(u) NDK(u, s) du = NDK(x, tau; X, s).

  Args:
    kernels: `kernels(x1, x2, tau1, tau2)`, as `two_time_kernels`.
    x_train: `(n, features)`.
    y_train: `(n, outputs)`.
    x_test: `(m, features)`.
    diffusion_times: 1D array of diffusion times; zero is just after the
      gradient-driven phase.
    prior_std: smallest prior standard deviation in the network.
    order: collocation points per panel.
    refine: divides the length of the panels.

  Returns:
    Mean on train and test data, `(len(diffusion_times), n or m, outputs)`, and
    covariance on test data, `(len(diffusion_times), m, m)`.
  """
  ndk = lambda *args: kernels(*args).ndk
  nngp = lambda *args: kernels(*args).nngp
  x = np.concatenate([x_train, x_test])
  mean, covariance = [], []
  for tau in np.asarray(diffusion_times, np.float64):
    impulse = np.linalg.solve(
        ndk(x_train, x_train, tau, tau), ndk(x, x_train, tau, tau).T).T
    time = lambda v, tau=tau: tau - v**2
    ends = _mesh(np.sqrt(tau), [0.], 1e-2 * prior_std / refine,
                 .2 * prior_std / refine) if tau > 0. else np.zeros(1)
    b = _solve(
        lambda v1, v2: ndk(x_train, x_train, time(v1), time(v2)),
        lambda v: (ndk(x, x_train, tau, time(_batch(v)))
                   - impulse @ ndk(x_train, x_train, tau, time(_batch(v)))),
        ends, order, kind=1)
    response = Response(impulse, b, ends, _radau(order), time,
                        lambda s, tau=tau: np.sqrt(np.maximum(tau - s, 0.)))
    mean.append(_integral(response) @ y_train)
    covariance.append(_covariance(nngp, x_train, x, tau, response,
                                  x, tau, response))
  mean = np.stack(mean)
  return (mean[:, :len(x_train)], mean[:, len(x_train):],
          _blocks(np.stack(covariance), len(x_train))[1])


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


def gp_covariance(c_train, temperature, c_test_train, c_test):
  """Posterior covariance of a Gaussian process with noise."""
  noisy = c_train + temperature * np.eye(len(c_train))
  return c_test - c_test_train @ np.linalg.solve(noisy, c_test_train.T)


def gradient_flow_weights(theta_train, theta_test, t):
  """`A(t)` of the mean `A y` and of `f(x) = g(x) + A (y - g(X))` at `T = 0`."""
  rates, modes = np.linalg.eigh(theta_train)
  return theta_test @ (modes * (-np.expm1(-rates * t) / rates)) @ modes.T


def conditioned_covariance(weights, c_train, c_test_train, c_test):
  """Covariance of `g(x) - weights g(X)`."""
  cross = weights @ c_test_train.T
  return c_test - cross - cross.T + weights @ c_train @ weights.T


def linear_covariance(x_train, x1, x2, temperature, t1, t2, W_std=1.,
                      init_std=1., prior_std=1.):
  """Covariance of `f(x1, t1)` and `f(x2, t2)` without a hidden layer.

  The weights are an Ornstein-Uhlenbeck process, with rate matrix `J^T J + T /
  prior_std**2` and noise `2 T`.
  """
  x_train, x1, x2 = (W_std * x / x_train.shape[1]**.5
                     for x in (x_train, x1, x2))
  rates, modes = np.linalg.eigh(x_train.T @ x_train)
  rates = np.maximum(rates, 0.) + temperature / prior_std**2
  t = min(t1, t2)
  variance = temperature / rates
  variance = variance + (init_std**2 - variance) * np.exp(-2. * rates * t)
  variance = variance * np.exp(-rates * abs(t1 - t2))
  return x1 @ (modes * variance) @ modes.T @ x2.T
