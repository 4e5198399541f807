"""A client's local round: h local steps, one upload every k-th.  arXiv 2601.09076, Algorithm 1.

A pure function of (run spec, client rank, round, fetched state, data), told piece by piece: a generator that yields
each micro-batch's activations as soon as they exist, so that whoever drives it can send while the next is computed.
How a step moves the parameters is its stepper's business.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from statistics import median

from heron_client.compute.steps import make_stepper
from heron_client.compute.steps.batch import Batch
from heron_client.compute.torch_backend import ClientCompute
from heron_client.uploads.upload import CutGradients, Upload
from heron_core.arrays import Array
from heron_core.data.batches import BatchOrder
from heron_core.data.source import Source
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec


@dataclass
class Figures:
    """What a local round measured about itself."""

    losses: list[float] = field(default_factory=list)
    """Mean loss of each local step's batch at its base point: the auxiliary one, or the one that the method lowers."""
    step_seconds: list[float] = field(default_factory=list)
    """Compute seconds of each local step, without the time the driver held the generator."""
    forward_passes: float = 0.0
    """Forward passes over whole batches."""

    @property
    def step_seconds_median(self) -> float:
        return median(self.step_seconds) if self.step_seconds else 0.0


class LocalRound:
    """One round's work. Drive `uploads()` to the end, then read `update()` and `figures`."""

    def __init__(
        self, spec: RunSpec, compute: ClientCompute, source: Source, order: BatchOrder, names: list[str],
        round_number: int, rank: int,
    ) -> None:  # fmt: skip
        self._spec, self._compute, self._source, self._order = spec, compute, source, order
        self._names, self._round, self._rank = names, round_number, rank
        self._method = method_of(spec.method)
        self._stepper = make_stepper(spec, compute)
        self._clock = _Stopwatch()
        self._sequence = 0
        self.steps_done = 0
        self.figures = Figures()

    def uploads(self) -> Generator[Upload | None, CutGradients | None, None]:
        """Runs the local steps: yields each upload, and None after a step that sends nothing.

        An upload that wants gradients is answered with them; their list is emptied. DataError: a loss is not finite.
        """
        for step in range(self._spec.method.local_steps):
            self._clock.restart()
            loss = yield from self._step(step)
            self.figures.losses.append(loss)
            self.figures.forward_passes = self._stepper.forward_passes
            self.figures.step_seconds.append(self._clock.stop())
            self.steps_done = step + 1
            if not self._sends(step):
                yield None

    def update(self) -> dict[str, Array]:
        """What the client submits after the last step."""
        return self._compute.update(self._stepper.moments())

    def _step(self, step: int) -> Generator[Upload, CutGradients | None, float]:
        batch = self._batch(step)
        steps = self._stepper.step(batch)
        answer: CutGradients | None = None
        piece = 0
        while True:
            try:
                activations = steps.send(answer)
            except StopIteration as end:
                loss: float = end.value
                return loss
            self._clock.stop()
            answer = yield self._upload(batch, step, piece, activations)
            self._clock.start()
            piece += 1

    def _upload(self, batch: Batch, step: int, piece: int, activations: list[Array]) -> Upload:
        """Takes the activations out of their list: the suspended step shall not hold them."""
        method, labels = self._spec.method, batch.pieces[piece][1]
        tensors = dict(zip(self._names, [*activations, labels], strict=True))
        activations.clear()
        last = piece == len(batch.pieces) - 1
        self._sequence += 1
        return Upload(
            self._sequence - 1, step // method.upload_period, piece * method.micro_batch_rows, batch.rows, tensors,
            wants_gradients=self._method.returns_cut_gradients and last,
        )  # fmt: skip

    def _batch(self, step: int) -> Batch:
        method = self._spec.method
        indices = self._order.at((self._round - 1) * method.local_steps + step)
        x, labels = self._source.batch(indices)
        rows = method.micro_batch_rows
        pieces = [
            (tuple(array[i : i + rows] for array in x), labels[i : i + rows]) for i in range(0, len(indices), rows)
        ]
        path = ("round", self._round, "client", self._rank, "step", step)
        return Batch(path, pieces, method.batch_size, self._sends(step))

    def _sends(self, step: int) -> bool:
        return self._method.uploads and (step + 1) % self._spec.method.upload_period == 0


class _Stopwatch:
    """Seconds of one step, pausable."""

    def __init__(self) -> None:
        self._total, self._since = 0.0, 0.0

    def restart(self) -> None:
        self._total, self._since = 0.0, time.perf_counter()

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> float:
        self._total += time.perf_counter() - self._since
        return self._total
