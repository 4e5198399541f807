"""A point beside its frozen controls, seed by seed: what its clients' training is worth, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from statistics import mean, stdev

from heron_simulator.sweep.figures import Gathered
from heron_simulator.sweep.store import number

T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t at 97.5 % for 1, 2, ... degrees of freedom; the last also stands for more."""
NO_GAP = 2.0
"""Where the ceiling is nearer to the control than so many standard deviations of the difference, the share says so: the
front hardly matters there, or matters very differently from seed to seed."""


@dataclass(frozen=True)
class Paired:
    """Differences of one column, one for each seed of which both runs are there: positive where the point is better."""

    differences: tuple[float, ...]
    share: bool = True
    """Of a share, told in points; else a figure such as a loss, in its own unit."""

    @property
    def mean(self) -> float:
        return mean(self.differences)

    @property
    def deviation(self) -> float:
        """Sample standard deviation; 0 for one seed."""
        return stdev(self.differences) if len(self.differences) > 1 else 0.0

    @property
    def half_width(self) -> float:
        """Of the mean's 95 % interval; without end for one seed."""
        n = len(self.differences)
        return T_975[min(n - 1, len(T_975)) - 1] * self.deviation / sqrt(n) if n > 1 else inf

    @property
    def better(self) -> int:
        """Seeds on which the point is better than its control."""
        return sum(d > 0 for d in self.differences)


def lower_is_better(gathered: Gathered, column: str) -> bool:
    """Is the column a loss?"""
    return column == "metric" and any(row.get("higher_is_better") == 0 for row in gathered.rows)


def paired(gathered: Gathered, column: str) -> Paired | None:
    """By how much the point's figure is better than its control's; None where no seed has both."""
    found = [(number(row, column), number(control, column)) for row, control in gathered.pairs]
    sign = -1 if lower_is_better(gathered, column) else 1
    differences = tuple(sign * (a - b) for a, b in found if a is not None and b is not None)
    return Paired(differences, column.endswith("accuracy")) if differences else None


def text(found: Paired | None) -> str:
    """`+3.1 (+1.9 to +4.3), 5 of 5`: the mean difference, its 95 % interval, and seeds better than the control."""
    if found is None:
        return "-"
    scale, digits = (100, 1) if found.share else (1, 3)
    low, high = (scale * (found.mean + sign * found.half_width) for sign in (-1, 1))
    interval = f" ({low:+.{digits}f} to {high:+.{digits}f})" if len(found.differences) > 1 else ""
    return f"{scale * found.mean:+.{digits}f}{interval}, {found.better} of {len(found.differences)}"


def share_text(found: Paired | None, ceiling: Paired | None) -> str:
    """`74 %` of the way from the control to the ceiling, or that there is none."""
    if found is None or ceiling is None:
        return "-"
    if ceiling.mean <= 0:
        return "the front does not matter"
    within = ceiling.mean <= NO_GAP * ceiling.deviation
    return f"{100 * found.mean / ceiling.mean:.0f} %{', of a gap under twice its spread' if within else ''}"
