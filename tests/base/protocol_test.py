# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of protocols: their clocks, and what is refused."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np

from nt_ndk._src.base.protocol import Phase
from nt_ndk._src.base.protocol import Protocol

jax.config.update('jax_enable_x64', True)

Y = np.arange(6.).reshape((3, 2))
LAST = Phase(np.inf)


def protocol(*phases, **kwargs):
  return Protocol(phases or None, Y, temperature=.2, learning_rate=3., **kwargs)


class ClockTest(absltest.TestCase):

  def test_a_single_phase(self):
    t = np.array([0., 1., 7.])
    one = protocol(unit=.5)
    np.testing.assert_allclose(one.clock(t), 1.5 * t, rtol=1e-15)
    np.testing.assert_allclose(one.diffusion_time(t), .3 * t, rtol=1e-15)
    self.assertEqual(one.diffusion_time(np.array(np.inf)), np.inf)
    self.assertTrue(one.stages[0].same_weights)

  def test_integrals_over_phases(self):
    phases = (Phase(2., temperature=.5, learning_rate=1.),
              Phase(1., temperature=0.), Phase(4., learning_rate=.1),
              Phase(np.inf, temperature=1.))
    some = protocol(*phases, unit=.5)
    temperature, rate = (.5, 0., .2, 1.), (1., 3., .1, 3.)
    fine = np.linspace(0., 10., 100001)
    middle = (fine[1:] + fine[:-1]) / 2
    stage = np.searchsorted([2., 3., 7.], middle)
    for factor, clock in ((np.ones(4), some.clock),
                          (temperature, some.diffusion_time)):
      steps = .5 * np.multiply(factor, rate)[stage] * np.diff(fine)
      np.testing.assert_allclose(clock(fine[1:]), np.cumsum(steps), rtol=1e-8,
                                 atol=1e-8)

  def test_ends_belong_to_the_phase_that_ends(self):
    some = protocol(Phase(2.), Phase(3.), LAST)
    np.testing.assert_array_equal(
        some.stage(np.array([0., 1., 2., 2.1, 5., 6., np.inf])),
        [0, 0, 0, 1, 1, 2, 2])

  def test_no_diffusion_without_noise(self):
    some = protocol(Phase(2.), Phase(np.inf, temperature=0.))
    np.testing.assert_allclose(
        some.diffusion_time(np.array([1., 2., 3., np.inf])),
        [.6, 1.2, 1.2, 1.2], rtol=1e-15)
    self.assertEqual(some.clock(np.array(np.inf)), np.inf)

  def test_training_time_inverts_diffusion_time(self):
    some = protocol(Phase(2.), Phase(1., temperature=0.),
                    Phase(2., temperature=3.), LAST)
    for t in (.5, 4., 9.):
      tau = float(some.diffusion_time(np.array(t)))
      self.assertAlmostEqual(some.training_time(tau), t, places=12)

  def test_what_a_phase_leaves_open_is_as_in_the_call(self):
    y, weight = 2 * Y, [0., 1., 2.]
    first, second = protocol(Phase(1., .7, 2., y, weight), LAST).stages
    self.assertEqual((first.temperature, first.rate), (.7, 2.))
    np.testing.assert_array_equal(first.y, y)
    np.testing.assert_array_equal(first.weight, weight)
    self.assertEqual((second.temperature, second.rate), (.2, 3.))
    self.assertIs(second.y, Y)
    self.assertTrue(second.same_weights)


class RefusalTest(parameterized.TestCase):

  @parameterized.parameters(
      ((Phase(-1.), LAST), ValueError, 'Leave out phases'),
      ((Phase(0.), LAST), ValueError, 'positive and finite'),
      ((Phase(np.nan), LAST), ValueError, 'positive and finite'),
      ((LAST, LAST), ValueError, 'another phase'),
      ((Phase(1.), Phase(2.)), ValueError, 'ask for the times'),
      ((Phase('1'), LAST), TypeError, 'real number'),
      ((Phase(1., temperature=-1.), LAST), ValueError, 'temperature'),
      ((Phase(1., learning_rate=0.), LAST), ValueError, 'learning_rate'),
      ((Phase(1., y_train=Y[:2]), LAST), ValueError, 'sample_weight'),
      ((Phase(1., y_train=(Y, Y)), LAST), ValueError, 'shape of `y_train`'),
      ((Phase(1., y_train=np.nan * Y), LAST), ValueError, 'finite'),
      ((Phase(1., y_train=1j * Y), LAST), TypeError, 'real numbers'),
      ((Phase(1., sample_weight=1.), LAST), ValueError, 'one number for each'),
      ((Phase(1., sample_weight=[1., -1., 1.]), LAST), ValueError,
       'not negative'),
      ((Phase(1., sample_weight=[1., np.inf, 1.]), LAST), ValueError,
       'finite'),
      ((Phase(1., sample_weight=np.zeros(3)), LAST), ValueError,
       'Leave the phase out'),
      ((), TypeError, 'one or more'),
      ((LAST, 3.), TypeError, 'predict.Phase'),
      (LAST, TypeError, 'tuple of one or more'),
      ('constant', TypeError, 'predict.Phase'))
  def test_bad_schedules(self, schedule, error, words):
    with self.assertRaisesRegex(error, words):
      Protocol(schedule, Y, .2, 3.)

  def test_unknown_names(self):
    with self.assertRaisesRegex(TypeError, 'targets'):
      Phase(1., targets=Y)  # pylint: disable=unexpected-keyword-arg

  @parameterized.parameters('duration', 'temperature', 'learning_rate',
                            'y_train', 'sample_weight')
  def test_traced_values(self, name):
    value = dict(y_train=Y, sample_weight=np.ones(3)).get(name, 1.)

    @jax.jit
    def traced(a):
      phase = Phase(**{'duration': 1., name: a})
      Protocol((phase, LAST), Y, .2, 3.)
      return a

    with self.assertRaisesRegex(TypeError, f'{name}.*jax.jit'):
      traced(value)


if __name__ == '__main__':
  absltest.main()
