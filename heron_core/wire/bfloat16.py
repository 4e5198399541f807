"""Numbers in 16 bits: the upper half of a float32, rounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heron_core.errors import TensorError

CHUNK = 1 << 16
"""Values that are worked on at once, so that they stay in the processor's cache."""
EXPONENT = 0x7F80
"""All of its bits set: Inf or NaN."""
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class BFloat16:
    """float32 in two bytes each, rounded to the nearest, ties to even: |decoded - x| <= |x| / 256, or 2^-134 where that
    is more."""

    def size(self, values: int) -> int:
        """Bytes of a block of so many values."""
        return 2 * values

    def encode(self, values: Floats, rng: np.random.Generator) -> Bytes:
        """`values` [n] as a block; nothing is drawn. Raises TensorError where one is NaN, Inf, or rounds to Inf."""
        block: Bytes = np.empty(2 * len(values), np.uint8)
        halves = block.view("<u2")
        for start in range(0, len(values), CHUNK):
            whole = values[start : start + CHUNK].view(np.uint32)
            rounded = whole >> 16
            rounded &= 1
            rounded += 0x7FFF
            rounded += whole
            rounded >>= 16
            halves[start : start + CHUNK] = rounded
            _check(halves[start : start + CHUNK])
            _check(values[start : start + CHUNK].view(np.uint16)[1::2])
        return block

    def decode(self, block: Bytes, out: Floats) -> None:
        """The values of a block of the right size into `out` [n]; raises TensorError where one is NaN or Inf."""
        halves, bits = block.view("<u2"), out.view(np.uint32)
        _check(halves)
        bits[:] = halves
        bits <<= 16


def _check(halves: NDArray[np.uint16]) -> None:
    bad = int(np.count_nonzero((halves & EXPONENT) == EXPONENT))
    if bad:
        raise TensorError(f"must be finite and at most 3.39e38, got {bad} NaN or Inf among {len(halves)} values")
