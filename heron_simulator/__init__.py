"""N clients and a server in one process, and sweeps of such runs.

Uses both sides; neither uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heron_simulator.simulator import simulate

__all__ = ["simulate"]


def __getattr__(name: str) -> object:
    if name == "simulate":  # imports torch and both sides, so only when asked for
        from heron_simulator.simulator import simulate

        return simulate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
