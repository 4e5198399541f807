"""A sweep's rows, gathered by point: means over the seeds, and how far the seeds lie apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from heron_server.text.figures import name_text
from heron_server.text.units import known
from heron_simulator.sweep.file import CONTROL, Tables
from heron_simulator.sweep.plan import Point, Run, Sweep
from heron_simulator.sweep.store import Row, number

ROW_FIRST = ("fingerprint", "point", "control", "seed")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (0 for one seed) over the seeds."""

    mean: float
    deviation: float
    seeds: int


@dataclass(frozen=True)
class Gathered:
    """One point's rows."""

    point: Point
    rows: list[Row]
    controls: list[Row]
    pairs: list[tuple[Row, Row]]
    """A run and its control, for each seed of which both came to an end."""
    failed: list[str]
    missing: frozenset[str]
    """Fingerprints of runs that are not there yet, controls included."""

    def spread(self, column: str) -> Spread | None:
        """Of the point's own runs; None where none has the figure."""
        return spread_of(self.rows, column)

    def control(self, column: str) -> Spread | None:
        """Of its frozen controls."""
        return spread_of(self.controls, column)


def gather(sweep: Sweep, rows: Mapping[str, Row]) -> list[Gathered]:
    """Every point of the sweep in its order."""
    known = {**rows, **_with_target(sweep, rows)} if sweep.file.target else rows
    return [_gathered(point, known) for point in sweep.points]


def _with_target(sweep: Sweep, rows: Mapping[str, Row]) -> dict[str, Row]:
    """Rows with the bytes after which each run was first as accurate as the target's run of its axes and seed."""
    targets = {repr(point.axes): point.runs for point in sweep.points if point.label == sweep.file.target}
    found: dict[str, Row] = {}
    for point in sweep.points:
        for run, target in zip(point.runs, targets[repr(point.axes)], strict=True):
            row, goal = rows.get(run.fingerprint, {}), number(rows.get(target.fingerprint, {}), "accuracy")
            if row and goal is not None:
                found[run.fingerprint] = {**row, "bytes_to_target": bytes_to(row, goal)}
    return found


def bytes_to(row: Row, goal: float) -> float | None:
    """Bytes both ways at the end of the first round that was evaluated at `goal` or above; None where none was."""
    accuracy, so_far = by_round(row, "accuracy_by_round"), by_round(row, "bytes_by_round")
    return next((so_far.get(number) for number, value in accuracy.items() if value >= goal), None)


def by_round(row: Row, column: str) -> dict[int, float]:
    """Round -> figure of a column that has one for each round, where it is known."""
    texts = enumerate(str(row.get(column, "")).split(), 1)
    return {round_number: float(text) for round_number, text in texts if text != "None"}


def _gathered(point: Point, rows: Mapping[str, Row]) -> Gathered:
    runs = [*point.runs, *point.controls]
    found = {run.fingerprint: rows[run.fingerprint] for run in runs if run.fingerprint in rows}
    good = {key: row for key, row in found.items() if not row.get("failed")}
    reasons = dict.fromkeys(str(found[run.fingerprint]["failed"]) for run in runs if run.fingerprint not in good
                            and run.fingerprint in found)  # fmt: skip
    return Gathered(
        point, _of(point.runs, good), _of(point.controls, good), _pairs(point, good), list(reasons),
        frozenset(run.fingerprint for run in runs if run.fingerprint not in found),
    )  # fmt: skip


def _of(runs: list[Run], rows: Mapping[str, Row]) -> list[Row]:
    return [rows[run.fingerprint] for run in runs if run.fingerprint in rows]


def _pairs(point: Point, rows: Mapping[str, Row]) -> list[tuple[Row, Row]]:
    both = [(run.fingerprint, control.fingerprint) for run, control in zip(point.runs, point.controls, strict=False)]
    return [(rows[run], rows[control]) for run, control in both if run in rows and control in rows]


def spread_of(rows: list[Row], column: str) -> Spread | None:
    """None where no row knows the figure."""
    found = [number(row, column) for row in rows]
    values = [float(figure) for figure in found if figure is not None and known(figure)]
    if not values:
        return None
    return Spread(mean(values), stdev(values) if len(values) > 1 else 0.0, len(values))


def headline(gathered: Iterable[Gathered]) -> tuple[str, str]:
    """Column of the figure that judges the runs, and its name: the accuracy, or what else the task calls best."""
    rows = [row for g in gathered for row in g.rows]
    if not rows or any(row.get("accuracy") is not None for row in rows):
        return "accuracy", "accuracy"
    return "metric", name_text(str(rows[0].get("metric_name", "metric")))


def csv_rows(sweep: Sweep, rows: Mapping[str, Row]) -> Iterator[Tables]:
    """Every run of the sweep that has ended: what it was, then its figures. Axes that a control ignores are empty."""
    axes = _axes_of(sweep)
    for fingerprint, run in sweep.runs.items():
        if fingerprint in rows:
            label, values = axes[fingerprint]
            first = (fingerprint, label, "yes" if run.spec.method.name == CONTROL else "", run.spec.seed)
            yield {**dict(zip(ROW_FIRST, first, strict=True)), **values, **rows[fingerprint]}


def _axes_of(sweep: Sweep) -> dict[str, tuple[str, Tables]]:
    """fingerprint -> label, and the axes' values where all points that share the run agree on them."""
    found: dict[str, tuple[str, Tables]] = {}
    for point in sweep.points:
        for run in (*point.runs, *point.controls):
            label = point.label if run in point.runs else CONTROL
            if run.fingerprint not in found:
                found[run.fingerprint] = (label, dict(point.axes))
            else:
                label, axes = found[run.fingerprint]
                found[run.fingerprint] = (label, {k: v if point.axes[k] == v else None for k, v in axes.items()})
    return found
