"""What the labels 0, 1, ... are called. Names are compared in Unicode's composed form (NFC)."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from unicodedata import normalize

MOST_LETTERS = 256
FEW = 12


def normal(name: str) -> str:
    """The name as it is compared: a file system may have stored an umlaut as two characters."""
    return normalize("NFC", name)


def problem_of(names: Sequence[str]) -> str | None:
    """Why these cannot be the names of classes, as the end of a sentence; None where they can."""
    for name in names:
        if not name.strip() or len(name) > MOST_LETTERS or not name.isprintable():
            return f"a class name is 1 to {MOST_LETTERS} printable characters, got {name[:80]!r}"
    seen: set[str] = set()
    for name in map(normal, names):
        if name in seen:
            return f"class names must differ, {name!r} is there twice"
        seen.add(name)
    return None


def listed(names: Sequence[str]) -> str:
    """`apfel, birne, kirsche`; of many, the first few and how many there are."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def counted(counts: Sequence[int], names: Sequence[str]) -> str:
    """`apfel 12, birne 0, kirsche 9`, where each class has a name and they are few; else the counts alone."""
    if len(names) != len(counts) or len(names) > FEW:
        return str(list(counts))
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))


def nearest(name: str, names: Sequence[str]) -> tuple[str, bool] | None:
    """The one of `names` that is probably meant, and whether only upper and lower case differ."""
    for other in names:
        if other.casefold() == normal(name).casefold():
            return other, True
    close = get_close_matches(normal(name), names[:1000], n=1)
    return (close[0], False) if close else None
