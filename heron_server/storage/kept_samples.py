"""Activations and labels that came once and are used again: a file for each client in the run directory.

A file has a head, then a place for each of the client's samples, in the order of its numbers. Each place begins with a
checksum, so that one that a kill or a power cut left half written is not there. What the operating system's own cache
of files holds is read from memory.
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
from heron_server.storage.durable import storing
from heron_server.text.units import bytes_text

HEAD = Struct("<8s16sQQ")
"""Magic, numbering, samples, bytes of a place."""
MAGIC = b"HERONKS1"
MARK = Struct("<II")
"""One more than the sample's number, and the checksum of its bytes."""


def place_bytes(tensors: Sequence[TensorSpec]) -> int:
    """On the disk for one sample."""
    return MARK.size + sum(spec.bytes_per_sample for spec in tensors)


@dataclass
class _File:
    """One client's; open only while it is read or written, for there may be thousands."""

    path: Path
    numbering: bytes
    held: NDArray[np.bool_]


class KeptSamples:
    """Of all clients of a run, by rank. `held` may be called while the worker works for another client."""

    def __init__(self, folder: Path, tensors: Sequence[TensorSpec], budget: int) -> None:
        """Reads what an earlier server of the run has left. `tensors`: of one sample, activations and labels."""
        self._folder, self._tensors, self._budget = folder, tuple(tensors), budget
        self._place = place_bytes(tensors)
        self._files: dict[int, _File] = {}
        self._promised: dict[int, int] = {}
        """By rank, the bytes of all its samples."""
        with storing(folder):
            folder.mkdir(exist_ok=True)
            for path in folder.glob("*.samples"):
                self._read(path)

    def held(self, rank: int, numbering: bytes, samples: int) -> NDArray[np.bool_]:
        """What is here of a client's samples; a copy. TensorError: the budget has no room for all of them."""
        others = sum(size for other, size in self._promised.items() if other != rank)
        needed = HEAD.size + samples * self._place
        if others + needed > self._budget:
            raise TensorError(
                f"client rank {rank}: its {samples:,} samples need {bytes_text(needed)} to be kept, and of "
                f"server.reuse_budget = {bytes_text(self._budget)} those of other clients take {bytes_text(others)}; "
                "raise it, or set codec.reuse = false"
            )
        self._promised[rank] = needed
        file = self._files.get(rank)
        known = file is not None and (file.numbering, len(file.held)) == (numbering, samples)
        return file.held.copy() if file is not None and known else np.zeros(samples, dtype=bool)

    def whole(
        self, rank: int, numbering: bytes, samples: int, numbers_B: Array, new: Sequence[Array], rows: Sequence[Array]
    ) -> None:
        """Keeps the `new` rows of an upload, checked ones, and fills all of its `rows` [B, ...]; on the worker.

        TensorError: one of the others is not here, for the upload that brought it could not be used.
        """
        file = self._files.get(rank)
        if file is None or (file.numbering, len(file.held)) != (numbering, samples):
            file = self._begin(rank, numbering, samples)
        fresh = np.flatnonzero(~file.held[numbers_B])
        if len(fresh) != len(new[0]):
            raise TensorError(f"{len(fresh)} of its samples are not kept, {len(new[0])} came; an earlier upload failed")
        for number, row in enumerate(fresh.tolist()):
            for array, given in zip(rows, new, strict=True):
                array[row] = given[number]
        with storing(file.path), _opened(file.path) as handle:
            for row in range(len(numbers_B)):
                self._use(handle, file, int(numbers_B[row]), [array[row : row + 1] for array in rows])

    def _use(self, handle: int, file: _File, number: int, parts: Sequence[Array]) -> None:
        """Writes one sample, or reads it where it is kept."""
        at, views = HEAD.size + number * self._place, [as_bytes(part) for part in parts]
        if file.held[number]:
            done = os.preadv(handle, views, at + MARK.size)
        else:
            mark = MARK.pack(number + 1, _checksum(views))
            done = os.pwritev(handle, [mark, *views], at) - MARK.size
            file.held[number] = True
        if done != self._place - MARK.size:
            raise OSError(0, f"{done} bytes of sample {number} were read or written, not {self._place - MARK.size}")

    def _begin(self, rank: int, numbering: bytes, samples: int) -> _File:
        """An empty file; what it held under another numbering is gone."""
        path = self._folder / f"{rank}.samples"
        with storing(path), _opened(path, os.O_CREAT | os.O_TRUNC) as handle:
            os.pwrite(handle, HEAD.pack(MAGIC, numbering, samples, self._place), 0)
        file = self._files[rank] = _File(path, numbering, np.zeros(samples, dtype=bool))
        return file

    def _read(self, path: Path) -> None:
        """One that an earlier server wrote; left out where it is not whole enough to say whose it is."""
        with _opened(path) as handle:
            head, size = os.pread(handle, HEAD.size, 0), os.fstat(handle).st_size
            if len(head) < HEAD.size or not path.stem.isdecimal():
                return
            magic, numbering, samples, place = HEAD.unpack(head)
            if (magic, place) == (MAGIC, self._place) and size <= HEAD.size + samples * place <= self._budget:
                there = [self._is_whole(handle, number) for number in range(samples)]
                self._files[int(path.stem)] = _File(path, numbering, np.array(there, dtype=bool))
                self._promised[int(path.stem)] = HEAD.size + samples * place

    def _is_whole(self, handle: int, number: int) -> bool:
        place = os.pread(handle, self._place, HEAD.size + number * self._place)
        return len(place) == self._place and MARK.unpack_from(place) == (number + 1, crc32(place[MARK.size :]))


@contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    """Its descriptor."""
    handle = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _checksum(views: Sequence[memoryview]) -> int:
    found = 0
    for view in views:
        found = crc32(view, found)
    return found
