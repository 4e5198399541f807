"""How a token travels."""

from __future__ import annotations

TOKEN_KEY = "heron-token"
"""The metadata entry of every call that carries it."""
