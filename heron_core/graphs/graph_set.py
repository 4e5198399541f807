"""The graphs of a run with their manifest, in memory or in a folder that is named by their hash."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from heron_core.arrays import Array
from heron_core.errors import BadReply
from heron_core.files import replace_file, sha256_of
from heron_core.graphs.manifest import Manifest, StoredFile, read_manifest

TRAINING, EVALUATION, CONSTANTS = "training.onnx", "evaluation.onnx", "constants.bin"
MANIFEST = "manifest.json"
ALIGNED = 64
"""Bytes: each constant begins at a multiple of it."""
ELSEWHERE = re.compile(rb"(\x0a|\x8a\x80*\x00)(\x08|\x88\x80*\x00)location")
"""How ONNX names a file with a tensor's values, in every way that protobuf may spell it."""


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

    def files(self) -> dict[str, Array]:
        """The content of each file, uint8, as it is sent and stored."""
        texts = {MANIFEST: self.manifest.text(), TRAINING: self.training, EVALUATION: self.evaluation}
        return {**{name: np.frombuffer(text, np.uint8) for name, text in texts.items()}, CONSTANTS: self.constants}

    def write(self, folder: Path) -> Path:
        """Stores the set in `folder`/HASH and removes all others there; gives that folder. Raises OSError."""
        home = folder / self.manifest.sha256
        if folder.is_dir():
            for other in folder.iterdir():
                shutil.rmtree(other)
        home.mkdir(parents=True)
        files = self.files()
        for name in (TRAINING, EVALUATION, CONSTANTS, MANIFEST):  # the manifest last: then all is there
            replace_file(home / name, lambda path, name=name: path.write_bytes(files[name].data))  # type: ignore[misc]
        return home


FILES = (MANIFEST, TRAINING, EVALUATION, CONSTANTS)
"""In the order in which they are sent."""


def graphs_of(
    files: Mapping[str, Array], sha256: str, origin: str, known: Mapping[str, StoredFile] | None = None
) -> GraphSet:
    """The set whose manifest has this hash, from what `GraphSet.files` gave; `known`: files whose size and hash are
    known already. BadReply: a file is another than the hash or the manifest says, or a graph would read a file of its
    own."""
    text = files[MANIFEST].tobytes()
    if hashlib.sha256(text).hexdigest() != sha256:
        raise BadReply(f"{origin}: {MANIFEST} is not the one whose hash the server names, {sha256[:12]}")
    manifest = read_manifest(text)
    if manifest.text() != text:  # else the set would be stored under another hash
        raise BadReply(f"{origin}: {MANIFEST} is not written as Heron writes it")
    known = known or {}
    unknown = {name: files[name].data for name in FILES[1:] if name not in known}
    for name, stored in {**known, **stored_files(unknown)}.items():
        if manifest.files.get(name) != stored:  # type: ignore[call-overload]
            raise BadReply(f"{origin}: {name} is not what its manifest says")
    found = GraphSet(manifest, files[TRAINING].tobytes(), files[EVALUATION].tobytes(), files[CONSTANTS])
    for name, graph in {TRAINING: found.training, EVALUATION: found.evaluation}.items():
        if ELSEWHERE.search(graph):
            raise BadReply(f"{origin}: {name} names another file to read values from, which no graph of Heron's does")
    return found


def read_graphs(home: Path) -> GraphSet:
    """What `write` stored. BadReply: a file has another size or hash than the manifest, or that than the folder's name
    says. Raises OSError."""
    size = (home / CONSTANTS).stat().st_size
    read = StoredFile(sha256=sha256_of(home / CONSTANTS), bytes=size)  # not through the map: it would be resident then
    constants = np.memmap(home / CONSTANTS, np.uint8, "r") if size else np.empty(0, np.uint8)
    files = {name: np.frombuffer((home / name).read_bytes(), np.uint8) for name in (MANIFEST, TRAINING, EVALUATION)}
    return graphs_of({**files, CONSTANTS: constants}, home.name, str(home), {CONSTANTS: read})


def stored_files(contents: Mapping[str, bytes | memoryview]) -> dict[str, StoredFile]:
    """Size and hash of each."""
    return {
        name: StoredFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        for name, content in contents.items()
    }


def constants_of(values: Mapping[str, Array]) -> Array:
    """The values one after another in this order, little-endian and row-major, each at a multiple of 64 bytes."""
    blob = np.zeros(sum(-(-array.nbytes // ALIGNED) * ALIGNED for array in values.values()), np.uint8)
    at = 0
    for array in values.values():
        at += -at % ALIGNED
        blob[at : at + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        at += array.nbytes
    return blob[:at]


def _places(manifest: Manifest) -> Iterator[tuple[str, str, tuple[int, ...], int, int]]:
    """(name, dtype, shape, first byte, bytes) of each constant."""
    at = 0
    for tensor in manifest.tensors:
        if not tensor.travels:
            at += -at % ALIGNED
            size = prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
            yield tensor.name, tensor.dtype, tensor.shape, at, size
            at += size
