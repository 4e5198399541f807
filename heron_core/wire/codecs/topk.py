"""One value in eight, and where it stands: randomised top-k (Zheng et al., 2305.18469).

A block has a bit for each value, the first in a byte's highest bit, and behind them those kept as bfloat16, in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.wire.codecs import bfloat16

CHUNK = 1 << 16
"""Values of which an eighth is kept."""
GIVEN_UP = 26
"""In 256ths: of those kept, the share that gives its place to others, about the paper's tenth."""
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_KEPT = bfloat16.BFloat16()


@dataclass(frozen=True)
class TopK:
    """Of each CHUNK float32 an eighth, rounded up: for those |decoded - x| <= |x| / 256, or 2^-134 where that is more.
    All others are read as 0.

    Kept are the largest in magnitude, the first among equals; but each of them gives its place, with a chance of 0.1,
    to another value drawn at random, so that no value is always left out.
    """

    def size(self, values: int) -> int:
        """Bytes of a block of so many values."""
        return 3 * _eighth(values)

    def encode(self, values: Floats, rng: np.random.Generator) -> Bytes:
        """`values` [n] as a block; raises TensorError where one is NaN, Inf, or rounds to Inf."""
        block: Bytes = np.empty(self.size(len(values)), np.uint8)
        marks, kept = np.split(block, [_eighth(len(values))])
        for start in range(0, len(values), CHUNK):
            part, first = values[start : start + CHUNK], _eighth(start)
            bfloat16.check(part)
            chosen = _chosen(np.abs(part), rng)
            marks[first : first + _eighth(len(part))] = np.packbits(chosen)
            kept[2 * first : 2 * (first + _eighth(len(part)))] = _KEPT.encode(part[chosen], rng)
        return block

    def decode(self, block: Bytes, out: Floats) -> None:
        """The values of a block of the right size into `out` [n]. TensorError: NaN, Inf, or another number of marks."""
        marks, kept = np.split(block, [_eighth(len(out))])
        for start in range(0, len(out), CHUNK):
            part, first = out[start : start + CHUNK], _eighth(start)
            count = _eighth(len(part))
            chosen = np.unpackbits(marks[first : first + count], count=len(part)).view(np.bool_)
            if (marked := int(np.count_nonzero(chosen))) != count:
                raise TensorError(f"must mark {count} of {len(part)} values, got {marked} marks")
            values = np.empty(count, np.float32)
            _KEPT.decode(kept[2 * first : 2 * (first + count)], values)
            part[:] = 0
            part[chosen] = values


def _eighth(values: int) -> int:
    return -(-values // 8)


def _chosen(sizes: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of these magnitudes are kept."""
    count = _eighth(len(sizes))
    least = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
    chosen: NDArray[np.bool_] = sizes > least
    chosen[np.flatnonzero(sizes == least)[: count - np.count_nonzero(chosen)]] = True
    words: Array = np.asarray(rng.bit_generator.random_raw(_eighth(count)))
    others = np.flatnonzero(~chosen)
    leave = np.flatnonzero(chosen)[words.view(np.uint8)[:count] < GIVEN_UP][: len(others)]
    chosen[rng.choice(others, len(leave), replace=False, shuffle=False)] = True
    chosen[leave] = False
    return chosen
