"""How a client moves its parameters in one local step.

A step is a generator: it yields each micro-batch's activations as soon as they exist, so that whoever drives it can
send while the next is computed, and returns the loss at the base point.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from heron_client.compute.batch import Batch
from heron_client.uploads.upload import CutGradients
from heron_core.arrays import Array

Steps = Generator[list[Array], CutGradients | None, float]
"""Yields the cut's tensors [rows, ...] of each micro-batch in order, and nothing at all where they are not sent. Where
the method returns cut gradients it yields an empty list after the last, once it has nothing left to compute without
them, and takes them in answer to that. Returns the batch's mean loss.
Who takes a yielded list empties it, so that a suspended step holds no array that it does not need."""


class Stepper(Protocol):
    """One way to step, made anew for each round."""

    forward_passes: float
    """Forward passes over whole batches so far."""

    def step(self, batch: Batch) -> Steps:
        """One local step; moves the client's parameters. DataError where a loss is not finite."""
        ...

    def moments(self) -> dict[str, Array]:
        """The optimiser's state by its name in the client state, e.g. `moments.first`; empty where there is none."""
        ...
