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
from heron_client.compute.encoding import decoded, encoded
from heron_client.compute.reuse.sent_once import SentOnce
from heron_client.compute.steps import make_stepper
from heron_client.uploads.upload import CutGradients, Upload
from heron_core.arrays import Array, length_of
from heron_core.spec.codec import CodecSpec
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import MethodSpec
from heron_core.wire.activation_codec import CODECS, floating
from heron_core.wire.labels import NUMBERS, SENT, numbers_of, packed
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

    def __init__(
        self, method: MethodSpec, seed: int, state: ClientState, batches: Batches, codec: CodecSpec | None = None,
        sent: SentOnce | None = None,
    ) -> None:  # fmt: skip
        """`codec`: how uploads and cut gradients travel; None: as they are. `sent`: which samples travel by their
        numbers, where the run reuses them."""
        codec = codec or CodecSpec()
        self._method, self._seed, self._state, self._batches = method, seed, state, batches
        self._returns_cut_gradients = method_of(method).returns_cut_gradients
        self._packs = codec.labels == "packed"
        self._uploads, self._gradients = CODECS[codec.uploads], CODECS[codec.cut_gradients]
        tensors = (*state.backend.activations, state.backend.labels.tensor)
        row_bytes = sum(spec.bytes_per_sample for spec in tensors)
        self._rows_together = rows_together(method.batch_size, method.micro_batch_rows, row_bytes)
        self.sent = sent
        self._together: list[dict[str, Array]] = []
        """Small micro-batches that wait for those with which they travel."""
        self._stepper = make_stepper(method, seed, state)
        self._clock = _Stopwatch()
        self._sequence = 0
        self._length = 0
        """Of the newest upload's sequences, where they vary."""
        self.steps_done = 0
        self.figures = Figures()

    def uploads(self) -> Generator[Upload | None, CutGradients | None, None]:
        """Runs the local steps: yields each upload, and None after a micro-batch or a step that sends nothing yet.

        After an upload that wants gradients it computes on without them as far as it can; the None that it then yields
        is answered with them, and their list is emptied. DataError: a loss is not finite, or what its codec has no code
        for. ServerTensorError: the answer is not what the codec of gradients gives.
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
            came = yield self._suspended(self._upload(batch, step, number, activations) if activations else None)
            self._clock.start()
            answer = None if came is None else self._decoded(came, batch.rows)
            number += 1

    def _suspended(self, upload: Upload | None) -> Upload | None:
        """The same, with the clock stopped: whoever drives the step has it now."""
        self._clock.stop()
        return upload

    def _upload(self, batch: Batch, step: int, number: int, activations: list[Array]) -> Upload | None:
        """None while the micro-batch waits for others. Takes the activations out of their list: the suspended step
        shall not hold them."""
        backend = self._state.backend
        labels = packed(batch.micro_batches[number].labels, backend.labels.tensor, self._packs)
        path = (*batch.path, "upload", number)
        if self.sent is not None:
            return self._by_number(self.sent, batch, step, activations, labels)
        self._together.append(encoded(self._uploads, backend, activations, labels, self._seed, *path))
        self._length = length_of(backend.activations, activations)
        activations.clear()
        first, rows = number + 1 - len(self._together), self._method.micro_batch_rows
        if len(self._together) * rows < self._rows_together:
            return None
        tensors, self._together = _joined(self._together), []
        waits = self._returns_cut_gradients and number == len(batch.micro_batches) - 1
        back = self._gradients.travels(floating(backend.activations), batch.rows, self._length) if waits else ()
        self._sequence += 1
        return Upload(
            self._sequence - 1, step // self._method.upload_period, first * rows, batch.rows, tensors, back,
            self._length,
        )  # fmt: skip

    def _by_number(
        self, sent: SentOnce, batch: Batch, step: int, activations: list[Array], labels: Array
    ) -> Upload | None:
        """As `_upload`, of a whole batch: what the server has of it is left out."""
        assert batch.numbers is not None
        found = sent.gather(self._sequence, batch.numbers, activations, labels)
        if found is None:
            return None
        (*cut, labels), which_B = found
        backend, path = self._state.backend, (*batch.path, "upload", 0)
        tensors = encoded(self._uploads, backend, cut, labels, self._seed, *path)
        if sent.tolerates:
            tensors[SENT] = np.packbits(which_B)
        tensors[NUMBERS.name] = batch.numbers.astype(numbers_of(sent.samples).dtype)
        self._sequence += 1
        return Upload(self._sequence - 1, step // self._method.upload_period, 0, batch.rows, tensors)

    def _decoded(self, came: CutGradients, rows: int) -> CutGradients:
        return decoded(self._gradients, self._state.backend, came, rows, self._length)


def _joined(micro_batches: list[dict[str, Array]]) -> dict[str, Array]:
    """Their tensors one behind the other, rows or blocks; one alone is handed on as it is."""
    if len(micro_batches) == 1:
        return micro_batches[0]
    return {name: np.concatenate([each[name] for each in micro_batches]) for name in micro_batches[0]}


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
