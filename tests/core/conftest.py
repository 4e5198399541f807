"""Hypothesis judges results here, not speed: a busy machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("heron", deadline=None)
settings.load_profile("heron")
