"""Checkpoints, one safetensors file for each completed round, with JSON facts in the header of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from heron_core.arrays import Array
from heron_core.errors import CheckpointError
from heron_core.files import replace_file
from heron_core.models.digest import state_sha256
from heron_server.metrics.figures import SavedRecords

VERSION = 2


class Facts(TypedDict):
    """What a checkpoint says of a run beside its tensors."""

    run_id: str
    rounds_done: int
    table: dict[str, int]
    """Client name -> rank."""
    ledger: dict[str, int]
    records: SavedRecords


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on after a round."""

    facts: Facts
    tensors: dict[str, Array]
    """By name; what they mean is the business of those who gave them."""


def write_durably(path: Path, data: bytes) -> None:
    """Replaces `path` as a whole; raises CheckpointError when the disk will not take it, leaving the old file."""
    try:
        replace_file(path, lambda beside: beside.write_bytes(data))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror}; free some space and resume, the last good state is intact"
        ) from None


def path_of(folder: Path, rounds_done: int) -> Path:
    """The file of the checkpoint after so many rounds; names sort by rounds."""
    return folder / f"round-{rounds_done:06d}.safetensors"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes the checkpoint and removes those older than the `keep` newest."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {**checkpoint.facts, "version": VERSION, "digest": state_sha256(checkpoint.tensors)}
    path = path_of(folder, checkpoint.facts["rounds_done"])
    row_major = {name: np.asarray(t, order="C") for name, t in checkpoint.tensors.items()}  # others are saved garbled
    write_durably(path, save(row_major, metadata={"heron": json.dumps(header)}))
    for old in sorted(folder.glob("round-*.safetensors"))[:-keep]:
        old.unlink()
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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(_torn(path, str(error))) from None
    if header.get("version") != VERSION:
        raise CheckpointError(f"{path} has version {header.get('version')}, expected {VERSION}; start a new run")
    if state_sha256(tensors) != header.get("digest"):
        raise CheckpointError(_torn(path, "its bytes do not match its digest"))
    try:
        facts: Facts = {
            "run_id": header["run_id"], "rounds_done": header["rounds_done"], "table": header["table"],
            "ledger": header["ledger"], "records": header["records"],
        }  # fmt: skip
    except KeyError as error:
        raise CheckpointError(_torn(path, f"its header lacks {error}")) from None
    return Checkpoint(facts, tensors)


def _torn(path: Path, why: str) -> str:
    older = sorted(p for p in path.parent.glob("round-*.safetensors") if p < path)
    mend = f"remove it to resume from {older[-1].name}" if older else "no older one is left; start a new run"
    return f"checkpoint {path} is torn ({why}); {mend}"
