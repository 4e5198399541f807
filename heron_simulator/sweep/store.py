"""What a sweep has found so far: runs.jsonl, one line a finished run, and results.csv, one row a run of the sweep."""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import JsonValue

from heron_core.errors import RunDirectoryBusy
from heron_core.files import replace_file

Figure = str | int | float | None
Row = Mapping[str, Figure]
"""One run's figures by the names of their columns; None where a run does not have one."""
TEXT = frozenset({
    "fingerprint", "point", "control", "method", "metric_name", "accuracy_by_round", "bytes_by_round", "model_sha256",
    "failed",
})  # fmt: skip
"""Columns of results.csv that hold no numbers."""


def number(row: Row, column: str) -> float | None:
    """The row's figure where it has one that is a number."""
    figure = row.get(column)
    return figure if isinstance(figure, int | float) else None


class Store:
    """The results folder; one sweep at a time works in it."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """`fresh`: forgets what earlier calls have found."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._log = (folder / "runs.jsonl").open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._log.close()
            raise RunDirectoryBusy(f"another sweep works in {folder}; wait for it, or give --out") from None
        if fresh:
            self._log.truncate(0)
        self.rows = self._read()

    def add(self, fingerprint: str, row: Row) -> None:
        """A finished run, on the disk when this returns."""
        self.rows[fingerprint] = row
        self._log.write(json.dumps({"fingerprint": fingerprint, **row}) + "\n")
        self._log.flush()
        os.fsync(self._log.fileno())

    def has(self, fingerprint: str) -> bool:
        """A run that failed is not done: the next call tries it again."""
        row = self.rows.get(fingerprint)
        return row is not None and not row.get("failed")

    def close(self) -> None:
        """Lets another sweep work in the folder."""
        self._log.close()

    def _read(self) -> dict[str, Row]:
        """By fingerprint, the last line of each. A line that a kill cut short is skipped, and its newline added."""
        self._log.seek(0)
        text = self._log.read()
        if text and not text.endswith("\n"):
            self._log.write("\n")
        found = {}
        for line in text.splitlines():
            try:
                row = json.loads(line)
                found[str(row.pop("fingerprint"))] = row
            except (json.JSONDecodeError, KeyError, AttributeError):
                continue
        return found


def write_csv(path: Path, rows: Iterable[Mapping[str, JsonValue]]) -> None:
    """Atomically; what is not known is empty."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))

    def write(beside: Path) -> None:
        with beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows([_cell(row.get(name)) for name in names] for row in rows)

    replace_file(path, write)


def read_csv(path: Path) -> list[dict[str, Figure]]:
    """The inverse of `write_csv`, for settings as text and for figures as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _value(name, cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _cell(value: JsonValue) -> str:
    return "" if value is None else str(value)


def _value(name: str, cell: str) -> Figure:
    if name in TEXT or "." in name:
        return cell
    if not cell:
        return None
    try:
        return int(cell)
    except ValueError:
        return float(cell)
