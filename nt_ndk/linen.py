# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Layers of `flax.linen` with a weight process, as in :mod:`nt_ndk.stax`.

A network of these layers has finite ensembles (:mod:`nt_ndk.langevin`) and
kernels by sampling (:mod:`nt_ndk.monte_carlo`), which find the standard
deviations of its parameters under the prior in its variables. The layers of
:mod:`nt_ndk.stax` with the same arguments have its kernels in closed form.

Source: Avidan, Li and Sompolinsky, "Connecting NTK and NNGP: A Unified
Theoretical Framework for Wide Neural Network Learning Dynamics",
arXiv:2309.04522.

Example:
  >>> from flax import linen as nn
  >>> from jax import numpy as jnp, random
  >>> from nt_ndk import langevin, linen
  >>> #
  >>> module = nn.Sequential([
  >>>     linen.Dense(64, W_init_std=1.4, W_prior_std=.9), nn.relu,
  >>>     linen.Dense(1, W_init_std=1.4, W_prior_std=.9)])
  >>> #
  >>> x = random.normal(random.PRNGKey(1), (4, 3))
  >>> y = jnp.sign(x[:, :1])
  >>> ensemble_fn = langevin.markov_proximal_ensemble(
  >>>     module.init, module.apply, x, y, temperature=.1)
  >>> ensemble = ensemble_fn(random.PRNGKey(0), n_networks=10, t=10.)
"""

from nt_ndk._src.finite.linen import Conv
from nt_ndk._src.finite.linen import Dense
