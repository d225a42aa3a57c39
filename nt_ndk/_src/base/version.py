# Copyright 2026 The nt_ndk Authors
# SPDX-License-Identifier: Apache-2.0
"""The version, as in `setup.cfg`."""

__version__ = '0.2.0'
