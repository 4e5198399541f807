"""A file of named columns, read row by row, and what a value in it is."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heron_core.errors import DataError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
"""What a value that is not there is written as, in any case."""
Row = tuple[int, Sequence[object]]
"""The number of a row, as a person counts it in the file, and its values."""


@dataclass(frozen=True)
class Table:
    """A file of rows."""

    path: Path
    names: tuple[str, ...]
    """Of all columns."""
    most_rows: int
    """The file holds no more."""
    unit: str
    """What a row's number counts: line or row."""
    rows: Callable[[Sequence[str]], Iterator[Row]]
    """The rows, with the values of these columns alone. Raises DataError for a file that cannot be read."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Columns that no row is read from, and why: `holds timestamp[us], neither numbers nor words`."""

    def need(self, names: Sequence[str]) -> None:
        """Raises DataError where the file lacks one of them, or its values are of no use."""
        if missing := [name for name in names if name not in self.names]:
            raise DataError(
                f"{self.path} has no column {', '.join(map(repr, missing))}; it has {', '.join(self.names)}: add it, "
                "or mend data.table in the run file"
            )
        if unfit := [name for name in names if name in self.unfit]:
            raise DataError(
                f"{self.path}: its column {unfit[0]!r} {self.unfit[unfit[0]]}; write what is to be learned from it as "
                "numbers or text, or name another column"
            )


def number(value: object, decimal: str = ".") -> float | None:
    """A cell of a column of numbers; None where it is missing. Raises ValueError for what is no finite number."""
    if value is None:
        return None
    if isinstance(value, str):
        written = value.strip()
        if written.lower() in MISSING:
            return None
        value = written.replace(decimal, ".") if decimal != "." else written
        if "_" in value:  # Python's own way to write thousands, nobody else's
            raise ValueError(value)
    out = float(value)  # type: ignore[arg-type]  # whatever a file's reader gave
    if isinstance(value, float) and math.isnan(out):
        return None
    if not math.isfinite(out):
        raise ValueError(value)
    return out


def text(value: object) -> str | None:
    """A cell of a column of words, in Unicode's form NFC; None where it is missing. 3.0 is `3`, True is `true`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return unicodedata.normalize("NFC", str(value).strip())
