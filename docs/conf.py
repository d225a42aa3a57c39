# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of Sphinx.

Beside the usual: the build warns, and so fails with `-W`, if a public name of
the package has no entry in the API reference.
"""

import collections
import functools
import importlib
import inspect
import pkgutil
import re

from sphinx.util import logging
from sphinx.util.inspect import stringify_signature

import nt_ndk

project = 'nt_ndk'
author = 'The nt_ndk Authors'
copyright = '2026, The nt_ndk Authors'  # pylint: disable=redefined-builtin
version = release = nt_ndk.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    # Formulas are shown without the internet.
    'sphinx-mathjax-offline',
]
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
html_theme = 'furo'
html_title = 'nt_ndk'
html_static_path = ['static']
html_css_files = ['formulas.css']
# Single backquotes are code, as in Neural Tangents' docstrings.
default_role = 'code'
exclude_patterns = ['_build']

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Names of attributes may end with an underscore.
strip_signature_backslash = True

_FIELD = type(collections.namedtuple('_', 'field').field)


def public_names() -> set[str]:
  """Full names of all functions and classes that users may import."""
  modules = [nt_ndk] + [
      importlib.import_module(f'nt_ndk.{m.name}')
      for m in pkgutil.iter_modules(nt_ndk.__path__)
      if not m.name.startswith('_')]
  return {
      f'{module.__name__}.{name}' for module in modules
      for name, value in vars(module).items()
      if not name.startswith('_') and (
          inspect.isfunction(value) or inspect.isclass(value) or
          name in getattr(module, '__all__', ()))
      and getattr(value, '__module__', '').startswith(
          ('nt_ndk', 'neural_tangents'))}


def _check_coverage(app, env):
  documented = env.get_domain('py').objects
  for name in sorted(public_names() - set(documented)):
    logging.getLogger(__name__).warning(
        '%s is public and has no entry in the API reference.', name)


def _skip_fields(app, kind, name, value, skip, options):
  """Fields of a named tuple are described in its docstring."""
  del app, kind, name, options
  return skip or isinstance(value, _FIELD)


def _signature(app, kind, name, value, options, signature, annotation):
  """What users write of a call, without what only Python and Flax know."""
  del app, name, options
  if kind == 'class' and signature == '(*args, **kwargs)':  # `flax.nnx`.
    signature = stringify_signature(
        inspect.signature(functools.partial(value.__init__, None)),
        show_annotation=False, show_return_annotation=False)
  if signature:  # `flax.linen` sets `parent` by itself.
    signature = re.sub(r'parent=<.*?>, ', '', signature).replace(
        '<function <lambda>>', '...')
  return signature, annotation


def _find_here(app, env, node, content):
  """Names of Neural Tangents are documented here under the same names."""
  name = node['reftarget']
  if node['refdomain'] != 'py' or node['reftype'] == 'mod' or (
      not name.startswith('neural_tangents.')):
    return None
  return env.get_domain('py').resolve_xref(
      env, node['refdoc'], app.builder, node['reftype'],
      name.replace('neural_tangents', 'nt_ndk', 1), node, content)


def setup(app):
  app.connect('autodoc-process-signature', _signature)
  app.connect('missing-reference', _find_here)
  app.connect('autodoc-skip-member', _skip_fields)
  app.connect('env-check-consistency', _check_coverage)
