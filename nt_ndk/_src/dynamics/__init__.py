# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""Volterra equations, resolvents and quadrature in time.

Here belongs mathematics of matrices that depend on two times, given as a few
matrices times functions of time. Here must not be anything that knows of
networks, inputs or Neural Tangents.
"""
