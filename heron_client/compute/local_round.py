"""A client's local round: h local steps, one upload every k-th.  arXiv 2601.09076, Algorithm 1.

A pure function of (settings, client rank, round, fetched state, data), as a generator: it yields each micro-batch's
activations as soon as they exist, so that whoever drives it can send while the next is computed. How a step moves the
parameters is its stepper's business.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from heron_client.compute.batch import Batch, Batches
from heron_client.compute.client_state import ClientState
from heron_client.compute.steps import make_stepper
from heron_client.uploads.upload import CutGradients, Upload
from heron_core.arrays import Array, length_of
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec
from heron_core.wire.activation_codec import codec_for, floating
from heron_core.wire.codec import expected_batch
from heron_core.wire.window import rows_together


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
        """Of the local steps so far; 0 before the first."""
        return median(self.step_seconds) if self.step_seconds else 0.0


class LocalRound:
    """One round's work, from the client state that was loaded last.

    Drive `uploads()` to the end, then read `update()` and `figures`.
    """

    def __init__(self, method: MethodSpec, seed: int, state: ClientState, batches: Batches) -> None:
        self._method, self._state, self._batches = method, state, batches
        self._returns_cut_gradients = method_of(method).returns_cut_gradients
        self._uploads, self._gradients = codec_for("uploads"), codec_for("cut_gradients")
        self._cut = state.backend.activations
        travels = (*self._uploads.travels(self._cut), state.backend.labels.tensor)
        self._names = [spec.name for spec in travels]
        row_bytes = sum(spec.bytes_per_sample for spec in travels)
        self._rows_together = rows_together(method.batch_size, method.micro_batch_rows, row_bytes)
        self._together: list[list[Array]] = []
        """Small micro-batches that wait for those with which they travel."""
        self._stepper = make_stepper(method, seed, state)
        self._clock = _Stopwatch()
        self._sequence = 0
        self.steps_done = 0
        self.figures = Figures()

    def uploads(self) -> Generator[Upload | None, CutGradients | None, None]:
        """Runs the local steps: yields each upload, and None after a micro-batch or a step that sends nothing yet.

        After an upload that wants gradients it computes on without them as far as it can; the None that it then yields
        is answered with them, and their list is emptied. DataError: a loss is not finite.
        """
        for step in range(self._method.local_steps):
            self._clock.restart()
            loss = yield from self._step(step)
            self.figures.losses.append(loss)
            self.figures.forward_passes = self._stepper.forward_passes
            self.figures.step_seconds.append(self._clock.stop())
            self.steps_done = step + 1
            if not self._batches.sends(step):
                yield None

    def update(self) -> dict[str, Array]:
        """What the client submits after the last step."""
        return self._state.update(self._stepper.moments())

    def _step(self, step: int) -> Generator[Upload | None, CutGradients | None, float]:
        batch = self._batches.at(step)
        steps = self._stepper.step(batch)
        answer: CutGradients | None = None
        number = 0
        while True:
            try:
                activations = steps.send(answer)
            except StopIteration as end:
                loss: float = end.value
                return loss
            self._clock.stop()
            came = yield self._upload(batch, step, number, activations) if activations else None
            self._clock.start()
            answer = None if came is None else self._decoded(came)
            number += 1

    def _upload(self, batch: Batch, step: int, number: int, activations: list[Array]) -> Upload | None:
        """None while the micro-batch waits for others. Takes the activations out of their list: the suspended step
        shall not hold them."""
        self._together.append([*self._uploads.encode(activations), batch.micro_batches[number].labels])
        length = length_of(self._cut, activations)
        activations.clear()
        first, rows = number + 1 - len(self._together), self._method.micro_batch_rows
        if len(self._together) * rows < self._rows_together:
            return None
        tensors = dict(zip(self._names, _joined(self._together), strict=True))
        self._together = []
        waits = self._returns_cut_gradients and number == len(batch.micro_batches) - 1
        back = expected_batch(self._gradients.travels(floating(self._cut)), batch.rows, length) if waits else ()
        self._sequence += 1
        return Upload(
            self._sequence - 1, step // self._method.upload_period, first * rows, batch.rows, tensors, back
        )

    def _decoded(self, came: CutGradients) -> CutGradients:
        """Takes the encoded gradients out of their list: whoever holds it shall not hold them."""
        loss, encoded = came
        gradients = self._gradients.decode(encoded, floating(self._cut), np.empty)
        encoded.clear()
        return loss, gradients


def _joined(micro_batches: list[list[Array]]) -> list[Array]:
    """Their tensors, row by row; one alone is handed on as it is."""
    if len(micro_batches) == 1:
        return micro_batches[0]
    return [np.concatenate(parts) for parts in zip(*micro_batches, strict=True)]


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
