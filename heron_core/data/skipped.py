"""What a source passed over, and what it had to change: counted by reason, with the first place of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """One kind of thing that was passed over, or changed."""

    why: str
    """As it is said after the number: `hidden`, `not an image`, `turned upright as EXIF says`."""
    count: int
    first: str
    """The path, or `sample 7`."""

    def __str__(self) -> str:
        """`3 hidden (first: apples/.DS_Store)`."""
        return f"{self.count} {self.why} (first: {self.first})"


@dataclass(frozen=True)
class Skipped:
    """Files or samples passed over, by reason; false where there are none."""

    reasons: tuple[Reason, ...] = ()

    @property
    def count(self) -> int:
        """Of all reasons together."""
        return sum(reason.count for reason in self.reasons)

    def __bool__(self) -> bool:
        return bool(self.reasons)

    def __add__(self, other: Skipped) -> Skipped:
        return Skipped(self.reasons + other.reasons)

    def __str__(self) -> str:
        """`3 hidden (first: apples/.DS_Store), 1 not an image (first: apples/notes.txt)`."""
        return ", ".join(map(str, self.reasons))


def tally(found: Iterable[tuple[str, object]]) -> Skipped:
    """Pairs (why, place) counted by why, in the order in which the reasons first come up."""
    counted: dict[str, tuple[int, str]] = {}
    for why, place in found:
        count, first = counted.get(why, (0, str(place)))
        counted[why] = count + 1, first
    return Skipped(tuple(Reason(why, count, first) for why, (count, first) in counted.items()))
