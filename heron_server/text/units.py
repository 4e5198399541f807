"""Numbers as a person reads them. What is not known is a dash."""

from __future__ import annotations

import math
from collections.abc import Sequence

from heron_core.class_names import counted

UNKNOWN = "-"
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
FEW_CLASSES = 12


def known(value: float | None) -> bool:
    """Neither missing nor NaN."""
    return value is not None and math.isfinite(value)


def bytes_text(count: float | None) -> str:
    """`512 B`, `64.00 MiB`: two decimals, so that 244.19 and 244.20 GiB are told apart."""
    if count is None or not known(count):
        return UNKNOWN
    power = 0
    while abs(count) >= 1024 and power < len(BINARY) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.0f} B" if power == 0 else f"{count:,.2f} {BINARY[power]}"


def macs_text(count: float | None) -> str:
    """Multiply-accumulates: `39.896 G`."""
    if count is None or not known(count):
        return UNKNOWN
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= scale:
            return f"{count / scale:,.3f} {unit}"
    return f"{count:.0f}"


def percent_text(share: float | None) -> str:
    """`84.12 %` for 0.8412."""
    return UNKNOWN if share is None or not known(share) else f"{100 * share:.2f} %"


def number_text(value: float | None, digits: int = 4) -> str:
    """That many significant digits."""
    return UNKNOWN if value is None or not known(value) else f"{value:.{digits}g}"


def seconds_text(seconds: float | None) -> str:
    """`3.2 ms`, `12.3 s`, `4 min 05 s`, `2 h 07 min`."""
    if seconds is None or not known(seconds):
        return UNKNOWN
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"


def histogram_text(counts: Sequence[int], names: Sequence[str] = ()) -> str:
    """Samples of each class, by name or from class 0 on; for many classes only what the spread is."""
    if len(counts) <= FEW_CLASSES and len(names) == len(counts):
        return counted(counts, names)
    if len(counts) <= FEW_CLASSES:
        return " ".join(str(count) for count in counts) or UNKNOWN
    present = sum(count > 0 for count in counts)
    return f"{present} of {len(counts)} classes, {min(counts)} to {max(counts)} samples each"
