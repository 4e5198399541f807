"""Numbers in 16 bits: the upper half of a float32, rounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heron_core.errors import TensorError

CHUNK = 1 << 16
"""Values that are worked on at once, so that they stay in the processor's cache."""
MOST = np.uint32(0x7F7F8000).view(np.float32)
"""From here on a float32 is rounded to Inf."""
INF = 0x7F80
"""Of a half without its sign: from here on it is Inf or NaN."""
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
        halves, room = block.view("<u2"), np.empty(min(CHUNK, len(values)), np.uint32)
        for start in range(0, len(values), CHUNK):
            part = values[start : start + CHUNK]
            check(part)
            whole, rounded = part.view(np.uint32), room[: len(part)]
            np.right_shift(whole, 16, out=rounded)
            rounded &= 1
            rounded += 0x7FFF
            rounded += whole
            rounded >>= 16
            np.copyto(halves[start : start + CHUNK], rounded, casting="unsafe")
        return block

    def decode(self, block: Bytes, out: Floats) -> None:
        """The values of a block of the right size into `out` [n]; raises TensorError where one is NaN or Inf."""
        halves, bits = block.view("<u2"), out.view(np.uint32)
        for start in range(0, len(out), CHUNK):
            part, whole = halves[start : start + CHUNK], bits[start : start + CHUNK]
            unsigned = part & 0x7FFF
            if unsigned.max() >= INF:
                raise _not_finite(unsigned >= INF)
            np.copyto(whole, part)
            whole <<= 16


def check(values: Floats) -> None:
    """Raises TensorError where one of `values`, which are not empty, is NaN, Inf, or rounds to Inf."""
    if not max(values.max(), -values.min()) < MOST:
        raise _not_finite(~(np.abs(values) < MOST))


def _not_finite(bad: NDArray[np.bool_]) -> TensorError:
    return TensorError(f"must be finite and at most 3.39e38, got {int(bad.sum())} NaN or Inf among {len(bad)} values")
