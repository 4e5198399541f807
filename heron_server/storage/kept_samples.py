"""Activations and labels that came once and are used again: a file for each client in the run directory.

A file has a head, then a place for each of the client's samples, in the order of its numbers, and where activations
move another for each, of another round. Each place begins with a checksum, so that one that a kill or a power cut left
half written is not there. What the operating system's own cache of files holds is read from memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.errors import TensorError
from heron_core.wire.codec import as_bytes
from heron_core.wire.versions import Uploads, Versions
from heron_server.storage.durable import storing
from heron_server.text.units import bytes_text

HEAD = Struct("<8s16sQQ")
"""Magic, numbering, samples, bytes of a place."""
MAGIC = b"HERONKS2"
MARK = Struct("<III")
"""One more than the sample's number, which upload of its client brought it, and the checksum of that and its bytes."""


def place_bytes(tensors: Sequence[TensorSpec]) -> int:
    """On the disk for one sample's activations and label, as one upload brought them."""
    return MARK.size + sum(spec.bytes_per_sample for spec in tensors)


@dataclass
class _File:
    """One client's; open only while it is read or written, for there may be thousands."""

    path: Path
    numbering: bytes
    samples: int
    versions: Versions


class KeptSamples:
    """Of all clients of a run, by rank. `held` may be called while the worker works for another client."""

    def __init__(self, folder: Path, tensors: Sequence[TensorSpec], budget: int, count: int = 1) -> None:
        """Reads what an earlier server of the run has left. `tensors`: of one sample, activations and labels; `count`:
        versions of each sample."""
        self._folder, self._tensors, self._budget, self._count = folder, tuple(tensors), budget, count
        self._place, self._before = place_bytes(tensors), 0
        self._files: dict[int, _File] = {}
        self._promised: dict[int, int] = {}
        """By rank, the bytes of all its samples."""
        with storing(folder):
            folder.mkdir(exist_ok=True)
            for path in folder.glob("*.samples"):
                self._read(path)

    def begin_round(self, before: int) -> None:
        """Where samples have versions, what an earlier attempt at the round brought is gone. `before`: uploads of a
        client in the rounds before it. Nobody may be at work on an upload."""
        self._before = before
        for file in self._files.values() if self._count > 1 else ():
            lost = np.argwhere(file.versions.brought > before)
            if len(lost):
                with storing(file.path), _opened(file.path) as handle:
                    for version, number in lost.tolist():
                        os.pwrite(handle, bytes(MARK.size), self._at(file, version, number))
                file.versions.brought[file.versions.brought > before] = 0

    def held(self, rank: int, numbering: bytes, samples: int) -> Uploads:
        """Which upload brought what is here of each of a client's samples; a copy. TensorError: the budget has no room
        for all of them."""
        others = sum(size for other, size in self._promised.items() if other != rank)
        needed = self._size(samples)
        if others + needed > self._budget:
            raise TensorError(
                f"client rank {rank}: its {samples:,} samples need {bytes_text(needed)} to be kept, and of "
                f"server.reuse_budget = {bytes_text(self._budget)} those of other clients take {bytes_text(others)}; "
                "raise it, or set codec.reuse = false"
            )
        self._promised[rank] = needed
        file = self._files.get(rank)
        known = file is not None and (file.numbering, file.samples) == (numbering, samples)
        return file.versions.newest if file is not None and known else np.zeros(samples, dtype=np.uint32)

    def whole(
        self, rank: int, numbering: bytes, samples: int, numbers_B: Array, sent_B: NDArray[np.bool_],
        brought_B: Uploads, new: Sequence[Array], rows: Sequence[Array],
    ) -> None:  # fmt: skip
        """Keeps the `new` rows of an upload, checked ones, those in `sent_B`, and fills all of its `rows` [B, ...]; on
        the worker. `brought_B`: which upload brought each.

        TensorError: one of the others is not here, for the upload that brought it could not be used.
        """
        file = self._files.get(rank)
        if file is None or (file.numbering, file.samples) != (numbering, samples):
            file = self._begin(rank, numbering, samples)
        missing = int((file.versions.newest[numbers_B] != brought_B)[~sent_B].sum())
        if missing:
            raise TensorError(f"{missing} of its samples are not kept and did not come; an earlier upload failed")
        for array, given in zip(rows, new, strict=True):
            array[sent_B] = given
        with storing(file.path), _opened(file.path) as handle:
            for row, number in enumerate(numbers_B.tolist()):
                parts = [array[row : row + 1] for array in rows]
                if sent_B[row]:
                    self._write(handle, file, number, int(brought_B[row]), parts)
                else:
                    self._load(handle, file, number, parts)

    def _write(self, handle: int, file: _File, number: int, upload: int, parts: Sequence[Array]) -> None:
        views = [as_bytes(part) for part in parts]
        version = int(file.versions.room(np.array([number]), self._before)[0])
        file.versions.brought[version, number] = 0
        mark = MARK.pack(number + 1, upload, _checksum(upload, views))
        self._check(number, os.pwritev(handle, [mark, *views], self._at(file, version, number)) - MARK.size)
        file.versions.brought[version, number] = upload

    def _load(self, handle: int, file: _File, number: int, parts: Sequence[Array]) -> None:
        at = self._at(file, int(file.versions.where(np.array([number]))[0]), number)
        self._check(number, os.preadv(handle, [as_bytes(part) for part in parts], at + MARK.size))

    def _check(self, number: int, done: int) -> None:
        if done != self._place - MARK.size:
            raise OSError(0, f"{done} bytes of sample {number} were read or written, not {self._place - MARK.size}")

    def _size(self, samples: int) -> int:
        return HEAD.size + self._count * samples * self._place

    def _at(self, file: _File, version: int, number: int) -> int:
        return HEAD.size + (version * file.samples + number) * self._place

    def _begin(self, rank: int, numbering: bytes, samples: int) -> _File:
        """An empty file; what it held under another numbering is gone."""
        path = self._folder / f"{rank}.samples"
        with storing(path), _opened(path, os.O_CREAT | os.O_TRUNC) as handle:
            os.pwrite(handle, HEAD.pack(MAGIC, numbering, samples, self._place), 0)
        file = self._files[rank] = _File(path, numbering, samples, Versions(samples, self._count))
        return file

    def _read(self, path: Path) -> None:
        """One that an earlier server wrote; left out where it is not whole enough to say whose it is."""
        with _opened(path) as handle:
            head, size = os.pread(handle, HEAD.size, 0), os.fstat(handle).st_size
            if len(head) < HEAD.size or not path.stem.isdecimal():
                return
            magic, numbering, samples, place = HEAD.unpack(head)
            if (magic, place) == (MAGIC, self._place) and size <= self._size(samples) <= self._budget:
                file = _File(path, numbering, samples, Versions(samples, self._count))
                for version in range(self._count):
                    file.versions.brought[version] = [self._brought(handle, file, version, n) for n in range(samples)]
                self._files[int(path.stem)], self._promised[int(path.stem)] = file, self._size(samples)

    def _brought(self, handle: int, file: _File, version: int, number: int) -> int:
        """By which upload; 0 where it is not whole."""
        place = os.pread(handle, self._place, self._at(file, version, number))
        if len(place) < self._place:
            return 0
        mark, upload, checksum = MARK.unpack_from(place)
        whole = (mark, checksum) == (number + 1, _checksum(upload, [memoryview(place)[MARK.size :]]))
        return int(upload) if whole else 0


@contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    """Its descriptor."""
    handle = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _checksum(upload: int, views: Sequence[memoryview]) -> int:
    found = crc32(upload.to_bytes(4, "little"))
    for view in views:
        found = crc32(view, found)
    return found
