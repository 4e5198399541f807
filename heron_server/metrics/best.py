"""Which of a run's rounds was the best, by the figure that judges it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import isfinite

from heron_server.metrics.figures import RoundRecord


def best_round(history: Sequence[RoundRecord], among: Collection[int]) -> int | None:
    """The one of `among` whose evaluation was best, the earliest of equals; None where none of them has a figure."""
    best, best_score = None, 0.0
    for record in history:
        judged = record["metric"]
        value = judged["value"]
        if record["round"] not in among or value is None or not isfinite(value):
            continue
        score = value if judged["higher_is_better"] else -value
        if best is None or score > best_score:
            best, best_score = record["round"], score
    return best
