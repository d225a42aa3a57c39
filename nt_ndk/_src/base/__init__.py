# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""What all floors stand on: devices, memory, files, threads, arguments, types.

Here belongs what knows neither the theory nor networks, and what makes Neural
Tangents run on the JAX that is installed. Here must not be anything that needs
a kernel, a layer or an equation.
"""
