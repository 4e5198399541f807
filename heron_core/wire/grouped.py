"""Numbers in 8 bits and fewer: consecutive values in groups of 32, each group with a range of its own.

A value x is sent as a whole number c and read as step (c - zero): c is 0 to L = 2^bits - 1, and zero is where 0 lies in
the group's range. A group without negative numbers, such as what a ReLU gives, has its whole range above 0.
A group's 16 bits hold its step in 12 (8 of exponent, 4 of mantissa, rounded up) and zero in 4, in parts of L / 15.
Every machine comes to the same bits: each operation is one IEEE operation on float32 or float64, or on integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.errors import TensorError

GROUP = 32
CHUNK = 1 << 16
"""Values that are worked on at once, so that they stay in the processor's cache."""
PLACES = 15
"""Zero lies at one of PLACES + 1 places of a range."""
SMALLEST_STEP = 2.0**-110
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Ranges = NDArray[np.uint16]


@dataclass(frozen=True)
class Grouped:
    """float32 in `bits` bits each. With r = max(0, x) - min(0, x) over a group, |decoded - x| <= 1.22 r / L for each x
    of it (1.07 r / L where none or all are negative), or 2^-109 where that is more.

    x is rounded up or down at random, so that what is read is x on average, to 1/512 of a step.
    """

    bits: int
    """8, 4 or 2."""

    def size(self, values: int) -> int:
        """Bytes of a block of so many values: the groups' ranges, then the numbers."""
        return 2 * _groups(values) + -(-values * self.bits // 8)

    def encode(self, values: Floats, rng: np.random.Generator) -> Bytes:
        """`values` [n] as a block; raises TensorError where one is NaN, Inf, or so large that its step overflows."""
        block: Bytes = np.empty(self.size(len(values)), np.uint8)
        ranges, codes = _split(block, len(values))
        scaled, numbers = _room(len(values), np.float32), _room(len(values), np.uint16)
        for start, end in _chunks(len(values)):
            part = _padded(values[start:end], GROUP)
            found = ranges[start // GROUP :][: len(part) // GROUP]
            found[:] = _ranges_of(part, self._last)
            self._round(part, found, rng, scaled[: len(part)], numbers[: len(part)])
            coded = codes[start * self.bits // 8 : -(-end * self.bits // 8)]
            coded[:] = self._packed(numbers[: len(part)])[: len(coded)]
        return block

    def decode(self, block: Bytes, out: Floats) -> None:
        """The values of a block of the right size into `out` [n]. TensorError: a group's step is not finite."""
        ranges, codes = _split(block, len(out))
        room = _room(len(out), np.float32)
        for start, end in _chunks(len(out)):
            coded = _padded(codes[start * self.bits // 8 : -(-end * self.bits // 8)], GROUP * self.bits // 8)
            numbers = self._unpack(coded, room).reshape(-1, GROUP)
            steps, zeros = _read(ranges[start // GROUP :][: len(numbers)], self._last)
            if zeros.any():
                numbers -= zeros[:, None]
            numbers *= steps[:, None]
            out[start:end] = numbers.reshape(-1)[: end - start]

    @property
    def _last(self) -> int:
        """L."""
        return int(2**self.bits - 1)

    def _round(
        self, part: Floats, ranges: Ranges, rng: np.random.Generator, scaled: Floats, numbers: NDArray[np.uint16]
    ) -> None:
        """c of each value: it in 256ths of a step, to the nearest; up to 255 of them more, at random; then down."""
        steps, zeros = _read(ranges, self._last)
        factors = np.float32(256) / np.where(steps > 0, steps, np.float32(np.inf))
        np.multiply(part.reshape(-1, GROUP), factors[:, None], out=scaled.reshape(-1, GROUP))
        scaled.reshape(-1, GROUP)[...] += (zeros * np.float32(256) + np.float32(0.5))[:, None]
        np.copyto(numbers, scaled, casting="unsafe")
        noise: Array = np.asarray(rng.bit_generator.random_raw(len(part) // 8))
        numbers += noise.view(np.uint8)
        numbers >>= 8

    def _packed(self, numbers: NDArray[np.uint16]) -> Bytes:
        """The first number in the lowest bits of a byte."""
        if self.bits == 8:
            return numbers.astype(np.uint8)
        if self.bits == 4:
            two: NDArray[np.uint32] = numbers.view(np.uint32)
            return (two | two >> 12).astype(np.uint8)
        four: NDArray[np.uint64] = numbers.view(np.uint64)
        return (four | four >> 14 | four >> 28 | four >> 42).astype(np.uint8)

    def _unpack(self, coded: Bytes, room: Floats) -> Floats:
        """Into as much of `room` as it takes."""
        numbers = room[: len(coded) * 8 // self.bits]
        if self.bits == 8:
            numbers[:] = coded
        else:
            table = _IN_A_BYTE[self.bits]
            table.take(coded, out=numbers.view(table.dtype), mode="clip")
        return numbers


def _in_a_byte(bits: int) -> Array:
    """What each byte holds: one element of two or four float32 in a row."""
    shifts = np.arange(0, 8, bits)
    each: Array = (np.arange(256)[:, None] >> shifts & 2**bits - 1).astype(np.float32)
    joined: Array = each.view(np.complex64 if bits == 4 else np.complex128)
    return joined[:, 0]


_IN_A_BYTE = {bits: _in_a_byte(bits) for bits in (4, 2)}


def _groups(values: int) -> int:
    return -(-values // GROUP)


def _chunks(values: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + CHUNK, values)) for start in range(0, values, CHUNK))


def _room(values: int, dtype: type[np.generic]) -> Array:
    """For one chunk: made once, as the system takes larger pieces of memory back each time."""
    return np.empty(min(CHUNK, _groups(values) * GROUP), dtype)


def _split(block: Bytes, values: int) -> tuple[Ranges, Bytes]:
    end = 2 * _groups(values)
    return block[:end].view("<u2"), block[end:]


def _padded(part: Array, multiple: int) -> Array:
    """`part`, with zeros behind it where it ends within a group."""
    if not len(part) % multiple:
        return part
    whole = np.zeros(-(-len(part) // multiple) * multiple, part.dtype)
    whole[: len(part)] = part
    return whole


def _ranges_of(part: Floats, last: int) -> NDArray[np.uint32]:
    """The 16 bits of each group of `part`: the smallest step with which all its values lie within 0 to `last`."""
    low = high = part
    while len(low) > len(part) // GROUP:
        low, high = np.minimum(low[0::2], low[1::2]), np.maximum(high[0::2], high[1::2])
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise TensorError(f"must be finite, got {int((~np.isfinite(part)).sum())} NaN or Inf among {len(part)} values")
    below, above = -np.minimum(low, 0).astype(np.float64), np.maximum(high, 0).astype(np.float64)
    whole = below + above
    share = PLACES * below / np.where(whole > 0, whole, 1)
    places = np.where(2 * share <= PLACES, np.ceil(share), np.floor(share))
    each = np.maximum(below / np.maximum(places, 1), above / np.maximum(PLACES - places, 1))
    steps = np.maximum(each * (PLACES / last), SMALLEST_STEP) * (whole > 0)
    upper: NDArray[np.uint32] = steps.astype(np.float32).view(np.uint32) + np.uint32(0x7FFFF)
    upper >>= 19
    upper <<= 4
    upper += places.astype(np.uint32)
    return upper


def _read(ranges: Ranges, last: int) -> tuple[Floats, Floats]:
    """Of each group: step, and where its zero lies. Raises TensorError for a step with which numbers overflow."""
    steps: Floats = (ranges.astype(np.uint32) >> 4 << 19).view(np.float32)
    most = np.finfo(np.float32).max / last
    if not (steps <= most).all():
        raise TensorError(f"must have steps of at most {most:.3g} in each group of {GROUP}, got {steps.max()}")
    return steps, (ranges & PLACES).astype(np.float32) * np.float32(last / PLACES)
