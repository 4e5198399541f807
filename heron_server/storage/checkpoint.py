"""Checkpoints, one safetensors file for each completed round, with JSON facts in the header of the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from heron_core.arrays import Array
from heron_core.errors import CheckpointError
from heron_core.models.digest import state_sha256
from heron_server.storage.durable import storing, write_durably
from heron_server.storage.facts import Facts, oddities

VERSION = 3


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on after a round."""

    facts: Facts
    tensors: dict[str, Array]
    """By name; what they mean is the business of those who gave them."""


def path_of(folder: Path, rounds_done: int) -> Path:
    """The file of the checkpoint after so many rounds; names sort by rounds."""
    return folder / f"round-{rounds_done:06d}.safetensors"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes the checkpoint and removes those older than the `keep` newest. Raises RunFailed where the disk will not
    take it; those that are there stay."""
    header = json.dumps({**checkpoint.facts, "version": VERSION})
    metadata = {"heron": header, "digest": _digest(header, checkpoint.tensors)}
    path = path_of(folder, checkpoint.facts["rounds_done"])
    row_major = {name: np.asarray(t, order="C") for name, t in checkpoint.tensors.items()}  # others are saved garbled
    write_durably(path, save(row_major, metadata=metadata))
    for old in sorted(folder.glob("round-*.safetensors"))[:-keep]:
        with storing(old):
            old.unlink(missing_ok=True)
    return path


def newest(folder: Path) -> Path | None:
    """The file of the last checkpoint, if there is one."""
    found = sorted(folder.glob("round-*.safetensors"))
    return found[-1] if found else None


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint; raises CheckpointError if it is torn or of another version."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            header = json.loads(metadata["heron"])
            version = header.pop("version", None)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(_torn(path, str(error))) from None
    if version != VERSION:
        raise CheckpointError(f"{path} has version {version}, expected {VERSION}; start a new run")
    if _digest(metadata["heron"], tensors) != metadata.get("digest"):
        raise CheckpointError(_torn(path, "its bytes do not match its digest"))
    for odd in oddities(header):
        raise CheckpointError(_torn(path, odd))
    return Checkpoint(header, tensors)


def _digest(header: str, tensors: Mapping[str, Array]) -> str:
    """Over every byte that means something: the facts as they are written, and the tensors with their names."""
    return hashlib.sha256(f"{state_sha256(tensors)} {header}".encode()).hexdigest()


def _torn(path: Path, why: str) -> str:
    older = sorted(p for p in path.parent.glob("round-*.safetensors") if p < path)
    mend = f"remove it to resume from {older[-1].name}" if older else "no older one is left; start a new run"
    return f"checkpoint {path} is torn ({why}); {mend}"
