"""The methods in one picture: accuracy against a client's memory, and against bytes a round.

Accuracy and bytes are rows of the sweep benchmarks/sweeps/methods.toml. Memory is measured here, on the same run spec,
in a fresh process for each method: what torch's allocator holds at its peak over one local round of client 0, that is
optimiser state, activations, gradients or probes, uploads on their way and the kernels' workspace; and the parameters
and buffers, which are there before. What the interpreter and torch itself take is in neither.

    python benchmarks/picture.py [--results FOLDER]     (docs/results/methods)

Writes client_memory.csv and picture.png beside the sweep's results.csv.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import ProductClient
from common import REPO, table
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from matplotlib.transforms import Bbox
from memory import allocator_peak

from heron_server.text.units import bytes_text
from heron_simulator.sweep.figures import Spread, spread_of
from heron_simulator.sweep.plan import Sweep, load_sweep
from heron_simulator.sweep.store import read_csv, write_csv

SWEEP = REPO / "benchmarks" / "sweeps" / "methods.toml"
CONTROL = "frozen"
NAMES = {
    "cse_fsl": "CSE-FSL", "fsl_sage": "FSL-SAGE", "sflv1": "SFLV1", "sflv2": "SFLV2", "fedavg": "FedAvg",
    "heron (recommended)": "HERON (recommended)", "heron (the paper's)": "HERON (the paper's)",
}  # fmt: skip
COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart."""
MARKERS = ("D", "D", "o", "o", "s", "s", "^")
INK, GREY, GRID = "#333333", "#6b6b6b", "#e6e6e6"
WIDTH_IN, HEIGHT_IN, DPI = 9.0, 4.1, 200


@dataclass(frozen=True)
class Point:
    """One method: means and spreads over the seeds."""

    label: str
    accuracy: Spread
    wire: Spread
    """Bytes a round, both ways, all clients."""
    memory: Spread
    """Bytes at a client's peak."""


# -- memory: one fresh process a method ----------------------------------------------------------------------------


class Client(ProductClient):
    """Client 0 of a run on its own data."""

    def __init__(self, spec: Any) -> None:
        from heron_core.data import Shares

        super().__init__(spec)
        self.source = Shares().of(spec.data, spec.seed, None, 0, spec.federation.clients)


def client_memory(sweep: Sweep) -> list[dict[str, Any]]:
    """One row a point of the sweep: bytes there before, bytes at the peak beside them, and both."""
    rows = []
    for point in sweep.points:
        spec = point.runs[0].spec.model_dump_json()
        command = [sys.executable, str(Path(__file__)), "--measure"]
        done = subprocess.run(command, input=spec, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{point.label}: {done.stderr}")
        before, beside = json.loads(done.stdout)
        rows.append({"point": point.label, "parameter_bytes": before, "working_bytes": beside,
                     "client_peak_bytes": before + beside})  # fmt: skip
    return rows


def measured(text: str) -> list[int]:
    """In the fresh process: (parameters and buffers, the allocator's peak beside them) of this run spec's client."""
    from heron_core.spec.run_spec import RunSpec

    peak = allocator_peak(Client(RunSpec.model_validate_json(text)))
    return [peak.parameters, peak.allocator]


# -- the picture -----------------------------------------------------------------------------------------------------


def points_of(rows: Sequence[dict[str, Any]], memory: Sequence[dict[str, Any]]) -> list[Point]:
    """Every method that has ended at least one run; a control that several methods have counts once a seed."""
    found = []
    for row in memory:
        by_seed = {r["seed"]: r for r in rows if r["point"] == row["point"] and not r["failed"]}
        mine = list(by_seed.values())
        accuracy, wire = spread_of(mine, "accuracy"), spread_of(mine, "bytes_per_round")
        if accuracy is not None and wire is not None:
            found.append(Point(row["point"], accuracy, wire, Spread(float(row["client_peak_bytes"]), 0.0, 1)))
    return found


def draw(path: Path, points: Sequence[Point], majority: float) -> None:
    """Writes the picture."""
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.075, right=0.985, top=0.9, bottom=0.235, wspace=0.11)
    control = next((p.accuracy for p in points if p.label == CONTROL), None)
    learners = [p for p in points if p.label != CONTROL]
    _panel(left, [(p, p.memory) for p in learners], "memory at a client's peak")
    _panel(right, [(p, p.wire) for p in learners], "bytes a round over the wire, all clients, both ways")
    left.set_ylabel("test accuracy", color=INK)
    left.set_ylim(top=min(left.get_ylim()[1], 1.03))
    left.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    seeds = max(p.accuracy.seeds for p in points)
    figure.suptitle("The same task, rounds and local steps: what each method reaches, and what it costs",
                    x=0.075, ha="left", fontsize=10.5, fontweight="bold", color=INK)  # fmt: skip
    note = (
        f"Mean and standard deviation over {seeds} seed{'s' if seeds > 1 else ''}. The majority class alone gives "
        f"{majority:.1%}. Memory: parameters, optimiser state, activations and\nworkspace of one client, as torch's "
        "allocator counts them. Upper left is better."
    )
    figure.text(0.075, 0.02, note, fontsize=7.5, color=GREY, va="bottom")
    for axes in (left, right):
        _control_line(axes, control)
    canvas.draw()
    for axes, costs in ((left, [p.memory for p in learners]), (right, [p.wire for p in learners])):
        _name_points(axes, canvas.get_renderer(), learners, costs)
    figure.savefig(path)


def _panel(axes: Axes, pairs: Sequence[tuple[Point, Spread]], title: str) -> None:
    for (point, cost), colour, marker in zip(pairs, COLOURS, MARKERS, strict=False):
        axes.errorbar(cost.mean, point.accuracy.mean, xerr=cost.deviation or None, yerr=point.accuracy.deviation,
                      fmt=marker, color=colour, markersize=6.5, capsize=3, elinewidth=1.2)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.margins(x=0.16, y=0.14)
    narrow = axes.get_xlim()[1] < 8 * axes.get_xlim()[0]
    axes.xaxis.set_major_locator(LogLocator(base=2, subs=(1.0, 1.5) if narrow else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: bytes_text(value).replace(".00", "")))
    axes.set_xlabel(title, color=INK)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0, labelsize=8.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def _control_line(axes: Axes, control: Spread | None) -> None:
    if control is None:
        return
    axes.axhspan(control.mean - control.deviation, control.mean + control.deviation, color=GREY, alpha=0.12, lw=0)
    axes.axhline(control.mean, color=GREY, linestyle="--", linewidth=1.2)


def _name_points(axes: Axes, renderer: Any, points: Sequence[Point], costs: Sequence[Spread]) -> None:
    """Each name beside its point, where it covers no other name, no point and no error bar."""
    taken = [_bar_box(axes, point.accuracy, cost) for point, cost in zip(points, costs, strict=True)]
    if lines := [line for line in axes.lines if line.get_linestyle() == "--"]:
        taken.append(_control_name(axes, renderer, float(lines[0].get_ydata()[0])))  # type: ignore[index,arg-type]
    for number in sorted(range(len(points)), key=lambda i: -points[i].accuracy.mean):
        point, cost = points[number], costs[number]
        text = axes.annotate(
            NAMES.get(point.label, point.label), (cost.mean, point.accuracy.mean), (0, 0),
            textcoords="offset points", fontsize=8.5, color=INK, va="center",
            fontweight="bold" if "recommended" in point.label else "normal",
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip
        others = taken[:number] + taken[number + 1 :]
        taken.append(_place(axes, renderer, text, others))


def _place(axes: Axes, renderer: Any, text: Any, taken: Sequence[Bbox]) -> Bbox:
    """Moves the text to the nearest place of its own; where there is none, to that which covers least."""
    best: tuple[float, int, float, float, str] | None = None
    for rank, (dx, dy, align) in enumerate(PLACES):
        text.set_position((dx, dy))
        text.set_ha(align)
        box = _text_box(text, renderer)
        covered = sum(_overlap(box, other) for other in taken) + 4 * _outside(box, axes.get_window_extent(renderer))
        if best is None or (covered, rank) < best[:2]:
            best = (covered, rank, dx, dy, align)
    assert best is not None
    text.set_position(best[2:4])
    text.set_ha(best[4])
    if abs(best[3]) < 16:
        text.arrow_patch.set_visible(False)
    return _text_box(text, renderer)


PLACES = [
    (dx * side, dy, "left" if side > 0 else "right")
    for dy in (0, 9, -9, 18, -18, 28, -28, 40, -40, 52, -52)
    for dx in ((9,) if dy == 0 else (4, 16, 30))
    for side in (1, -1)
]
"""Offsets from the point in points, the nearest first, and which side of the text is there."""


def _text_box(text: Any, renderer: Any) -> Bbox:
    from matplotlib.text import Text

    text.update_positions(renderer)
    return Text.get_window_extent(text, renderer).padded(2)


def _overlap(a: Bbox, b: Bbox) -> float:
    """Shared area in pixels."""
    both = Bbox.intersection(a, b)
    return 0.0 if both is None else float(both.width * both.height)


def _outside(box: Bbox, axes: Bbox) -> float:
    return float(box.width * box.height) - _overlap(box, axes)


def _bar_box(axes: Axes, y: Spread, x: Spread) -> Bbox:
    """The marker and its error bars, in pixels."""
    low, high = axes.transData.transform([(x.mean, y.mean - y.deviation), (x.mean, y.mean + y.deviation)])
    return Bbox([[low[0] - 10, min(low[1], high[1] - 10)], [high[0] + 10, max(high[1], low[1] + 10)]])


def _control_name(axes: Axes, renderer: Any, y: float) -> Bbox:
    text = axes.annotate("frozen control", (0.995, y), (0, -3), xycoords=("axes fraction", "data"), ha="right",
                         va="top", textcoords="offset points", fontsize=8, color=GREY)  # fmt: skip
    return _text_box(text, renderer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=REPO / "docs" / "results" / "methods")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(sys.stdin.read())))
        return
    rows, memory = read_csv(given.results / "results.csv"), client_memory(load_sweep(SWEEP))
    write_csv(given.results / "client_memory.csv", memory)
    points = points_of(rows, memory)
    majority = spread_of(list(rows), "majority_accuracy")
    draw(given.results / "picture.png", points, majority.mean if majority else 0.0)
    table(["", "accuracy", "client peak", "a round"], [
        [NAMES.get(p.label, p.label), f"{p.accuracy.mean:.1%}", bytes_text(p.memory.mean), bytes_text(p.wire.mean)]
        for p in points
    ])  # fmt: skip


if __name__ == "__main__":
    main()
