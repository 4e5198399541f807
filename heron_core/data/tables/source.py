"""The samples of a table: a row each, or a window of rows.

Shape letters: B samples in a batch, R rows, F numbers of a row, W rows of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from heron_core.arrays import Array, TensorSpec
from heron_core.data.contract import InputContract, StoredInput
from heron_core.data.skipped import Skipped, tally
from heron_core.data.source import Batch
from heron_core.data.tables.rows import Rows
from heron_core.errors import DataError
from heron_core.spec.table import TableSpec

GROUP_TOO_SHORT = "shorter than a window"


class TableSource:
    """Rows [F], or windows [F, W] of rows that stand below each other and are of one group.

    A window's label is its last row's. Raises DataError where the model wants another shape, or no window fits.
    """

    def __init__(
        self, rows: Rows, spec: TableSpec, wanted: TensorSpec, source: str = "csv", class_names: Sequence[str] = ()
    ) -> None:
        shape = (len(spec.inputs), *([spec.window] if spec.window else []))
        if wanted.shape != shape or wanted.dtype != "float32":
            names = ", ".join(spec.inputs[:12]) + (", ..." if len(spec.inputs) > 12 else "")
            raise DataError(
                f"the table gives float32 {list(shape)} a sample ({names}), the model takes {wanted}; set "
                f"model.input_shape = {list(shape)} in the run file, or change data.table"
            )
        self._x, self._window = rows.x, spec.window
        starts, short = _starts(rows.runs, spec.window, spec.step or spec.window)
        if not len(starts):
            raise DataError(
                f"no {spec.window} rows of one group stand below each other; sort the file by "
                f"{spec.group or 'time'}, or shorten data.table.window"
            )
        self._starts = starts
        last = starts + max(spec.window, 1) - 1
        self.labels: Array = rows.labels[last]
        """int64 [N], or float32 [N, 1]."""
        self.groups = rows.groups[last]
        """int64 [N]: the number of each sample's group."""
        self.skipped: Skipped = rows.skipped + short
        self.stored_dtypes = ("float32",)
        self.class_names = tuple(class_names)
        self.contract = contract_of_table(spec, wanted, source)

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """The samples at these indices, in that order."""
        starts = self._starts[indices]
        if self._window:
            rows = self._x[starts[:, None] + np.arange(self._window)]  # [B, W, F]
            x = np.ascontiguousarray(rows.transpose(0, 2, 1))
        else:
            x = self._x[starts]
        return (x,), self.labels[indices]


def _starts(runs: NDArray[np.int64], window: int, step: int) -> tuple[NDArray[np.int64], Skipped]:
    """First row of each sample, and the runs that are too short for one."""
    if not window:
        return np.arange(len(runs)), Skipped()
    edges = np.flatnonzero(np.diff(runs, prepend=-1, append=-1))
    found = [np.arange(first, end - window + 1, step) for first, end in pairwise(edges)]
    short = [int(first) for first, starts in zip(edges, found, strict=False) if not len(starts)]
    return np.concatenate([*found, np.empty(0, np.int64)]).astype(np.int64), tally(
        (f"pieces of a group {GROUP_TOO_SHORT}", f"usable row {first + 1}") for first in short
    )


def contract_of_table(spec: TableSpec, wanted: TensorSpec, source: str = "csv") -> InputContract:
    """What the run makes of each column, so that the saved model can be called with a file's own numbers."""
    columns = [column for column in spec.columns for _ in column.inputs]
    plain = all((column.mean, column.std) == (0.0, 1.0) for column in columns)
    given = StoredInput(
        name=wanted.name,
        shape=wanted.shape,
        layout=f"[B, {', '.join(map(str, wanted.shape))}]",
        stored="float32",
        dtype="float32",
        mean=() if plain else tuple(column.mean for column in columns),
        std=() if plain else tuple(column.std for column in columns),
        columns=spec.inputs,
        note=f"a sample is {spec.window} rows" if spec.window else "a sample is a row",
    )
    return InputContract(source=source, inputs=(given,))
