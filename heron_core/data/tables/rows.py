"""A table read into arrays: one row after the other, those that cannot be used counted by reason.

Shape letters: R rows, F numbers of a row, one for each of the model's inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array
from heron_core.data.skipped import Skipped, tally
from heron_core.data.tables.cells import BadCell, cell_of, label_of
from heron_core.data.tables.table import Table, text
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.process.memory import need_memory
from heron_core.spec.table import ColumnSpec, TableSpec


@dataclass(frozen=True)
class Rows:
    """What the rows of a file give."""

    x: NDArray[np.float32]
    """[R, F], scaled."""
    labels: Array
    """int64 [R], or float32 [R, 1], scaled."""
    groups: NDArray[np.int64]
    """[R]: the number of each row's group; all 0 without a group column."""
    runs: NDArray[np.int64]
    """[R]: rows of one run stand below each other in the file, and are of one group."""
    skipped: Skipped


def read_rows(
    table: Table, spec: TableSpec, labels: LabelSpec, names: Sequence[str] = (), decimal: str = ".", skip: bool = False
) -> Rows:
    """Every row as the run reads it. `names`: the run's classes; `skip`: pass over rows that cannot be used.

    Raises DataError for a table that lacks a column, rows that cannot be used, and memory that is not there.
    """
    assert spec.columns
    wanted = [*(column.name for column in spec.columns), spec.target, *([spec.group] if spec.group else [])]
    table.need(wanted)
    regression, rows = not labels.classes, table.most_rows
    need_memory(rows * (4 * len(spec.inputs) + 8 * 3), f"{table.path} with {rows:,} rows", "divide the file")
    x = np.empty((rows, len(spec.inputs)), dtype=np.float32)
    found = np.empty(rows, dtype=np.float64)
    reader = _Reader(table, spec, labels, names, decimal)
    groups, runs = np.zeros((2, rows), dtype=np.int64)
    kept = 0
    for numbers, label, group, run in reader.rows(wanted):
        x[kept], found[kept], groups[kept], runs[kept] = numbers, label, group, run
        kept += 1
    skipped = tally(reader.bad)
    if skipped and not skip:
        raise DataError(
            f"{table.path}: rows cannot be used: {skipped}; mend them, or pass over them with "
            'data.on_bad_sample = "skip" in the client\'s file'
        )
    if not kept:
        raise DataError(f"{table.path} holds no row that can be used{f' ({skipped})' if skipped else ''}; add some")
    _scale(x[:kept], [column.mean for column in _each(spec)], [column.std for column in _each(spec)])
    if regression:
        answers = found[:kept, None].astype(np.float32)
        _scale(answers, [spec.target_mean], [spec.target_std])
        return Rows(x[:kept], answers, groups[:kept], runs[:kept], skipped)
    return Rows(x[:kept], found[:kept].astype(np.int64), groups[:kept], runs[:kept], skipped)


def _each(spec: TableSpec) -> list[ColumnSpec]:
    """The column of each of a row's numbers."""
    return [column for column in spec.columns for _ in column.inputs]


def _scale(x: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> None:
    """In place, in float32, one rounding an operation: what the input contract says."""
    x -= np.asarray(mean, dtype=np.float32)
    x /= np.asarray(std, dtype=np.float32)


class _Reader:
    """Goes through the file once."""

    def __init__(self, table: Table, spec: TableSpec, labels: LabelSpec, names: Sequence[str], decimal: str) -> None:
        self._table = table
        self._cells = [cell_of(column, decimal) for column in spec.columns]
        self._label = label_of(spec, labels, names, decimal)
        self._groups: dict[str, int] = {}
        self.bad: list[tuple[str, str]] = []

    def rows(self, wanted: Sequence[str]) -> Iterator[tuple[list[float], float, int, int]]:
        """(numbers, label, group, run) of each that can be used."""
        run, last = 0, -1
        for line, values in self._table.rows(wanted):
            place = f"{self._table.unit} {line}"
            try:
                numbers, label, group = self._read(values)
            except BadCell as reason:
                self.bad.append((str(reason), place))
                run += 1
                continue
            except DataError as error:
                raise DataError(f"{self._table.path}, {place}: {error}") from None
            run += group != last
            last = group
            yield numbers, label, group, run

    def _read(self, values: Sequence[object]) -> tuple[list[float], float, int]:
        count = len(self._cells)
        numbers = [n for cell, value in zip(self._cells, values[:count], strict=True) for n in cell(value)]
        label = self._label(values[count])
        if len(values) == count + 1:
            return numbers, label, 0
        if not (name := text(values[count + 1])):
            raise BadCell("without a group")
        return numbers, label, self._groups.setdefault(name, len(self._groups))
