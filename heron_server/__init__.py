"""The server: Main-Server and Fed-Server, and the simulator that runs them with N clients in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heron_simulator.simulator import simulate

__all__ = ["simulate"]


def __getattr__(name: str) -> Any:
    if name == "simulate":  # imports torch and the client, so only when asked for
        from heron_simulator.simulator import simulate

        return simulate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
