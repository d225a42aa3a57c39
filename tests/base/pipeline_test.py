# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of tasks in threads that hand something on."""

import functools
import threading
import time
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
import numpy as np
import pytest
import threadpoolctl

from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.base import pipeline
from nt_ndk._src.predictors import fluctuations

jax.config.update('jax_enable_x64', True)


def add(number, receive, hand_on):
  """Hands on the sum so far; the earlier the task, the later it ends."""
  total = receive() + number
  hand_on(total)
  time.sleep(.02 / number)
  return number, total, threading.get_ident()


def tasks(count, f=add):
  return (functools.partial(f, i + 1) for i in range(count))


class PipelineTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 5)
  def test_order(self, at_once):
    got = list(pipeline.run(tasks(20), 100, at_once))
    numbers = np.arange(1, 21)
    self.assertEqual([g[:2] for g in got],
                     list(zip(numbers, 100 + np.cumsum(numbers))))
    threads = {g[2] for g in got}
    if at_once == 1:
      self.assertEqual(threads, {threading.get_ident()})
    else:
      self.assertLessEqual(len(threads), at_once)
      self.assertNotIn(threading.get_ident(), threads)

  def test_few_are_made_ahead(self):
    made, most = [], []

    def count():
      for task in tasks(12):
        made.append(task)
        yield task

    for i, _ in enumerate(pipeline.run(count(), 0, 2)):
      most.append(len(made) - i)
    self.assertLessEqual(max(most), 3)

  def test_no_tasks(self):
    self.assertEmpty(list(pipeline.run([], 0, 2)))

  @parameterized.product(at_once=[1, 2], before=[True, False])
  def test_errors_reach_the_caller(self, at_once, before):
    # Also those of a task whose successor waits for it.
    def fail(number, receive, hand_on):
      if number == 3 and before:
        raise ArithmeticError('Out of reach.')
      out = add(number, receive, hand_on)
      if number == 3:
        raise ArithmeticError('Out of reach.')
      return out

    got = []
    with self.assertRaisesRegex(ArithmeticError, 'Out of reach.'):
      for out in pipeline.run(tasks(8, fail), 0, at_once):
        got.append(out[0])
    self.assertEqual(got, [1, 2])

  def test_threads_of_blas_are_shared(self):
    threads = lambda: {info['num_threads'] for info in
                       threadpoolctl.threadpool_info()
                       if info['user_api'] == 'blas'}

    def ask(number, receive, hand_on):
      add(number, receive, hand_on)
      return threads()

    with threadpoolctl.threadpool_limits(2):
      self.assertEqual(list(pipeline.run(tasks(3, ask), 0, 2)), [{1}] * 3)
      self.assertEqual(threads(), {2})

  def check_covariances_in_threads(self, compute_cov):
    # The same grids, points and bases as in one thread.
    x = np.random.default_rng(0).normal(size=(30, 8))
    dense = functools.partial(stax.Dense, W_init_std=1.5)
    kernel_fn = stax.serial(dense(8), stax.Erf(), dense(8), stax.Relu(),
                            dense(1))[2]

    def predictions(threads):
      predict_fn = predict.markov_proximal_mse_ensemble(
          kernel_fn, x[:24], x[:24, :1], temperature=1e-2)
      with mock.patch.object(fluctuations, '_AT_ONCE', threads):
        return predict_fn(t=np.append(0., np.geomspace(1., 1e4, 9)),
                          x_test=x[20:], get='ndk',
                          compute_cov=compute_cov).covariance

    one, two = predictions(1), predictions(2)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-12 * np.max(one))

  @parameterized.parameters(['diag'])
  def test_covariances_in_threads(self, compute_cov):
    self.check_covariances_in_threads(compute_cov)

  @parameterized.parameters([True])
  @pytest.mark.slow
  def test_covariances_in_threads_more(self, compute_cov):
    self.check_covariances_in_threads(compute_cov)


if __name__ == '__main__':
  absltest.main()
