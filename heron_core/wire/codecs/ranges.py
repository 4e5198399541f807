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
_BELOW_UPPER = np.uint32(0x7FFFF)
"""The bits of a float32 that a step does not have."""
Floats = NDArray[np.float32]
Bits = NDArray[np.uint32]


def of(rows: Floats, last: int, signed: bool) -> tuple[Bits, Floats, Floats]:
    """Of each group in rows [8, groups x 4], with the smallest step at which its values lie within 0 to `last`: the 16
    bits, 256 / step, and the place of zero in 256ths of a step, plus WHOLE, or once where it is the same for all.

    `signed`: a value may be negative. Raises TensorError where one is NaN, Inf, or so large that the step overflows.
    """
    above = _largest(np.maximum.reduce(rows, axis=0))
    larger = np.maximum(above, np.float32(SMALLEST_STEP * last))
    if not signed:
        return *_steps(rows, larger, np.float32(PLACES), last), _ZEROS_OF_WHOLE[last][:1]
    below = _largest(-np.minimum.reduce(rows, axis=0))
    np.maximum(larger, below, out=larger)
    parts = np.minimum(below, above)
    parts /= larger
    parts += 1
    np.divide(np.float32(PLACES), parts, out=parts)
    np.floor(parts, out=parts)
    bits, factors = _steps(rows, larger, parts, last)
    places = parts.astype(np.uint8)
    places ^= (below <= above).view(np.uint8) * np.uint8(PLACES)  # 15 - p = p ^ 15
    bits |= places
    return bits, factors, _ZEROS_OF_WHOLE[last].take(places)


def _steps(rows: Floats, larger: Floats, parts: Floats | np.float32, last: int) -> tuple[Bits, Floats]:
    """The steps' bits, and 256 / step; `parts`: of PLACES, those for the larger side of 0. Spoils `larger`."""
    larger /= parts
    larger *= np.float32(PLACES / last)
    if not larger.max() <= _LARGEST_STEP[last]:
        raise _refusal(rows, larger, last)
    bits = larger.view(np.uint32)
    bits += _BELOW_UPPER
    bits &= ~_BELOW_UPPER
    factors: Floats = np.divide(np.float32(256), larger)
    bits >>= 15
    return bits, factors


def read(ranges: NDArray[np.uint16], last: int) -> tuple[Floats, Floats | None]:
    """Of each group: step, and where its zero lies; None where it is 0 for all. TensorError: numbers overflow."""
    bits = ranges.astype(np.uint32)
    places = bits & PLACES
    bits >>= 4
    bits <<= 19
    steps: Floats = bits.view(np.float32)
    if not steps.max() <= _LARGEST_STEP[last]:
        raise _refusal(np.empty(0, np.float32), steps, last)
    return steps, _ZEROS[last].take(places) if places.any() else None


_ZEROS: dict[int, Floats] = {
    last: (np.rint(np.arange(PLACES + 1) * (256 * last / PLACES)) / 256).astype(np.float32) for last in (255, 15, 3)
}
"""The places of zero for each L, in steps: whole for 255 and 15, to the nearest 256th for 3."""
_LARGEST_STEP: dict[int, np.float32] = {
    last: (np.float32(np.finfo(np.float32).max / last).view(np.uint32) & ~_BELOW_UPPER).view(np.float32)
    for last in _ZEROS
}
_ZEROS_OF_WHOLE: dict[int, Floats] = {last: zeros * 256 + np.float32(WHOLE) for last, zeros in _ZEROS.items()}


def _largest(fours: Floats) -> Floats:
    """Of each four, or 0."""
    twos = np.maximum(fours[0::2], fours[1::2])
    largest: Floats = np.maximum(twos[0::2], twos[1::2])
    return np.maximum(largest, 0, out=largest)


def _refusal(rows: Floats, steps: Floats, last: int) -> TensorError:
    if bad := int((~np.isfinite(rows)).sum()):
        return TensorError(f"must be finite, got {bad} NaN or Inf among {rows.size} values")
    most = _LARGEST_STEP[last]
    return TensorError(f"must have steps of at most {most:.3g} in each group of {GROUP}, got {steps.max()}")
