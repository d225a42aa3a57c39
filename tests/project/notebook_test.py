# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of notebooks: they run, on small sizes, and show what they claim."""

import os

from absl.testing import absltest
import nbclient
import nbformat
import pytest

_FOLDER = os.path.join(os.path.dirname(__file__), '..', '..', 'notebooks')


def run(name, sizes, claims):
  """Runs a notebook with other numbers and code at its end.

  Args:
    name: of the file.
    sizes: code that goes below the cell of parameters.
    claims: code that raises an error unless the notebook shows what it claims.

  Returns:
    Number of pictures.
  """
  notebook = nbformat.read(os.path.join(_FOLDER, f'{name}.ipynb'), 4)
  parameters = next(i for i, cell in enumerate(notebook.cells)
                    if 'parameters' in cell.metadata.get('tags', ()))
  code = nbformat.v4.new_code_cell
  notebook.cells.insert(parameters + 1, code(sizes))
  notebook.cells.append(code(claims))
  nbclient.NotebookClient(notebook, timeout=600).execute()
  return sum('image/png' in output.get('data', {})
             for cell in notebook.cells if cell.cell_type == 'code'
             for output in cell.outputs)


@pytest.mark.slow
class NotebookTest(absltest.TestCase):

  def test_two_phases(self):
    pictures = run('two_phases', """
n_train, n_test, n_times, temperature = 8, 20, 40, 1e-3
width, n_networks = 64, 8""", """
late, early = tau > 10. * s**2, (tau > 3e-3) & (tau < 1e-2)
np.testing.assert_allclose(mean[late], np.broadcast_to(
    posterior, mean[late].shape), atol=1e-4)
np.testing.assert_allclose(mean[early], np.broadcast_to(
    end_of_gradient_flow, mean[early].shape), atol=3e-2)
assert np.max(np.abs(posterior - end_of_gradient_flow)) > .1
assert np.all(np.diff(np.ravel(ndk)) < 0) and ndk[0].item() == ntk.item()
assert z < 4, z""")
    self.assertEqual(pictures, 2)

  def test_regression_1d(self):
    pictures = run('regression_1d', """
n_train, n_test, n_times = 8, 17, 5
width, n_networks = 32, 8""", """
# The temperature is the most probable one.
grid = jax.vmap(evidence, (0, None))(temperatures, W_std)
assert np.max(grid) <= -found.fun + 1e-6 and np.argmax(grid) not in (0, 29)
# From the initial networks, over gradient flow, to the textbook's posterior.
np.testing.assert_array_equal(mean[0], 0.)
initial = kernel_fn(x_test, None, 'nngp', diffusion_time=(0., 0.))
np.testing.assert_allclose(variance[0], np.diag(initial), rtol=1e-6)
flow = predict_fn(t=times[1], x_test=x_test, get='ntk')
np.testing.assert_allclose(mean[1], flow, atol=2e-2)
np.testing.assert_allclose(posterior, textbook, atol=1e-8)
np.testing.assert_allclose(mean[-1], textbook, atol=1e-3)
np.testing.assert_allclose(variance[-1], textbook_variance, atol=1e-3)
assert np.max(np.abs(end_of_gradient_flow - posterior)) > .1
# More is known in the end, and less in the gap than where there are data.
assert np.all(variance[-1] < .5 * variance[0])
known = lambda point: variance[-1][np.argmin(np.abs(x_test[:, 0] - point))]
assert known(0.) > 2 * known(-2.) and known(0.) > 2 * known(2.)
assert draws.shape == (4, 5, 17, 1)
assert best.minimum <= np.min(best.expected_squared_error) + 1e-12
assert best.gain_over_ntk > 0 and best.gain_over_nngp >= 0
assert z < 4, z""")
    self.assertEqual(pictures, 8)


if __name__ == '__main__':
  absltest.main()
