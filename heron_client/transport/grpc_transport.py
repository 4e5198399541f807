"""The gRPC transport: synchronous, the robust kind under disconnects. Two connections, so that beats never queue.

Errors of gRPC become Heron's here: by the `heron-reason` of the trailing metadata, never by message text.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from heron_core.arrays import Array
from heron_core.errors import REASON_KEY, HeronError, TensorError, Unreachable, from_reason
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.wire.bulk import update_chunks
from heron_core.wire.channel import CLIENT_OPTIONS
from heron_core.wire.codec import BundleReceiver, announced, empty_arrays
from heron_core.wire.frames import Bulk, deserializer, serialize

M = TypeVar("M", bound=Message)
FEDERATION = "/heron.v1.FederationService/"
PUSH = "/heron.v1.SplitService/PushActivations"


def translate(error: grpc.RpcError, address: str) -> HeronError:
    """The HeronError that the server meant, or Unreachable."""
    if not isinstance(error, grpc.Call):
        return Unreachable(f"the connection to {address} broke")
    trailing: Any = error.trailing_metadata()
    for key, value in trailing or ():
        if key == REASON_KEY:
            return from_reason(str(value), str(error.details()))
    code, details = error.code(), error.details()
    said = f"{code.name}: {details}"
    return Unreachable(f"no Heron server answers at {address} ({said}); check the address, and that it runs")


class GrpcTransport:
    """One client's connections to one server."""

    def __init__(self, address: str, rpc_deadline_s: float) -> None:
        self._address, self._deadline_s = address, rpc_deadline_s
        self._silence_s = 30.0
        self._last_sent = 0.0
        self._connect()
        self._events: queue.SimpleQueue[pb.RoundEvent | HeronError] = queue.SimpleQueue()
        self._watch: _Watch | None = None

    def _connect(self) -> None:
        self._control = grpc.insecure_channel(self._address, CLIENT_OPTIONS)
        self._bulk = grpc.insecure_channel(self._address, CLIENT_OPTIONS)

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        """As in Transport, within the deadline of a unary call."""
        return self._unary("Join", request, pb.JoinReply)

    def leave(self, request: pb.LeaveRequest) -> None:
        """As in Transport, within the deadline of a unary call."""
        self._unary("Leave", request, pb.LeaveReply)

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        """As in Transport; events and beats have threads of their own."""
        self._silence_s = silence_s
        self._events = queue.SimpleQueue()
        self._watch = _Watch(self._control, self._address, session_id, heartbeat_s, self._events)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        """As in Transport."""
        try:
            event = self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get_nowait()
        except queue.Empty:
            return None
        if isinstance(event, HeronError):
            raise event
        return event

    def report(self, round_number: int, step: int) -> None:
        """As in Transport."""
        if self._watch is not None:
            self._watch.place = (round_number, step)

    def fetch_model(self, request: pb.FetchModelRequest) -> tuple[tensors.Manifest, dict[str, Array]]:
        """As in Transport; TensorError for a bundle that is not what its manifest says."""
        call: Any = self._bulk.unary_stream(
            FEDERATION + "FetchModel", pb.FetchModelRequest.SerializeToString, deserializer(pb.StateChunk)
        )
        chunks = self._silence_limited(call(request))
        first = next(chunks, None)
        if first is None:
            raise TensorError("the server sent an empty client state; check that both sides run the same Heron")
        manifest = first.rest.manifest
        arrays = empty_arrays(announced(manifest, "the server's client state"))
        receiver = BundleReceiver(list(arrays.values()), "the server's client state")
        receiver.write(first.rest.offset, first.payload)
        for chunk in chunks:
            receiver.write(chunk.rest.offset, chunk.payload)
        if not receiver.complete:
            raise Unreachable(f"the client state from {self._address} ended early")
        return manifest, arrays

    def open_push(self, opening: split.FrameHeader) -> GrpcPush:
        """As in Transport, on the connection for bulk messages."""
        return GrpcPush(self._bulk, self._address, opening, self._silence_s)

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        """As in Transport; Unreachable once nothing moves for silence_s."""
        call: Any = self._bulk.stream_unary(FEDERATION + "SubmitUpdate", serialize, pb.SubmitUpdateReply.FromString)
        try:
            future = call.future(self._watched(update_chunks(header, arrays)))
            reply: pb.SubmitUpdateReply = self._result(future)
        except grpc.RpcError as error:
            self._fail(error)
        return reply

    def disconnect(self) -> None:
        """As in Transport."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def close(self) -> None:
        """Ends all connections; the transport cannot be used again."""
        self.disconnect()
        self._control.close()
        self._bulk.close()

    def _unary(self, method: str, request: Message, reply: type[M]) -> M:
        call: Any = self._control.unary_unary(FEDERATION + method, type(request).SerializeToString, reply.FromString)
        try:
            answer: M = call(request, timeout=self._deadline_s)
            return answer
        except grpc.RpcError as error:
            self._fail(error)

    def _silence_limited(self, call: Any) -> Iterator[Any]:
        """The stream's messages; a stream that is silent for silence_s, however long it runs, is cancelled."""
        while True:
            timer = threading.Timer(self._silence_s, call.cancel)
            timer.daemon = True
            timer.start()
            try:
                message = next(call, None)
            except grpc.RpcError as error:
                self._fail(error)
            finally:
                timer.cancel()
            if message is None:
                return
            yield message

    def _watched(self, chunks: Iterator[Any]) -> Iterator[Any]:
        for chunk in chunks:
            self._last_sent = monotonic()
            yield chunk

    def _result(self, future: Any) -> Any:
        """The reply; a call in which nothing moves for silence_s is cancelled, however long it runs."""
        self._last_sent = monotonic()
        while True:
            left_s = self._last_sent + self._silence_s - monotonic()
            if left_s <= 0:
                future.cancel()
                raise Unreachable(f"the server at {self._address} was silent for {self._silence_s:g} s")
            try:
                return future.result(timeout=left_s)
            except grpc.FutureTimeoutError:
                continue

    def _fail(self, error: grpc.RpcError) -> NoReturn:
        raise translate(error, self._address) from None


class _Watch:
    """The WatchRounds stream: beats go up from gRPC's own thread, events come down in another."""

    def __init__(
        self, channel: grpc.Channel, address: str, session_id: str, heartbeat_s: float,
        events: queue.SimpleQueue[pb.RoundEvent | HeronError],
    ) -> None:  # fmt: skip
        self.place = (0, 0)
        self._session_id, self._heartbeat_s = session_id, heartbeat_s
        self._events, self._address = events, address
        self._stopped = threading.Event()
        call: Any = channel.stream_stream(
            FEDERATION + "WatchRounds", pb.Beat.SerializeToString, pb.RoundEvent.FromString
        )
        self._call = call(self._beats())
        threading.Thread(target=self._listen, name="heron-events", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._call.cancel()

    def _beats(self) -> Iterator[pb.Beat]:
        while True:
            round_number, step = self.place
            yield pb.Beat(session_id=self._session_id, round=round_number, step=step)
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
        call: Any = channel.stream_stream(PUSH, serialize, deserializer(split.PushEvent))
        self._call = call(self._outgoing())
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
