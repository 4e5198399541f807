"""Numbers in 8 bits and fewer: consecutive values in groups of 32, each group with a range of its own.

A value x is sent as a whole number c and read as step (c - zero): c is 0 to L = 2^bits - 1, and zero is where 0 lies in
the group's range (ranges.py). A block has each group's range in 16 bits, and behind them the numbers of all groups; the
last group is filled up with zeros. Of each CHUNK values the numbers lie as they are computed fastest: first the first
four of every group, then the next four of every group. In 4 bits the first half of these takes each byte's lower bits
and the second half its upper bits; in 2 bits so do four quarters.
Every machine comes to the same bits: each operation is one IEEE operation on float32, or on integers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.wire.codecs import ranges
from heron_core.wire.codecs.ranges import FOUR, GROUP

CHUNK = 1 << 16
"""Values that are worked on at once, so that they stay in the processor's cache. A block's order follows from it."""
TILE = 1 << 13
"""Values after which the random bytes are used again, each flipped by another random byte."""
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class _Room(threading.local):
    """A thread's own memory for one chunk: made once, as the system takes larger pieces back each time."""

    def __init__(self) -> None:
        self.floats = np.empty(CHUNK, np.float32)
        self.numbers = np.empty(CHUNK, np.uint16)


_room = _Room()


@dataclass(frozen=True)
class Grouped:
    """float32 in `bits` bits each. With r = max(0, x) - min(0, x) over a group, |decoded - x| <= 1.22 r / L for each x
    of it (1.07 r / L where none or all are negative), or 2^-108 where that is more.

    x is rounded up or down at random, so that what is read is x on average, to 1/512 of a step; any two values are
    rounded independently of each other.
    """

    bits: int
    """8, 4 or 2."""

    def size(self, values: int) -> int:
        """Bytes of a block of so many values: the groups' ranges, then the numbers."""
        return _groups(values) * (2 + GROUP * self.bits // 8)

    @np.errstate(invalid="ignore")
    def encode(self, values: Floats, rng: np.random.Generator) -> Bytes:
        """`values` [n] as a block; raises TensorError where one is NaN, Inf, or so large that its step overflows."""
        block: Bytes = np.empty(self.size(len(values)), np.uint8)
        noise = _Noise(rng, len(values))
        for start, found, coded in self._chunks(block, len(values)):
            part = values[start : start + CHUNK]
            signed = not part.min() >= 0  # read once in its order, it comes into the cache fastest
            rows = _turned(part)
            found[:], factors, zeros = ranges.of(rows, self._last, signed)
            rows *= np.repeat(factors, FOUR)
            rows += zeros if len(zeros) == 1 else np.repeat(zeros, FOUR)
            numbers = _room.numbers[: rows.size]
            # The lower half of such a float32 is the number in 256ths of a step.
            np.copyto(numbers, rows.reshape(-1).view(np.uint32), casting="unsafe")
            numbers += noise.at(start, len(numbers))
            numbers >>= 8
            self._pack(numbers, coded)
        return block

    def decode(self, block: Bytes, out: Floats) -> None:
        """The values of a block of the right size into `out` [n]. TensorError: a group's step is not finite."""
        for start, found, coded in self._chunks(block, len(out)):
            steps, zeros = ranges.read(found, self._last)
            rows = _room.floats[: len(found) * GROUP].reshape(-1, len(found) * FOUR)
            self._unpack(coded, rows.reshape(-1))
            if zeros is not None:
                rows -= np.repeat(zeros, FOUR)
            rows *= np.repeat(steps, FOUR)
            _turn_back(rows, out[start : start + CHUNK])

    @property
    def _last(self) -> int:
        """L."""
        return int(2**self.bits - 1)

    def _chunks(self, block: Bytes, values: int) -> Iterator[tuple[int, NDArray[np.uint16], Bytes]]:
        """Of each chunk: its first value, its groups' ranges, and its numbers in the block."""
        split, bytes_each = 2 * _groups(values), GROUP * self.bits // 8
        found, coded = block[:split].view("<u2"), block[split:].reshape(-1, bytes_each)
        for start in range(0, values, CHUNK):
            groups = slice(start // GROUP, (start + CHUNK) // GROUP)
            yield start, found[groups], coded[groups].reshape(-1)

    def _pack(self, numbers: NDArray[np.uint16], coded: Bytes) -> None:
        """`numbers` are spoilt."""
        parts = numbers.reshape(8 // self.bits, -1)
        for i, part in enumerate(parts[1:], 1):
            part <<= i * self.bits
            parts[0] |= part
        np.copyto(coded, parts[0], casting="unsafe")

    def _unpack(self, coded: Bytes, numbers: Floats) -> None:
        parts = numbers.reshape(8 // self.bits, -1)
        for i, part in enumerate(parts):
            np.copyto(part, coded >> i * self.bits & self._last if len(parts) > 1 else coded)


class _Noise:
    """One random byte for each value: a tile of them, and for each further tile two that flip its bytes in turn."""

    def __init__(self, rng: np.random.Generator, values: int) -> None:
        raw, whole = rng.bit_generator.random_raw, _groups(values) * GROUP
        words: Array = np.asarray(raw(min(TILE, whole) // 8))
        flips: Array = np.asarray(raw(-(-whole // TILE)))
        self._tile = words.view(np.uint8).astype(np.uint16).view(np.uint32)
        self._flips = (flips.astype(np.uint32) & np.uint32(0x00FF00FF))[:, None]

    def at(self, start: int, count: int) -> NDArray[np.uint16]:
        """Those of so many values from `start` on, which begins a tile, in the memory of the floats."""
        flips = self._flips[start // TILE : -(-(start + count) // TILE)]
        drawn = _room.floats.view(np.uint32)[: len(flips) * len(self._tile)].reshape(len(flips), -1)
        np.bitwise_xor(self._tile, flips, out=drawn)
        return drawn.reshape(-1).view(np.uint16)[:count]


def _groups(values: int) -> int:
    return -(-values // GROUP)


def _turned(part: Floats) -> Floats:
    """A chunk as [8, groups x 4]: each group is a column of fours, so that what is of a group is one row's work."""
    groups = _groups(len(part))
    if len(part) < groups * GROUP:
        part = np.concatenate([part, np.zeros(groups * GROUP - len(part), np.float32)])
    fours = _room.floats[: len(part)].view(np.complex128).reshape(-1, groups)
    np.copyto(fours, part.view(np.complex128).reshape(groups, -1).T)
    return fours.view(np.float32)


def _turn_back(rows: Floats, part: Floats) -> None:
    """What `_turned` was given."""
    fours = rows.view(np.complex128)
    whole = part if part.size == rows.size else np.empty(rows.size, np.float32)
    np.copyto(whole.view(np.complex128).reshape(-1, len(fours)), fours.T)
    if whole is not part:
        part[:] = whole[: len(part)]
