"""What a simulated run leaves, to look at and to go on with.

Shape letters: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from heron_core.data.source import Source
from heron_core.device import to_inputs
from heron_server.metrics.counts import EVALUATION_ROWS
from heron_server.metrics.figures import Summary
from heron_server.planning.facts import ModelFacts
from heron_server.text.figures import value_text
from heron_server.text.units import number_text

MOST_CLASSES = 1000
"""A confusion matrix has this many rows at most."""


class StepLoss(NamedTuple):
    """One client's mean loss of one local step's batch, before the step. A list of them makes a data frame."""

    round: int
    """From 1."""
    step: int
    """Of the round, from 0."""
    client: str
    loss: float


class Losses:
    """Of all local steps of a simulation, as they come in."""

    def __init__(self) -> None:
        self._by_round: dict[tuple[int, str], tuple[float, ...]] = {}

    def heard(self, client: str, round_number: int, losses: Sequence[float]) -> None:
        """The losses of this round until now; a round that was abandoned is told anew."""
        self._by_round[round_number, client] = tuple(losses)

    def table(self) -> list[StepLoss]:
        """By round, step and client."""
        told = self._by_round.items()
        return sorted(StepLoss(n, step, name, loss) for (n, name), losses in told for step, loss in enumerate(losses))


@dataclass(frozen=True, repr=False)
class Simulation:
    """The result of `simulate`."""

    summary: Summary
    """As in summary.json."""
    model: nn.Module
    """The assembled model, in evaluation mode; its parameters are ordinary ones, which an optimiser can move."""
    facts: ModelFacts
    """What planning knows of it."""
    losses: list[StepLoss]
    """Of every local step of this call's rounds."""
    class_names: tuple[str, ...] = ()
    """In label order; their numbers where nobody knows names. Empty where a label is not one class."""
    confusion: NDArray[np.int64] | None = None
    """[K, K]: samples of the server's test set by their class (row) and by the model's answer (column). None where the
    server has no test set, a label is not one class, or there are more than a thousand."""

    @property
    def accuracy_by_class(self) -> dict[str, float | None]:
        """Share of right answers of each class, on the server's test set; None for a class without a sample there."""
        if self.confusion is None:
            return {}
        right, all_ = self.confusion.diagonal().tolist(), self.confusion.sum(axis=1).tolist()
        return {name: r / a if a else None for name, r, a in zip(self.class_names, right, all_, strict=True)}

    def __repr__(self) -> str:
        s, metric = self.summary, self.summary["metric"]
        figure = "not evaluated" if metric["value"] is None else value_text(metric["value"], metric["is_share"])
        rounds = f"{s['rounds_done']} of {s['rounds']} rounds"
        return f"Simulation({metric['name']} {figure}, loss {number_text(s['loss'])}, {rounds}, {s['clients']} clients)"


def confusion_of(model: nn.Module, test: Source, classes: int, channels_last: bool) -> NDArray[np.int64]:
    """[K, K]: samples by class and by answer, counted batch by batch; the model is in evaluation mode."""
    found = np.zeros(classes * classes, dtype=np.int64)
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(test), EVALUATION_ROWS):
            x, labels = test.batch(np.arange(start, min(start + EVALUATION_ROWS, len(test))))
            answers = model(*to_inputs(x, device, channels_last)).argmax(dim=1).cpu().numpy()
            found += np.bincount(labels * classes + answers, minlength=classes * classes)
    return found.reshape(classes, classes)
