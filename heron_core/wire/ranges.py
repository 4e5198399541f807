"""The range of a group of 32 values, in 16 bits: 12 for its step (8 of exponent, 4 of mantissa, rounded up), and 4 for
the place of its zero, in parts of L / 15. A group without negative numbers, such as what a ReLU gives, has its whole
range above 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heron_core.errors import TensorError

GROUP = 32
FOUR = 4
"""Values of a group that stay together."""
PLACES = 15
"""Zero lies at one of PLACES + 1 places of a range."""
SMALLEST_STEP = 2.0**-110
WHOLE = 1.5 * 2.0**23
"""Added to a float32, it leaves whole numbers, in its lowest bits."""
Floats = NDArray[np.float32]


def of(rows: Floats, last: int) -> tuple[NDArray[np.uint32], Floats, Floats]:
    """Of each group in rows [8, groups x 4], with the smallest step at which its values lie within 0 to `last`: the 16
    bits, 256 / step, and the place of zero in 256ths of a step, plus WHOLE, or once where it is the same for all.

    Raises TensorError where a value is NaN, Inf, or so large that the step overflows.
    """
    above, below = _ends(rows)
    larger = np.maximum(above, np.float32(SMALLEST_STEP * last))
    if below is not None:
        np.maximum(larger, below, out=larger)
    if not np.isfinite(larger.max()):
        raise TensorError(f"must be finite, got {int((~np.isfinite(rows)).sum())} NaN or Inf among {rows.size} values")
    if below is None:
        factors, bits = _steps(larger, np.float32(PLACES), last)
        return bits, factors, _ZEROS_OF_WHOLE[last][:1]
    parts = np.minimum(below, above)
    parts /= larger
    parts += 1
    np.divide(np.float32(PLACES), parts, out=parts)
    np.floor(parts, out=parts)
    factors, bits = _steps(larger, parts, last)
    places = parts.astype(np.uint8)
    places ^= (below <= above).view(np.uint8) * np.uint8(PLACES)  # 15 - p = p ^ 15
    bits |= places
    return bits, factors, _ZEROS_OF_WHOLE[last].take(places)


def _steps(larger: Floats, parts: Floats | np.float32, last: int) -> tuple[Floats, NDArray[np.uint32]]:
    """256 / step, and the step's bits; `parts`: of PLACES, those for the larger side of 0. Spoils `larger`."""
    larger /= parts
    larger *= np.float32(PLACES / last)
    bits = larger.view(np.uint32)
    bits += np.uint32(0x7FFFF)
    bits &= np.uint32(0xFFF80000)
    _check(larger, last)
    factors: Floats = np.divide(np.float32(256), larger)
    bits >>= 15
    return factors, bits


def read(ranges: NDArray[np.uint16], last: int) -> tuple[Floats, Floats]:
    """Of each group: step, and where its zero lies. Raises TensorError for a step with which numbers overflow."""
    bits = ranges.astype(np.uint32)
    zeros = _ZEROS[last].take(bits & PLACES)
    bits >>= 4
    bits <<= 19
    steps: Floats = bits.view(np.float32)
    _check(steps, last)
    return steps, zeros


_ZEROS: dict[int, Floats] = {
    last: (np.rint(np.arange(PLACES + 1) * (256 * last / PLACES)) / 256).astype(np.float32) for last in (255, 15, 3)
}
"""The places of zero for each L, in steps: whole for 255 and 15, to the nearest 256th for 3."""
_ZEROS_OF_WHOLE: dict[int, Floats] = {last: zeros * 256 + np.float32(WHOLE) for last, zeros in _ZEROS.items()}


def _ends(rows: Floats) -> tuple[Floats, Floats | None]:
    """How far each group reaches above 0 and below; None where none does."""
    above, lowest = np.maximum.reduce(rows, axis=0), np.minimum.reduce(rows, axis=0)
    if lowest.min() >= 0:
        return _most(above), None
    return np.maximum(_most(above), 0), np.maximum(_most(np.negative(lowest, out=lowest)), 0)


def _most(fours: Floats) -> Floats:
    """The largest of each four."""
    twos = np.maximum(fours[0::2], fours[1::2])
    most: Floats = np.maximum(twos[0::2], twos[1::2])
    return most


def _check(steps: Floats, last: int) -> None:
    most = np.finfo(np.float32).max / last
    if not steps.max() <= most:
        raise TensorError(f"must have steps of at most {most:.3g} in each group of {GROUP}, got {steps.max()}")
