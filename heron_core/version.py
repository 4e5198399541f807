"""The version of Heron, and that of the wire."""

from __future__ import annotations

__version__ = "0.1.0"

PROTOCOL_VERSION = 3
"""Bumped with every change of the wire's meaning; a mismatch is refused at Join."""
