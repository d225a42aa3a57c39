# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""One graph, with labels on some of its nodes.

Nodes belong to two communities, within which links are more likely, and have
noisy features. A network that sums over neighbours learns the labels of a few
nodes; those of all others are predicted along the whole of learning, beside the
same network without the graph.

A predictor takes one sample for each output. Here the samples are nodes, as
rows of a unit matrix, and the kernel of two nodes is an entry of that of the
graph with itself: a kernel function around that of the network is all it takes.

    python examples/graph.py
    python examples/graph.py --n_labels=8 --noise=3

Avidan, Li and Sompolinsky, arXiv:2309.04522: learning. Graphs go past the
paper.
"""

from absl import app
from absl import flags
import jax
from jax import numpy as jnp
from matplotlib import pyplot as plt
import numpy as np

from nt_ndk import predict
from nt_ndk import stax
import reports
import tasks

_N_NODES = flags.DEFINE_integer(
    'n_nodes', 40, 'Nodes of the graph, half of them in each community.',
    lower_bound=4)
_N_LABELS = flags.DEFINE_integer(
    'n_labels', 10, 'Nodes whose label is known, half of them in each.',
    lower_bound=2)
_LINKS = flags.DEFINE_list(
    'links', ['.3', '.05'],
    'Probability of a link within a community, and between them.')
_NOISE = flags.DEFINE_float(
    'noise', 2., 'Noise of the features, relative to the signal.')
_TEMPERATURE = flags.DEFINE_float('temperature', 1e-2, 'Temperature T.')
_W_INIT_STD = flags.DEFINE_float(
    'W_init_std', 2., 'Standard deviation s0 of initial weights.')
_W_PRIOR_STD = flags.DEFINE_float(
    'W_prior_std', 1., 'Standard deviation s of weights under the prior.')
_N_TIMES = flags.DEFINE_integer(
    'n_times', 60, 'Times of the curves.', lower_bound=2)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the graph.')
_OUTPUT_DIR = flags.DEFINE_string(
    'output_dir', 'graph_output', 'Folder for the picture and the table.')

_COLORS = '#c8611a', '#3a76c4'


def draw_graph():
  """Adjacency matrix with loops, features, labels, and labelled nodes."""
  rng, n = np.random.default_rng(_SEED.value), _N_NODES.value
  y = np.repeat([1., -1.], [n // 2, n - n // 2])[:, None]
  within, between = map(float, _LINKS.value)
  links = rng.uniform(size=(n, n)) < np.where(y @ y.T > 0, within, between)
  adjacency = np.triu(links, 1) + np.triu(links, 1).T + np.eye(n)
  x = y + _NOISE.value * rng.normal(size=(n, 8))
  half = _N_LABELS.value // 2
  known = np.concatenate([rng.permutation(n // 2)[:half],
                          n // 2 + rng.permutation(n - n // 2)[:half]])
  return adjacency, x, y, known


def network(with_graph):
  """Layers, each after a sum over neighbours."""
  stds = dict(W_init_std=_W_INIT_STD.value, W_prior_std=_W_PRIOR_STD.value)
  share = [stax.Aggregate(aggregate_axis=1)] if with_graph else []
  _, _, kernel_fn = stax.serial(
      *share, stax.Dense(512, 2**.5, .1, **stds), stax.Relu(),
      *share, stax.Dense(1, **stds))
  return kernel_fn


def on_nodes(kernel_fn, x, pattern):
  """The kernel function of samples that are nodes of one graph.

  Args:
    kernel_fn: of graphs, whose outputs are those of their nodes.
    x: `(nodes, features)`.
    pattern: `(nodes, nodes)`, weights of edges.

  Returns:
    `kernel_fn(x1, x2, get, diffusion_time)`, `x1` and `x2` being rows of a unit
    matrix of the size of the graph. Rows that are an average over nodes stand
    for the average of outputs.
  """
  x, pattern = x[None], pattern[None]

  def node_kernel_fn(x1, x2, get, diffusion_time=(0., 0.)):
    # A predictor asks at one time for all samples of a side.
    times = tuple(jnp.ravel(t)[0] for t in map(jnp.asarray, diffusion_time))
    kernels = kernel_fn(x, x, get, diffusion_time=times,
                        pattern=(pattern, pattern))
    x2 = x1 if x2 is None else x2
    return jax.tree_util.tree_map(lambda k: x1 @ k[0, 0] @ x2.T, kernels)

  return node_kernel_fn


def layout(adjacency):
  """Where to draw the nodes: along the slowest modes of a random walk."""
  root = adjacency.sum(1)**-.5
  _, modes = np.linalg.eigh(root[:, None] * adjacency * root)
  return modes[:, [-2, -3]] * root[:, None]


def draw(ax, adjacency, y, known, mean):
  """The graph, its nodes in the colour of what is predicted."""
  place = layout(adjacency)
  for i, j in zip(*np.nonzero(np.triu(adjacency, 1))):
    ax.plot(*place[[i, j]].T, color='#cccccc', lw=.6, zorder=1)
  for sign, marker in ((1, 'o'), (-1, 's')):
    of_class = y[:, 0] == sign
    ax.scatter(*place[of_class].T, c=mean[of_class], marker=marker, s=60,
               cmap='PuOr_r', vmin=-1.2, vmax=1.2, zorder=2,
               linewidths=np.where(np.isin(np.flatnonzero(of_class), known),
                                   2.2, .4), edgecolors='#222222')
  ax.set(xticks=[], yticks=[],
         title='Output at equilibrium (colour), label (shape)')
  ax.spines[:].set_visible(False)


def main(argv):
  T = _TEMPERATURE.value
  tasks.start(argv, T)
  adjacency, x, y, known = draw_graph()
  rest = np.setdiff1d(np.arange(len(y)), known)
  root = adjacency.sum(1)**-.5
  pattern = root[:, None] * adjacency * root
  nodes = np.eye(len(y))
  kernel_fns = dict(graph=(on_nodes(network(True), x, pattern), nodes),
                    features=(network(False), x))
  t = np.geomspace(.03, 30. * y[known].size * _W_PRIOR_STD.value**2 / T,
                   _N_TIMES.value)
  table = dict(time=t)
  with reports.style():
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.6),
                                         layout='constrained')
    for (name, (kernel_fn, inputs)), color in zip(kernel_fns.items(), _COLORS):
      predict_fn = predict.markov_proximal_mse_ensemble(
          kernel_fn, inputs[known], y[known], T)
      curve, ntk, nngp = tasks.test_errors(predict_fn, t, inputs[rest], y[rest])
      table[f'error_{name}'] = curve
      table[f'nngp_{name}'] = np.full(len(t), nngp)
      right.plot(t, curve, color=color, lw=2, label=dict(
          graph='with the graph', features='features alone')[name])
      right.plot(t[[0, -1]], [ntk, ntk], color=color, lw=1, ls=':')
      late = np.asarray(predict_fn(None, inputs, 'ndk'))[:, 0]
      if name == 'graph':
        draw(left, adjacency, y, known, late)
      wrong = np.sum(np.sign(late[rest]) != y[rest, 0])
      table[f'wrong_{name}'] = np.full(len(t), wrong)
      print(f'{name}: {wrong} of {len(rest)} nodes wrong at equilibrium, mean '
            f'squared error {nngp:.3f}; at best {np.min(curve):.3f}.')
    right.set(xscale='log', xlabel='training time $t$',
              ylabel='mean squared error, other nodes', ylim=(0, None))
    right.legend()
    figure.suptitle(
        f'{len(known)} of {len(y)} nodes labelled; T = {T:g}, $s_0$ = '
        f'{_W_INIT_STD.value:g}, $s$ = {_W_PRIOR_STD.value:g}; dotted: NTK at '
        'infinite time', x=.01, ha='left', fontsize=12)
  reports.write(_OUTPUT_DIR.value, 'graph', figure, table)


if __name__ == '__main__':
  app.run(main)
