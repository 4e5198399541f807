"""A sweep's picture: each metric against the axis, one line a variant, with error bars and the frozen control."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator, PercentFormatter

from heron_server.display.curves import BLUE, GREEN, INK, ORANGE, plain
from heron_simulator.sweep.figures import Gathered, by_round, headline
from heron_simulator.sweep.page import HEADINGS, control_name
from heron_simulator.sweep.plan import Sweep, shown

COLOURS = (BLUE, ORANGE, GREEN, "#8e44ad", "#c0392b", "#16a085", "#7f5a2c", "#34495e", "#e377c2")
DARK = "#555555"
MOST_TICKS, MOST_LEVEL = 12, 10
"""On the horizontal axis; more names than the second are written aslant."""
MOST_INSIDE = 8
"""Lines of a legend; a longer one stands beside the picture."""


def draw(path: Path, sweep: Sweep, gathered: Sequence[Gathered]) -> Path:
    """Writes the picture and returns its path; raises OSError."""
    metrics = [headline(gathered)[0] if metric == "accuracy" else metric for metric in sweep.file.metrics]
    figure = Figure(figsize=(6.4 * len(metrics), 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(sweep.file.title or sweep.name, color=INK, fontsize=12, fontweight="bold", x=0.01, ha="left")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        if sweep.x in ("round", "bytes"):
            _curves(axes, sweep, gathered)
        else:
            _by_setting(axes, sweep, gathered, metric)
        _style(axes, sweep, metric)
    figure.savefig(path)
    return path


def _by_setting(axes: Axes, sweep: Sweep, gathered: Sequence[Gathered], metric: str) -> None:
    places = _places(sweep, gathered)
    lines: dict[str, list[Gathered]] = {}
    for g in gathered:
        lines.setdefault(_line_of(sweep, g), []).append(g)
    scattered = any(g.point.axes.get(sweep.x) is None for g in gathered)
    for (name, members), colour in zip(lines.items(), _colours(len(lines)), strict=True):
        found = [(places[id(g)], g.spread(metric)) for g in members if id(g) in places]
        known = sorted((x, s.mean, s.deviation) for x, s in found if s is not None)
        if known:
            x, y, error = zip(*known, strict=True)
            style = "o" if sweep.x == "label" or (scattered and len(known) == 1) else "o-"
            named = sweep.x != "label" or members[0].point.axes
            axes.errorbar(x, y, yerr=error, fmt=style, color=colour, label=name if named else None, capsize=3,
                          markersize=4.5)  # fmt: skip
    if metric == "accuracy":
        _control(axes, gathered, places, control_name(sweep))


def _control(axes: Axes, gathered: Sequence[Gathered], places: dict[int, float], name: str) -> None:
    """The control with its spread."""
    at: dict[float, tuple[float, float]] = {}
    for g in gathered:
        spread = g.control("accuracy")
        if spread is not None and id(g) in places:
            at[places[id(g)]] = (spread.mean, spread.deviation)
    if at:
        x = sorted(at)
        y, error = [at[v][0] for v in x], [at[v][1] for v in x]
        axes.errorbar(
            x, y, yerr=error, fmt="s--", color=DARK, label=name, capsize=3, markersize=3.5, zorder=1
        )


def _curves(axes: Axes, sweep: Sweep, gathered: Sequence[Gathered]) -> None:
    """Accuracy over rounds or bytes so far: the mean of the seeds, and from the lowest to the highest."""
    curves = [(g.point.name, g.rows, "-" if i < len(COLOURS) else ":") for i, g in enumerate(gathered)]
    controls = {id(g.controls[0]): g.controls for g in gathered if g.controls}
    curves += [(control_name(sweep), rows, "--") for rows in list(controls.values())[:1]]
    for (name, rows, style), colour in zip(curves, _colours(len(curves)), strict=True):
        evaluated = [found for row in rows if (found := by_round(row, "accuracy_by_round"))]
        bytes_ = [by_round(row, "bytes_by_round") for row in rows] if sweep.x == "bytes" else []
        known = [*evaluated, *bytes_]
        numbers = [number for number in evaluated[0] if all(number in each for each in known)] if evaluated else []
        x = [mean(each[number] for each in bytes_) if bytes_ else number for number in numbers]
        if x:
            rounds = [[each[number] for each in evaluated] for number in numbers]
            colour = DARK if style == "--" else colour
            axes.plot(x, [mean(values) for values in rounds], style, color=colour, label=name, linewidth=1.6)
            low, high = [min(v) for v in rounds], [max(v) for v in rounds]
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def _line_of(sweep: Sweep, g: Gathered) -> str:
    others = [f"{key.rpartition('.')[2]} = {shown(v)}" for key, v in g.point.axes.items() if key != sweep.x]
    return ", ".join(others if others and sweep.x == "label" else [g.point.label, *others])


def _places(sweep: Sweep, gathered: Sequence[Gathered]) -> dict[int, float]:
    """Where each point stands on the horizontal axis, by its id; texts stand side by side."""
    values: dict[int, object] = {}
    for g in gathered:
        if sweep.x == "label":
            values[id(g)] = g.point.label
        elif "." in sweep.x:
            values[id(g)] = g.point.runs[0].setting(sweep.x)
        elif sweep.x in g.point.axes:
            values[id(g)] = g.point.axes[sweep.x]
        elif (spread := g.spread(sweep.x)) is not None:
            values[id(g)] = spread.mean
    numbers = {key: v for key, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if len(numbers) == len(values):
        return numbers
    order = list(dict.fromkeys(shown(v) for v in values.values()))
    return {key: float(order.index(shown(v))) for key, v in values.items()}


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _style(axes: Axes, sweep: Sweep, metric: str) -> None:
    axes.set_xlabel(HEADINGS.get(sweep.x, sweep.x if sweep.x != "label" else ""), color=INK)
    axes.set_ylabel(HEADINGS.get(metric, metric.replace("_", " ")), color=INK)
    if metric.endswith("accuracy"):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    if "network" in metric or "bytes" in metric:
        axes.set_yscale("log")
    _ticks(axes, sweep)
    plain(axes)
    if count := len(axes.get_legend_handles_labels()[0]):
        beside = count > MOST_INSIDE
        axes.legend(loc="center left" if beside else "best", bbox_to_anchor=(1.0, 0.5) if beside else None,
                    facecolor="white", edgecolor="none", framealpha=0.9, labelcolor=INK, fontsize=8)  # fmt: skip


def _ticks(axes: Axes, sweep: Sweep) -> None:
    """One tick for each value of the axis where they are few."""
    if sweep.file.log_x:
        axes.set_xscale("log")
    names = list(dict.fromkeys(p.label for p in sweep.points))
    if sweep.x != "label" and "." in sweep.x:
        names = list(dict.fromkeys(shown(p.runs[0].setting(sweep.x)) for p in sweep.points))
    elif sweep.x != "label":
        return
    if len(names) <= MOST_TICKS:
        numbers = [_as_number(name) for name in names]
        at = [float(i) for i in range(len(names))] if None in numbers else [n for n in numbers if n is not None]
        axes.xaxis.set_major_locator(FixedLocator(at))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FixedFormatter(names))
        if len(names) > MOST_LEVEL:
            axes.set_xticks(at, names, rotation=35, ha="right")


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
