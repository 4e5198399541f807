"""A `.parquet` file. Needs pyarrow, imported on first use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heron_core.data.tables.table import Row, Table
from heron_core.errors import DataError

PANDAS_ROWS = "__index_level_"
"""How pandas calls the index of a table that it has sorted or cut."""

KNOWN = ("boolean", "integer", "floating", "decimal", "null", "string", "large_string", "string_view")
"""Types that are read, as pyarrow calls them; the last one is younger than the others."""


def open_parquet(path: Path) -> Table:
    """Reads the file's description. Raises DataError."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError('a Parquet file needs pyarrow; pip install "heron-sfl[parquet]"') from None
    if not path.is_file():
        raise DataError(f"no .parquet file at {path}; set data.path")
    with _reading(path), ParquetFile(path) as file:
        fields, most_rows = list(file.schema_arrow), file.metadata.num_rows
    names = tuple(field.name for field in fields)
    _check_names(path, names)

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        """A part of a row group is in memory at a time."""
        place = 0
        with _reading(path), ParquetFile(path) as file:
            for batch in file.iter_batches(columns=list(wanted)):
                columns = [batch.column(name).to_pylist() for name in wanted]
                for values in zip(*columns, strict=True):
                    place += 1
                    yield place, values

    unfit = {field.name: reason for field in fields if (reason := _unfit(field))}
    return Table(path, names, most_rows, "row", rows, unfit)


def _check_names(path: Path, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path} has more than one column {', '.join(map(repr, twice))}; save it with different names")
    if not names:
        raise DataError(f"{path} has no columns; save it again")


def _unfit(field: Any) -> str | None:
    """Why no row is read from this column; None where its values are numbers, words, or missing."""
    from pyarrow import types

    if field.name.startswith(PANDAS_ROWS):
        return "holds pandas' own row numbers (to_parquet(..., index=False) leaves them out)"
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    known = (getattr(types, f"is_{name}", None) for name in KNOWN)
    return None if any(is_it and is_it(kind) for is_it in known) else f"holds {kind}, neither numbers nor words"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raises DataError for whatever the file's bytes make pyarrow raise."""
    from pyarrow import ArrowException

    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{path} holds text that is not UTF-8 ({error.reason}); save it again") from None
    except (OSError, ArrowException) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}); save it again") from None
