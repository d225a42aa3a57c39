# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures of the examples."""

import csv
import os

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # pylint: disable=g-import-not-at-top,wrong-import-position

_STYLE = {
    'font.size': 10.5, 'axes.spines.top': False, 'axes.spines.right': False,
    'axes.edgecolor': '#555555', 'axes.labelcolor': '#333333',
    'axes.titlesize': 12, 'axes.titlecolor': '#222222',
    'axes.titlelocation': 'left', 'xtick.color': '#555555',
    'ytick.color': '#555555', 'legend.frameon': False, 'figure.dpi': 200}


def style():
  """The look of all pictures, a context."""
  return plt.rc_context(_STYLE)


def write(folder, name, figure, columns):
  """Writes a picture and a table, and says so.

  Args:
    folder: where to, made if it is not there.
    name: of both files, without extension.
    figure: of Matplotlib, which is closed.
    columns: dictionary of equally long columns of numbers.
  """
  os.makedirs(folder, exist_ok=True)
  picture, table = (os.path.join(folder, f'{name}.{ext}')
                    for ext in ('png', 'csv'))
  figure.savefig(picture)
  plt.close(figure)
  with open(table, 'w', newline='') as f:
    writer = csv.writer(f)
    writer.writerow(columns)
    writer.writerows([f'{v:.10g}' for v in row]
                     for row in zip(*columns.values()))
  print(f'Wrote {picture} and {table}.')
