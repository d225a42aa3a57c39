# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Layers of `flax.nnx` with a weight process, as in :mod:`nt_ndk.stax`.

A network of these layers has finite ensembles (:mod:`nt_ndk.langevin`) and
kernels by sampling (:mod:`nt_ndk.monte_carlo`), which find the standard
deviations of its parameters under the prior in their metadata. The layers of
:mod:`nt_ndk.stax` with the same arguments have its kernels in closed form.

Source: Avidan, Li and Sompolinsky, "Connecting NTK and NNGP: A Unified
Theoretical Framework for Wide Neural Network Learning Dynamics",
arXiv:2309.04522.

Example:
  >>> from flax import nnx as flax_nnx
  >>> from jax import nn, numpy as jnp, random
  >>> from nt_ndk import langevin, nnx
  >>> #
  >>> def make(rngs):
  >>>   stds = dict(W_init_std=1.4, W_prior_std=.9, rngs=rngs)
  >>>   return flax_nnx.Sequential(
  >>>       nnx.Dense(3, 64, **stds), nn.relu, nnx.Dense(64, 1, **stds))
  >>> #
  >>> x = random.normal(random.PRNGKey(1), (4, 3))
  >>> y = jnp.sign(x[:, :1])
  >>> ensemble_fn = langevin.markov_proximal_ensemble(
  >>>     make, None, x, y, temperature=.1)
  >>> ensemble = ensemble_fn(random.PRNGKey(0), n_networks=10, t=10.)
"""

from nt_ndk._src.finite.nnx import Conv
from nt_ndk._src.finite.nnx import Dense
