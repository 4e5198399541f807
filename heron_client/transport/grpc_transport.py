"""The gRPC transport: synchronous, the robust kind under disconnects. Two connections, so that beats never queue.

Errors of gRPC become Heron's here: by the `heron-reason` of the trailing metadata, never by message text.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from time import monotonic
from typing import NoReturn, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from heron_client.transport.grpc_streams import FEDERATION, GrpcPush, GrpcWatch, translate
from heron_core.arrays import Array
from heron_core.errors import HeronError, TensorError, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.wire.bulk import update_chunks
from heron_core.wire.channel import CLIENT_OPTIONS
from heron_core.wire.codec import BundleReceiver, announced, empty_arrays
from heron_core.wire.frames import Bulk, deserializer, serialize

M = TypeVar("M", bound=Message)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Stream(Protocol[R_co]):
    """The messages of a call that can be cancelled."""

    def __next__(self) -> R_co: ...

    def __iter__(self) -> Iterator[R_co]: ...

    def cancel(self) -> bool:
        """Ends the call; False if it has ended already."""
        ...


class GrpcTransport:
    """One client's connections to one server."""

    def __init__(self, address: str, rpc_deadline_s: float) -> None:
        self._address, self._deadline_s = address, rpc_deadline_s
        self._silence_s = 30.0
        self._last_sent = 0.0
        self._connect()
        self._events: queue.SimpleQueue[pb.RoundEvent | HeronError] = queue.SimpleQueue()
        self._watch: GrpcWatch | None = None

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
        self._watch = GrpcWatch(self._control, self._address, session_id, heartbeat_s, self._events)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        """As in Transport."""
        try:
            event = self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get_nowait()
        except queue.Empty:
            return None
        if isinstance(event, HeronError):
            raise event
        return event

    def report(self, term: int, round_number: int, step: int) -> None:
        """As in Transport."""
        if self._watch is not None:
            self._watch.place = (term, round_number, step)

    def fetch_model(self, request: pb.FetchModelRequest) -> tuple[tensors.Manifest, dict[str, Array]]:
        """As in Transport; TensorError for a bundle that is not what its manifest says."""
        call: grpc.UnaryStreamMultiCallable[pb.FetchModelRequest, Bulk[pb.StateChunk]] = self._bulk.unary_stream(
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
        call: grpc.StreamUnaryMultiCallable[Bulk[pb.UpdateChunk], pb.SubmitUpdateReply] = self._bulk.stream_unary(
            FEDERATION + "SubmitUpdate", serialize, pb.SubmitUpdateReply.FromString
        )
        try:
            future = call.future(self._watched(update_chunks(header, arrays)))
            return self._result(future)
        except grpc.RpcError as error:
            self._fail(error)

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
        call = self._control.unary_unary(FEDERATION + method, type(request).SerializeToString, reply.FromString)
        try:
            return call(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            self._fail(error)

    def _silence_limited(self, call: Stream[R]) -> Iterator[R]:
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

    def _watched(self, chunks: Iterator[R]) -> Iterator[R]:
        for chunk in chunks:
            self._last_sent = monotonic()
            yield chunk

    def _result(self, future: grpc.Future[R]) -> R:
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
