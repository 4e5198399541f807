"""The seam between a client and whatever carries its messages: gRPC in production, in-process for the simulator.

Every call raises a PeerError: Unreachable when the connection is gone (retry), another when the server said no. A
TensorError is what the server says of what was sent to it; a ServerTensorError is about what the server sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.wire.codec import Expected, empty_arrays
from heron_core.wire.frames import Bulk

Accept: TypeAlias = Callable[[tensors.Manifest], None]
"""Looks at what a bundle would hold, and raises TensorError for one that is not wanted."""
Room: TypeAlias = Callable[[Expected], dict[str, Array]]
"""Where a bundle's arrays are written as they come."""


class PushStream(Protocol):
    """One PushActivations stream."""

    def send(self, frame: Bulk[split.ActivationFrame]) -> None:
        """Hands over one frame; its payload must stay unchanged until acknowledged."""
        ...

    def receive(self, timeout_s: float) -> Bulk[split.PushEvent] | None:
        """The next event, or None if none came in time. In-process transports never wait."""
        ...

    def close(self) -> None:
        """No more frames follow; also safe on a broken stream."""
        ...


class Transport(Protocol):
    """What a client needs of its server."""

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        """Asks for a place in the run; raises also VersionMismatch, NameTaken, JoinRefused."""
        ...

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        """Opens WatchRounds for the session; heartbeats run beside everything else until `disconnect`."""
        ...

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        """The next RoundEvent, or None if none came in time. In-process transports never wait."""
        ...

    def report(self, term: int, round_number: int, step: int, replayed: int = 0) -> None:
        """The place the next heartbeat shall tell; `replayed`: clients' rounds, before the first step."""
        ...

    def fetch_model(self, request: pb.FetchModelRequest, accept: Accept) -> dict[str, Array]:
        """The bundle's arrays; `accept` sees its manifest before anything is allocated. Nothing is fetched where the
        event by which the round began has brought them.

        ServerTensorError: not accepted, or not what the manifest says.
        """
        ...

    def fetch_graphs(
        self, request: pb.FetchGraphsRequest, accept: Accept, room: Room = empty_arrays
    ) -> dict[str, Array]:
        """The files of the run's graphs, as `fetch_model` gives arrays; those that come are written into `room`. It
        needs no session; raises also StaleTerm where the server has no such graphs."""
        ...

    def open_push(self, opening: split.FrameHeader) -> PushStream:
        """Opens the stream that this opening frame describes."""
        ...

    def submit(self, header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> pb.SubmitUpdateReply:
        """Sends a whole update: a small one on the newest stream of uploads, where that is open."""
        ...

    def leave(self, request: pb.LeaveRequest) -> None:
        """Tells the server that this client ends in good order."""
        ...

    def disconnect(self) -> None:
        """Drops the session's streams; the transport can join again."""
        ...

    def stop(self) -> None:
        """Ends every wait for the server, now and from here on, within a second: it raises Unreachable.

        Only `leave` is still tried. From any thread, and in a signal handler.
        """
        ...
