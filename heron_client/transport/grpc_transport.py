"""The gRPC transport: synchronous, the robust kind under disconnects. Two connections, so that beats never queue.

Errors of gRPC become Heron's here: by the `heron-reason` of the trailing metadata, never by message text.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from math import inf
from time import monotonic, sleep
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from heron_client.transport.carried import CarriedState
from heron_client.transport.grpc_reader import POLL_S, Outgoing, Reader, StreamEnded, translate
from heron_client.transport.grpc_streams import FEDERATION, GrpcPush, GrpcWatch
from heron_client.transport.handshake import why_refused
from heron_client.transport.interface import Accept, Room
from heron_client.transport.proxy import how_it_went
from heron_client.transport.received import from_server, reading, sound
from heron_client.transport.trust import PLAIN, Trust
from heron_core.arrays import Array
from heron_core.errors import BadReply, Busy, ConfigError, HeronError, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.bulk import update_chunks, whole_update
from heron_core.wire.channel import BULK_OPTIONS, of_session
from heron_core.wire.codec import BundleReceiver, announced, empty_arrays
from heron_core.wire.frames import Bulk, deserializer, serialize

log = logging.getLogger("heron.client")

M = TypeVar("M", bound=Message)
R = TypeVar("R")
REJOIN_S = 0.5
"""From a Join that was answered to the next: a server whose sessions break at once is not asked without a pause."""
FAREWELL_S = 1.0
"""How long a Leave may take once the transport is stopped."""
CLOSE_S = 2.0
"""How long the end of the connections may take: gRPC waits there for its calls, however long they take to end."""
WHAT = {"FetchModel": "the server's client state", "FetchGraphs": "the server's graphs"}
MOST_CHUNKS = 2
"""Of a bundle, read and not yet stored."""


class GrpcTransport:
    """One client's connections to one server."""

    def __init__(self, address: str, rpc_deadline_s: float, trust: Trust = PLAIN) -> None:
        """Raises ConfigError for files of `trust` that cannot be used."""
        self._address, self._deadline_s, self._trust = address, rpc_deadline_s, trust
        self._silence_s = 30.0
        self._stopped_at, self._joined_at = inf, -inf
        self._connect()
        self._watch: GrpcWatch | None = None
        self._carried = CarriedState()
        self._push: GrpcPush | None = None
        """The newest stream of uploads."""

    def _connect(self) -> None:
        self._stamp = self._trust.stamp()
        self._control = self._trust.channel(self._address)
        self._bulk = self._trust.channel(self._address, *BULK_OPTIONS)

    def _renew(self) -> None:
        """Connects anew where the certificate or the token was replaced."""
        if self._trust.stamp() == self._stamp:
            return
        old = (self._control, self._bulk)
        try:
            self._connect()
        except ConfigError as error:
            log.warning("the certificate is not renewed yet: %s", error)
            return
        for channel in old:
            channel.close()

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        """As in Transport, within the deadline of a unary call; a little later where the last was just answered.

        Says what certificates or a proxy have to do with a server that cannot be reached.
        """
        waits_since = monotonic()
        while monotonic() < self._joined_at + REJOIN_S:
            self._check_patience(waits_since)
            sleep(POLL_S)
        self._renew()
        try:
            reply = self._unary("Join", request, pb.JoinReply)
        except Busy:
            raise
        except Unreachable as error:
            why = why_refused(self._address, self._trust) if self._stopped_at == inf else ""
            if why:
                raise Unreachable(why) from None
            raise Unreachable(f"{error}{how_it_went(self._trust.use_proxy)}") from None
        self._joined_at = monotonic()
        return reply

    def leave(self, request: pb.LeaveRequest) -> None:
        """As in Transport, within the deadline of a unary call."""
        self._unary("Leave", request, pb.LeaveReply, request.session_id, after_stop_s=FAREWELL_S)

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        """As in Transport; events and beats have threads of their own."""
        self._silence_s = silence_s
        self._carried.forget()
        self._watch = GrpcWatch(self._control, self._address, session_id, heartbeat_s)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        """As in Transport."""
        if self._watch is None:
            raise Unreachable(f"not connected to {self._address}")
        event = self._watch.next_event(timeout_s)
        self._carried.look_at(event)
        return event

    def report(self, term: int, round_number: int, step: int, replayed: int = 0) -> None:
        """As in Transport."""
        if self._watch is not None:
            self._watch.place = (term, round_number, step, replayed)

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
        """As in Transport; Unreachable once nothing has come for silence_s."""
        if (carried := self._carried.take(request.version, accept)) is not None:
            return carried
        return self._bundle("FetchModel", request, request.session_id, accept)

    def fetch_graphs(
        self, request: pb.FetchGraphsRequest, accept: Accept, room: Room = empty_arrays
    ) -> dict[str, Array]:
        """As in Transport; Unreachable once nothing has come for silence_s."""
        return self._bundle("FetchGraphs", request, "", accept, room)

    def _bundle(
        self, method: str, request: Message, session_id: str, accept: Accept, room: Room = empty_arrays
    ) -> dict[str, Array]:
        call: grpc.UnaryStreamMultiCallable[Message, Bulk[pb.StateChunk] | BadReply]
        call = self._bulk.unary_stream(
            FEDERATION + method, type(request).SerializeToString, reading(deserializer(pb.StateChunk))
        )
        chunks = call(request, metadata=of_session(session_id))
        reader: Reader[Bulk[pb.StateChunk]] = Reader("heron-fetch", self._address, chunks, most=MOST_CHUNKS)
        try:
            with from_server():
                return self._receive(reader, accept, room, WHAT[method])
        finally:
            reader.stop()

    def _receive(
        self, reader: Reader[Bulk[pb.StateChunk]], accept: Accept, room: Room, of: str
    ) -> dict[str, Array]:
        first = self._next(reader)
        manifest = first.rest.manifest
        accept(manifest)
        arrays = room(announced(manifest, of))
        receiver = BundleReceiver(list(arrays.values()), of)
        receiver.write(first.rest.offset, first.payload)
        try:
            while True:
                chunk = self._next(reader)
                receiver.write(chunk.rest.offset, chunk.payload)
        except StreamEnded:
            if not receiver.complete:
                raise
        return arrays

    def _next(self, reader: Reader[R]) -> R:
        waits_since = monotonic()
        while (message := reader.next(POLL_S)) is None:
            self._check_patience(waits_since)
        return message

    def open_push(self, opening: split.FrameHeader) -> GrpcPush:
        """As in Transport, on the connection for bulk messages."""
        self._push = GrpcPush(self._bulk, self._address, opening, self._silence_s, lambda: self._stopped_at < inf)
        return self._push

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        """As in Transport; Unreachable once nothing moves for silence_s."""
        push = self._push
        if push is not None and push.is_open and (frame := whole_update(header, arrays)) is not None:
            return self._last_frame(push, frame)
        call: grpc.StreamUnaryMultiCallable[Bulk[pb.UpdateChunk], pb.SubmitUpdateReply | BadReply]
        call = self._bulk.stream_unary(FEDERATION + "SubmitUpdate", serialize, reading(pb.SubmitUpdateReply.FromString))
        chunks = Outgoing(update_chunks(header, arrays))
        try:
            future = call.future(chunks, metadata=of_session(header.session_id))
            return self._result(future, lambda: self._check_patience(chunks.moved_at))
        except HeronError as error:
            raise chunks.failure or error from None

    def _last_frame(self, push: GrpcPush, update: Bulk[split.ActivationFrame]) -> pb.SubmitUpdateReply:
        push.send(update)
        waits_since = monotonic()
        while (event := push.receive(POLL_S)) is None or not event.rest.HasField("update_taken"):
            self._check_patience(waits_since)
        return pb.SubmitUpdateReply()

    def disconnect(self) -> None:
        """As in Transport."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def stop(self) -> None:
        """As in Transport; it takes no lock."""
        self._stopped_at = monotonic()

    def close(self) -> None:
        """Ends all connections; the transport cannot be used again. Waits CLOSE_S for gRPC at most."""
        self.disconnect()
        closing = threading.Thread(target=self._close, name="heron-closing", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _close(self) -> None:
        self._control.close()
        self._bulk.close()

    def _unary(
        self, method: str, request: Message, reply: type[M], session_id: str = "", after_stop_s: float = 0.0
    ) -> M:
        """The call's reply; once the transport is stopped it gets `after_stop_s` more."""
        call: grpc.UnaryUnaryMultiCallable[Message, M | BadReply] = self._control.unary_unary(
            FEDERATION + method, type(request).SerializeToString, reading(reply.FromString)
        )
        began = monotonic()

        def check() -> None:
            if monotonic() >= max(began, self._stopped_at) + after_stop_s:
                self._check_patience(inf)

        metadata = of_session(session_id)
        return self._result(call.future(request, timeout=self._deadline_s, metadata=metadata), check)

    def _result(self, future: grpc.Future[R | BadReply], check: Callable[[], None]) -> R:
        """The reply; the call is cancelled once `check`, which is called several times a second, raises."""
        while True:
            try:
                return sound(future.result(timeout=POLL_S))
            except grpc.FutureTimeoutError:
                try:
                    check()
                except Unreachable:
                    future.cancel()
                    raise
            except (grpc.RpcError, grpc.FutureCancelledError):
                raise translate(future, self._address) from None

    def _check_patience(self, moved_at: float) -> None:
        """Raises Unreachable once the transport is stopped, or nothing has moved for silence_s."""
        if self._stopped_at < inf:
            raise Unreachable(f"stopped while waiting for the server at {self._address}")
        if monotonic() - moved_at > self._silence_s:
            raise Unreachable(f"the server at {self._address} was silent for {self._silence_s:g} s")
