"""Split models: the built-in families, a user's own, and the final model on disk.

Nothing is imported before it is asked for: `digest` works without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heron_core.arrays import TensorSpec
    from heron_core.models.digest import state_sha256
    from heron_core.models.from_module import CutModule
    from heron_core.models.registry import BUILT_IN, build_split_model
    from heron_core.models.saved import load_model, save_model
    from heron_core.models.split_model import AssembledModel, ClientModel, SplitModel, check_parts

__all__ = [
    "BUILT_IN",
    "AssembledModel",
    "ClientModel",
    "CutModule",
    "SplitModel",
    "TensorSpec",
    "build_split_model",
    "check_parts",
    "load_model",
    "save_model",
    "state_sha256",
]

_HOMES = {
    "BUILT_IN": "heron_core.models.registry",
    "build_split_model": "heron_core.models.registry",
    "CutModule": "heron_core.models.from_module",
    "load_model": "heron_core.models.saved",
    "save_model": "heron_core.models.saved",
    "state_sha256": "heron_core.models.digest",
    "AssembledModel": "heron_core.models.split_model",
    "ClientModel": "heron_core.models.split_model",
    "SplitModel": "heron_core.models.split_model",
    "TensorSpec": "heron_core.arrays",
    "check_parts": "heron_core.models.split_model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
