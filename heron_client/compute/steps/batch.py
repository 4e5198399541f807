"""What a local step is given, and what it gives.

A step is a generator: it yields each micro-batch's activations as soon as they exist, so that whoever drives it can
send while the next is computed, and returns the loss at the base point.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import isfinite
from typing import Protocol

from heron_client.uploads.upload import CutGradients
from heron_core.arrays import Array
from heron_core.errors import DataError
from heron_core.streams import Part

Steps = Generator[list[Array], CutGradients | None, float]
"""Yields the cut's tensors [rows, ...] of each micro-batch in order, and nothing at all where they are not sent; takes
the cut gradients in answer to a step's last micro-batch where the method returns them; returns the batch's mean loss.
Who takes a yielded list empties it, so that a suspended step holds none of its arrays."""


@dataclass(frozen=True)
class Batch:
    """One local step's mini-batch."""

    path: tuple[Part, ...]
    """Names the step's random streams: ("round", r, "client", rank, "step", m)."""
    pieces: list[tuple[tuple[Array, ...], Array]]
    """(inputs [rows, ...], labels [rows, ...]) of each micro-batch."""
    rows: int
    """B: samples of the whole batch."""
    sends: bool
    """Is this step's forward uploaded?"""

    def mask_path(self, piece: int) -> tuple[Part, ...]:
        """Names the stream of a piece's dropout masks, the same for base and probes."""
        return (*self.path, "masks", piece)

    def finite(self, loss: float, of: str = "auxiliary") -> float:
        """`loss`; DataError naming round and step where it is NaN or Inf."""
        if not isfinite(loss):
            _, round_number, _, _, _, step = self.path
            raise DataError(
                f"round {round_number}, step {step}: the {of} loss must be finite, got {loss}; "
                "lower method.optimizer.lr, or look for NaN in this client's data"
            )
        return loss


class Stepper(Protocol):
    """How a client steps: one row of the family. Made anew each round."""

    forward_passes: float
    """Forward passes over whole batches so far."""

    def step(self, batch: Batch) -> Steps:
        """One local step; moves the client's parameters. DataError where a loss is not finite."""
        ...

    def moments(self) -> dict[str, Array]:
        """The optimiser's state by its name in the client state, e.g. `moments.first`; empty where there is none."""
        ...
