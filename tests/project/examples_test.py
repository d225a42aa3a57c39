# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of examples and README: they run, and show what they claim."""

import csv
import glob
import gzip
import os
import re
import struct
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import pytest

sys.path.insert(0, os.path.abspath(
    os.path.join(os.path.dirname(__file__), '..', '..', 'examples')))
import datasets  # pylint: disable=g-import-not-at-top,wrong-import-position

_ROOT = os.path.join(os.path.dirname(__file__), '..', '..')
_EXAMPLES = os.path.join(_ROOT, 'examples')


def run(example, *args):
  # Finds what this process finds, wherever it was told to look.
  return subprocess.run(
      [sys.executable, os.path.join(_EXAMPLES, f'{example}.py'), *args],
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
      capture_output=True, text=True, check=False)


def read(folder, example):
  """The table that an example wrote beside its picture, as columns."""
  with open(os.path.join(folder, f'{example}.png'), 'rb') as f:
    assert f.read(8) == b'\x89PNG\r\n\x1a\n'
  with open(os.path.join(folder, f'{example}.csv'), newline='') as f:
    rows = list(csv.DictReader(f))
  return {k: np.array([float(row[k]) for row in rows]) for k in rows[0]}


def run_blocks(page, language='python'):
  """Runs all code of a page of documentation, and returns its variables."""
  with open(page, encoding='utf-8') as f:
    blocks = re.findall(rf'```{language}\n(.*?)```', f.read(), re.DOTALL)
  names = {}
  exec('\n'.join(blocks), names)  # pylint: disable=exec-used
  return names


def docstring_examples(module):
  """Examples of a module, of consecutive lines with `>>>` each."""
  with open(os.path.join(_ROOT, 'nt_ndk', module), encoding='utf-8') as f:
    examples = re.findall(r'(?:^ *>>> .*\n)+', f.read(), re.MULTILINE)
  return [re.sub('^ *>>> ', '', e, flags=re.MULTILINE) for e in examples]


MODULES = sorted(
    module for module in glob.glob('**/*.py', recursive=True, root_dir=(
        os.path.join(_ROOT, 'nt_ndk'))) if docstring_examples(module))
QUICK = ['_src/finite/empirical.py', '_src/finite/monte_carlo.py', 'stax.py']
SLOW = [module for module in MODULES if module not in QUICK]


class DocumentsTest(parameterized.TestCase):

  def check_docstrings(self, module):
    for example in docstring_examples(module):
      names = {}
      exec(example, names)  # pylint: disable=exec-used
      # Results have the shapes that comments before them give.
      for comment, targets in re.findall('^# (.*)\n([\\w, ]*) = ', example,
                                         re.MULTILINE):
        shapes = re.findall(r'\([\d, ]*\)', comment)
        got = [str(names[t].shape) for t in targets.split(', ')]
        self.assertEqual(shapes, got[len(got) - len(shapes):])

  @parameterized.parameters(*QUICK)
  def test_docstrings(self, module):
    self.check_docstrings(module)

  @parameterized.parameters(*SLOW)
  @pytest.mark.slow
  def test_docstrings_more(self, module):
    self.check_docstrings(module)

  @pytest.mark.slow
  def test_tutorial(self):
    names = run_blocks(os.path.join(_ROOT, 'docs', 'tutorial.md'))
    np.testing.assert_array_equal(names['ntk'], names['same'])
    early = names['early']
    curve = names['predict_fn'](t=names['t'], x_test=names['x_test'], get='ndk')
    self.assertLess(np.max(np.abs(curve - names['ntk_mean'])[early]), .02)
    np.testing.assert_allclose(curve[-1], names['posterior'], atol=1e-4)
    self.assertLess(np.sqrt(np.mean(names['comparison'].mean_z**2)), 3.)

  @parameterized.parameters(sorted(
      os.path.basename(page) for page in glob.glob(
          os.path.join(_ROOT, 'docs', '*.md'))))
  def test_every_page(self, page):
    if page != 'tutorial.md':
      run_blocks(os.path.join(_ROOT, 'docs', page))

  @pytest.mark.slow
  def test_what_takes_long(self):
    # Marked `py` where a page has code that takes long.
    names = run_blocks(os.path.join(_ROOT, 'docs', 'layers.md'), 'py(?:thon)?')
    self.assertEqual(names['curve'].shape, (20, 4, 1))
    self.assertTrue(np.all(np.isfinite(names['curve'])))

  def test_readme(self):
    names = run_blocks(os.path.join(_ROOT, 'README.md'))
    self.assertEqual(names['f'].shape, (50, 30, 1))
    self.assertEqual(names['correlation'].shape, (30,))
    self.assertEqual(names['f_limit'].shape, (3, 30, 1))
    np.testing.assert_allclose(names['f'][-1], names['f_posterior'], atol=1e-3)
    np.testing.assert_allclose(names['f_drift'][0], names['f_posterior'],
                               atol=1e-6)


class TwoPhasesTest(absltest.TestCase):

  @pytest.mark.slow
  def test_table_and_picture(self):
    folder = self.create_tempdir().full_path
    temperature, n = 1e-4, 20
    done = run('two_phases', f'--output_dir={folder}', f'--n_train={n}',
               '--n_test=30', '--depth=1', '--n_times=120',
               f'--temperature={temperature}')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('Best mean squared test error', done.stdout)
    table = read(folder, 'two_phases')
    self.assertLen(table['time'], 120)
    np.testing.assert_allclose(table['diffusion_time'],
                               temperature * table['time'] / n, rtol=1e-8)
    # Training error falls; the last outputs are those of the posterior, and
    # there is a time between the phases with those of the NTK.
    self.assertLess(table['train_mse'][-1], 1e-3)
    names = [k for k in table if k.startswith('predictor_')]
    self.assertNotEmpty(names)
    shown, nngp, ntk = (np.stack([table[p + k] for k in names], 1)
                        for p in ('', 'nngp_', 'ntk_'))
    np.testing.assert_allclose(shown[-1], nngp[-1], atol=1e-4)
    self.assertLess(np.abs(shown - ntk).max(1).min(), 2e-2)
    self.assertGreater(np.abs(nngp - ntk).max(), 5e-2)

  def test_no_noise_is_refused(self):
    done = run('two_phases', '--temperature=0')
    self.assertNotEqual(done.returncode, 0)
    self.assertIn('temperature', done.stdout + done.stderr)


@pytest.mark.slow
class ClaimsTest(parameterized.TestCase):
  """What the examples say of the paper's results, on the tables they write."""

  def table(self, example, *args):
    folder = self.create_tempdir().full_path
    done = run(example, f'--output_dir={folder}', *args)
    self.assertEqual(done.returncode, 0, done.stderr)
    return read(folder, example)

  def test_synthetic_phases(self):
    table = self.table('synthetic_phases', '--n_train=6', '--n_times=60',
                       '--n_networks=0', '--temperatures=1e-2,1e-3')
    # Against time, curves of both temperatures coincide while gradients drive;
    early = table['time'] < 1.
    np.testing.assert_allclose(table['time_0.01'][early],
                               table['time_0.001'][early], atol=5e-3)
    self.assertGreater(table['time_0.001'][early][-1], .3)
    # later, against diffusion time, in the limit that they share.
    late = table['diffusion_time'] > .02
    for T, atol in ((.01, 2e-2), (.001, 2e-3)):
      np.testing.assert_allclose(table[f'tau_{T:g}'][late],
                                 table['diffusive_limit'][late], atol=atol)
    limit = table['diffusive_limit']
    self.assertGreater(limit[-1], 1.05 * limit[0])
    # The size of weights, at the smaller temperature: every one has a limit of
    # its own, and larger weights stay longer where gradients took them.
    for scale, atol in (('.5', 1e-2), ('1', 2e-3), ('2', 2e-3)):
      np.testing.assert_allclose(table[f'tau_s{scale}'][late],
                                 table[f'limit_s{scale}'][late], atol=atol)
    np.testing.assert_array_equal(table['tau_s1'], table['tau_0.001'])
    starts = [table[f'limit_s{scale}'][0] for scale in ('.5', '1', '2')]
    self.assertGreater(starts[0] - starts[2], .1)
    self.assertGreater(table['limit_s2'][-1] - starts[2], .1)

  def test_relu_scale_is_temperature(self):
    table = self.table(
        'synthetic_phases', '--activation=relu', '--depth=2', '--n_train=6',
        '--n_times=15', '--n_networks=0', '--temperatures=6.4e-2,1e-3',
        '--scales=.5,1')
    # Half of all weights is 2^(2 L + 2) times the temperature.
    np.testing.assert_allclose(table['tau_s.5'], table['tau_0.064'], atol=1e-4)
    np.testing.assert_allclose(table['limit_s.5'], table['limit_s1'], atol=1e-4)
    self.assertGreater(np.max(np.abs(table['tau_s.5'] - table['tau_s1'])), .1)

  @pytest.mark.slow
  def test_graph(self):
    table = self.table('graph', '--n_nodes=30', '--n_times=15')
    # Neighbours tell what features do not.
    graph, features = table['error_graph'], table['error_features']
    learned = table['time'] > 1.
    self.assertTrue(np.all(graph[learned] < .5 * features[learned]))
    self.assertLess(table['wrong_graph'][0], table['wrong_features'][0])
    # Learning ends at the posterior, and is better before.
    for name, curve in dict(graph=graph, features=features).items():
      self.assertLess(abs(curve[-1] - table[f'nngp_{name}'][-1]), 1e-3)
    self.assertLess(np.min(graph), .9 * graph[-1])
    self.assertBetween(np.argmin(graph), 1, len(graph) - 2)

  def test_dynamical_kernel(self):
    table = self.table('dynamical_kernel', '--depths=1,3', '--n_times=20')
    for depth in (1, 3):
      ndk, ntk, integral, nngp = (
          table[f'{name}_{depth}']
          for name in ('ndk', 'ntk', 'integral', 'nngp'))
      self.assertTrue(np.all(np.diff(ndk) < 0))
      self.assertGreater(ndk[0], .9 * ntk[0])
      self.assertLess(ndk[-1], 1e-3 * ntk[0])
      np.testing.assert_allclose(integral[-1], nngp[-1], rtol=1e-6)
    # Deeper networks forget sooner.
    np.testing.assert_array_less(table['ndk_3'] / table['ntk_3'],
                                 table['ndk_1'] / table['ntk_1'])

  def test_initialisation_and_depth(self):
    table = self.table('initialisation_and_depth', '--depths=1', '--n_times=60')
    for activation in ('relu', 'erf'):
      ends = [table[f'mse_{activation}_1_{ratio}']
              for ratio in ('.5', '1', '2')]
      # The posterior does not depend on initialisation; the way to it does.
      np.testing.assert_allclose([c[-1] for c in ends], ends[0][-1], rtol=1e-3)
      for ratio, curve in zip(('.5', '1', '2'), ends):
        np.testing.assert_allclose(
            curve[-1], table[f'nngp_{activation}_1_{ratio}'][-1], rtol=1e-3)
    ntk = [table[f'ntk_erf_1_{ratio}'][0] for ratio in ('.5', '1', '2')]
    self.assertGreater(ntk[0], 1.1 * ntk[2])
    # Not monotonic: best before the end.
    for ratio in ('.5', '1', '2'):
      curve = table[f'mse_erf_1_{ratio}']
      self.assertLess(np.min(curve), .95 * curve[-1])

  def test_initialisation_and_prior(self):
    table = self.table('initialisation_and_prior', '--stds=.5,2',
                       '--n_times=40')
    of = lambda name, activation: table[name][
        table['activation'] == activation]
    relu, erf = 0, 1
    # Gradient flow knows s0 alone, the posterior s alone; in ReLU networks the
    # size of weights is no more than a temperature, which is small.
    for name, spread in (('ntk', 1e-6), ('nngp', .02)):
      errors = of(name, relu)
      self.assertLess(np.max(errors) / np.min(errors) - 1, spread)
    np.testing.assert_allclose(of('distance', relu)[::2],
                               of('distance', relu)[1::2], rtol=1e-6)
    for end, std in (('ntk', 's0'), ('nngp', 's')):
      errors, stds = of(end, erf), of(std, erf)
      small, large = errors[stds == .5], errors[stds == 2.]
      np.testing.assert_allclose(small, small[0], rtol=1e-6)
      self.assertGreater(small[0], 1.4 * large[0])
    self.assertGreater(np.max(of('distance', erf)),
                       4 * np.max(of('distance', relu)))
    # How long the first phase takes: the inverse of s0^2 for ReLU, less for
    # units that saturate.
    for activation, factor in ((relu, 16.), (erf, 3.)):
      times = of('gradient_time', activation)
      np.testing.assert_allclose(times[0] / times[1], factor, rtol=.05)
    # No end is better than the best between, which for ReLU comes early.
    for activation in (relu, erf):
      self.assertTrue(np.all(of('best', activation) < 1.01 * np.minimum(
          of('ntk', activation), of('nngp', activation))))
    self.assertLess(np.max(of('best_diffusion_time', relu)), .1)
    self.assertGreater(np.max(of('best_diffusion_time', erf)), 1.)
    # Single networks spread with their weights, whatever the nonlinearity.
    for name, stds in (('ntk_network', 's0'), ('nngp_network', 's')):
      for activation in (relu, erf):
        errors, values = of(name, activation), of(stds, activation)
        self.assertGreater(np.min(errors[values == 2.]),
                           4 * np.max(errors[values == .5]))

  def test_convolutional_network(self):
    table = self.table('convolutional_network', '--n_train=12', '--n_test=20',
                       '--n_times=40', '--depth=1')
    for name in ('pooling', 'flatten'):
      small, large = (table[f'mse_{name}_{ratio}'] for ratio in ('.5', '2'))
      # The end is that of the prior; the way to it is not.
      for ratio, curve in (('.5', small), ('2', large)):
        np.testing.assert_allclose(
            curve[-1], table[f'nngp_{name}_{ratio}'][-1], rtol=1e-2)
      np.testing.assert_allclose(small[-1], large[-1], rtol=1e-2)
      self.assertGreater(np.max(np.abs(np.log(small / large))), .1)

  def test_early_stopping(self):
    table = self.table('early_stopping', '--ratios=.5,2', '--depths=1',
                       '--n_train=20', '--n_test=20', '--n_times=8')
    small, large = table['diffusion_time']
    self.assertLess(small, 1.)
    self.assertGreater(large, 1.)
    # Little gain where weights start small; gradient flow is bad where large.
    self.assertGreater(table['gain_over_ntk'][1], table['gain_over_ntk'][0])
    self.assertGreater(table['gain_over_nngp'][0], 0.)

  @pytest.mark.slow
  def test_cross_entropy(self):
    table = self.table('cross_entropy', '--n_train=40', '--n_test=100',
                       '--n_draws=40', '--n_networks=0', '--n_times=8')
    # From chance to what most networks know, the ensemble more.
    self.assertLess(table['accuracy'][0], .35)
    for name in ('accuracy', 'accuracy_squared'):
      self.assertGreater(table[name][-1], .65)
    self.assertGreater(table['accuracy'][-1],
                       table['accuracy_single'][-1] - .02)
    # Together networks know before each of them does.
    early = table['accuracy_single'] < .5
    self.assertGreater(np.max((table['accuracy'] -
                               table['accuracy_single'])[early]), .1)
    # Single networks begin with confidence for which there is no reason.
    self.assertGreater(table['calibration_single'][0],
                       table['calibration'][0])
    self.assertGreater(table['margin'][-1], 1.)

  def test_choose_hyperparameters(self):
    table = self.table('choose_hyperparameters', '--tasks=digits',
                       '--n_train=40', '--n_test=300', '--n_splits=2',
                       '--maxiter=6')
    error = {name: np.mean(table[f'digits_{name}']) for name in (
        'time', 'end', 'evidence', 'evidence_all', 'ntk', 'ntk_tuned', 'grid')}
    # To stop before equilibrium is better than to go on, but not better than
    # gradient flow whose initial weights are chosen too.
    self.assertTrue(np.all(table['digits_phase'] < 2))
    for name in ('end', 'evidence'):
      self.assertLess(error['time'], .97 * error[name])
    self.assertLess(abs(error['time'] - error['ntk_tuned']), .01)
    # Validation data are worth more as training data.
    self.assertLess(error['evidence_all'], .9 * error['time'])

  def test_continual_learning(self):
    table = self.table('continual_learning', '--n_train=8', '--n_test=40',
                       '--n_networks=0', '--n_times=8', '--rtol=1e-3')
    hot, cold, replay = (table[f'{name}_first']
                         for name in ('T0.1', 'T0.01', 'T0.1_replay'))
    # What is learned is overwritten at first, then diffuses, sooner where it is
    # hot, and is kept by replay.
    self.assertLess(hot[7], .6)
    for late in (hot[-1], cold[-1]):
      self.assertGreater(late, 1.)
    soon = np.searchsorted(table['t'], 15.)
    self.assertGreater(hot[soon], cold[soon] + .1)
    self.assertLess(replay[-1], .8)
    # The second task, and what replay costs.
    self.assertLess(table['T0.1_second'][-1], .6)
    self.assertGreater(table['T0.1_replay_second'][-1],
                       table['T0.1_second'][-1])

  def test_learning_rate_and_annealing(self):
    table = self.table('learning_rate_and_annealing', '--n_train=15',
                       '--n_test=20', '--n_times=12', '--rtol=1e-3')
    t, cold, annealed = (table[k] for k in ('t', 'cold', 'annealed'))
    # The same end, which annealing reaches much sooner.
    np.testing.assert_allclose(annealed[-1], cold[-1], rtol=1e-6)
    soon = np.searchsorted(t, 24.)
    self.assertLess(annealed[soon], 1.1 * cold[-1])
    self.assertGreater(cold[soon], 2 * cold[-1])
    self.assertGreater(table['hot'][-1], 1.1 * cold[-1])
    # A falling learning rate is the same curve in another time.
    of_cold = np.where(t < 1, t, 1 + .1 * (t - 1))
    np.testing.assert_allclose(
        np.log(table['cold_falling_rate']),
        np.interp(np.log(of_cold), np.log(t), np.log(cold)), atol=.3)

  def test_regression_1d(self):
    table = self.table('regression_1d', '--rtol=1e-4')
    # From no knowledge, through what gradient flow knows, to the posterior.
    np.testing.assert_allclose(table['mean_0'], 0., atol=1e-12)
    np.testing.assert_allclose(table['mean_5'], table['mean_nngp'], atol=1e-3)
    np.testing.assert_allclose(table['std_5'], table['std_nngp'], atol=1e-3)
    width = [np.mean(table[f'std_{i}']) for i in range(6)]
    self.assertEqual(width, sorted(width, reverse=True))
    away = lambda i: np.max(np.abs(table[f'mean_{i}'] - table['mean_nngp']))
    self.assertGreater(away(2), 10 * away(5) + .1)

  def test_representational_drift(self):
    table = self.table('representational_drift', '--n_times=8')
    for key in ('relu_01', 'relu_49', 'erf_01', 'erf_49'):
      self.assertGreater(table[f'accuracy_{key}'][0], .9)
    # Norms are left by ReLU, nothing by an odd function.
    self.assertGreater(table['accuracy_relu_01'][-1], .8)
    self.assertLess(table['accuracy_relu_49'][-1], .65)
    for task in ('01', '49'):
      self.assertEqual(table[f'accuracy_erf_{task}'][-1], .5)
      self.assertLess(table[f'rms_erf_{task}'][-1], 1e-3)
    self.assertGreater(table['rms_relu_01'][-1], 1e-2)

  def test_synchronised_drift(self):
    table = self.table('synchronised_drift', '--n_networks=0')
    # Hidden units forget all but, of ReLU, their mean activation.
    for activation, left in (('erf', 0.), ('relu', 1 / np.pi)):
      hidden = table[f'hidden_{activation}']
      self.assertGreater(hidden[0], .95)
      self.assertTrue(np.all(np.diff(hidden) < 0))
      self.assertAlmostEqual(hidden[-1], left, delta=1e-3)
      self.assertGreater(table[f'outputs_{activation}'][-1], .65)
      for regime in ('all_learn', 'hidden_learn'):
        accuracy = table[f'accuracy_{regime}_{activation}']
        np.testing.assert_allclose(accuracy, accuracy[0], atol=1e-4)
        self.assertGreater(accuracy[0], .88)
      alone = table[f'accuracy_none_learns_{activation}']
      self.assertAlmostEqual(alone[0], accuracy[0], delta=.01)
      self.assertAlmostEqual(alone[-1], .5, delta=.02)


@pytest.mark.slow
class FiniteNetworksTest(parameterized.TestCase):

  def test_synchronised_drift(self):
    folder = self.create_tempdir().full_path
    done = run('synchronised_drift', f'--output_dir={folder}', '--n_train=10',
               '--n_test=60', '--n_networks=12', '--width=128')
    self.assertEqual(done.returncode, 0, done.stderr)
    table = read(folder, 'synchronised_drift')
    for activation in ('erf', 'relu'):
      get = lambda name, of=activation: table[f'{name}_{of}']
      seen = np.isfinite(get('networks_hidden'))
      self.assertGreater(np.sum(seen), 5)
      np.testing.assert_allclose(get('networks_hidden')[seen],
                                 get('hidden')[seen], atol=.03)
      # About five standard errors; those that are told are of six pairs.
      for regime, atol in (('all_learn', .08), ('hidden_learn', .08),
                           ('none_learns', .2)):
        np.testing.assert_allclose(get(f'networks_accuracy_{regime}')[seen],
                                   get(f'accuracy_{regime}')[seen], atol=atol)
        self.assertLess(np.max(get(f'networks_error_{regime}')[seen]), .08)

  def test_langevin_vs_theory(self):
    folder = self.create_tempdir().full_path
    done = run('langevin_vs_theory', f'--output_dir={folder}', '--n_train=8',
               '--n_test=6', '--n_networks=60', '--n_times=5', '--checkpoint')
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn('standard errors', done.stdout)
    table = read(folder, 'langevin_vs_theory')
    self.assertLen(table['time'], 5 * 6)
    for name in ('mean', 'variance'):
      z = ((table[name] - table[f'{name}_theory']) / table[f'{name}_error'])
      # The table has ten digits of means, from which z-scores are differences.
      np.testing.assert_allclose(z, table[f'{name}_z'], rtol=1e-6, atol=1e-6)
      self.assertLess(np.sqrt(np.mean(z**2)), 2.5)
    # Antithetic networks have a precise mean.
    self.assertLess(np.max(table['mean_error']), .05)
    self.assertGreater(np.max(np.abs(table['mean'])), .3)
    self.assertTrue(os.path.isfile(os.path.join(folder, 'ensemble.msgpack')))

  @parameterized.parameters('linen', 'nnx')
  def test_flax_ensemble(self, api):
    folder = self.create_tempdir().full_path
    done = run('flax_ensemble', f'--output_dir={folder}', f'--api={api}',
               '--n_train=6', '--n_test=2', '--n_networks=40', '--n_times=4')
    self.assertEqual(done.returncode, 0, done.stderr)
    table = read(folder, 'flax_ensemble')
    self.assertLen(table['time'], 4)
    for name, count in (('mean', 2), ('ndk', 4)):
      z = [(table[f'{name}_{i}'] - table[f'{name}_theory_{i}']) /
           table[f'{name}_error_{i}'] for i in range(count)]
      self.assertLess(np.sqrt(np.mean(np.square(z))), 2.5)


class DatasetsTest(parameterized.TestCase):

  def test_in_their_span(self):
    x, y = np.random.default_rng(0).normal(size=(2, 3, 10))
    a, b = datasets.in_their_span(x, y)
    self.assertEqual(a.shape, (3, 6))
    for one, two, c, d in ((x, x, a, a), (x, y, a, b), (y, y, b, b)):
      np.testing.assert_allclose(c @ d.T / 6, one @ two.T / 10, atol=1e-12)

  def test_images(self):
    x = np.random.default_rng(0).normal(size=(2, 3 * 32 * 32))
    got = datasets.images(x, 8)
    self.assertEqual(got.shape, (2, 4, 4, 3))
    np.testing.assert_allclose(np.mean(got**2, (1, 2, 3)), 1.)
    # Planes of colours come one after the other.
    block = x[1].reshape((3, 32, 32))[2, 8:16, 24:].mean()
    first = x[1].reshape((3, 32, 32))[0, :8, :8].mean()
    np.testing.assert_allclose(got[1, 1, 3, 2] / got[1, 0, 0, 0], block / first)
    with self.assertRaisesRegex(ValueError, 'do not fill'):
      datasets.images(x[:, :64], 3)

  def test_digits(self):
    x, y, z, _ = datasets.load('digits', ['4', '9'], 50, 60)
    np.testing.assert_allclose(np.sum(x**2, 1), x.shape[1])
    self.assertEqual((x.shape, y.shape, z.shape), ((50, 64), (50, 1), (60, 64)))
    self.assertCountEqual(np.unique(y), [-1., 1.])
    self.assertEmpty({tuple(v) for v in x} & {tuple(v) for v in z})

  def test_mnist_files(self):
    folder = self.create_tempdir().full_path
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 28, 28), np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 4
    for part in ('train', 't10k'):
      for name, a in (('images-idx3', images), ('labels-idx1', labels)):
        header = struct.pack(f'>{1 + a.ndim}I', 0x800 + a.ndim, *a.shape)
        path = os.path.join(folder, f'{part}-{name}-ubyte.gz')
        with gzip.open(path, 'wb') as f:
          f.write(header + a.tobytes())
    x, y, z, w = datasets.load('mnist', ['1', '3'], 12, 5, data_dir=folder)
    self.assertEqual((x.shape, z.shape), ((12, 784), (5, 784)))
    # Centring and scaling take nothing from the order of pixels and labels.
    chosen = images[np.isin(labels, [1, 3])].reshape((-1, 784)).astype(float)
    targets = np.where(labels[np.isin(labels, [1, 3])] == 3, 1., -1.)
    for image, target in zip(x, y[:, 0]):
      match = np.corrcoef(image, chosen)[0, 1:]
      self.assertEqual(targets[np.argmax(match)], target)
      self.assertGreater(np.max(match), .8)
    self.assertCountEqual(np.unique(w), np.unique(y))

  def test_cifar10_files(self):
    folder = self.create_tempdir().full_path
    rng = np.random.default_rng(0)
    records = rng.integers(0, 256, (30, 3073), np.uint8)
    records[:, 0] = np.arange(30) % 3
    for name in ('data_batch_1.bin', 'test_batch.bin'):
      records.tofile(os.path.join(folder, name))
    x, _, _, _ = datasets.load('cifar10', ['0', '2'], 10, 5, data_dir=folder)
    self.assertEqual(x.shape, (10, 3072))

  @parameterized.parameters('mnist', 'cifar10')
  def test_missing_files_are_named(self, name):
    with self.assertRaisesRegex(FileNotFoundError, 'train|data_batch'):
      datasets.load(name, ['0', '1'], 5, 5,
                    data_dir=self.create_tempdir().full_path)

  def test_too_many_samples(self):
    with self.assertRaisesRegex(ValueError, 'n_train'):
      datasets.load('digits', ['4', '9'], 10**4, 5)


if __name__ == '__main__':
  absltest.main()
