# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that Neural Tangents works, and that nothing else is changed by it."""

import subprocess
import sys
import textwrap
import warnings

from absl.testing import absltest
import jax
from jax import numpy as jnp
import numpy as np
import pytest

import nt_ndk
from nt_ndk import predict
from nt_ndk import stax

jax.config.update('jax_enable_x64', True)


def run(code):
  """Runs Python code in a new interpreter and returns what it prints."""
  return subprocess.run(
      [sys.executable, '-c', textwrap.dedent(code)], check=True, text=True,
      capture_output=True).stdout.split()


class CompatTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.x = np.random.default_rng(0).normal(size=(6, 4))
    self.kernel_fn = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(1))[2]

  @pytest.mark.slow
  def test_tensorflow_waits_for_its_use(self):
    before, after = run("""
        import sys
        import nt_ndk
        print('tensorflow' in sys.modules)
        nt_ndk.experimental.empirical_ntk_fn_tf
        print('tensorflow' in sys.modules)""")
    self.assertEqual((before, after), ('False', 'True'))

  @pytest.mark.slow
  def test_neural_tangents_first(self):
    # It stops half-way on JAX 0.6 and later, and leaves modules behind.
    first = """
        try:
          import neural_tangents
          print('imported')
        except ImportError:
          print('refused')
        """
    then = """
        import nt_ndk
        import jax
        import jax.numpy as jnp
        import neural_tangents as nt
        from neural_tangents import predict, stax
        from neural_tangents.experimental import empirical_ntk_fn_tf
        x = jnp.sin(jnp.arange(24.).reshape(6, 4))
        init_fn, apply_fn, kernel_fn = stax.serial(
            stax.Dense(8), stax.Relu(), stax.Dense(1))
        _, params = init_fn(jax.random.key(0), x.shape)
        ntk = kernel_fn(x, None, 'ntk')
        print(ntk.sum())
        print(predict.gradient_descent_mse(ntk, x[:, :1])(3., 0. * x[:, :1]))
        print(nt.empirical_ntk_fn(apply_fn, implementation=3)(
            x, None, params).sum())
        kernel_fn = nt_ndk.stax.serial(
            nt_ndk.stax.Dense(8), nt_ndk.stax.Relu(), nt_ndk.stax.Dense(1))[2]
        print(kernel_fn(x, None, 'ndk', diffusion_time=(1., .1)).sum())"""
    outcome, *numbers = run(first + then)
    self.assertEqual(
        outcome, 'refused' if jax.__version_info__ >= (0, 6) else 'imported')
    self.assertEqual(numbers, run(then))

  def test_what_exists_is_left_alone(self):
    self.assertEqual(run("""
        import jax, scipy.linalg
        from jax.interpreters import ad
        import jax.core
        modules = jax, jax.core, ad, scipy.linalg
        before = [dict(vars(m)) for m in modules]
        import nt_ndk
        changed = [name for m, old in zip(modules, before) for name in old
                   if vars(m).get(name) is not old[name]]
        print(changed)"""), ['[]'])

  def test_no_deprecated_names(self):
    init_fn, apply_fn, _ = stax.serial(stax.Dense(8), stax.Relu(),
                                       stax.Dense(3))
    _, params = init_fn(jax.random.PRNGKey(0), self.x.shape)
    ntks = []
    with warnings.catch_warnings():
      warnings.simplefilter('error', DeprecationWarning)
      for implementation in nt_ndk.NtkImplementation:
        ntks += [nt_ndk.empirical_ntk_fn(
            apply_fn, trace_axes=(), implementation=implementation)(
                self.x, None, params)]
    for ntk in ntks[1:]:
      np.testing.assert_allclose(ntk, ntks[0], rtol=1e-9, atol=1e-12)

  def test_installing_again_does_nothing(self):
    names = set(vars(jax.core))
    from nt_ndk._src.base import compat  # pylint: disable=g-import-not-at-top
    compat.install()
    self.assertEqual(names, set(vars(jax.core)))

  def test_public_names(self):
    import neural_tangents as nt  # pylint: disable=g-import-not-at-top
    for ours, theirs in ((nt_ndk, nt), (stax, nt.stax),
                         (predict, nt.predict)):
      names = {name for name in dir(theirs) if not name.startswith('_')}
      self.assertEmpty(names - set(dir(ours)))

  def test_max_learning_rate(self):
    ntk = self.kernel_fn(self.x, None, 'ntk')
    self.assertAlmostEqual(
        float(predict.max_learning_rate(ntk, eps=0.)),
        2. * len(ntk) / np.linalg.eigvalsh(ntk)[-1], places=9)

  def test_predict_under_jit(self):
    y = jnp.ones((6, 1))

    def mean(x):
      predict_fn = predict.gradient_descent_mse(self.kernel_fn(x, None, 'ntk'),
                                                y)
      return predict_fn(3., jnp.zeros((6, 1)))

    np.testing.assert_allclose(jax.jit(mean)(self.x), mean(self.x), rtol=1e-9)


if __name__ == '__main__':
  absltest.main()
