# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of what predictors take: arrays, containers and functions of any kind.

Each is compared with the same numbers as arrays in float64, or refused in a
sentence. `docs/inputs.md` has the table.
"""

import functools
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import jax
from jax import random
import jax.numpy as jnp
import numpy as np
import pytest

import nt_ndk
from nt_ndk import predict
from nt_ndk import stax
from nt_ndk._src.kernels.evaluation import KernelEvaluator
from nt_ndk._src.kernels.sample import Training
from nt_ndk._src.predictors import problem

jax.config.update('jax_enable_x64', True)

N, T = 6, 1e-2
TIMES = np.array([3., 300.])
NUMBERS = np.random.RandomState(0).randint(0, 4, size=(N + 3, 3))
# Small integers are exact in all types.
X, X_TEST = NUMBERS[:N].astype(float), NUMBERS[N:].astype(float)
Y = np.array([[0, 1], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0]], float)


class Frame:
  """What pandas, xarray or torch are for NumPy."""

  def __init__(self, values):
    self.values, self.ndim = values, values.ndim

  def __array__(self, dtype=None, copy=None):
    return np.asarray(self.values, dtype)


def network(*first, W_std=1.3, b_std=.2):
  layer = lambda: stax.Dense(8, W_std, b_std, W_init_std=1.4, W_prior_std=.9)
  return stax.serial(*first, layer(), stax.Relu(), layer())


KERNEL_FN = network()[2]

ARRAYS = dict(
    float32=lambda a: a.astype(np.float32),
    float16=lambda a: a.astype(np.float16),
    bfloat16=lambda a: jnp.asarray(a, jnp.bfloat16),
    longdouble=lambda a: a.astype(np.longdouble),
    int64=lambda a: a.astype(int),
    uint8=lambda a: a.astype(np.uint8),
    big_endian=lambda a: a.astype('>f8'),
    big_endian_int32=lambda a: a.astype('>i4'),
    jax=jnp.asarray,
    fortran_order=np.asfortranarray,
    reversed_view=lambda a: a[::-1].copy()[::-1],
    read_only=lambda a: np.lib.stride_tricks.as_strided(a, writeable=False),
    list_of_lists=lambda a: a.tolist(),
    list_of_rows=list,
    list_of_jax_rows=lambda a: [jnp.asarray(r) for r in a],
    objects=lambda a: a.astype(object),
    frame=Frame,
    frame_of_objects=lambda a: Frame(a.astype(object)),
    unmasked=np.ma.asarray)

# What is refused, and a part of what is said.
BAD_ARRAYS = dict(
    complex=(lambda a: a + 0j, TypeError, 'real numbers, got complex128'),
    strings=(lambda a: a.astype(str), TypeError, 'real numbers, got'),
    objects=(lambda a: np.full(a.shape, 'a', object), TypeError,
             'real numbers, got a str'),
    dates=(lambda a: a.astype('M8[s]'), TypeError, 'got datetime64'),
    ragged=(lambda a: [[1.]] + a[1:].tolist(), ValueError, 'same length'),
    masked=(lambda a: np.ma.array(a, mask=a > 0), TypeError, 'masked by NumPy'),
    nan=(lambda a: np.where(a > 0, np.nan, a), ValueError, 'NaN or infinity'),
    infinite=(lambda a: a / 0., ValueError, 'NaN or infinity'),
    one_axis=(lambda a: a[:, 0], ValueError, 'shape'),
    number=(lambda a: 3., ValueError, 'must'),
    none=(lambda a: None, ValueError, 'must'),
    keys=(lambda a: random.split(random.key(0), a.shape), TypeError,
          'real numbers, got key'))


def predictor(kernel_fn=KERNEL_FN, x=X, y=Y, **kwargs):
  return predict.markov_proximal_mse_ensemble(kernel_fn, x, y, T, **kwargs)


def equilibrium(x=X, y=Y, x_test=X_TEST, **kwargs):
  return predictor(x=x, y=y, **kwargs)(x_test=x_test, get='ndk')


def learning(kernel_fn=KERNEL_FN, x=X, y=Y, x_test=X_TEST, test_kwargs=None,
             compute_cov=False, **kwargs):
  """Mean, or mean and variance, along learning and at its end."""
  predict_fn = predictor(kernel_fn, x, y, **kwargs)
  out = [predict_fn(t=t, x_test=x_test, get='ndk', compute_cov=compute_cov,
                    **(test_kwargs or {})) for t in (TIMES, None)]
  return np.concatenate([np.ravel(a) for a in jax.tree_util.tree_leaves(out)]
                        ), predict_fn


@functools.lru_cache(None)
def expected():
  return equilibrium(), *learning()


class ArraysTest(parameterized.TestCase):
  """Types and containers of inputs and targets."""

  def same(self, got, rtol=1e-12):
    np.testing.assert_allclose(got, expected()[0], rtol=rtol, atol=rtol)

  @parameterized.named_parameters(ARRAYS.items())
  def test_inputs(self, convert):
    self.same(equilibrium(convert(X), Y, convert(X_TEST)))

  @parameterized.named_parameters(ARRAYS.items())
  def test_targets(self, convert):
    self.same(equilibrium(y=convert(Y)))

  def test_boolean_inputs_and_targets(self):
    want = equilibrium(1. * (X > 1), Y, 1. * (X_TEST > 1))
    self.same(want - equilibrium(X > 1, Y > 0, X_TEST > 1) + expected()[0])

  @parameterized.named_parameters(ARRAYS.items())
  def test_kernel_functions(self, convert):
    kwargs = dict(get='ndk', diffusion_time=(.1, .3))
    np.testing.assert_allclose(KERNEL_FN(convert(X), convert(X_TEST), **kwargs),
                               KERNEL_FN(X, X_TEST, **kwargs), rtol=1e-12)

  @parameterized.named_parameters((k, *v) for k, v in BAD_ARRAYS.items())
  def test_bad_inputs(self, convert, error, message):
    with np.errstate(all='ignore'):
      x, x_test = convert(X), convert(X_TEST)
    with self.assertRaisesRegex(error, message):
      equilibrium(x)
    if x_test is not None:
      with self.assertRaisesRegex(error, 'x_test'):
        equilibrium(x_test=x_test)

  @parameterized.named_parameters((k, *v) for k, v in BAD_ARRAYS.items())
  def test_bad_targets(self, convert, error, message):
    with np.errstate(all='ignore'):
      y = convert(Y)
    with self.assertRaisesRegex(error, message):
      equilibrium(y=y)

  @parameterized.parameters('complex', 'strings', 'objects', 'masked', 'ragged',
                            'keys')
  def test_bad_inputs_of_kernel_functions(self, name):
    convert, error, message = BAD_ARRAYS[name]
    with self.assertRaisesRegex(error, message):
      KERNEL_FN(convert(X), None, 'ndk')

  @parameterized.parameters(list, np.float32, Frame,
                            lambda t: t.astype('>f8'), lambda t: t.astype(int))
  def test_times(self, convert):
    got = predictor()(
        t=convert(TIMES), x_test=X_TEST, get='ndk')
    np.testing.assert_array_equal(np.ravel(got),
                                  expected()[1][:got.size])

  @parameterized.parameters((TIMES + 0j,), ('soon',), ([[1.], [1., 2.]],))
  def test_bad_times(self, t):
    with self.assertRaisesRegex(TypeError, 'must be real numbers'):
      predictor()(t=t, get='ndk')

  def test_one_of_everything(self):
    self.check_one(X[:1, :1], Y[:1], X_TEST[:1, :1])

  @parameterized.parameters(
      dict(x=X[:1], y=Y[:1]), dict(x=X[:, :1], x_test=X_TEST[:, :1]),
      dict(x_test=X_TEST[:1]), dict(y=Y[:, :1]))
  @pytest.mark.slow
  def test_one_of_a_kind(self, **kwargs):
    self.check_one(**kwargs)

  def check_one(self, x=X, y=Y, x_test=X_TEST):
    got = learning(x=x, y=y, x_test=x_test)[0]
    self.assertTrue(np.all(np.isfinite(got)))
    want = predict.gp_inference(
        KERNEL_FN(x, None, ('nngp', 'ndk'), diffusion_time=(1e9, 1e9)), y,
        diag_reg=T, diag_reg_absolute_scale=True)(
            'nngp', KERNEL_FN(x_test, x, ('nngp', 'ndk'),
                              diffusion_time=(1e9, 1e9)))
    np.testing.assert_allclose(equilibrium(x, y, x_test), want, rtol=1e-8,
                               atol=1e-10)

  def test_zero_column(self):
    self.check_column(0.)

  @pytest.mark.slow
  def test_constant_column(self):
    self.check_column(1.)

  def check_column(self, value):
    # Outputs do not know of each other.
    y = np.concatenate([Y, np.full((N, 1), value)], 1)
    got = predictor(y=y)(t=TIMES * 1.5, x_test=X_TEST, get='ndk')
    want = expected()[2](t=TIMES, x_test=X_TEST, get='ndk')
    np.testing.assert_allclose(got[..., :2], want, atol=1e-5)
    if not value:
      np.testing.assert_array_equal(got[..., 2], 0.)

  @parameterized.parameters('more_than_samples', 'few_components')
  def test_many_columns(self, kind):
    # Those of other columns, at the same time, which is divided by `y.size`.
    rng = np.random.RandomState(0)
    y = (rng.normal(size=(N, 9)) if kind == 'more_than_samples' else
         rng.normal(size=(N, 1)) * 10.**-np.arange(9))
    t = np.array([0., 10., 1e3])
    want = predictor(y=y)
    with mock.patch.object(problem, '_COLUMN_BYTES', 0):
      with mock.patch.object(problem, '_FEWEST_COLUMNS', 2):
        got = predictor(y=y)
        for x_test in (X_TEST, None):
          a, b = (np.asarray(f(t=t, x_test=x_test, get='ndk'))
                  for f in (got, want))
          np.testing.assert_allclose(a, b, atol=1e-5 * np.sqrt(np.mean(y**2)))
          # Solutions that were forgotten in part go on.
          t = np.append(t, [1e5, 1e9])
        schedule = (predict.Phase(1e3, 3 * T),
                    predict.Phase(np.inf, y_train=y[::-1]))
        a, b = (np.asarray(f.with_schedule(schedule)(
            t=t, x_test=X_TEST, get='ndk')) for f in (got, want))
        np.testing.assert_allclose(a, b, atol=1e-5 * np.sqrt(np.mean(y**2)))
    self.assertLess(got.stats['estimated_error'], 1e-4)

  def test_zero_targets(self):
    np.testing.assert_array_equal(learning(y=0 * Y)[0], 0.)

  def test_mixed(self):
    self.same(equilibrium(X.tolist(), Y > 0, jnp.asarray(X_TEST)))
    with self.assertRaisesRegex(ValueError, 'at least one sample'):
      equilibrium(x_test=X_TEST[:0])
    with self.assertRaisesRegex(TypeError, 'y_test.*real numbers'):
      predict.optimal_stopping(predictor(), X_TEST, [['a', 'b']] * 3, TIMES)


JITTED = dict(
    positions=lambda f: jax.jit(f, static_argnums=(2,)),
    jit_of_partial=lambda f: jax.jit(functools.partial(f),
                                     static_argnames='get'))
MORE_JITTED = dict(
    names=lambda f: jax.jit(f, static_argnames='get'),
    twice=lambda f: jax.jit(jax.jit(f, static_argnames='get'),
                            static_argnums=2),
    partial=functools.partial,
    partial_of_jit=lambda f: functools.partial(
        jax.jit(f, static_argnames='get')))


class FunctionsTest(parameterized.TestCase):
  """Kernel functions that something wraps."""

  @parameterized.named_parameters(JITTED.items())
  def test_wrapped(self, wrap):
    self.check(wrap)

  @parameterized.named_parameters(MORE_JITTED.items())
  @pytest.mark.slow
  def test_wrapped_otherwise(self, wrap):
    self.check(wrap)

  def check(self, wrap):
    got, predict_fn = learning(wrap(KERNEL_FN))
    np.testing.assert_array_equal(got, expected()[1])
    for name in ('kernel_evaluations', 'rank', 'planned_bytes'):
      self.assertEqual(predict_fn.stats[name], expected()[2].stats[name])

  @pytest.mark.slow
  def test_wrapped_in_batches(self):
    got, _ = learning(jax.jit(KERNEL_FN, static_argnums=2), batch_size=4)
    np.testing.assert_allclose(got, expected()[1], rtol=1e-6)
    got, _ = learning(nt_ndk.batch(jax.jit(KERNEL_FN, static_argnums=2), 3))
    np.testing.assert_allclose(got, expected()[1], rtol=1e-6)

  @pytest.mark.slow
  def test_covariance(self):
    got, want = (predictor(f).two_time_covariance(*TIMES, X_TEST) for f in (
        jax.jit(KERNEL_FN, static_argnums=2), KERNEL_FN))
    np.testing.assert_array_equal(got, want)

  def test_frozen_readout(self):
    predictions = [predict.representational_drift_mse_ensemble(
        f, X, Y, T)(3e4, X_TEST) for f in (
            KERNEL_FN, jax.jit(KERNEL_FN, static_argnums=2))]
    np.testing.assert_array_equal(*predictions)

  @parameterized.parameters('get', 'diffusion_time', 'x2')
  def test_bound(self, name):
    kernel_fn = functools.partial(KERNEL_FN, **{name: 'ndk'})
    for f in (kernel_fn, jax.jit(kernel_fn)):
      with self.assertRaisesRegex(ValueError, f'with `{name}`, which'):
        predictor(f)

  def test_bound_inputs(self):
    with self.assertRaisesRegex(ValueError, 'with inputs'):
      predictor(functools.partial(KERNEL_FN, X))

  def test_function_of_a_user(self):
    @functools.partial(jax.jit, static_argnames=('get', 'W_std'))
    def kernel_fn(x1, x2, get, diffusion_time=(0., 0.), W_std=None):
      return network(W_std=W_std)[2](x1, x2, get, diffusion_time=diffusion_time)

    for f, kwargs in ((functools.partial(kernel_fn, W_std=1.3), {}),
                      (kernel_fn, dict(W_std=1.3))):
      np.testing.assert_allclose(equilibrium(kernel_fn=f, **kwargs),
                                 expected()[0], rtol=1e-10)


def sequences(mask):
  """Some of different lengths, the fourth one of length 0."""
  rng = np.random.RandomState(1)
  x = rng.normal(size=(N + 3, 4, 2))
  for i, length in enumerate((4, 3, 2, 0, 4, 1, 3, 0, 2)):
    x[i, length:] = mask
  return x[:N], x[N:]


SEQUENCE_FN = stax.serial(stax.Conv(8, (2,), padding='SAME'), stax.Relu(),
                          stax.GlobalAvgPool(), *2 * [stax.Dense(1, 1.2)])[2]


@functools.lru_cache(None)
def masked():
  x, x_test = sequences(100.)
  return learning(SEQUENCE_FN, x, Y, x_test, mask_constant=100.)


class KeywordsTest(parameterized.TestCase):
  """Keyword arguments of kernel functions."""

  def check_mask_constant(self, mask):
    x, x_test = sequences(mask)
    got, predict_fn = learning(SEQUENCE_FN, x, Y, x_test, mask_constant=mask)
    want, other = masked()
    np.testing.assert_array_equal(got, want)
    for name in ('rank', 'panels', 'estimated_error'):
      self.assertEqual(predict_fn.stats[name], other.stats[name])
    # Nothing is seen, nothing known, without biases.
    mean = np.asarray(predict_fn(t=TIMES, x_test=x_test, get='ndk'))
    np.testing.assert_array_equal(mean[:, 1], 0.)

  def test_mask_constant(self):
    self.check_mask_constant(np.nan)

  @parameterized.named_parameters(
      ('large', 1e9), ('negative', -1e9), ('single', np.float32(77.)),
      ('another_nan', float('nan')))
  @pytest.mark.slow
  def test_mask_constants(self, mask):
    self.check_mask_constant(mask)

  @parameterized.named_parameters(
      ('large', 1e9), ('jax', jnp.array(9.)), ('numpy', np.array(9.)),
      ('nan_of_numpy', np.array(np.nan)), ('integer', jnp.array(9, int)))
  def test_mask_constant_at_equilibrium(self, mask):
    x, x_test = sequences(mask)
    np.testing.assert_array_equal(
        equilibrium(x, Y, x_test, kernel_fn=SEQUENCE_FN, mask_constant=mask),
        masked()[1](x_test=sequences(100.)[1], get='ndk'))

  def test_masked_pairs(self):
    # Chosen by what is seen of samples, not by what is masked.
    seen, hidden = np.random.RandomState(0).normal(size=(2, 60, 4, 2))
    pairs = []
    for mask in (9., 1e9, np.nan):
      x = np.where(hidden > .5, mask, seen)
      training = Training(KernelEvaluator(
          SEQUENCE_FN, x[:40], 1, mask_constant=mask), 'ndk', 0.)
      pairs.append((
          training.training_pairs(2, np.random.RandomState(0)),
          training.test_pairs(x[40:], np.random.RandomState(0))))
    for other in pairs[1:]:
      for one, two in zip(pairs[0], other):
        np.testing.assert_array_equal(one, two)

  @parameterized.parameters(np.nan, 9.)
  def test_bound_mask_constant(self, mask):
    x, x_test = sequences(mask)
    kernel_fn = functools.partial(SEQUENCE_FN, mask_constant=mask)
    np.testing.assert_array_equal(
        equilibrium(x, Y, x_test, kernel_fn=kernel_fn),
        masked()[1](x_test=sequences(100.)[1], get='ndk'))

  @parameterized.parameters(np.nan, 9.)
  @pytest.mark.slow
  def test_bound_mask_constant_in_batches(self, mask):
    x, x_test = sequences(mask)
    kernel_fn = functools.partial(SEQUENCE_FN, mask_constant=mask)
    got, _ = learning(kernel_fn, x, Y, x_test, batch_size=2)
    np.testing.assert_allclose(got, masked()[0], rtol=1e-6, atol=1e-9)

  def test_mask_constant_of_single_precision(self):
    # 9.1 is another number there.
    x, x_test = (a.astype(np.float32) for a in sequences(9.1))
    got = equilibrium(x, Y, x_test, kernel_fn=SEQUENCE_FN, mask_constant=9.1)
    want = masked()[1](x_test=sequences(100.)[1], get='ndk')
    np.testing.assert_allclose(got, want, atol=1e-4)

  def test_bad_mask_constant(self):
    x, x_test = sequences(np.nan)
    with self.assertRaisesRegex(ValueError, 'Pass what stands for missing'):
      predictor(SEQUENCE_FN, x)
    with self.assertRaisesRegex(ValueError, 'must be that of the training'):
      predictor(SEQUENCE_FN, x, mask_constant=np.nan)(
          x_test=x_test, get='ndk', mask_constant=3.)

  @parameterized.parameters(lambda: random.PRNGKey(0), lambda: random.key(0))
  def test_keys(self, key):
    np.testing.assert_array_equal(equilibrium(rng=key()), expected()[0])
    np.testing.assert_array_equal(
        equilibrium(kernel_fn=functools.partial(KERNEL_FN, rng=key())),
        expected()[0])
    np.testing.assert_array_equal(
        KERNEL_FN(X, None, 'ndk', rng=key()), KERNEL_FN(X, None, 'ndk'))

  def test_array_of_a_user(self):
    def kernel_fn(x1, x2, get, diffusion_time=(0., 0.), scales=None):
      return jax.tree_util.tree_map(lambda k: scales[0] * k, KERNEL_FN(
          x1, x2, get, diffusion_time=diffusion_time))

    one, two = (equilibrium(kernel_fn=kernel_fn, scales=jnp.array([s, 0., 0.]))
                for s in (1., 2.))
    np.testing.assert_allclose(one, expected()[0], rtol=1e-10)
    self.assertGreater(np.max(np.abs(one - two)), 1e-5)

  def test_patterns(self):
    self.check_pattern(list)

  @pytest.mark.slow
  def test_tuples_of_patterns(self):
    self.check_pattern(tuple)

  def check_pattern(self, container):
    kernel_fn = stax.serial(stax.Aggregate(1, 0, -1), stax.Dense(8),
                            stax.Relu(), stax.GlobalAvgPool(),
                            stax.Dense(1))[2]
    rng = np.random.RandomState(2)
    x, p = rng.normal(size=(N + 3, 4, 2)), rng.uniform(size=(N + 3, 4, 4))
    one, two = container([p[:N], p[:N]]), container([p[N:], p[N:]])
    test_kwargs = dict(pattern=two)
    want, _ = learning(kernel_fn, x[:N], Y, x[N:], test_kwargs,
                       pattern=(p[:N], p[:N]))
    bound = functools.partial(kernel_fn, pattern=one)
    got, _ = learning(bound, x[:N], Y, x[N:], test_kwargs)
    np.testing.assert_array_equal(got, want)


def zero_problem(n, zeros, tests):
  """Inputs, targets and test inputs, some of them zero; the others' rows."""
  rng = np.random.RandomState(n)
  x, y, x_test = (rng.normal(size=(m, k)) for m, k in (
      (n, 5), (n, 1), (4 + len(tests), 5)))
  x[zeros], x_test[tests] = 0., 0.
  rows = np.setdiff1d(np.arange(n), zeros)
  test_rows = np.setdiff1d(np.arange(len(x_test)), tests)
  return x, y, x_test, rows, test_rows


class ZerosTest(parameterized.TestCase):
  """Inputs of which nothing is seen, without biases: mean and variance 0."""

  def check(self, phi, n, zeros, tests, gets=('ndk', 'ntk', 'nngp')):
    kernel_fn = stax.serial(
        stax.Dense(8, 1.4, W_init_std=1.4, W_prior_std=.9), phi(),
        stax.Dense(1))[2]
    x, y, x_test, rows, test_rows = zero_problem(n, zeros, tests)
    t = np.array([1., 100., 1e4])
    one = predictor(kernel_fn, x, y)
    other = predictor(kernel_fn, x[rows], y[rows])
    for inputs, kept in ((x_test, test_rows), (None, rows)):
      for get in gets:
        gap = 1e-5 if get == 'ndk' else 1e-9
        ask = lambda p, x, m, get=get: [np.asarray(a) for a in p(
            t=t * m, x_test=x, get=get, compute_cov='diag')]
        got = ask(one, inputs, n)
        want = ask(other, None if inputs is None else inputs[kept], len(rows))
        for a, b in zip(got, want):
          np.testing.assert_allclose(a[:, kept], b, atol=gap)
          np.testing.assert_allclose(np.delete(a, kept, 1), 0., atol=1e-14)
    # Errors of kernels up to 15 `rtol` are not worth another fit.
    self.assertLess(one.stats['estimated_error'], 2e-4)

  def test_few(self):
    self.check(stax.Relu, 10, [0, 3, 9], [0, 2], ('ndk',))

  @parameterized.product(phi=(stax.Relu, stax.Erf),
                         case=((10, [0, 3, 9], [0, 2]),
                               (67, [0, 1, 2, 30, 66], [0, 5]),
                               (11, [2], [0]), (66, [0], [])))
  @pytest.mark.slow
  def test_many(self, phi, case):
    self.check(phi, *case)

  def test_all_test_inputs(self):
    kernel_fn = network(b_std=None)[2]
    got = predictor(kernel_fn)(t=TIMES, x_test=0 * X_TEST, get='ndk',
                               compute_cov='diag')
    for a in got:
      np.testing.assert_array_equal(a, 0.)

  def test_all_training_inputs(self):
    with self.assertRaisesRegex(ValueError, 'vanish for all training inputs'):
      predictor(network(b_std=None)[2], 0 * X)(t=TIMES, get='ndk')

  def test_biases(self):
    # With biases a zero is an input like any other.
    x = np.concatenate([X, 0 * X[:1]])
    got = predictor(x=x, y=np.concatenate([Y, Y[:1]]))(
        t=TIMES, x_test=0 * X_TEST, get='ndk')
    self.assertGreater(np.min(np.abs(got)), 1e-3)

  @pytest.mark.slow
  def test_other_predictors(self):
    kernel_fn = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(1))[2]
    x, y, x_test, rows, test_rows = zero_problem(8, [0, 4], [0, 2])
    both = (x, y, x_test), (x[rows], y[rows], x_test[test_rows])
    hidden_times = np.array([0., 300.])
    drifts = [predict.representational_drift_mse_ensemble(
        kernel_fn, x, y, T, t_freeze=50. * len(y))(
            hidden_times * len(y), x_test, 'diag') for x, y, x_test in both]
    stops = [predict.optimal_stopping(
        predictor(kernel_fn, x, y), x_test, np.ones((len(x_test), 1)),
        np.geomspace(1., 1e4, 4) * len(y)) for x, y, x_test in both]
    for a, b in zip(*drifts):
      np.testing.assert_allclose(a[:, test_rows], b, atol=1e-5)
      np.testing.assert_array_equal(np.delete(a, test_rows, 1), 0.)
    # Two of six test inputs are never learned.
    np.testing.assert_allclose(stops[0].expected_squared_error,
                               (4 * stops[1].expected_squared_error + 2) / 6,
                               atol=1e-5)

  def test_without_noise(self):
    kernel_fn = stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(1))[2]
    x, y, x_test, rows, test_rows = zero_problem(8, [0, 4], [0, 2])
    both = (x, y, x_test), (x[rows], y[rows], x_test[test_rows])
    limits = [predict.diffusive_limit_mse_ensemble(kernel_fn, x, y)
              for x, y, _ in both]
    flows = [predict.markov_proximal_mse_ensemble(kernel_fn, x, y, 0.)
             for x, y, _ in both]
    for times, axis in ((np.array([0., 1.]), 1), (None, 0)):
      # Gradient flow counts samples.
      ask = [[limit(times, x, 'diag'),
              flow(None if times is None else times * len(x_train), x, 'ndk',
                   'diag')]
             for limit, flow, (x_train, _, x) in zip(limits, flows, both)]
      for one, other in zip(*(map(np.asarray, jax.tree_util.tree_leaves(a))
                              for a in ask)):
        np.testing.assert_allclose(np.take(one, test_rows, axis), other,
                                   atol=1e-5)
        np.testing.assert_array_equal(np.delete(one, test_rows, axis), 0.)

  def test_borders(self):
    self.check_borders(pooled=False)

  @pytest.mark.slow
  def test_borders_of_pooled_images(self):
    self.check_borders(pooled=True)

  def check_borders(self, pooled):
    # Zeros about an image are what is padded anyway.
    last = stax.GlobalSumPool() if pooled else stax.Identity()
    kernel_fn = stax.serial(
        stax.Conv(8, (1, 1)), stax.Relu(), stax.Conv(8, (1, 1)), last)[2]
    rng = np.random.RandomState(0)
    x, x_test = rng.normal(size=(4, 2, 2, 2)), rng.normal(size=(2, 2, 2, 2))
    y = rng.normal(size=(4, 1) if pooled else (4, 2, 2, 1))
    pad = lambda a: np.pad(a, [(0, 0), (1, 1), (1, 0), (0, 0)])
    both = (x, y, x_test), (pad(x), y if pooled else pad(y), pad(x_test))
    got = [predictor(kernel_fn, x, y)(
        t=TIMES * np.size(y), x_test=x_test, get='ndk', compute_cov='diag')
           for x, y, x_test in both]
    for one, other in zip(*got):
      if not pooled:
        np.testing.assert_array_equal(other[:, :, 0], 0.)
        other = other[:, :, 1:-1, 1:]
      np.testing.assert_allclose(one, other, atol=1e-5)


def branches(fan_in, swap):
  layers = (stax.serial(stax.Dense(8), stax.Relu(), stax.Dense(8)),
            stax.serial(stax.Conv(8, (2, 2)), stax.Relu(), stax.Flatten(),
                        stax.Dense(8)))
  return stax.serial(stax.parallel(*layers[::-1 if swap else 1]), fan_in(),
                     stax.Dense(1))[2]


def both_inputs(kind, swap):
  rng = np.random.RandomState(3)
  parts = X, rng.normal(size=(N, 3, 3, 2))
  tests = X_TEST, rng.normal(size=(3, 3, 3, 2))
  order = slice(None, None, -1 if swap else 1)
  return kind(parts[order]), kind(tests[order])


@functools.lru_cache(None)
def of_branches():
  x, x_test = both_inputs(tuple, False)
  return learning(branches(stax.FanInSum, False), x, Y, x_test)


class ContainersTest(parameterized.TestCase):
  """Inputs of several branches."""

  def check(self, kind, swap):
    x, x_test = both_inputs(kind, swap)
    got, predict_fn = learning(branches(stax.FanInSum, swap), x, Y, x_test)
    want, other = of_branches()
    np.testing.assert_allclose(got, want, rtol=1e-6)
    self.assertEqual(predict_fn.stats['planned_bytes'],
                     other.stats['planned_bytes'])

  def test_order_and_kind(self):
    self.check(list, True)

  @parameterized.product(swap=(False, True), kind=(
      tuple, list,
      lambda parts: [p.tolist() if p.ndim == 2 else p for p in parts]))
  @pytest.mark.slow
  def test_orders_and_kinds(self, kind, swap):
    self.check(kind, swap)

  def test_bad_containers(self):
    x, x_test = both_inputs(list, False)
    kernel_fn = branches(stax.FanInSum, False)
    for bad in ([x_test[0]], [x_test[0], x_test[1][:1]], x_test[::-1]):
      with self.assertRaisesRegex(ValueError, '`x_test` must'):
        predictor(kernel_fn, x)(x_test=bad, get='ndk')
    with self.assertRaisesRegex(ValueError, 'as many samples'):
      predictor(kernel_fn, [x[0], x[1][:1]])

  def test_inputs_that_do_not_fit(self):
    x, _ = both_inputs(list, False)
    kernel_fn = branches(stax.FanInSum, False)
    for bad in (x[:1], x + x[:1]):
      with self.assertRaisesRegex(ValueError, '2 layers: .* Got [13]'):
        predictor(kernel_fn, bad)
    for bad in ([X], (X, X)):
      with self.assertRaisesRegex(TypeError, 'a tuple of arrays of shape .6, '
                                  '3.*does not fit the network'):
        predictor(KERNEL_FN, bad)
    with self.assertRaisesRegex(TypeError, 'an array of shape .6, 3.*not fit'):
      predictor(kernel_fn, X)


class ImagesTest(parameterized.TestCase):
  """Sizes of covariances are those of the network."""

  @parameterized.parameters('ndk', 'ntk', 'nngp')
  def test_order_of_pixels(self, get):
    # Two ways to write one network. After an odd number of convolutions
    # Neural Tangents has the axes of pixels in reversed order.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 2, 3, 1))
    answers = [
        predict.markov_proximal_mse_ensemble(
            stax.serial(stax.Conv(1, (2, 2), padding='SAME'), stax.Relu(),
                        last)[2], x[:3], y[:3], .1, trace_axes=(-1,))(
                            3., x[3:], get, compute_cov=True)
        for last in (stax.Dense(1), stax.Conv(1, (1, 1)))]
    self.assertEqual(answers[0].covariance.shape, (2, 2, 2, 2, 3, 3))
    for one, other in zip(*answers):
      np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)

  def test_flatten(self):
    # The same program, but for its shapes.
    x = np.random.RandomState(0).normal(size=(N + 3, 5, 5, 2))
    flat = x.reshape((N + 3, -1))
    one, other = (learning(f, a[:N], Y, a[N:]) for f, a in (
        (network(stax.Flatten())[2], x), (KERNEL_FN, flat)))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-9)
    for name in ('rank', 'panels', 'planned_bytes'):
      self.assertEqual(one[1].stats[name], other[1].stats[name])

  def test_large(self):
    x = np.random.RandomState(0).normal(size=(4, 224, 224, 1))
    predict_fn = predictor(network(stax.Flatten())[2], x, Y[:4])
    mean = predict_fn(t=TIMES, x_test=x[:2], get='ndk')
    self.assertTrue(np.all(np.isfinite(mean)))
    self.assertLess(predict_fn.stats['planned_bytes'], 1e8)


if __name__ == '__main__':
  absltest.main()
