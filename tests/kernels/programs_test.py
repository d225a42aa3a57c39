# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that networks share what is compiled, and only where they may."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.kernels.evaluation import KernelEvaluator

jax.config.update('jax_enable_x64', True)

_TAU = np.array([[.7, .2]])


def inputs(n=6, features=8, seed=0):
  return np.random.default_rng(seed).normal(size=(n, features))


def dense(W_std=1.3, b_std=None, s0=1.4, s=.8):
  return stax.Dense(8, W_std, b_std, W_init_std=s0, W_prior_std=s,
                    b_init_std=s, b_prior_std=s0)


def attention(std):
  # Of `[n, tokens, channels]`.
  return stax.serial(
      stax.GlobalSelfAttention(4, 2, 2, 2, W_value_init_std=std),
      stax.Flatten(), dense())


@stax.layer
def Scale(factor):
  """A user's own layer."""
  init_fn = lambda key, shape: (shape, ())
  apply_fn = lambda params, x, **kwargs: factor * x

  def kernel_fn(k, **kwargs):
    return k.replace(**{
        name: None if getattr(k, name) is None else
        factor**2 * getattr(k, name)
        for name in ('nngp', 'ntk', 'cov1', 'cov2')})

  return init_fn, apply_fn, kernel_fn


def twice(layer):
  return stax.serial(layer, stax.Relu(), layer, stax.Relu(), dense())


def wrapped(factor):
  """A layer whose kernel a user has changed, with NT's attributes copied."""
  init_fn, apply_fn, kernel_fn = stax.Relu()

  @functools.wraps(kernel_fn)
  def scaled(*args, **kwargs):
    k = kernel_fn(*args, **kwargs)
    return k.replace(nngp=factor * k.nngp, ntk=None if k.ntk is None else
                     factor * k.ntk)

  return init_fn, apply_fn, scaled


# Pairs of networks that look alike.
ALIKE = dict(
    slopes=[stax.serial(dense(), stax.LeakyRelu(a), dense())
            for a in (.1, .1 + 1e-9, .3)],
    nonlinearities=[stax.serial(dense(), phi(), dense())
                    for phi in (stax.Relu, stax.Erf, stax.Sin, stax.Gelu)],
    functions=[stax.serial(dense(), stax.ElementwiseNumerical(f, 25), dense())
               for f in (jnp.tanh, jnp.sin)],
    stds=[stax.serial(dense(c, b, s0, s), stax.Relu(), dense(s0, b, s, c))
          for c, b, s0, s in ((1.3, .1, 1.4, .8), (1.4, .1, 1.3, .8),
                              (1.3, .2, 1.4, .8), (1.3, .1, .8, 1.4))],
    biases=[stax.serial(dense(b_std=b), stax.Relu(), dense())
            for b in (None, 0., .3)],
    one_layer_twice=[
        twice(dense(1.1)), twice(dense(1.2)),
        stax.serial(dense(1.1), stax.Relu(), dense(1.2), stax.Relu(), dense()),
        stax.serial(dense(1.2), stax.Relu(), dense(1.1), stax.Relu(), dense())],
    nested=[
        stax.serial(stax.serial(dense(1.1), stax.Relu()),
                    stax.serial(dense(1.2), stax.Relu()), dense()),
        stax.serial(dense(1.2), stax.serial(stax.Relu(), dense(1.1)),
                    stax.Relu(), dense())],
    repeated=[stax.serial(stax.repeat(stax.serial(dense(), stax.Relu()), n),
                          dense()) for n in (1, 2, 3)],
    branches=[
        stax.serial(stax.FanOut(2), stax.parallel(*pair), stax.FanInSum())
        for a, b in [(stax.serial(dense(1.1), stax.Relu(), dense(1.3)),
                      stax.serial(dense(1.2), stax.Erf(), dense(1.4)))]
        for pair in ((a, b), (b, a), (a, a), (b, b))],
    own_layers=[stax.serial(dense(), Scale(a), stax.Relu(), dense())
                for a in (.5, 2.)],
    wrapped_kernels=[stax.serial(dense(), wrapped(a), dense())
                     for a in (.5, 2.)],
)


class SharedProgramsTest(parameterized.TestCase):

  @parameterized.parameters('slopes', 'stds', 'one_layer_twice',
                            'wrapped_kernels')
  def test_networks_that_look_alike(self, kind):
    self.compare(kind)

  @parameterized.parameters('nonlinearities', 'functions', 'biases', 'nested',
                            'repeated', 'branches', 'own_layers')
  @pytest.mark.slow
  def test_more_networks_that_look_alike(self, kind):
    self.compare(kind)

  def compare(self, kind):
    """Shared programs and kernel functions by themselves."""
    x = inputs()
    for _, _, kernel_fn in ALIKE[kind]:
      evaluator = KernelEvaluator(kernel_fn, x, 1)
      for get in ('ndk', 'nngp'):
        want = kernel_fn(x, x, get, diffusion_time=tuple(_TAU[0]))
        np.testing.assert_allclose(evaluator.train_train(get, _TAU), want,
                                   rtol=1e-10)
        pairs = np.array([[0, 1], [3, 2], [4, 4]])
        np.testing.assert_allclose(evaluator.sample(pairs, _TAU, get)[0],
                                   want[tuple(pairs.T)], rtol=1e-6)

  def test_layers_that_depend_on_what_is_not_an_argument(self):
    factor = [1.]

    @stax.layer
    def Scaled():
      c = factor[0]
      scale = lambda a: None if a is None else c**2 * a
      return (lambda key, shape: (shape, ())), (
          lambda params, x, **kwargs: c * x), (
              lambda k, **kwargs: k.replace(
                  nngp=scale(k.nngp), ntk=scale(k.ntk),
                                            cov1=scale(k.cov1),
                                            cov2=scale(k.cov2)))

    phi = lambda x: jnp.tanh(factor[0] * x)
    for make in (Scaled, lambda: stax.ElementwiseNumerical(phi, 25)):
      got = []
      for factor[0] in (1., 3.):
        kernel_fn = stax.serial(dense(), make(), dense())[2]
        got.append(KernelEvaluator(kernel_fn, inputs(), 1).train_train(
            'ndk', _TAU))
        np.testing.assert_allclose(got[-1], kernel_fn(
            inputs(), None, 'ndk', diffusion_time=tuple(_TAU[0])), rtol=1e-10)
      self.assertGreater(np.abs(got[0] - got[1]).max(), .1)

  def test_a_layer_and_one_that_wraps_it(self):
    x, layers = inputs(), (dense(1.1), dense(1.7))
    inside = functools.wraps(layers[0][2])(
        lambda *args, **kwargs: layers[0][2](*args, **kwargs))
    for layer in layers:
      kernel_fn = stax.serial(layer, stax.Erf(), (*layers[0][:2], inside),
                              stax.Erf(), dense())[2]
      np.testing.assert_allclose(
          KernelEvaluator(kernel_fn, x, 1).train_train('ndk', _TAU),
          kernel_fn(x, x, 'ndk', diffusion_time=tuple(_TAU[0])), rtol=1e-10)

  def test_a_kernel_function_that_wraps_a_network(self):
    # Decorators copy attributes of the function that they wrap.
    kernel_fn, x = ALIKE['stds'][0][2], inputs()

    @functools.wraps(kernel_fn)
    def doubled(*args, **kwargs):
      return 2. * kernel_fn(*args, **kwargs)

    got = [KernelEvaluator(f, x, 1).train_train('ndk', _TAU)
           for f in (kernel_fn, doubled)]
    np.testing.assert_allclose(got[1], 2. * got[0], rtol=1e-10)

  def test_attention(self):
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    for std in (1., 1.5):
      _, _, kernel_fn = attention(std)
      got = KernelEvaluator(kernel_fn, x, 1).train_train('ndk', _TAU)
      want = kernel_fn(x, x, 'ndk', diffusion_time=tuple(_TAU[0]))
      np.testing.assert_allclose(got, want, rtol=1e-8)

  def test_what_compiles(self):
    compiled = []
    monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event)
        if event.endswith('backend_compile_duration') else None)

    def programs_of(W_std=1.3, s0=1.4, n=20, n_test=7, outputs=1,
                    temperature=1e-2, features=11):
      kernel_fn = stax.serial(dense(W_std, s0=s0), stax.Relu(),
                              dense(W_std))[2]
      x, z = inputs(n, features), inputs(n_test, features, seed=1)
      y = np.repeat(np.sin(x[:, :1]), outputs, 1)
      predict_fn = predict.markov_proximal_mse_ensemble(
          kernel_fn, x, y, temperature)
      compiled.clear()
      predict_fn(t=np.geomspace(.1, 1e5, 9), x_test=z, get='ndk',
                 compute_cov='diag')
      return len(compiled)

    first = programs_of()
    self.assertGreater(first, 0)
    for change in (dict(W_std=1.5), dict(s0=.9), dict(temperature=1e-3),
                   dict(n=19), dict(n=33), dict(n_test=12), dict(outputs=3)):
      with self.subTest(**change):
        self.assertEqual(programs_of(**change), 0)
    with self.subTest('Another network is another program.'):
      self.assertGreater(programs_of(features=23), 0)


if __name__ == '__main__':
  absltest.main()
