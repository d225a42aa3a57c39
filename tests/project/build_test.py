# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests that BUILD has every file once, and every import as a dependency."""

import ast
import pathlib

from absl.testing import absltest

_ROOT = pathlib.Path(__file__).parents[2]
_FOLDERS = ('benchmarks', 'examples', 'nt_ndk', 'tests')


def glob(include, exclude=()):
  """The function of BUILD: files, at least one for each pattern."""
  found = [{path.relative_to(_ROOT).as_posix() for path in _ROOT.glob(pattern)}
           for pattern in include]
  assert all(found), f'A pattern of {include} matches no file.'
  return sorted(set().union(*found) - set(exclude))


def read_targets():
  """Runs BUILD, which is Python too, and returns its targets by name."""
  targets = {}

  def rule(name, srcs, deps=(), data=(), main=None, **_):
    assert name not in targets, f'There are two targets {name}.'
    targets[name] = dict(srcs=srcs, deps=deps, data=data, main=main)

  ignored = dict.fromkeys(
      ('exports_files', 'licenses', 'load', 'package'), lambda *_, **__: None)
  rules = dict.fromkeys(('py_binary', 'py_library', 'py_test'), rule)
  exec(  # pylint: disable=exec-used
      (_ROOT / 'BUILD').read_text(encoding='utf-8'),
      dict(glob=glob, **ignored, **rules))
  return targets


def imported_modules(path):
  """Names of the modules that a file imports."""
  for node in ast.walk(ast.parse((_ROOT / path).read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      yield from (alias.name.split('.')[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
      yield node.module.split('.')[0]


class BuildTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.targets = read_targets()

  def sources(self, name):
    """Files of a target and of all that it depends on."""
    target = self.targets[name]
    return set(target['srcs']).union(
        *(self.sources(dep.removeprefix(':')) for dep in target['deps']))

  def test_every_file_is_in_one_target(self):
    self.assertCountEqual(
        glob([f'{folder}/**/*.py' for folder in _FOLDERS]),
        [path for target in self.targets.values() for path in target['srcs']])

  def test_every_test_is_the_main_file_of_a_target(self):
    mains = [target['main'] for target in self.targets.values()
             if target['main'] in target['srcs']]
    self.assertContainsSubset(glob(['tests/**/*_test.py']), mains)

  def test_data_exist(self):
    for target in self.targets.values():
      for path in target['data']:
        self.assertTrue((_ROOT / path).is_file(), path)

  def test_imports_are_dependencies(self):
    homes = {pathlib.Path(path).stem: path for path in glob(
        ['examples/*.py', 'tests/**/*.py'])}
    homes['nt_ndk'] = 'nt_ndk/__init__.py'
    for name, target in self.targets.items():
      needed = {homes[module] for path in target['srcs']
                for module in imported_modules(path) if module in homes}
      self.assertEmpty(needed - self.sources(name), name)


if __name__ == '__main__':
  absltest.main()
