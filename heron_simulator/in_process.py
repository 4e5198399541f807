"""A client's Transport within the server's process: uploads are handed over as objects, so the ledger charges what the
same messages would weigh on the wire."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from heron_client.transport.carried import CarriedState
from heron_client.transport.interface import Accept, PushStream, Room, Transport
from heron_client.transport.received import from_server
from heron_core.arrays import Array
from heron_core.errors import HeronError, UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.bulk import state_chunks, update_chunks, whole_update
from heron_core.wire.codec import empty_arrays, manifest_of
from heron_core.wire.frames import Bulk
from heron_server.api.updates import take_whole
from heron_server.metrics.charges import Charges
from heron_server.run.coordinator import Coordinator
from heron_server.run.peer import Peer
from heron_server.run.sessions import Pushing


class InProcess(Transport):
    """A client's Transport that calls the coordinator directly and never waits; charges what gRPC would carry.

    `identity`: whose calls these are, as a certificate would prove it. Empty: anybody's, as in plain text.
    """

    def __init__(
        self, coordinator: Coordinator, identity: str = "", on_step: Callable[[int], None] = lambda number: None
    ) -> None:
        """`on_step` is called with the round's number after each local step, or part of one."""
        self.on_step = on_step
        self._peer = Peer("in-process", identity)
        self._coordinator, self._charges = coordinator, Charges(coordinator.ledger)
        self._session_id = ""
        self._events: deque[pb.RoundEvent] = deque()
        self._cut: HeronError | None = None
        self._carried = CarriedState()
        self._push: InProcessPush | None = None

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        call = self._charges.call("Join")
        call.up(request)
        reply = self._coordinator.join(self._peer, request)
        call.down(reply)
        return reply

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        self._session_id, self._cut = session_id, None
        self._events.clear()
        self._carried.forget()
        call = self._charges.call("WatchRounds")

        def send(event: pb.RoundEvent) -> None:
            call.down(event)
            self._events.append(event)

        self._coordinator.watch(self._peer, session_id, send, self._be_cut)

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        if self._events:
            self._carried.look_at(self._events[0])
            return self._events.popleft()
        if self._cut is not None:
            raise self._cut
        return None

    def report(self, term: int, round_number: int, step: int, replayed: int = 0) -> None:
        """Beats at once. Nothing is charged: over gRPC the number of beats depends on the time that a round takes."""
        if not replayed:
            self.on_step(round_number)
        with suppress(UnknownSession):  # the client hears of that by its next event
            beat = pb.Beat(
                session_id=self._session_id, term=term, round=round_number, step=step, replayed=replayed
            )  # fmt: skip
            self._coordinator.beat(self._peer, beat)

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
        if (carried := self._carried.take(request.version, accept)) is not None:
            return carried
        call = self._charges.call("FetchModel")
        call.up(request)
        state = self._coordinator.model(self._peer, request)
        for chunk in state_chunks(state):
            call.down(chunk)
        self._coordinator.fetched(self._peer, request, sum(array.nbytes for array in state.values()))
        with from_server():
            accept(manifest_of(state))
        return {name: array.copy() for name, array in state.items()}

    def fetch_graphs(
        self, request: pb.FetchGraphsRequest, accept: Accept, room: Room = empty_arrays
    ) -> dict[str, Array]:
        call = self._charges.call("FetchGraphs")
        call.up(request)
        files = self._coordinator.offer.files(self._peer, request)
        for chunk in state_chunks(files):
            call.down(chunk)
        with from_server():
            accept(manifest_of(files))
        return files

    def open_push(self, opening: split.FrameHeader) -> InProcessPush:
        self._push = InProcessPush(self._coordinator, self._peer, self._charges, opening)
        return self._push

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        if self._push is not None and self._push.is_open and (frame := whole_update(header, arrays)) is not None:
            self._push.send(frame)
            return pb.SubmitUpdateReply()
        call, chunks = self._charges.call("SubmitUpdate"), update_chunks(header, arrays)
        call.up(next(chunks))  # as over gRPC: the first is looked at before the others are read
        fresh = self._coordinator.check_update(self._peer, header, manifest_of(arrays))
        for chunk in chunks:
            call.up(chunk)
        if fresh:
            self._coordinator.submit(self._peer, header, dict(arrays))
        reply = pb.SubmitUpdateReply()
        call.down(reply)
        return reply

    def leave(self, request: pb.LeaveRequest) -> None:
        call = self._charges.call("Leave")
        call.up(request)
        call.down(self._coordinator.leave(self._peer, request))

    def disconnect(self) -> None:
        if self._session_id:
            self._coordinator.watch_lost(self._session_id)
        self._session_id = ""

    def stop(self) -> None:
        """Nothing here waits."""

    def _be_cut(self, error: HeronError) -> None:
        self._cut = error


class InProcessPush(PushStream):
    """A PushStream that hands frames over as they are."""

    def __init__(
        self, coordinator: Coordinator, peer: Peer, charges: Charges, opening: split.FrameHeader
    ) -> None:  # fmt: skip
        self._coordinator, self._call = coordinator, charges.call("PushActivations")
        self.is_open = True
        self._events: deque[Bulk[split.PushEvent]] = deque()
        self._call.up(split.ActivationFrame(header=opening))
        self._pushing: Pushing = coordinator.open_push(peer, opening, self._answered)

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        self._call.up(frame)
        if frame.rest.HasField("update"):
            take_whole(self._coordinator, self._pushing, frame)
        else:
            self._coordinator.frame(self._pushing, frame)

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        self.is_open = False
        self._coordinator.push_closed(self._pushing)

    def _answered(self, event: Bulk[split.PushEvent]) -> None:
        self._call.down(event)
        self._events.append(event)
