"""The graphs of a run with their manifest, in memory or in a folder that is named by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from heron_core.arrays import Array
from heron_core.errors import BadReply
from heron_core.files import replace_file
from heron_core.graphs.manifest import Manifest, StoredFile, read_manifest

TRAINING, EVALUATION, CONSTANTS = "training.onnx", "evaluation.onnx", "constants.bin"
MANIFEST = "manifest.json"
ALIGNED = 64
"""Bytes: each constant begins at a multiple of it."""


@dataclass(frozen=True)
class GraphSet:
    """What one server exported for its clients."""

    manifest: Manifest
    training: bytes
    """ONNX."""
    evaluation: bytes
    """ONNX."""
    constants: Array
    """uint8: the values that do not travel, see `constants_of`. From a folder it is mapped, and read as it is used."""

    def values(self) -> dict[str, Array]:
        """Views of the constants by name, as they were built. BadReply: there are fewer than the manifest says."""
        found = {}
        for name, dtype, shape, start, size in _places(self.manifest):
            if start + size > len(self.constants):
                raise BadReply(f"{CONSTANTS} must hold {start + size} bytes for {name}, it has {len(self.constants)}")
            found[name] = self.constants[start : start + size].view(dtype).reshape(shape)
        return found

    def write(self, folder: Path) -> Path:
        """Stores the set in `folder`/HASH, where it is not there yet; gives that folder. Raises OSError."""
        home = folder / self.manifest.sha256
        home.mkdir(parents=True, exist_ok=True)
        files = {TRAINING: self.training, EVALUATION: self.evaluation, CONSTANTS: self.constants}
        for name, content in {**files, MANIFEST: self.manifest.text()}.items():  # the manifest last: then all is there
            if not (home / name).exists():
                replace_file(home / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
        return home


def read_graphs(home: Path) -> GraphSet:
    """What `write` stored. BadReply: a file has another size or hash than the manifest says; fetch it again."""
    manifest = read_manifest((home / MANIFEST).read_bytes())
    size = (home / CONSTANTS).stat().st_size
    constants = np.memmap(home / CONSTANTS, np.uint8, "r") if size else np.empty(0, np.uint8)
    found = GraphSet(manifest, (home / TRAINING).read_bytes(), (home / EVALUATION).read_bytes(), constants)
    contents: dict[str, bytes | memoryview] = {
        TRAINING: found.training, EVALUATION: found.evaluation, CONSTANTS: constants.data
    }  # fmt: skip
    for name, stored in stored_files(contents).items():
        if manifest.files.get(name) != stored:  # type: ignore[call-overload]
            raise BadReply(f"{home / name} is not what its manifest says; remove {home}, and it is fetched again")
    return found


def stored_files(contents: Mapping[str, bytes | memoryview]) -> dict[str, StoredFile]:
    """Size and hash of each."""
    return {
        name: StoredFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        for name, content in contents.items()
    }


def constants_of(values: Mapping[str, Array]) -> Array:
    """The values one after another in this order, little-endian and row-major, each at a multiple of 64 bytes."""
    blob = bytearray()
    for array in values.values():
        blob += bytes(-len(blob) % ALIGNED)
        blob += np.ascontiguousarray(array).tobytes()
    return np.frombuffer(bytes(blob), np.uint8)


def _places(manifest: Manifest) -> Iterator[tuple[str, str, tuple[int, ...], int, int]]:
    """(name, dtype, shape, first byte, bytes) of each constant."""
    at = 0
    for tensor in manifest.tensors:
        if not tensor.travels:
            at += -at % ALIGNED
            size = prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
            yield tensor.name, tensor.dtype, tensor.shape, at, size
            at += size
