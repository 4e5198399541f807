"""What an evaluation counts, batch by batch.  No torch: records and tests read it where none is installed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """An evaluation in progress."""

    samples: int = 0
    correct: int = 0
    auxiliary_correct: int | None = None
    """None where there is no head, or one for each client."""
    loss_sum: float = 0.0
    class_counts: list[int] | None = None
