# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that Neural Tangents works, and that nothing else is changed by it."""

import subprocess
import sys
import textwrap

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
