"""What a local step is given, and what it gives.

A step is a generator: it yields each micro-batch's activations as soon as they exist, so that whoever drives it can
send while the next is computed, and returns the loss at the base point.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from heron_core.streams import Part

Array = NDArray[Any]
CutGradients = tuple[float, list[Array]]
"""The server's mean loss of an upload, and its gradient for each of the cut's tensors [B, ...]."""
Steps = Generator[list[Array], CutGradients | None, float]
"""Yields the cut's tensors [rows, ...] of each micro-batch, none where they are not sent; takes the cut gradients in
answer to a step's last micro-batch where the method returns them; returns the batch's mean loss."""


@dataclass(frozen=True)
class Batch:
    """One local step's mini-batch."""

    path: tuple[Part, ...]
    """Names the step's random streams: ("round", r, "client", rank, "step", m)."""
    pieces: list[tuple[Array, Array]]
    """(inputs [rows, ...], labels int64 [rows]) of each micro-batch."""
    rows: int
    """B: samples of the whole batch."""
    sends: bool
    """Is this step's forward uploaded?"""


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
