# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Draws `pictures/architecture.svg`, the floors of the package.

Names of modules, and what a floor is, are read from the source.

    python docs/architecture_picture.py
"""

import ast
import pathlib
import textwrap

import matplotlib

matplotlib.use('svg')
from matplotlib import patches
from matplotlib import pyplot as plt

_FOLDER = pathlib.Path(__file__).parent
_PACKAGE = _FOLDER.parent / 'nt_ndk'

# A floor's row, column and width in all, fill, and the steps of a prediction in
# which it takes part, by the numbers of `architecture.md`.
_FLOORS = {
    '': (0, 0., 1., '#f6f6f6', ''),
    'predictors': (1, 0., .5, '#d8e8f6', '17'),
    'finite': (1, .5, .5, '#f7e1d9', ''),
    'kernels': (2, 0., 1., '#dcefe0', '235'),
    'dynamics': (3, 0., .5, '#e7dff2', '456'),
    'layers': (3, .5, .5, '#fbeecb', '235'),
    'base': (4, 0., 1., '#e4e4e4', ''),
}
_WIDTH, _GAP, _LEFT, _INDENT, _LINE = 9., .16, .5, .2, .165
_DARK, _GREY = '#222222', '#5c5c5c'


def read(name):
  """What a floor says of itself, and lists of its modules."""
  folder = _PACKAGE / '_src' / name if name else _PACKAGE
  modules = sorted(path.stem for path in folder.glob('*.py')
                   if not path.stem.startswith('_'))
  width = _FLOORS[name][2]
  lines = textwrap.wrap('  '.join(modules), int(118 * width))
  if not name:
    return 'Public modules, which hand on names', lines
  source = (folder / '__init__.py').read_text(encoding='utf-8')
  summary = ast.get_docstring(ast.parse(source)).split('\n')[0]
  return summary.rstrip('.'), lines


def draw():
  floors = {name: read(name) for name in _FLOORS}
  rows = [0.] * (1 + max(row for row, *_ in _FLOORS.values()))
  for name, (_, lines) in floors.items():
    row = _FLOORS[name][0]
    rows[row] = max(rows[row], .84 + _LINE * len(lines))
  tops = [sum(rows[:i]) + _GAP * i for i in range(len(rows) + 1)]

  size = _LEFT + _WIDTH + .1, tops[-1] + .4
  figure = plt.figure(figsize=size)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(0, size[0]), ylim=(size[1] - .1, -.1))
  axes.axis('off')
  for name, (row, column, width, fill, steps) in _FLOORS.items():
    x, w = _LEFT + column * (_WIDTH + _GAP), width * (_WIDTH + _GAP) - _GAP
    y = tops[row]
    axes.add_patch(patches.FancyBboxPatch(
        (x, y), w, rows[row], facecolor=fill, edgecolor='none',
        boxstyle='round,pad=0,rounding_size=.1'))
    summary, lines = floors[name]
    for text, down, style in (
        (name or 'nt_ndk', .16, dict(size=12.5, weight='bold', color=_DARK)),
        (summary, .46, dict(size=8.8, color=_DARK)),
        ('\n'.join(lines), .72, dict(size=8, color=_GREY, linespacing=1.3))):
      axes.text(x + _INDENT, y + down, text, va='top', **style)
    for i, step in enumerate(reversed(steps)):
      at = x + w - .27 - .33 * i, y + .27
      axes.add_patch(patches.Circle(at, .135, facecolor=_DARK))
      axes.text(*at, step, ha='center', va='center_baseline', size=8.5,
                color='white', weight='bold')

  axes.text(_LEFT + _WIDTH / 2, tops[-1] + .06,
            'Neural Tangents      JAX      NumPy      SciPy', ha='center',
            va='center', size=9, color=_GREY)
  axes.annotate('', (.3, tops[-1] - _GAP), (.3, 0.), arrowprops=dict(
      arrowstyle='-|>', color='#888888', linewidth=1.3, mutation_scale=14,
      shrinkA=0, shrinkB=0))
  axes.text(.15, tops[-1] / 2, 'imports', rotation=90, ha='center',
            va='center', size=9, color=_GREY)
  return figure


if __name__ == '__main__':
  # The same bytes each time; letters as paths, for any browser.
  with plt.rc_context({'svg.hashsalt': 'nt_ndk', 'svg.fonttype': 'path'}):
    draw().savefig(_FOLDER / 'pictures' / 'architecture.svg',
                   metadata={'Date': None})
