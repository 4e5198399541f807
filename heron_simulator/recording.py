"""Notes every message between a simulated client and the server, for the network model."""

from __future__ import annotations

from collections.abc import Mapping

from heron_client.transport.interface import Accept, PushStream, Transport
from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.bulk import state_chunks, update_chunks
from heron_core.wire.frames import Bulk
from heron_simulator.forwarding import Forwarding
from heron_simulator.network_model import Recording, Sent


class RecordingTransport(Forwarding):
    """Notes the bytes of one client's messages on the wire. What evaluation sends belongs to no round.

    All clients of one run write into the same recording.
    """

    def __init__(self, inner: Transport, recording: Recording) -> None:
        super().__init__(inner)
        self._recording, self._sent = recording, Sent()
        self._carried: int | None = None
        """Version of the client state that came with the round's beginning and has not been asked for."""

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        event = self._inner.next_event(timeout_s)
        if event is None:
            return None
        if event.WhichOneof("event") == "evaluation_begins":
            self._sent = Sent()
        elif event.WhichOneof("event") == "round_begins":
            begins = event.round_begins
            by_rank = self._recording.setdefault((begins.term, begins.round), {})
            self._sent = by_rank.setdefault(begins.rank, Sent())
            self._carried = begins.version if begins.HasField("state") else None
        wire_bytes = self._sent.down(event.ByteSize())
        if event.WhichOneof("event") == "round_begins" and self._carried is not None:
            self._sent.state = wire_bytes
        return event

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
        arrays = self._inner.fetch_model(request, accept)
        if self._carried == request.version:
            self._carried = None
            return arrays
        self._sent.fetch = self._sent.up(request.ByteSize())
        self._sent.state = sum(self._sent.down(chunk.message_bytes) for chunk in state_chunks(arrays))
        return arrays

    def open_push(self, opening: split.FrameHeader) -> PushStream:
        self._sent.opening = self._sent.up(split.ActivationFrame(header=opening).ByteSize())
        return RecordingPush(self._inner.open_push(opening), self._sent)

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        self._sent.update = sum(self._sent.up(chunk.message_bytes) for chunk in update_chunks(header, arrays))
        reply = self._inner.submit(header, arrays)
        self._sent.down(reply.ByteSize())
        return reply


class RecordingPush(PushStream):
    """Notes the messages of one round's stream of uploads."""

    def __init__(self, inner: PushStream, sent: Sent) -> None:
        self._inner, self._sent = inner, sent

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        header, uploads = frame.rest.header, self._sent.uploads
        while len(uploads) <= header.step:
            uploads.append([])
        if header.offset == 0:
            uploads[header.step].append(0)
        uploads[header.step][-1] += self._sent.up(frame.message_bytes)
        self._inner.send(frame)

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        event = self._inner.receive(timeout_s)
        if event is not None:
            self._note(event)
        return event

    def close(self) -> None:
        self._inner.close()

    def _note(self, event: Bulk[split.PushEvent]) -> None:
        wire_bytes = self._sent.down(event.message_bytes)
        if event.rest.WhichOneof("event") == "cut_gradients":
            step, gradients = event.rest.cut_gradients.step, self._sent.gradients
            gradients.extend([0] * (step + 1 - len(gradients)))
            gradients[step] += wire_bytes
