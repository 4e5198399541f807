"""What the values of a row give: the model's numbers, and the label, neither of them scaled yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from heron_core.data.tables.table import MISSING, number, text
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.spec.table import ColumnSpec, TableSpec

Cell = Callable[[object], Sequence[float]]
"""The numbers that a value gives. Raises BadCell."""


LARGEST = float(np.finfo(np.float32).max)


class BadCell(Exception):
    """A value that gives no sample; its text goes after a number of rows: `with age missing`."""


def cell_of(column: ColumnSpec, decimal: str) -> Cell:
    """How the values of this column are read."""
    if column.levels:
        return _one_of(column.name, column.levels)
    return lambda value: (_number(column.name, value, decimal),)


def _one_of(name: str, levels: Sequence[str]) -> Cell:
    places = {text(level): place for place, level in enumerate(levels)}
    rows = np.eye(len(levels), dtype=np.float32).tolist()

    def numbers(value: object) -> Sequence[float]:
        word = text(value)
        if (place := places.get(word)) is None:
            raise BadCell(f"with {name} {_missing_or(word, 'none of its levels')}")
        row: Sequence[float] = rows[place]
        return row

    return numbers


def _missing_or(word: str | None, otherwise: str) -> str:
    return "missing" if word is None or word.lower() in MISSING else f"{word[:40]!r}, {otherwise}"


def _number(name: str, value: object, decimal: str) -> float:
    try:
        found = number(value, decimal)
    except (ValueError, TypeError, OverflowError):
        raise BadCell(f"with {name} not a number, such as {str(value)[:40]!r}") from None
    if found is None:
        raise BadCell(f"with {name} missing")
    if abs(found) > LARGEST:
        raise BadCell(f"with {name} too large for float32")
    return found


def label_of(table: TableSpec, labels: LabelSpec, names: Sequence[str], decimal: str) -> Callable[[object], float]:
    """How the target is read: a class's number, or a regression's label. Raises DataError for another task.

    What it gives back raises BadCell, and DataError for a class that the run does not have.
    """
    if labels.classes:
        return _named_class(table.target, names) if names else _numbered_class(table.target, labels.classes)
    if (labels.shape, labels.dtype) != ((1,), "float32"):
        raise DataError(
            f"a table gives one class or one number as a label, the model's task wants {labels}; write a "
            "package.module:factory"
        )
    return lambda value: _number(table.target, value, decimal)


def _named_class(target: str, names: Sequence[str]) -> Callable[[object], float]:
    places: Mapping[str | None, int] = {text(name): place for place, name in enumerate(names)}

    def place_of(value: object) -> float:
        word = text(value)
        if (place := places.get(word)) is not None:
            return place
        if word is None or word.lower() in MISSING:
            raise BadCell(f"with {target} missing")
        raise DataError(
            f"{target} is {word[:80]!r}, which is none of the run's classes ({', '.join(names)}); mend the value, or "
            "data.class_names in the run file"
        )

    return place_of


def _numbered_class(target: str, classes: int) -> Callable[[object], float]:
    def place_of(value: object) -> float:
        word = text(value)
        if word is None or word.lower() in MISSING:
            raise BadCell(f"with {target} missing")
        if not (word.isascii() and word.isdigit() and int(word) < classes):
            raise DataError(
                f"{target} is {word[:80]!r}, and without data.class_names a class is its number, 0 to {classes - 1}; "
                "name the classes in the run file (`heron-client columns FILE` lists them)"
            )
        return int(word)

    return place_of
