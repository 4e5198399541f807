"""What the server and the clients of Heron must agree on: run spec, models, random streams, tensor codec, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heron_core.version import PROTOCOL_VERSION, __version__

if TYPE_CHECKING:
    from heron_core.models.saved import load_model

__all__ = ["PROTOCOL_VERSION", "__version__", "load_model"]


def __getattr__(name: str) -> object:
    if name == "load_model":  # imports torch, so only when asked for
        from heron_core.models.saved import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
