# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of predictors of networks that aggregate over edges of graphs."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import numpy as jnp
import numpy as np
from predict_test import rms
import pytest

from nt_ndk import predict
from nt_ndk import stax
import reference

jax.config.update('jax_enable_x64', True)

ensemble = predict.markov_proximal_mse_ensemble
NODES, T = 4, .1


def draw_edges(rng, n):
  """Lists of edges of different lengths, filled up with -1: `[n, 9, 2]`."""
  edges = np.full((n, 9, 2), -1)
  for graph in edges:
    count = rng.integers(3, 9)
    graph[:count] = rng.integers(0, NODES, (count, 2))
  return edges


def to_dense(edges):
  """Adjacency matrices, with numbers of edges."""
  def one(edges):
    tails, heads = edges.T
    return jnp.zeros((NODES, NODES)).at[tails, heads].add(heads >= 0)

  return jax.vmap(one)(edges)


@functools.lru_cache(None)
def data(n=5, m=3):
  rng = np.random.default_rng(0)
  draw = lambda k: (rng.normal(size=(k, NODES, 3)), rng.normal(size=(k, 1)),
                    draw_edges(rng, k))
  return *draw(n), *draw(m)


def network(**kwargs):
  stds = dict(W_init_std=1.5, W_prior_std=.8)
  return stax.serial(
      stax.Dense(8, 1.3, .2, **stds), stax.Erf(), stax.Aggregate(1, **kwargs),
      stax.Dense(8, 1.3, **stds), stax.Relu(), stax.GlobalAvgPool(),
      stax.Dense(1, **stds))[2]


def patterns(kind):
  """The network, and patterns of training and of test graphs."""
  _, _, edges, _, _, test_edges = data()
  if kind == 'dense':
    return network(), np.asarray(to_dense(edges)), np.asarray(
        to_dense(test_edges))
  kwargs = dict(sparse=dict(implementation='SPARSE'),
                to_dense=dict(to_dense=to_dense))[kind]
  return network(**kwargs), edges, test_edges


@functools.lru_cache(None)
def means():
  """Of test graphs with dense patterns, by brute force."""
  x, y, _, z, _, _ = data()
  kernel_fn, train, test = patterns('dense')
  inputs, pattern = np.concatenate([x, z]), np.concatenate([train, test])

  @jax.jit
  def table(tau):
    return jax.vmap(lambda tau: kernel_fn(
        inputs, inputs, 'ndk', diffusion_time=tau,
        pattern=(pattern, pattern)))(tau)

  def kernel(i, j, tau1, tau2):
    # Inputs are given by their numbers.
    tau1, tau2 = (np.broadcast_to(t, np.broadcast_shapes(
        np.shape(tau1), np.shape(tau2), (1, 1))) for t in (tau1, tau2))
    out = np.asarray(table((tau1.ravel(), tau2.ravel())))
    out = out[:, i[:, 0]][:, :, j[:, 0]]
    return out.reshape(tau1.shape[:-2] + out.shape[1:])

  numbers = np.arange(len(inputs))[:, None]
  return reference.volterra_mean(
      kernel, numbers[:len(x)], y, numbers[len(x):], T,
      np.array([1., 20.]) / y.size, order=4, prior_std=.8)[1]


class PatternsTest(parameterized.TestCase):

  def kernels(self, kind):
    x, _, _, z, _, _ = data()
    kernel_fn, train, test = patterns(kind)
    return jax.jit(lambda: kernel_fn(
        z, x, ('nngp', 'ndk'), diffusion_time=(.3, .1),
        pattern=(test, train)))()

  def check_kinds_of_patterns(self, kind):
    got, want = self.kernels(kind), self.kernels('dense')
    np.testing.assert_allclose(got.nngp, want.nngp, rtol=1e-10)
    np.testing.assert_allclose(got.ndk, want.ndk, rtol=1e-10)

  @parameterized.parameters(['sparse'])
  def test_kinds_of_patterns(self, kind):
    self.check_kinds_of_patterns(kind)

  @parameterized.parameters(['to_dense'])
  @pytest.mark.slow
  def test_kinds_of_patterns_more(self, kind):
    self.check_kinds_of_patterns(kind)

  @parameterized.parameters('dense', 'sparse')
  @pytest.mark.slow
  def test_predictions(self, kind):
    # At both ends of learning, kernels of all pairs of graphs suffice.
    x, y, _, z, z_y, _ = data()
    kernel_fn, train, test = patterns(kind)
    predict_fn = ensemble(kernel_fn, x, y, T, rtol=1e-4, pattern=(train, train))
    # As Neural Tangents takes those of test inputs.
    ask = functools.partial(predict_fn, x_test=z, pattern=(test, test))

    def kernel(get, tau, a, b):
      (x1, p1), (x2, p2) = a, b
      return np.asarray(kernel_fn(x1, x2, get, diffusion_time=(tau, tau),
                                  pattern=(p1, p2)))

    on_train, on_test = (x, train), (z, test)
    late = [kernel('nngp', 1e3, *pair) for pair in (
        (on_train, on_train), (on_test, on_train), (on_test, on_test))]
    got = ask(None, get='ndk', compute_cov=True)
    np.testing.assert_allclose(
        got.mean, reference.gp_mean(late[0], y, T, late[1]), atol=1e-8)
    np.testing.assert_allclose(
        got.covariance, reference.gp_covariance(late[0], T, *late[1:]),
        atol=1e-8)
    early = ask([0.], get='ndk', compute_cov='diag').covariance[0]
    np.testing.assert_allclose(
        early, np.diag(kernel('nngp', 0., on_test, on_test)), rtol=1e-8)
    weights = reference.gradient_flow_weights(
        kernel('ndk', 0., on_train, on_train),
        kernel('ndk', 0., on_test, on_train), .3 / y.size)
    np.testing.assert_allclose(ask(.3, get='ntk'), weights @ y, atol=1e-8)

    # Between them, all kinds of patterns give the same.
    t = np.array([1., 20.])
    mean, variance = ask(t, get='ndk', compute_cov='diag')
    between = predict_fn.two_time_covariance(20., t, z, pattern=(test, test))
    np.testing.assert_allclose(between[1], variance[1], atol=1e-4)
    self.assertLess(between[0].max(), variance[0].max())
    best = predict.optimal_stopping(predict_fn, z, z_y, t, pattern=(test, test))
    np.testing.assert_allclose(
        best.bias_squared[:2], np.mean((mean - z_y)**2, (1, 2)), atol=1e-4)
    want = means()
    np.testing.assert_allclose(mean, want, atol=1e-4 * rms(y))
    self.assertGreater(np.abs(want[1] - want[0]).max(), .1)


class NodesTest(absltest.TestCase):
  """One graph, with labels on some of its nodes."""

  @pytest.mark.slow
  def test_nodes_as_samples(self):
    rng = np.random.default_rng(1)
    n, known = 7, np.array([0, 2, 5])
    x, y = rng.normal(size=(1, n, 3)), rng.normal(size=(n, 1))
    pattern = rng.uniform(size=(1, n, n))
    network_fn = stax.serial(
        stax.Aggregate(1), stax.Dense(8, 1.3, .2, W_init_std=1.5), stax.Relu(),
        stax.Aggregate(1), stax.Dense(1))[2]
    graph = functools.partial(network_fn, x, x, pattern=(pattern, pattern))

    def kernel_fn(x1, x2, get, diffusion_time=(0., 0.)):
      times = tuple(jnp.ravel(t)[0] for t in map(jnp.asarray, diffusion_time))
      kernels = graph(get, diffusion_time=times)
      x2 = x1 if x2 is None else x2
      return jax.tree_util.tree_map(lambda k: x1 @ k[0, 0] @ x2.T, kernels)

    nodes, rest = np.eye(n), np.setdiff1d(np.arange(n), known)
    predict_fn = ensemble(kernel_fn, nodes[known], y[known], T)
    late = np.asarray(graph('nngp', diffusion_time=(1e3, 1e3)))[0, 0]
    between = late[np.ix_(rest, known)]
    got = predict_fn(None, nodes[rest], 'ndk', compute_cov=True)
    args = late[np.ix_(known, known)], T, between
    np.testing.assert_allclose(
        got.mean, reference.gp_mean(args[0], y[known], *args[1:]), atol=1e-9)
    np.testing.assert_allclose(got.covariance, reference.gp_covariance(
        *args, late[np.ix_(rest, rest)]), atol=1e-9)
    # An average over nodes is the average of their outputs.
    group = np.mean(nodes[rest], 0, keepdims=True)
    np.testing.assert_allclose(predict_fn(5., group, 'ndk')[0], np.mean(
        predict_fn(5., nodes[rest], 'ndk'), 0), atol=1e-4)
    ntk = np.asarray(graph('ntk'))[0, 0]
    weights = reference.gradient_flow_weights(
        ntk[np.ix_(known, known)], ntk[np.ix_(rest, known)], 3. / len(known))
    np.testing.assert_allclose(predict_fn(3., nodes[rest], 'ntk'),
                               weights @ y[known], atol=1e-9)


if __name__ == '__main__':
  absltest.main()
