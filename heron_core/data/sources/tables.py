"""Files of rows, `csv` and `parquet`: every client reads them by the run's own table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heron_core.arrays import TensorSpec
from heron_core.data.sources.asked import Asked, Options
from heron_core.errors import DataError
from heron_core.labels import LabelSpec

if TYPE_CHECKING:
    from heron_core.data.tables.describe import Described
    from heron_core.data.tables.source import TableSource
    from heron_core.data.tables.table import Table
    from heron_core.spec.table import TableSpec

SIGNS = {"delimiter": ",", "decimal": "."}
"""What divides a file's columns, and its numbers' fractions: a matter of the file, so of its owner's own options."""


def load_csv(asked: Asked) -> TableSource:
    """Options `delimiter` and `decimal` are as in the file. Raises DataError."""
    asked.takes_options(*SIGNS)
    return _loaded(asked, _opened(asked.given_path(), asked.options, "csv"))


def load_parquet(asked: Asked) -> TableSource:
    """Raises DataError."""
    asked.takes_options()
    return _loaded(asked, _opened(asked.given_path(), asked.options, "parquet"))


def _loaded(asked: Asked, table: Table) -> TableSource:
    from heron_core.data.tables.rows import read_rows
    from heron_core.data.tables.source import TableSource

    if asked.table is None or not asked.table.columns:
        raise DataError(
            "the run does not say what the columns of a table mean: paste what "
            f"`heron-client columns {table.path} --target COLUMN` prints into the run file, so that every client reads "
            "its rows by the same figures"
        )
    decimal = _sign(asked.options, "decimal")
    rows = read_rows(table, asked.table, asked.labels, asked.class_names, decimal, asked.skip_bad)
    return TableSource(rows, asked.table, asked.one_input(), asked.source, asked.class_names)


def table_specs(path: Path, options: Options) -> tuple[tuple[TensorSpec, ...], LabelSpec]:
    """What a run would make of the file by its own figures."""
    found = describe_file(path, options)
    return (TensorSpec("x", (len(found.table.inputs),)),), found.labels


def own_table(path: Path, options: Options) -> tuple[TableSpec, tuple[str, ...]]:
    """For a check without a run, which alone may read a file by its own figures."""
    found = describe_file(path, options)
    return found.table, found.class_names


def describe_file(path: Path, options: Options, target: str = "", group: str = "") -> Described:
    """The columns of a .csv, .csv.gz or .parquet file, and their figures. Raises DataError."""
    from heron_core.data.tables.describe import described

    kind = "parquet" if path.suffix == ".parquet" else "csv"
    return described(_opened(path, options, kind), target, group, _sign(options, "decimal"))


def _opened(path: Path, options: Options, kind: str) -> Table:
    if kind == "parquet":
        from heron_core.data.tables.parquet_file import open_parquet

        return open_parquet(path)
    from heron_core.data.tables.csv_file import open_csv

    return open_csv(path, _sign(options, "delimiter"))


def _sign(options: Options, name: str) -> str:
    given = options.get(name, SIGNS[name])
    if not (isinstance(given, str) and len(given) == 1) or given in '"\r\n':
        raise DataError(f"data.options.{name} must be one character, got {given!r}; mend it")
    return given
