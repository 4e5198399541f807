"""A `.csv` (or `.csv.gz`) with the columns' names in its first line."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from heron_core.data.tables.table import Row, Table
from heron_core.errors import DataError


def open_csv(path: Path, delimiter: str = ",") -> Table:
    """Reads the first line, and counts the others. Raises DataError."""
    if not path.is_file():
        raise DataError(f"no .csv file at {path}; set data.path")
    with _reading(path), _opened(path) as file:
        names = tuple(name.strip() for name in next(csv.reader(file, delimiter=delimiter, strict=True), []))
        most_rows = sum(1 for _ in file)
    _check_names(path, names, delimiter)
    places = {name: place for place, name in enumerate(names)}

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        chosen = [places[name] for name in wanted]
        with _reading(path), _opened(path) as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            next(reader)
            for values in reader:
                if not values:  # an empty line
                    continue
                if len(values) != len(names):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(names)} values are wanted, as the first line has, got "
                        f"{len(values)}; mend the line (a value that holds {delimiter!r} stands in quotes)"
                    )
                yield reader.line_num, [values[place] for place in chosen]

    return Table(path, names, most_rows, "line", rows)


def _check_names(path: Path, names: tuple[str, ...], delimiter: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(
            f"{path}: the first line must name the columns, each by another name, got {', '.join(map(repr, twice))} "
            "twice; add a line of names, or mend it"
        )
    other = next((sign for sign in ";\t|," if len(names) == 1 and sign in names[0]), None)
    if other:
        raise DataError(
            f"{path}: its first line is one name, {names[0][:60]!r}; set data.options.delimiter = {other!r} if that "
            "divides the columns"
        )
    if names in ((), ("",)):
        raise DataError(f"{path} is empty; its first line must name the columns")


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield cast(IO[str], file)
    else:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raises DataError for whatever the file's bytes make the readers raise."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not written in UTF-8 ({error.reason}); save it as UTF-8") from None
    except (OSError, EOFError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as comma-separated values ({error}); mend or save it again") from None
