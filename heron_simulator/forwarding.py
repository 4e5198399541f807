"""A Transport that hands everything on to another: the base of those that watch a client's messages or disturb them."""

from __future__ import annotations

from collections.abc import Mapping

from heron_client.transport.interface import Accept, PushStream, Room, Transport
from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.codec import empty_arrays


class Forwarding(Transport):
    """Every call goes to `inner`; a subclass overrides those it is about."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        return self._inner.join(request)

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        self._inner.watch(session_id, heartbeat_s, silence_s)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        return self._inner.next_event(timeout_s)

    def report(self, term: int, round_number: int, step: int, replayed: int = 0) -> None:
        self._inner.report(term, round_number, step, replayed)

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
        return self._inner.fetch_model(request, accept)

    def fetch_graphs(
        self, request: pb.FetchGraphsRequest, accept: Accept, room: Room = empty_arrays
    ) -> dict[str, Array]:
        return self._inner.fetch_graphs(request, accept, room)

    def open_push(self, opening: split.FrameHeader) -> PushStream:
        return self._inner.open_push(opening)

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        return self._inner.submit(header, arrays)

    def leave(self, request: pb.LeaveRequest) -> None:
        self._inner.leave(request)

    def disconnect(self) -> None:
        self._inner.disconnect()

    def stop(self) -> None:
        self._inner.stop()
