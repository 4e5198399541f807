"""One local step's mini-batch, cut into micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from heron_client.compute.backend import MicroBatch
from heron_core.data.batches import BatchOrder
from heron_core.data.source import Source
from heron_core.errors import DataError
from heron_core.spec.methods import method_of
from heron_core.spec.optimizer import learning_rate
from heron_core.spec.run_spec import MethodSpec
from heron_core.streams import Part


@dataclass(frozen=True)
class Batch:
    """What a stepper is given."""

    path: tuple[Part, ...]
    """Names the step's random streams: ("round", r, "client", rank, "step", m)."""
    micro_batches: list[MicroBatch]
    rows: int
    """Samples of the whole batch."""
    sends: bool
    """Is this step's forward uploaded?"""
    lr: float
    """Learning rate of this step."""
    numbers: NDArray[np.int64] | None = None
    """Of its samples among the client's own [B]."""

    def finite(self, loss: float, what: str = "the auxiliary loss") -> float:
        """`loss`; DataError naming round and step where it is NaN or Inf."""
        if not isfinite(loss):
            _, round_number, _, _, _, step = self.path
            raise DataError(
                f"round {round_number}, step {step}: {what} must be finite, got {loss}; "
                "lower method.optimizer.lr, or look for NaN in this client's data"
            )
        return loss


class Batches:
    """The mini-batches of one client's round."""

    def __init__(
        self, source: Source, order: BatchOrder, method: MethodSpec, round_number: int, rank: int, rounds: int
    ) -> None:
        """`rounds`: of the whole run."""
        self._source, self._order, self._method = source, order, method
        self._round, self._rank, self._rounds = round_number, rank, rounds

    def at(self, step: int) -> Batch:
        """The batch of local step `step` of the round, from 0."""
        method, position = self._method, (self._round - 1) * self._method.local_steps + step
        numbers = self._order.at(position)
        inputs, labels = self._source.batch(numbers)
        path: tuple[Part, ...] = ("round", self._round, "client", self._rank, "step", step)
        rows, starts = method.micro_batch_rows, range(0, len(labels), method.micro_batch_rows)
        micro_batches = [
            MicroBatch(
                tuple(array[i : i + rows] for array in inputs), labels[i : i + rows], (*path, "masks", number)
            )
            for number, i in enumerate(starts)
        ]
        lr = learning_rate(method.optimizer, position, self._rounds * method.local_steps)
        return Batch(path, micro_batches, method.batch_size, self.sends(step), lr, numbers)

    def sends(self, step: int) -> bool:
        """Is that step's forward uploaded? Every k-th is, where the method uploads at all."""
        return method_of(self._method).uploads and (step + 1) % self._method.upload_period == 0
