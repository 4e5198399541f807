"""The streams of the gRPC transport: a thread of its own reads each, so that the client's code stays synchronous."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import grpc

from heron_core.errors import REASON_KEY, HeronError, Unreachable, from_reason
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.frames import Bulk, deserializer, serialize

FEDERATION = "/heron.v1.FederationService/"
PUSH = "/heron.v1.SplitService/PushActivations"


def translate(error: grpc.RpcError, address: str) -> HeronError:
    """The HeronError that the server meant, or Unreachable."""
    if not isinstance(error, grpc.Call):
        return Unreachable(f"the connection to {address} broke")
    for key, value in error.trailing_metadata() or ():
        if key == REASON_KEY:
            return from_reason(str(value), str(error.details()))
    code, details = error.code(), error.details()
    said = f"{code.name}: {details}"
    return Unreachable(f"no Heron server answers at {address} ({said}); check the address, and that it runs")


class GrpcWatch:
    """The WatchRounds stream: beats go up from gRPC's own thread, events come down in another."""

    def __init__(
        self, channel: grpc.Channel, address: str, session_id: str, heartbeat_s: float,
        events: queue.SimpleQueue[pb.RoundEvent | HeronError],
    ) -> None:  # fmt: skip
        self.place = (0, 0, 0)
        self._session_id, self._heartbeat_s = session_id, heartbeat_s
        self._events, self._address = events, address
        self._stopped = threading.Event()
        open_stream = channel.stream_stream(
            FEDERATION + "WatchRounds", pb.Beat.SerializeToString, pb.RoundEvent.FromString
        )
        self._call = open_stream(self._beats())
        threading.Thread(target=self._listen, name="heron-events", daemon=True).start()

    def stop(self) -> None:
        """Ends both directions; what they do afterwards is not told."""
        self._stopped.set()
        self._call.cancel()

    def _beats(self) -> Iterator[pb.Beat]:
        while True:
            term, round_number, step = self.place
            yield pb.Beat(session_id=self._session_id, round=round_number, step=step, term=term)
            if self._stopped.wait(self._heartbeat_s):
                return

    def _listen(self) -> None:
        try:
            for event in self._call:
                self._events.put(event)
            self._events.put(Unreachable(f"the server at {self._address} ended the connection"))
        except grpc.RpcError as error:
            if not self._stopped.is_set():
                self._events.put(translate(error, self._address))
        finally:
            self._stopped.set()


class GrpcPush:
    """One PushActivations stream. At most one frame waits to be serialised, so backpressure reaches the sender."""

    def __init__(self, channel: grpc.Channel, address: str, opening: split.FrameHeader, silence_s: float) -> None:
        self._address, self._silence_s = address, silence_s
        self._frames: queue.Queue[Bulk[split.ActivationFrame] | None] = queue.Queue(maxsize=2)
        self._events: queue.SimpleQueue[Bulk[split.PushEvent] | HeronError | None] = queue.SimpleQueue()
        self._broken: HeronError | None = None
        self._ended = threading.Event()
        self._frames.put(Bulk(split.ActivationFrame(header=opening)))
        open_stream: grpc.StreamStreamMultiCallable[Bulk[split.ActivationFrame], Bulk[split.PushEvent]]
        open_stream = channel.stream_stream(PUSH, serialize, deserializer(split.PushEvent))
        self._call = open_stream(self._outgoing())
        threading.Thread(target=self._listen, name="heron-push", daemon=True).start()

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        """As in PushStream; waits while the server takes nothing, for silence_s at most."""
        waited = 0.0
        while True:
            self._raise_if_broken()
            try:
                return self._frames.put(frame, timeout=0.5)
            except queue.Full:
                waited += 0.5
            if waited > self._silence_s:
                self._call.cancel()
                raise Unreachable(f"the server at {self._address} took nothing for {self._silence_s:g} s")

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        """As in PushStream."""
        self._raise_if_broken()
        try:
            event = self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get_nowait()
        except queue.Empty:
            return None
        if event is None:
            self._broken = self._broken or Unreachable(f"the server at {self._address} ended the stream")
            self._raise_if_broken()
        if isinstance(event, HeronError):
            self._broken = event
            raise event
        return event

    def close(self) -> None:
        """As in PushStream; waits a moment for the server's end."""
        if self._broken is None and not self._ended.is_set():
            try:
                self._frames.put(None, timeout=1.0)
                if self._ended.wait(2.0):
                    return
            except queue.Full:
                pass
        self._ended.set()
        self._call.cancel()

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _outgoing(self) -> Iterator[Bulk[split.ActivationFrame]]:
        while not self._ended.is_set():
            try:
                frame = self._frames.get(timeout=0.5)
            except queue.Empty:
                continue
            if frame is None:
                return
            yield frame
            del frame

    def _listen(self) -> None:
        try:
            for event in self._call:
                self._events.put(event)
        except grpc.RpcError as error:
            self._broken = translate(error, self._address)
            self._events.put(self._broken)
        self._ended.set()
        self._events.put(None)
