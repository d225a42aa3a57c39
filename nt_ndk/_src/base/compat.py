# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Lets Neural Tangents 0.6.5 import and run on the JAX that is installed.

Neural Tangents (NT) looks for a few names that newer JAX and SciPy moved or
removed. :func:`install` runs once, before NT is first imported:

====  ===========================================  ==========================
step  what NT looks for                            what it gets
====  ===========================================  ==========================
1     ``jax.core.{Jaxpr, JaxprEqn, Literal,        the same classes, from
      Primitive, Var}`` (gone since JAX 0.6.0)     ``jax.extend.core``
2     ``jax.util.{safe_map, safe_zip}``            the same functions, under
      (gone since 0.7.0)                           the old module name
3     ``jax.interpreters.ad.zeros_like_p``         a fresh ``Primitive`` (NT
      (gone after 0.5.3)                           uses it as a dict key only)
4     ``jax.core.eval_context`` (cannot see        ``ensure_compile_time_eval``
      tracers since 0.4.36), in NT's modules
5     ``scipy.linalg.eigvalsh(eigvals=...)``       ``subset_by_index``, in
      (gone since SciPy 1.14), in NT's modules     NT's modules
6     ``jax.interpreters.ad.linearize``, called    ``jax.linearize`` and
      as before JAX 0.10, in NT's modules          ``jax.make_jaxpr``
7     private parts of ``jax.interpreters.ad``     ``jax.linear_transpose``,
      that transpose one equation, in NT's         ``jax.config``
      modules
8     ``cost_analysis()[0]`` (a dict since JAX     a count of operations that
      0.5), in NT's modules                        reads both
9     ``jax.numpy.arctan2`` (slow on CPUs), in     one that is equal up to
      NT's kernels of ReLU, erf and others         rounding
10    ``neural_tangents.experimental``             the same module, loaded
      (imports TensorFlow)                         when it is first used
11    uses of ``jax.numpy.{dtype, shape, size}``   functions that return the
      and ``wrap_init`` that JAX warns of, in      same without a warning
      NT's modules
====  ===========================================  ==========================

Before JAX 0.6, programs that JAX reads from its persistent compilation cache
may return wrong numbers on CPUs, where they have loops. There this cache is
disabled.

Steps 1 to 3 add names that are missing and never replace one that is there;
steps 4 to 9, and 11, rebind names inside NT's own modules, so nothing that JAX
or SciPy defines changes for anyone else. All of it also works after an `import
neural_tangents` that failed. What was done is logged at debug level.
"""

import importlib
import importlib.util
import inspect
import logging
import sys
import types
from typing import Any, Callable

import jax
from jax import api_util
from jax.extend import linear_util
from jax.extend import source_info_util
from jax.interpreters import ad
import jax.numpy as jnp
import numpy as np
import scipy

from nt_ndk._src.base.arctan import arctan2

_NT = 'neural_tangents'
_EXPERIMENTAL = f'{_NT}.experimental'


class _Overlay:
  """A module seen through a few names of our own."""

  def __init__(self, module, **names):
    self._module = module
    self.__dict__.update(names)

  def __getattr__(self, name):
    if name == '_module':  # While a copy is made for another process.
      raise AttributeError(name)
    return getattr(self._module, name)


def _add_missing(module: types.ModuleType, name: str, value: Any) -> list[str]:
  if hasattr(module, name):
    return []
  setattr(module, name, value)
  return [f'{module.__name__}.{name}']


def _add_jax_core() -> list[str]:
  extend = importlib.import_module('jax.extend.core')
  return [done
          for name in ('Jaxpr', 'JaxprEqn', 'Literal', 'Primitive', 'Var')
          for done in _add_missing(jax.core, name, getattr(extend, name))]


def _safe_zip(*args: Any) -> list[tuple]:
  lists = [list(a) for a in args]
  if any(len(a) != len(lists[0]) for a in lists):
    raise ValueError(f'length mismatch: {[len(a) for a in lists]}')
  return list(zip(*lists))


def _safe_map(f: Callable[..., Any], *args: Any) -> list:
  return [f(*a) for a in _safe_zip(*args)]


def _add_jax_util() -> list[str]:
  if ('jax.util' in sys.modules or
      importlib.util.find_spec('jax.util') is not None):
    return []
  module: Any = types.ModuleType('jax.util',
                                 'Names that Neural Tangents imports.')
  module.safe_map, module.safe_zip = _safe_map, _safe_zip
  sys.modules['jax.util'] = module
  return ['jax.util']


def _add_zeros_like() -> list[str]:
  if hasattr(ad, 'zeros_like_p'):
    return []
  extend = importlib.import_module('jax.extend.core')
  return _add_missing(ad, 'zeros_like_p', extend.Primitive('zeros_like'))


def _defer_experimental() -> list[str]:
  """Registers a stand-in that becomes `experimental` at first use."""
  if _NT in sys.modules:
    return []
  spec: Any = importlib.util.find_spec(_NT)
  folder = spec.submodule_search_locations[0]
  path = f'{folder}/experimental'
  stand_in: Any = types.ModuleType(_EXPERIMENTAL)
  stand_in.__spec__ = importlib.util.spec_from_file_location(
      _EXPERIMENTAL, f'{path}/__init__.py', submodule_search_locations=[path])
  stand_in.__path__ = [path]

  def load(name):
    if name.startswith('__'):
      raise AttributeError(name)
    if sys.modules.get(_EXPERIMENTAL) is stand_in:
      del sys.modules[_EXPERIMENTAL]
    return getattr(importlib.import_module(_EXPERIMENTAL), name)

  stand_in.__getattr__ = load
  sys.modules[_EXPERIMENTAL] = stand_in
  return [f'{_EXPERIMENTAL} deferred']


def _eigvalsh(a, eigvals, **kwargs):
  return scipy.linalg.eigvalsh(a, subset_by_index=eigvals, **kwargs)


def _wrap_init(fn: Callable[..., Any]) -> Any:
  return linear_util.wrap_init(
      fn, debug_info=api_util.debug_info('linearize', fn, (), {}))


class _Unknown:
  """Says that an output depends on the inputs."""

  def is_known(self) -> bool:
    return False


def _linearize(fn: Any, *primals: jax.Array, has_aux: bool) -> tuple:
  """Outputs of a flat function, and the equations of its derivative."""
  del has_aux  # NT has none.
  out, derivative = jax.linearize(fn.call_wrapped, *primals)
  closed = jax.make_jaxpr(derivative)(*primals)
  return out, [_Unknown()] * len(out), closed.jaxpr, closed.consts


def _transpose_equation(eqn, cotangent, *inputs):
  """Cotangents of the inputs of a linear equation that are not known."""
  if eqn is None:  # The identity.
    return (cotangent,)
  if isinstance(cotangent, ad.Zero):
    return [None] * len(inputs)
  unknown = [i for i, x in enumerate(inputs) if ad.is_undefined_primal(x)]

  def fn(*args):
    given = dict(zip(unknown, args))
    return eqn.primitive.bind(*(given.get(i, x) for i, x in enumerate(inputs)),
                              **eqn.params)

  transposed = jax.linear_transpose(
      fn, *(jax.ShapeDtypeStruct(inputs[i].aval.shape, inputs[i].aval.dtype)
            for i in unknown))(cotangent)
  out = dict(zip(unknown, transposed))
  return [out.get(i) for i in range(len(inputs))]


def _get_flops(f: Callable[..., Any], optimize: bool, *args: Any,
               **kwargs: Any) -> float:
  """Number of operations of a function."""
  lowered = jax.jit(f).lower(*args, **kwargs)
  analysis: Any = (lowered.compile() if optimize else lowered).cost_analysis()
  if not isinstance(analysis, dict):
    analysis, = analysis
  return analysis['flops']


def _patch_neural_tangents() -> list[str]:
  """Rebinds, inside NT's modules, what exists but no longer works."""
  predict: Any = importlib.import_module(f'{_NT}._src.predict')
  linear: Any = importlib.import_module(f'{_NT}._src.stax.linear')
  done = []
  if jax.__version_info__ >= (0, 4, 36):
    new_jax = _Overlay(jax, core=_Overlay(
        jax.core, eval_context=jax.ensure_compile_time_eval))
    predict.jax = linear.jax = new_jax
    done += ['eval_context']
  if 'eigvals' not in inspect.signature(scipy.linalg.eigvalsh).parameters:
    predict.sp = _Overlay(scipy, linalg=_Overlay(scipy.linalg,
                                                 eigvalsh=_eigvalsh))
    done += ['eigvalsh']
  empirical: Any = importlib.import_module(f'{_NT}._src.empirical')
  # pylint: disable=protected-access
  empirical.ad = _Overlay(ad, linearize=_linearize, config=jax.config,
                          source_info_util=source_info_util)
  # A class that no abstract value has.
  empirical.core = _Overlay(jax.core, DShapedArray=getattr(
      jax.core, 'DShapedArray', _Unknown))
  empirical.jnp = _Overlay(jnp, dtype=jnp.result_type, shape=np.shape,
                           size=np.size)
  empirical.lu = _Overlay(linear_util, wrap_init=_wrap_init)
  empirical._eqn_vjp_fn = _transpose_equation
  empirical._get_flops = _get_flops
  # pylint: enable=protected-access
  elementwise: Any = importlib.import_module(f'{_NT}._src.stax.elementwise')
  elementwise.jnp = _Overlay(jnp, arctan2=arctan2)
  done += ['linearize', 'transposes', 'cost_analysis', 'arctan2']
  return done


def _distrust_compilation_cache() -> list[str]:
  """No programs from files where these may be wrong (seen on 0.5.3)."""
  if jax.__version_info__ >= (0, 6):
    return []
  jax.config.update('jax_enable_compilation_cache', False)
  return ['compilation_cache']


def install():
  """Makes `import neural_tangents` work; does nothing where nothing is missing.

  Raises:
    ImportError: if Neural Tangents is missing.
  """
  if importlib.util.find_spec(_NT) is None:
    raise ImportError('`nt_ndk` needs `neural-tangents`; run `pip install '
                      'neural-tangents==0.6.5`.')
  done = (_distrust_compilation_cache() + _add_jax_core() + _add_jax_util() +
          _add_zeros_like() + _defer_experimental())
  importlib.import_module(_NT)
  done += _patch_neural_tangents()
  if done:
    logging.getLogger('nt_ndk').debug(
        'Neural Tangents on JAX %s: supplied %s.', jax.__version__,
        ', '.join(done))
