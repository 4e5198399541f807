"""The files of a saved model, read and checked: model.safetensors and model.json. Nothing is built here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from heron_core.errors import CheckpointError
from heron_core.models.digest import state_sha256

FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def read_weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    """Every tensor that `save_model` wrote there, `front.*` and so on, and their SHA-256; raises CheckpointError."""
    sha256 = described_sha256(folder)
    return weights_of(folder / WEIGHTS, sha256), sha256


def network_of(state: Mapping[str, Tensor], *, averaged: bool = True) -> dict[str, Tensor]:
    """Front and back of the folder's tensors, without the head. `averaged` False: the back as it was trained, where
    `back.*` is its average."""
    chosen = {name: t for name, t in state.items() if not name.startswith(("auxiliary.", "trained_back."))}
    if averaged:
        return chosen
    trained = {n.removeprefix("trained_"): t for n, t in state.items() if n.startswith("trained_back.")}
    return {**chosen, **trained}


def described_sha256(folder: Path) -> str:
    """The SHA-256 that the folder's weights must have, as it says itself; raises CheckpointError."""
    return str(description_of(folder / DESCRIPTION).get("state_sha256"))


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """As `state_sha256`; bfloat16, which NumPy lacks, by its bits."""
    return state_sha256(
        {n: (t.view(torch.int16) if t.dtype == torch.bfloat16 else t).numpy() for n, t in state.items()}
    )


def description_of(path: Path) -> dict[str, Any]:
    """model.json; raises CheckpointError where there is none, it is torn, or of another format."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"no model here: {path} cannot be read ({error.strerror}); pass the model/ folder"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is torn or not JSON ({error}); save the model again") from None
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise CheckpointError(
            f"{path} has format {version!r}, this Heron reads {FORMAT}; load it with the Heron that saved it"
        )
    return dict(found)


def weights_of(path: Path, expected_sha256: str) -> dict[str, Tensor]:
    """Every tensor of the file; raises CheckpointError where it is torn, or not of this fingerprint."""
    try:
        state: dict[str, Tensor] = load_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); save the model again") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is torn ({error}); save the model again") from None
    found = tensors_sha256(state)
    if found != expected_sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {found} over its tensors, {DESCRIPTION} says {expected_sha256}; "
            "the two files are not of one save, or one is damaged: save the model again"
        )
    return state
