"""curves.png: the figure that judges the run, and losses, over the rounds.

The one place that imports matplotlib; it never opens a window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from heron_server.metrics.figures import RoundRecord
from heron_server.text.figures import direction_text, name_text
from heron_server.text.units import known

History = Sequence[RoundRecord]
Line = tuple[Callable[[RoundRecord], float | None], str, str, str]
"""A round's value, label, colour, line style."""
INK, GRID = "#333333", "#e3e3e3"
BLUE, ORANGE, GREEN, GREY = "#1f5fa8", "#e07b1a", "#3a8f5c", "#8a8a8a"

LOSSES: Sequence[Line] = (
    (lambda r: r["loss"], "evaluation", BLUE, "-"),
    (lambda r: r["server_loss"], "server, training", GREEN, "-"),
    (lambda r: r["client_loss"], "clients", ORANGE, "-"),
)
FEW_ROUNDS = 40
"""Up to here each round is marked."""


def draw(path: Path, history: History, title: str) -> Path:
    """Writes the picture and returns its path; raises OSError."""
    picture(history, title).savefig(path)
    return path


def picture(history: History, title: str) -> Figure:
    """What judges the run on the left, losses on the right; `history` holds a round or more."""
    figure = Figure(figsize=(11, 4.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=INK, fontsize=12, fontweight="bold", x=0.01, ha="left")
    left, right = figure.subplots(1, 2)
    _metric(left, history)
    _losses(right, history)
    return figure


def _metric(axes: Axes, history: History) -> None:
    """The figure that judges the run: a share in percent, anything else from 0 up."""
    metric = history[-1]["metric"]
    name = metric["name"]
    lines: Sequence[Line] = (
        (lambda r: r["metrics"].get(name), "whole model", BLUE, "-"),
        (lambda r: r["trained_metrics"].get(name), "with the trained back, not its average", GREEN, "-"),
        (lambda r: r["auxiliary_metrics"].get(name), "auxiliary head", ORANGE, "-"),
        (lambda r: r["majority_accuracy"], "majority class", GREY, "--"),
    )
    title = name_text(name)
    _lines(axes, history, lines, f"{title[0].upper()}{title[1:]} ({direction_text(metric['higher_is_better'])})")
    axes.set_ylabel(title, color=INK)
    axes.set_ylim(0, 1.02 if metric["is_share"] else None)
    if metric["is_share"]:
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _losses(axes: Axes, history: History) -> None:
    _lines(axes, history, LOSSES, "Loss")
    axes.set_ylim(bottom=0)


def _lines(axes: Axes, history: History, wanted: Sequence[Line], title: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    for value_of, label, colour, style in wanted:
        rounds, values = _series(history, value_of)
        if rounds:
            mark = "o" if len(rounds) <= FEW_ROUNDS and style == "-" else None
            axes.plot(rounds, values, style, color=colour, label=label, marker=mark, markersize=3.5, linewidth=1.8)
    _style(axes, history)


def _series(history: History, value_of: Callable[[RoundRecord], float | None]) -> tuple[list[int], list[float]]:
    """Rounds and values, where they are known."""
    rows = [(record["round"], value_of(record)) for record in history]
    found = [(number, value) for number, value in rows if value is not None and known(value)]
    return [number for number, _ in found], [value for _, value in found]


def plain(axes: Axes) -> None:
    """Horizontal grid lines, no frame."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def _style(axes: Axes, history: History) -> None:
    axes.set_xlabel("round", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    first, last = history[0]["round"], history[-1]["round"]
    margin = max(0.5, 0.02 * (last - first))
    axes.set_xlim(first - margin, last + margin)
    plain(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(facecolor="white", edgecolor="none", framealpha=0.9, labelcolor=INK, fontsize=9)
    else:
        axes.text(0.5, 0.5, "nothing was evaluated", transform=axes.transAxes, ha="center", color=GREY)
