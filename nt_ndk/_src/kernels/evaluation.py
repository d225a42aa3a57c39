# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluates a network's kernel function on all data or on a sample."""

import functools
from typing import Any, Callable, Iterator, Optional

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from nt_ndk._src.base import store as store_lib
from nt_ndk._src.base.arguments import masked
from nt_ndk._src.base.arrays import aligned_zeros
from nt_ndk._src.base.arrays import Matrices
from nt_ndk._src.base.arrays import on_either
from nt_ndk._src.base.devices import in_double
from nt_ndk._src.base.devices import Spread
from nt_ndk._src.base.devices import to_host
from nt_ndk._src.base.typing import KernelFn
from nt_ndk._src.base.typing import PyTree
from nt_ndk._src.kernels import programs
from nt_ndk._src.kernels.programs import to_matrix
from nt_ndk._src.layers import two_time

# Bytes that the covariances of one evaluation on a sample may take.
_SAMPLE_BYTES = 2**21
# Bytes of a covariance in a block of kernels that are computed together, so
# that intermediate results stay in a cache.
_BLOCK_BYTES = 2**20
# How much more an accelerator needs to be busy.
_ON_ACCELERATOR = 2**8
_SMALLEST_BLOCK = 4
# Times of vectors in one block, and samples that a block has at least.
_TIMES_TOGETHER, _FEW = 8, 128
# Covariances that a block takes while it is computed, by XLA's own account for
# convolutions.
_TEMPORARIES = 12
# Rounding errors by which a symmetric kernel may differ from its transpose.
_SKEW = 1000
# Pairs, and numbers of times, of one evaluation on a sample: for each of these
# there is a program, so that of images the largest two that there is room for
# are used, and of vectors one, which is for any number of pairs and times.
_SAMPLE_PAIRS, _SAMPLE_TIMES = 16, (512, 32, 8, 1)
_VECTOR_PAIRS, _VECTOR_TIMES = 64, 128


@functools.lru_cache(maxsize=16)
def _compiled(kernel_fn):
  return jax.jit(kernel_fn, static_argnames=('get', 'diagonal_batch',
                                             'diagonal_spatial'))


@functools.partial(jax.jit, static_argnums=1)
def _with_room(matrix, count):
  """A matrix with zeros in place of as many in all beside it."""
  return jnp.pad(matrix, ((0, 0), (0, (count - 1) * matrix.shape[1])))


@functools.partial(jax.jit, donate_argnums=0)
def _insert(matrices, matrix, index):
  """Puts a matrix in its place, without a copy of the others."""
  return jax.lax.dynamic_update_slice(matrices, matrix,
                                      (0, index * matrix.shape[1]))


def _put(matrices, block, start, count, transposed):
  """Puts a block `[a, Q, b]` in its place in `Q` of `count` matrices.

  Args:
    matrices: side by side.
    block: the block.
    start: its first row, matrix and column.
    count: number of matrices.
    transposed: whether to put it where its transpose belongs.
  """
  if isinstance(matrices, np.ndarray):
    if transposed:
      block, start = block.transpose(), start[::-1]
    out = matrices.reshape((len(matrices), count, -1))
    out[tuple(slice(i, i + size) for i, size in zip(start, block.shape))] = (
        block)
    return matrices
  return _put_on_device(matrices, block, start, count, transposed)


@functools.partial(jax.jit, donate_argnums=0, static_argnames=('count',
                                                             'transposed'))
def _put_on_device(matrices, block, start, count, transposed):
  if transposed:
    block, start = jnp.transpose(block), start[::-1]
  out = matrices.reshape((len(matrices), count, -1))
  return jax.lax.dynamic_update_slice(out, block.astype(out.dtype),
                                      start).reshape(matrices.shape)


def _repeat(matrices, rows, originals, count, itself):
  """Copies columns, and rows of kernels of the same inputs (`itself`).

  Args:
    matrices: `count` matrices side by side.
    rows: indices of what is overwritten.
    originals: indices of what is copied.
    count: number of matrices.
    itself: whether rows are copied, too.
  """
  if not isinstance(matrices, np.ndarray):
    return _repeat_on_device(matrices, rows, originals, count, itself)
  out = matrices.reshape((len(matrices), count, -1))
  out[:, :, rows] = out[:, :, originals]
  if itself:
    out[rows] = out[originals]
  return matrices


@functools.partial(jax.jit, donate_argnums=0, static_argnames=('count',
                                                             'itself'))
def _repeat_on_device(matrices, rows, originals, count, itself):
  out = matrices.reshape((len(matrices), count, -1))
  out = out.at[:, :, rows].set(out[:, :, originals])
  if itself:
    out = out.at[rows].set(out[originals])
  return out.reshape(matrices.shape)


@on_either
def _is_transpose(block, other):
  """Whether two blocks are, to rounding of the largest entries of each row."""
  skew = abs(block - other.transpose())
  size = abs(block).max(2, keepdims=True)
  return (skew <= _SKEW * np.finfo(block.dtype).eps * size).all()


def _insert_blocks(matrices, blocks, index):
  """Puts blocks `[n, a, a]` on the diagonal of one of several matrices."""
  rows = np.arange(len(matrices)).reshape(blocks.shape[:2])
  at = rows[:, :, None], (index * len(matrices) + rows)[:, None]
  if isinstance(matrices, np.ndarray):
    matrices[at] = blocks
    return matrices
  return _scatter(matrices, at, blocks)


@functools.partial(jax.jit, donate_argnums=0)
def _scatter(matrices, at, values):
  return matrices.at[at].set(values)


@jax.jit
def _with_diagonal_blocks(kernel, blocks):
  """Puts blocks `[n, a, a]` on the diagonal of a matrix `[n * a, n * a]`."""
  n, size, _ = blocks.shape
  sample = jnp.arange(n * size) // size
  return jnp.where(sample[:, None] == sample,
                   jnp.tile(blocks.reshape((-1, size)), (1, n)), kernel)


def _blocks(times: int, largest: int) -> Iterator[tuple[int, int]]:
  """Splits a number of times into blocks, `(start, size)`, of few sizes."""
  sizes = [s for s in _SAMPLE_TIMES if s <= largest][:2] or _SAMPLE_TIMES[-1:]
  start = 0
  while start < times:
    size = next((s for s in sizes if s <= times - start), sizes[-1])
    yield start, size
    start += size


def _take(tree: PyTree, i: np.ndarray) -> PyTree:
  return jax.tree_util.tree_map(lambda a: np.asarray(a)[i], tree)


def length(x: PyTree) -> int:
  """Number of samples."""
  return len(jax.tree_util.tree_leaves(x)[0])


def _times(x: PyTree, tau: ArrayLike) -> np.ndarray:
  """A time for each sample: `neural_tangents.batch` splits these with them."""
  return np.full(length(x), tau, jax.dtypes.canonicalize_dtype(jnp.float64))


def is_pair(x: Any) -> bool:
  """Whether a keyword argument has one part for `x1` and one for `x2`."""
  return isinstance(x, tuple) and len(x) == 2


def sample_shapes(x: PyTree, arrays: dict[str, Any]) -> Any:
  """Shapes and dtypes of a sample and what belongs to it, and structure."""
  leaves, structure = jax.tree_util.tree_flatten((x, arrays))
  return (tuple((np.shape(a)[1:], np.dtype(a.dtype)) for a in leaves),
          structure)


class KernelEvaluator:
  """A kernel function at two times, with the training data.

  Attributes:
    x_train: training inputs.
    locations: number of outputs of a sample that are correlated, i.e. the size
      of its output without trace axes.
    arrays: keyword arguments that have a part for the inputs, that part.
    evaluations: number of train-train kernels computed so far.
    vectors: whether inputs have no pixels, so that kernels cost little.
    identity: digest of all that a kernel, `"ndk"` or `"nngp"`, depends on but
      times.
  """

  def __init__(self, kernel_fn: KernelFn, x_train: PyTree, locations: int,
               store: Optional[store_lib.Store] = None,
               **kwargs: Any) -> None:
    """Takes what all evaluations share.

    Args:
      kernel_fn: kernel function that takes `diffusion_time`.
      x_train: training inputs.
      locations: see above.
      store: where matrices are kept; `None` is memory.
      **kwargs: passed to `kernel_fn`. Tuples of two arrays belong to the first
        and the second inputs.
    """
    self._pure = two_time.is_pure(kernel_fn)
    self._stock_kernel_fn = kernel_fn
    self._kernel_fn: Any = _compiled(kernel_fn) if self._pure else kernel_fn
    self._kwargs = kwargs
    self.x_train, self.locations = x_train, locations
    self._store = store
    self.arrays = {k: v[0] for k, v in kwargs.items() if is_pair(v)}
    self.evaluations = 0
    # Samples need no splitting: they go to the network's own kernel function.
    sample_fn = getattr(kernel_fn, 'two_time_kernel_fn', kernel_fn)
    static = tuple((k, v) for k, v in kwargs.items() if not is_pair(v))
    # Of a covariance of two inputs.
    self._bytes = 8 * self._pair_size(programs.Network(sample_fn, 'ndk', False,
                                                       static))
    more = 1 if jax.default_backend() == 'cpu' else _ON_ACCELERATOR
    self._block_bytes = more * _BLOCK_BYTES
    self._room = int(np.clip(more * _SAMPLE_BYTES / self._bytes, 16, 2**14))
    # Kernels of vectors cost little beside their compilation.
    self.vectors = self._bytes == 8
    self._network = lambda get, fn=sample_fn: programs.Network(
        fn, get, self.vectors, static)
    self.identity = functools.cache(self._identity)

  def _pair_size(self, network: programs.Network) -> int:
    """Entries of a covariance of two inputs, for all their pairs of pixels."""
    leaves = jax.tree_util.tree_leaves((self.x_train, self.arrays))
    if all(np.ndim(a) == 2 for a in leaves):
      return 1
    if not two_time.is_two_time(self._stock_kernel_fn):
      # A function of a user may not be meant for any number of samples.
      return max(int(np.prod(np.shape(a)[1:-1]))**2 for a in leaves)
    return programs.pair_size(network, sample_shapes(self.x_train, self.arrays))

  @functools.cached_property
  def spread(self) -> Spread:
    """Puts the rows of matrices on several devices."""
    return Spread(length(self.x_train))

  def with_keywords(self, **kwargs: Any) -> 'KernelEvaluator':
    """The same with more keyword arguments."""
    return KernelEvaluator(self._stock_kernel_fn, self.x_train, self.locations,
                           self._store, **self._kwargs, **kwargs)

  def joined(self, x: PyTree, arrays: dict[str, Any]) -> 'KernelEvaluator':
    """The same with more inputs, and what belongs to them."""
    join = lambda a, b: jax.tree_util.tree_map(
        lambda a, b: np.concatenate([a, b]), a, b)
    pairs = {k: 2 * (join(v, arrays[k]),) for k, v in self.arrays.items()}
    return KernelEvaluator(self._stock_kernel_fn, join(self.x_train, x),
                           self.locations, **{**self._kwargs, **pairs})

  def _first(self, x1: PyTree, tau1: ArrayLike, kwargs: dict[str, Any]) -> Any:
    """What the rows of a kernel depend on, sample by sample."""
    return x1, _times(x1, tau1), {k: v[0] for k, v in kwargs.items()
                                  if is_pair(v)}

  def _arguments(self, first: Any, x2: PyTree, tau2: ArrayLike,
                 kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Inputs and keyword arguments of the kernel function."""
    x1, times, arrays = first
    pairs = {k: (v, kwargs[k][1]) for k, v in arrays.items()}
    return (x1, x2), {**kwargs, **pairs,
                      'diffusion_time': (times, _times(x2, tau2))}

  def _evaluate(self, x1: PyTree, x2: PyTree, get: str, tau1: ArrayLike,
                tau2: ArrayLike, kwargs: dict[str, Any]) -> jax.Array:

    def rows(first):
      args, all_kwargs = self._arguments(first, x2, tau2, kwargs)
      return to_matrix(self._kernel_fn(*args, get, **all_kwargs))

    first = self._first(x1, tau1, kwargs)
    if self._pure:
      return self.spread(rows(self.spread(first)))
    return self.spread.rows(rows, first)

  def temporary_bytes(self, get: str) -> int:
    """Memory that train-train kernels take while they are computed.

    That of kernel functions in batches is not known.
    """
    x = self.x_train
    if not self._pure:
      return 0
    if self.spread.count == 1:
      return int(_TEMPORARIES * max(self._block_bytes,
                                    _SMALLEST_BLOCK**2 * self._bytes))
    first = self.spread(self._first(x, 0., self._kwargs))
    args, kwargs = self._arguments(first, x, 0., self._kwargs)
    analysis = self._kernel_fn.lower(*args, get,
                                     **kwargs).compile().memory_analysis()
    return self.spread.count * getattr(analysis, 'temp_size_in_bytes', 0)

  def _block_sizes(self, n1: int, n2: int, times: int) -> list[int]:
    """Numbers of samples of a block; if there are fewer, others fill it up."""
    largest = max(_SMALLEST_BLOCK,
                  int((self._block_bytes / (self._bytes * times))**.5))
    if not self.vectors:
      return [min(largest, -(-n // _SMALLEST_BLOCK) * _SMALLEST_BLOCK)
              for n in (n1, n2)]
    size = _FEW
    while size < min(max(n1, n2), largest):
      size *= 4
    return 2 * [min(size, largest)]

  def _in_blocks(self, x1: PyTree, x2: PyTree, get: str, tau: np.ndarray,
                 kwargs: dict[str, Any], itself: bool = False,
                 report: Callable[[float], None] = lambda _: None
                 ) -> Matrices:
    """Kernels at pairs of times `[Q, 2]`, side by side, block by block.

    Those of all training data (`itself`) often are symmetric: if they are for
    the first samples with all others, in every block on the diagonal, and for a
    pair of samples of any two blocks, the rest is computed on one side only.
    """
    count, loc, q = len(tau), self.locations, 0
    host = jax.default_backend() == 'cpu'
    out = (aligned_zeros if host else jnp.zeros)(
        (length(x1) * loc, count * length(x2) * loc), tau.dtype)
    data = [(x, {k: v[i] for k, v in kwargs.items() if is_pair(v)})
            for i, x in enumerate((x1, x2))]
    network = self._network(get, self._stock_kernel_fn)
    while q < count:
      # Products of vectors are shared between times.
      many = self.vectors and count - q > _TIMES_TOGETHER // 4
      together = _TIMES_TOGETHER if many else 1
      stop = min(q + together, count)
      times = tau[np.minimum(np.arange(q, q + together), count - 1)]
      out = self._put_blocks(out, network, data, times, slice(q, stop), count,
                             itself)
      q = stop
      report(q)
    return out

  def _put_blocks(self, out: Matrices, network: programs.Network,
                  data: list[Any], times: np.ndarray, where: slice, count: int,
                  itself: bool) -> Matrices:
    """Puts kernels at a few times, block by block, in their places."""
    starts, parts = [], []
    lengths = [length(x) for x, _ in data]
    sizes = self._block_sizes(lengths[0], lengths[1], len(times))
    for (x, arrays), n, size in zip(data, lengths, sizes):
      starts.append(np.unique(np.minimum(np.arange(0, n, size),
                                         max(n - size, 0))))
      parts.append([jax.device_put(_take((x, arrays),
                                         np.arange(a, a + size) % n))
                    for a in starts[-1]])
    (rows, columns), (first, second) = starts, parts
    loc, program = self.locations, programs.block(network)
    n1, n2 = (n * loc for n in lengths)

    def compute(pairs):
      """Blocks by their indices; all are under way before one is needed."""
      return {(i, j): program(first[i], second[j], tuple(times.T),
                              network.numbers, network.chosen)
              for i, j in pairs}

    def put(out, blocks, mirrored=False):
      for (i, j), block in blocks.items():
        if isinstance(out, np.ndarray):
          block = np.asarray(block)
        block = block[:n1, :where.stop - where.start, :n2]
        start = rows[i] * loc, where.start, columns[j] * loc
        for transposed in (False, True)[:1 + mirrored]:
          out = _put(out, block, start, count, transposed)
      return out

    known, symmetric = {}, itself
    if itself:
      known = compute(dict.fromkeys(
          pair for i in range(len(rows)) for pair in ((0, i), (i, 0), (i, i))))
      out = put(out, known)
      if isinstance(out, np.ndarray):
        known = {pair: np.asarray(block) for pair, block in known.items()}
      symmetric = all(bool(to_host(_is_transpose(block, known[j, i])))
                      for (i, j), block in known.items()) and (
                          self._is_symmetric(network.get, rows, sizes[0],
                                             times))
    for i in range(len(rows)):
      out = put(out, compute(
          (i, j) for j in range(i if symmetric else 0, len(columns))
          if (i, j) not in known), symmetric)
    return out

  def _is_symmetric(self, get: str, rows: np.ndarray, size: int,
                    times: np.ndarray) -> bool:
    """Whether kernels of a sample of every block with others seem to be."""
    if len(rows) < 3:
      return True
    i, j = np.triu_indices(len(rows), 1)
    rng = np.random.RandomState(0)
    pairs = rng.randint(size, size=(len(i), 2)) + rows[np.stack([i, j], 1)]
    pairs = pairs * self.locations + rng.randint(self.locations,
                                                 size=pairs.shape)
    one, other = (self.sample(p, times, get) for p in (pairs, pairs[:, ::-1]))
    largest = np.max(np.abs(one), 1, keepdims=True)
    return bool(np.all(np.abs(one - other) <=
                       _SKEW * np.finfo(times.dtype).eps * largest))

  def _side_by_side(self, x1: PyTree, x2: PyTree, get: str, tau: np.ndarray,
                    kwargs: dict[str, Any], itself: bool = False,
                    report: Callable[[float], None] = lambda _: None
                    ) -> jax.Array:
    """Kernels with training data at pairs of times `[Q, 2]`, `[n1, Q * n2]`.

    Some networks, such as those with ReLU, amplify rounding errors of samples
    with themselves at equal times to their square root. For all training data
    these kernels are found one by one (`itself`), so that they do not depend on
    batches and devices. Of equal training inputs kernels are made equal to the
    last bit: a small temperature amplifies their difference.
    """
    tau = np.asarray(tau, jax.dtypes.canonicalize_dtype(jnp.float64))
    equal = itself & (tau[:, 0] == tau[:, 1])
    blocks = lambda q: self._with_itself(get, tau[q, 0])
    if self._pure and self.spread.count == 1:
      out = self._in_blocks(x1, x2, get, tau, kwargs, itself, report)
      for i in np.flatnonzero(equal):
        out = _insert_blocks(out, blocks(i), i)
      return jax.device_put(self._with_copies(out, len(tau), itself),
                            may_alias=True)

    def one(q):
      kernel = self._evaluate(x1, x2, get, tau[q, 0], tau[q, 1], kwargs)
      return self.spread(_with_diagonal_blocks(
          kernel, self.spread(blocks(q)))) if equal[q] else kernel

    out = _with_room(one(0), len(tau))
    for q in range(1, len(tau)):
      report(q)
      out = _insert(out, one(q), q)
    report(len(tau))
    return self.spread(self._with_copies(out, len(tau), itself))

  def _with_itself(self, get: str, tau: np.ndarray) -> np.ndarray:
    """Kernel of every training sample with itself, a matrix of each."""
    n, network = length(self.x_train), self._network(get)
    size = int(np.clip(self._room // 8, 1, _FEW))
    out = np.empty((n, self.locations, self.locations))
    for i in range(0, n, size):
      kernels = programs.itself(network)(
          _take(self._host, np.arange(i, i + size) % n), tau, network.numbers,
          network.chosen)
      out[i:i + size] = to_host(kernels)[:n - i]
    return out.astype(tau.dtype)

  def nonzero(self, get: str, tau: float) -> np.ndarray:
    """Which outputs of training samples are not always zero, `[n, locations]`.

    Those of inputs that are zero, or masked altogether, are, without biases.
    """
    kernels = self._with_itself(get, np.asarray(tau))
    return np.diagonal(kernels, axis1=1, axis2=2) != 0

  def on(self, x: PyTree, arrays: dict[str, Any]) -> 'KernelEvaluator':
    """The same with other inputs in place of the training inputs."""
    pairs = {k: 2 * (v,) for k, v in arrays.items()}
    return KernelEvaluator(self._stock_kernel_fn, x, self.locations,
                           **{**self._kwargs, **pairs})

  def visible(self, x: PyTree) -> PyTree:
    """Inputs with zeros in place of what is masked."""
    mask_constant = self._kwargs.get('mask_constant')
    if mask_constant is None:
      return x
    return jax.tree_util.tree_map(
        lambda a: np.where(masked(a, mask_constant), 0., a), x)

  def _with_copies(self, matrices: Matrices, count: int,
                   itself: bool) -> Matrices:
    """Kernels with training data, those of equal inputs made equal."""
    rows, originals = self._copies
    return _repeat(matrices, rows, originals, count,
                   itself) if len(rows) else matrices

  @functools.cached_property
  def _copies(self) -> np.ndarray:
    """Rows of training inputs that equal earlier ones, and of these."""
    first: dict[str, int] = {}
    samples = np.array([
        [i, first.setdefault(store_lib.fingerprint(
            jax.tree_util.tree_map(lambda a, i=i: a[i], self._host)), i)]
        for i in range(length(self.x_train))])
    samples = samples[samples[:, 0] != samples[:, 1]].T
    rows = samples[..., None] * self.locations + np.arange(self.locations)
    return rows.reshape((2, -1))

  def train_train(self, get: str, tau: np.ndarray,
                  report: Callable[[float], None] = lambda _: None
                  ) -> jax.Array:
    """Kernels of all training data at pairs of times, side by side.

    Those in the store are not computed again.

    Args:
      get: `"ndk"` or `"nngp"`.
      tau: `[Q, 2]`, pairs of times.
      report: called with the number of kernels known so far.

    Returns:
      `[n, Q * n]`.
    """
    x = self.x_train
    if self._store is None:
      self.evaluations += len(tau)
      return self._side_by_side(x, x, get, tau, self._kwargs, True, report)
    matrices = self._store.matrices(
        (self.identity(get), tau), length(x) * self.locations, len(tau),
        jax.dtypes.canonicalize_dtype(jnp.float64))
    for r in tuple(matrices.missing):
      self.evaluations += 1
      matrices.put(r, self._side_by_side(x, x, get, tau[[r]], self._kwargs,
                                         True))
      report(len(tau) - len(matrices.missing))
    # On one CPU the file itself, not a copy.
    return jax.device_put(self.spread(matrices.mapped()), may_alias=True)

  def _identity(self, get: str) -> str:
    """Digest of all that a kernel depends on but times: program and inputs."""
    sample, network = _take(self._host, np.zeros(1, int)), self._network(get)
    first, times = np.zeros(1, int), np.zeros(1)
    program = programs.pairs(network).lower(
        sample, sample, (first, first), (times, times), network.numbers,
        network.chosen)
    return store_lib.fingerprint((program.as_text(), network.numbers,
                                  network.chosen, self._host))

  def _test_kwargs(self, second: bool,
                   test_kwargs: dict[str, Any]) -> dict[str, Any]:
    kwargs = dict(self._kwargs)
    for name, value in test_kwargs.items():
      if is_pair(value):
        value = value[0], value[0] if second else kwargs[name][1]
      kwargs[name] = value
    return kwargs

  def test_train(self, x_test: PyTree, get: str, tau: np.ndarray,
                 **test_kwargs: Any) -> jax.Array:
    """Kernels of test inputs and training data at pairs of times `[Q, 2]`.

    Returns:
      `[m, Q * n]`, side by side.
    """
    return self._side_by_side(x_test, self.x_train, get, tau,
                              self._test_kwargs(False, test_kwargs))

  def test_test(self, x_test: PyTree, get: str, tau1: float, tau2: float,
                **test_kwargs: Any) -> jax.Array:
    """Kernel of test inputs at `tau1` and at `tau2`."""
    kwargs = self._test_kwargs(True, test_kwargs)
    if self._pure and self.spread.count == 1:
      return jnp.asarray(self._in_blocks(x_test, x_test, get,
                                         np.array([[tau1, tau2]]), kwargs))
    return self._evaluate(x_test, x_test, get, tau1, tau2, kwargs)

  def test_sample(self, x_test: PyTree, pairs: np.ndarray, tau: np.ndarray,
                  **test_kwargs: Any) -> np.ndarray:
    """Covariance of pairs of test inputs at pairs of times, see `sample`."""
    kwargs = {k: 2 * (v[0],) if is_pair(v) else v for k, v in
              self._test_kwargs(True, test_kwargs).items()}
    return KernelEvaluator(self._stock_kernel_fn, x_test, self.locations, None,
                           **kwargs).sample(pairs, tau, 'nngp')

  def variances(self, x_test: PyTree, tau: np.ndarray,
                **test_kwargs: Any) -> np.ndarray:
    """Equal-time covariance of test inputs with themselves, `[Q, m]`."""
    rows = np.arange(length(x_test) * self.locations)
    return self.test_sample(x_test, np.stack([rows, rows], 1),
                            np.stack([tau, tau], 1), **test_kwargs)

  @functools.cached_property
  def _host(self):
    """Training inputs, and what belongs to them, where samples are taken."""
    def double(a):
      a = np.asarray(a)
      return a.astype(float) if a.dtype == np.float32 else a

    return jax.tree_util.tree_map(double, (self.x_train, self.arrays))

  def sample(self, pairs: np.ndarray, tau: np.ndarray,
             get: str = 'ndk') -> np.ndarray:
    """Kernel of a few pairs of samples at many pairs of times, in float64.

    Args:
      pairs: `[P, 2]`, rows of the train-train matrix.
      tau: `[Q, 2]`, times of the two.
      get: `"ndk"` or `"nngp"`.

    Returns:
      `[Q, P]`.
    """
    out = np.empty((len(tau), len(pairs)))
    pad = lambda a, size: a[np.arange(size) % len(a)]
    network = self._network(get)
    program = programs.pairs(network)
    blocks: list[tuple[np.ndarray, jax.Array]] = []
    known: tuple[int, int] = -1, 0
    for p, width, q, times in self._sample_blocks(len(pairs), len(tau)):
      if known != (p, width):
        known = p, width
        (i, at_i), (j, at_j) = (divmod(k, self.locations)
                                for k in pad(pairs[p:p + width], width).T)
        inputs = _take(self._host, i), _take(self._host, j), (at_i, at_j)
      with in_double():
        kernel = program(*inputs, tuple(pad(tau[q:q + times], times).T),
                         network.numbers, network.chosen)
      blocks.append((out[q:q + times, p:p + width], kernel))
    # All are under way before one is needed.
    for block, kernel in blocks:
      block[:] = to_host(kernel).T[:block.shape[0], :block.shape[1]]
    return out

  def _sample_blocks(self, pairs: int, times: int
                     ) -> Iterator[tuple[int, int, int, int]]:
    """Where blocks of pairs and of times begin, each with its size."""
    if self.vectors:
      # Inputs of pairs may be large: they are gathered once.
      for p in range(0, pairs, _VECTOR_PAIRS):
        for q in range(0, times, _VECTOR_TIMES):
          yield p, _VECTOR_PAIRS, q, _VECTOR_TIMES
    else:
      for q, some in _blocks(times, self._room // 2):
        width = max(1, min(_SAMPLE_PAIRS, self._room // some))
        for p in range(0, pairs, width):
          yield p, width, q, some
