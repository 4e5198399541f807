"""The file of one checkpoint: a safetensors file with JSON facts in its header. docs/checkpoints.md has it in full."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from heron_core.arrays import Array
from heron_core.errors import CheckpointError
from heron_core.models.digest import state_sha256
from heron_server.storage.durable import write_durably
from heron_server.storage.facts import Facts, oddities

VERSION = 4


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on after a round."""

    facts: Facts
    tensors: dict[str, Array]
    """By name; what they mean is the business of those who gave them."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes the file as a whole. Raises RunFailed where the disk will not take it."""
    header = json.dumps({**checkpoint.facts, "version": VERSION})
    metadata = {"heron": header, "digest": _digest(header, checkpoint.tensors)}
    row_major = {name: np.asarray(t, order="C") for name, t in checkpoint.tensors.items()}  # others are saved garbled
    write_durably(path, save(row_major, metadata=metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies the file. CheckpointError: it cannot be read, is torn, or of another version."""
    if path.exists() and not path.is_file():
        raise CheckpointError(f"checkpoint {path} is not a file")
    try:
        metadata, tensors = _parsed(path.read_bytes())  # not mapped: a bad sector is an OSError then, and no SIGBUS
        header = json.loads(metadata["heron"])
        version = header.pop("version", None)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _torn(path, str(error)) from None
    if version != VERSION:
        raise CheckpointError(f"checkpoint {path} has version {version}, this Heron reads {VERSION}")
    if _digest(metadata["heron"], tensors) != metadata.get("digest"):
        raise _torn(path, "its bytes do not match its digest")
    for odd in oddities(header):
        raise _torn(path, odd)
    return Checkpoint(header, tensors)


def _parsed(data: bytes) -> tuple[Mapping[str, str], dict[str, Array]]:
    tensors = load(data)  # which checks names, types, places and the file's length
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header["__metadata__"], tensors


def _digest(header: str, tensors: Mapping[str, Array]) -> str:
    """Over every byte that means something: the facts as they are written, and the tensors with their names."""
    return hashlib.sha256(f"{state_sha256(tensors)} {header}".encode()).hexdigest()


def _torn(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"checkpoint {path} is torn ({why})")
