"""Sends a round's micro-batches in order: within the credit, with at most two unacknowledged, again after a break."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

from heron_client.transport.interface import PushStream
from heron_client.uploads.cut_inbox import CutInbox
from heron_client.uploads.upload import CutGradients, Upload
from heron_core.errors import BadReply, StaleTerm
from heron_core.pb.v1 import split_pb2 as pb
from heron_core.wire.codec import chunks, manifest_of
from heron_core.wire.frames import Bulk
from heron_core.wire.window import may_follow


class WorkLost(Exception):
    """An earlier life of this client had the cut gradients that this one needs: it cannot go on with the round."""


class Uploader:
    """The memory of what the server has not acknowledged yet outlives a broken stream."""

    def __init__(self, opening: pb.FrameHeader) -> None:
        self._opening = opening
        self._unacknowledged: deque[Upload] = deque()
        self._stream: PushStream | None = None
        self._received = 0
        """Micro-batches that the server has acknowledged; never falls within a term."""
        self._next = 0
        """Sequence of the next micro-batch to queue."""
        self.held = b""
        """What the newest Position says of the client's samples, where they are reused."""
        self._positioned = False
        self._credit_steps = 0
        self._inbox = CutInbox()

    def attach(self, stream: PushStream, wait_s: float) -> Generator[None, None, None]:
        """Takes a fresh stream, waits for the server's Position and sends again what it lacks."""
        self._stream, self._positioned = stream, False
        while not self._positioned:
            if not self._apply(stream.receive(wait_s)):
                yield
        for upload in self._unacknowledged:
            self._send(upload)

    def push(self, upload: Upload, wait_s: float) -> Generator[None, None, None]:
        """Sends one micro-batch; yields while it must wait. One that is queued or that the server has is skipped."""
        if upload.wants_gradients:
            self._inbox.want(upload)
        if upload.sequence < max(self._next, self._received):
            return
        self.listen()
        assert self._stream is not None
        while upload.step >= self._credit_steps or not self._may_leave(upload):
            if not self._apply(self._stream.receive(wait_s)):
                yield
        self._unacknowledged.append(upload)
        self._next = upload.sequence + 1
        self._send(upload)

    @property
    def received(self) -> int:
        """Micro-batches that the server has whole."""
        return self._received

    def listen(self) -> None:
        """Takes what has come meanwhile: what is acknowledged need not be held during the next step."""
        while self._stream is not None and self._apply(self._stream.receive(0)):
            pass

    def gradients(self, step: int, wait_s: float) -> Generator[None, None, CutGradients]:
        """Waits for the cut gradients of the step that was pushed last; ServerTensorError: they do not fit the upload.

        WorkLost: the server has gone on to a later step.
        """
        assert self._stream is not None
        while (found := self._inbox.take()) is None:
            if self._inbox.newest_step > step:
                raise WorkLost(
                    f"wants the cut gradients of step {step}, which an earlier life of it had; the server is at step "
                    f"{self._inbox.newest_step}"
                )
            if not self._apply(self._stream.receive(wait_s)):
                yield
        return found

    def settle(self, wait_s: float) -> Generator[None, None, None]:
        """Waits until everything is acknowledged."""
        while self._unacknowledged:
            assert self._stream is not None
            if not self._apply(self._stream.receive(wait_s)):
                yield

    def close(self) -> None:
        """Ends the present stream; what is unacknowledged is kept for the next one."""
        if self._stream is not None:
            self._stream.close()

    def _may_leave(self, upload: Upload) -> bool:
        together = sum(each.size_bytes for each in (*self._unacknowledged, upload))
        return may_follow(len(self._unacknowledged), together)

    def _apply(self, bulk: Bulk[pb.PushEvent] | None) -> bool:
        if bulk is None:
            return False
        event = bulk.rest
        kind = event.WhichOneof("event")
        if kind == "credit":
            self._credit_steps = max(self._credit_steps, event.credit.steps)
        elif kind == "position":
            self._credit_steps, self._positioned = event.position.credit_steps, True
            self.held = event.position.held
            self._acknowledge(event.position.sequence)
        elif kind == "acknowledged":
            if event.acknowledged.sequence > max(self._next, self._received):
                raise BadReply(
                    f"the server acknowledges {event.acknowledged.sequence} micro-batches, {self._next} were sent"
                )
            self._acknowledge(event.acknowledged.sequence)
        elif kind == "cut_gradients":
            if event.cut_gradients.step >= self._opening.steps:
                raise BadReply(
                    f"the server returns cut gradients of step {event.cut_gradients.step}, "
                    f"a round has {self._opening.steps} uploads"
                )
            self._inbox.put(bulk)
        return True

    def _acknowledge(self, sequence: int) -> None:
        if sequence < self._received:
            raise StaleTerm(
                f"the server is at micro-batch {sequence}, it had acknowledged {self._received}; "
                "the round must start again"
            )
        self._received = sequence
        while self._unacknowledged and self._unacknowledged[0].sequence < sequence:
            self._unacknowledged.popleft()

    def _send(self, upload: Upload) -> None:
        assert self._stream is not None
        arrays = list(upload.tensors.values())
        for number, (offset, parts) in enumerate(chunks(arrays)):
            header = pb.FrameHeader(
                term=self._opening.term, round=self._opening.round, purpose=self._opening.purpose,
                step=upload.step, sequence=upload.sequence, offset=offset,
            )  # fmt: skip
            if number == 0:
                header.row_start, header.batch_rows = upload.row_start, upload.batch_rows
                header.length = upload.length
                header.manifest.CopyFrom(manifest_of(upload.tensors))
            self._stream.send(Bulk(pb.ActivationFrame(header=header), parts))
