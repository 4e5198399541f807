"""The server: Main-Server and Fed-Server."""

from __future__ import annotations

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    moved = "; it is heron_simulator.simulate" if name == "simulate" else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{moved}")
