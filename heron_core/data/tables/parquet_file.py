"""A `.parquet` file. Needs pyarrow, imported on first use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from heron_core.data.tables.table import Row, Table
from heron_core.errors import DataError


def open_parquet(path: Path) -> Table:
    """Reads the file's description. Raises DataError."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError('a Parquet file needs pyarrow; pip install "heron-sfl[parquet]"') from None
    if not path.is_file():
        raise DataError(f"no .parquet file at {path}; set data.path")

    def unreadable(error: Exception) -> DataError:
        return DataError(f"{path} is not a readable Parquet file ({error}); save it again")

    try:
        with ParquetFile(path) as file:
            names, most_rows = tuple(file.schema_arrow.names), file.metadata.num_rows
    except (OSError, ArrowException) as error:
        raise unreadable(error) from None

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        place = 0
        try:
            with ParquetFile(path) as file:
                for batch in file.iter_batches(columns=list(wanted)):
                    columns = [batch.column(name).to_pylist() for name in wanted]
                    for values in zip(*columns, strict=True):
                        place += 1
                        yield place, values
        except (OSError, ArrowException) as error:
            raise unreadable(error) from None

    return Table(path, names, most_rows, "row", rows)
