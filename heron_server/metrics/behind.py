"""Is a run behind its control, by more than noise, and from which round on can that be known?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import mean, variance

from heron_server.metrics.figures import RoundRecord

RECENT = 5
"""Evaluated rounds whose mean is compared."""
SETTLING = 4
"""One in so many of a run's rounds, its first ones, are left out: a front that begins to move costs the back at first.
On the demo's data the control was ahead of runs that beat it by ten points until an eighth of their rounds."""
ERRORS = 2.0
"""Standard errors of the difference that are noise."""


@dataclass(frozen=True)
class Behind:
    """The figure that judges the run, means over `RECENT` rounds up to `round`."""

    round: int
    name: str
    is_share: bool
    own: float
    control: float
    noise: float
    """`ERRORS` standard errors of their difference."""


def behind(own: Sequence[RoundRecord], control: Sequence[RoundRecord], rounds: int) -> Behind | None:
    """The last round that both have evaluated, if the control is better there by more than noise. `rounds`: as set.

    noise = 2 sqrt((p (1 - p) + q (1 - q)) / n + v / 5), p and q the two shares of n samples, v the variance of their
    difference from round to round; for a figure that is no share only v counts.
    """
    theirs = {record["round"]: record for record in control if record["round"] > rounds / SETTLING}
    pairs = [(record, theirs[record["round"]]) for record in own if record["round"] in theirs]
    values = [(record, record["metric"]["value"], other["metric"]["value"]) for record, other in pairs]
    evaluated = [(record, a, b) for record, a, b in values if a is not None and b is not None][-RECENT:]
    known = [(a, b) for _, a, b in evaluated if isfinite(a) and isfinite(b)]
    if len(known) < RECENT:
        return None
    last = evaluated[-1][0]
    judged, (a, b) = last["metric"], (mean(column) for column in zip(*known, strict=True))
    samples = last.get("samples", 0) if judged["is_share"] else 0
    of_shares = (a * (1 - a) + b * (1 - b)) / samples if samples else 0.0
    noise = ERRORS * sqrt(of_shares + variance(y - x for x, y in known) / RECENT)
    ahead = b - a if judged["higher_is_better"] else a - b
    return Behind(last["round"], judged["name"], judged["is_share"], a, b, noise) if ahead > noise else None
