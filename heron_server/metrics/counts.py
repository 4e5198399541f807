"""What an evaluation counts, batch by batch.  No torch: records and tests read it where none is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from heron_core.measures import Measured, added

EVALUATION_ROWS = 256
"""Samples of the server's test set at a time, at most."""
EVALUATION_BYTES = 256 << 20
"""Of the outputs of so many samples: logits over a large vocabulary are 12 MiB a sample."""


def evaluation_rows(output_shape: Sequence[int]) -> int:
    """Samples at a time, by the float32 outputs of one: never those of the whole test set together."""
    return min(EVALUATION_ROWS, max(1, EVALUATION_BYTES // (4 * prod(output_shape))))


@dataclass
class Counts:
    """An evaluation in progress."""

    samples: int = 0
    measured: Measured = field(default_factory=dict)
    """The sums behind the task's metrics."""
    auxiliary: Measured = field(default_factory=dict)
    """The same of the auxiliary head; empty where there is none, or one for each client."""
    loss_sum: float = 0.0
    """Of the back that is evaluated."""
    class_counts: list[int] | None = None
    """Samples of each class, where a label is one."""
    trained: Measured = field(default_factory=dict)
    """As `measured`, of the trained back where its average is what is evaluated; else empty."""

    def add(self, other: Counts) -> None:
        """Takes in what another batch counted."""
        self.samples += other.samples
        self.measured = added(self.measured, other.measured)
        self.auxiliary = added(self.auxiliary, other.auxiliary)
        self.trained = added(self.trained, other.trained)
        self.loss_sum += other.loss_sum
        if other.class_counts is not None:
            before = self.class_counts or [0] * len(other.class_counts)
            self.class_counts = [a + b for a, b in zip(before, other.class_counts, strict=True)]
