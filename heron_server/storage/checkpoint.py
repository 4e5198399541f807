"""Checkpoints, one safetensors file for each completed round, with JSON facts in the header of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from heron_core.arrays import Array
from heron_core.errors import CheckpointError
from heron_core.files import replace_file
from heron_core.models.digest import state_sha256

VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on after a round."""

    facts: dict[str, Any]
    """JSON: run_id, rounds_done, table, spec, history, ledger."""
    tensors: dict[str, Array]
    """What `ClientStates.tensors` and the trainer's `save` give."""


def write_durably(path: Path, data: bytes) -> None:
    """Replaces `path` as a whole; raises CheckpointError when the disk will not take it, leaving the old file."""
    try:
        replace_file(path, lambda beside: beside.write_bytes(data))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror}; free some space and resume, the last good state is intact"
        ) from None


def path_of(folder: Path, rounds_done: int) -> Path:
    return folder / f"round-{rounds_done:06d}.safetensors"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes the checkpoint and removes those older than the `keep` newest."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {**checkpoint.facts, "version": VERSION, "digest": state_sha256(checkpoint.tensors)}
    path = path_of(folder, facts["rounds_done"])
    row_major = {name: np.asarray(t, order="C") for name, t in checkpoint.tensors.items()}  # others are saved garbled
    write_durably(path, save(row_major, metadata={"heron": json.dumps(facts)}))
    for old in sorted(folder.glob("round-*.safetensors"))[:-keep]:
        old.unlink()
    return path


def newest(folder: Path) -> Path | None:
    found = sorted(folder.glob("round-*.safetensors"))
    return found[-1] if found else None


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint; raises CheckpointError if it is torn or of another version."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            facts: dict[str, Any] = json.loads(metadata["heron"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(_torn(path, str(error))) from None
    if facts.get("version") != VERSION:
        raise CheckpointError(f"{path} has version {facts.get('version')}, expected {VERSION}; start a new run")
    if state_sha256(tensors) != facts.get("digest"):
        raise CheckpointError(_torn(path, "its bytes do not match its digest"))
    return Checkpoint(facts, tensors)


def _torn(path: Path, why: str) -> str:
    older = sorted(p for p in path.parent.glob("round-*.safetensors") if p < path)
    mend = f"remove it to resume from {older[-1].name}" if older else "no older one is left; start a new run"
    return f"checkpoint {path} is torn ({why}); {mend}"
