"""The two-way streams of the gRPC transport: threads send and read, so that the client's code stays synchronous."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from time import monotonic

import grpc

from heron_client.transport.grpc_reader import POLL_S, Outgoing, Reader
from heron_client.transport.received import reading
from heron_core.errors import BadReply, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.channel import of_session
from heron_core.wire.frames import Bulk, deserializer, serialize

FEDERATION = "/heron.v1.FederationService/"
PUSH = "/heron.v1.SplitService/PushActivations"
FULL_S, LAST_WORDS_S = 0.5, 3.0
"""How long a push stream that closes waits for room, and with that for the server's end."""


class GrpcWatch:
    """The WatchRounds stream: beats go up from gRPC's own thread, events come down in another."""

    def __init__(self, channel: grpc.Channel, address: str, session_id: str, heartbeat_s: float) -> None:
        self.place = (0, 0, 0, 0)
        self._session_id, self._heartbeat_s = session_id, heartbeat_s
        open_stream: grpc.StreamStreamMultiCallable[pb.Beat, pb.RoundEvent | BadReply] = channel.stream_stream(
            FEDERATION + "WatchRounds", pb.Beat.SerializeToString, reading(pb.RoundEvent.FromString)
        )
        self._sent = Outgoing(self._beats())
        events = open_stream(self._sent, metadata=of_session(session_id))
        self._reader: Reader[pb.RoundEvent] = Reader("heron-events", address, events, self._sent)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        """As in Transport."""
        return self._reader.next(timeout_s)

    def stop(self) -> None:
        """Ends both directions; what they do afterwards is not told."""
        self._reader.stop()

    def _beats(self) -> Iterator[pb.Beat]:
        while True:
            term, number, step, replayed = self.place
            yield pb.Beat(session_id=self._session_id, round=number, step=step, term=term, replayed=replayed)
            if self._sent.over.wait(self._heartbeat_s):
                return


class GrpcPush:
    """One PushActivations stream. At most one frame waits to be serialised, so backpressure reaches the sender."""

    def __init__(
        self, channel: grpc.Channel, address: str, opening: split.FrameHeader, silence_s: float,
        stopped: Callable[[], bool],
    ) -> None:  # fmt: skip
        """`stopped`: has the transport's stop() been called?"""
        self._address, self._silence_s, self._stopped, self._closed = address, silence_s, stopped, False
        self._frames: queue.Queue[Bulk[split.ActivationFrame] | None] = queue.Queue(maxsize=2)
        self._frames.put(Bulk(split.ActivationFrame(header=opening)))
        open_stream: grpc.StreamStreamMultiCallable[Bulk[split.ActivationFrame], Bulk[split.PushEvent] | BadReply]
        open_stream = channel.stream_stream(PUSH, serialize, reading(deserializer(split.PushEvent)))
        self._sent = Outgoing(self._outgoing())
        self._reader: Reader[Bulk[split.PushEvent]]
        answers = open_stream(self._sent, metadata=of_session(opening.session_id))
        self._reader = Reader("heron-push", address, answers, self._sent)

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        """As in PushStream; waits while the server takes nothing, for silence_s at most."""
        began = monotonic()
        while True:
            if self._reader.end is not None:
                raise self._reader.end
            if self._put(frame, POLL_S):
                return
            if self._stopped():
                raise Unreachable("stopped while the server took nothing")
            if monotonic() - began > self._silence_s:
                self._reader.stop()
                raise Unreachable(f"the server at {self._address} took nothing for {self._silence_s:g} s")

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        """As in PushStream."""
        return self._reader.next(timeout_s)

    @property
    def is_open(self) -> bool:
        """Do frames still go out?"""
        return not (self._closed or self._sent.over.is_set())

    def close(self) -> None:
        """As in PushStream; waits a moment for the server's end, unless the transport is stopped."""
        self._closed, until = True, monotonic() + LAST_WORDS_S
        if not self._sent.over.is_set() and not self._stopped() and self._put(None, FULL_S):
            while not self._stopped() and monotonic() < until and not self._sent.over.wait(POLL_S):
                pass
        self._reader.stop()

    def _put(self, frame: Bulk[split.ActivationFrame] | None, timeout_s: float) -> bool:
        """False if there is no room."""
        try:
            self._frames.put(frame, timeout=timeout_s)
        except queue.Full:
            return False
        return True

    def _outgoing(self) -> Iterator[Bulk[split.ActivationFrame]]:
        while not self._sent.over.is_set():
            try:
                frame = self._frames.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if frame is None:
                return
            yield frame
            del frame
