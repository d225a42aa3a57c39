# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of notebooks: they run, on small sizes, and show what they claim."""

import os

from absl.testing import absltest
import nbclient
import nbformat
import pytest

_FOLDER = os.path.join(os.path.dirname(__file__), '..', '..', 'notebooks')


@pytest.mark.slow
class NotebookTest(absltest.TestCase):

  def test_two_phases(self):
    notebook = nbformat.read(os.path.join(_FOLDER, 'two_phases.ipynb'), 4)
    sizes = next(i for i, cell in enumerate(notebook.cells)
                 if 'parameters' in cell.metadata.get('tags', ()))
    code = nbformat.v4.new_code_cell
    notebook.cells.insert(sizes + 1, code(
        'n_train, n_test, n_times, temperature = 8, 20, 40, 1e-3\n'
        'width, n_networks = 64, 8'))
    notebook.cells.append(code("""
late, early = tau > 10. * s**2, (tau > 3e-3) & (tau < 1e-2)
np.testing.assert_allclose(mean[late], np.broadcast_to(
    posterior, mean[late].shape), atol=1e-4)
np.testing.assert_allclose(mean[early], np.broadcast_to(
    end_of_gradient_flow, mean[early].shape), atol=3e-2)
assert np.max(np.abs(posterior - end_of_gradient_flow)) > .1
assert np.all(np.diff(np.ravel(ndk)) < 0) and ndk[0].item() == ntk.item()
assert z < 4, z"""))
    nbclient.NotebookClient(notebook, timeout=600).execute()
    pictures = [output for cell in notebook.cells if cell.cell_type == 'code'
                for output in cell.outputs
                if 'image/png' in output.get('data', {})]
    self.assertLen(pictures, 2)


if __name__ == '__main__':
  absltest.main()
