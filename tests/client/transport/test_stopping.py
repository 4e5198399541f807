"""Every wait for the server ends soon once the transport is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from client.transport.odd_server import odd_server

from heron_client.transport import grpc_transport
from heron_client.transport.grpc_transport import GrpcTransport
from heron_core.errors import HeronError, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.frames import Bulk

SOON_S, LONG_S = 3.0, 60.0
Wait = Callable[[GrpcTransport], object]
MEGABYTES = {"w": np.zeros(8 << 20, np.float32)}


def push(transport: GrpcTransport) -> None:
    """Sends until the server's window is full."""
    stream, part = transport.open_push(split.FrameHeader(steps=1)), memoryview(bytes(1 << 20))
    for _ in range(64):
        stream.send(Bulk(split.ActivationFrame(), (part,)))


WAITS: dict[str, Wait] = {
    "Join": lambda transport: transport.join(pb.JoinRequest()),
    "FetchModel": lambda transport: transport.fetch_model(pb.FetchModelRequest(), lambda manifest: None),
    "FetchGraphs": lambda transport: transport.fetch_graphs(pb.FetchGraphsRequest(), lambda manifest: None),
    "SubmitUpdate": lambda transport: transport.submit(pb.UpdateHeader(), MEGABYTES),
    "PushActivations": push,
    "Leave": lambda transport: transport.leave(pb.LeaveRequest()),
}


def outcome(wait: Wait, transport: GrpcTransport) -> tuple[threading.Thread, list[Any]]:
    """A thread that waits, and what comes of it."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(wait(transport))
        except HeronError as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, found


@pytest.mark.parametrize("rpc", WAITS)
def test_a_wait_in_progress_ends(rpc: str) -> None:
    with odd_server() as (server, address), closing(GrpcTransport(address, rpc_deadline_s=LONG_S)) as transport:
        transport.watch("s", 1.0, LONG_S)
        thread, found = outcome(WAITS[rpc], transport)
        server.reached(rpc)
        transport.stop()
        thread.join(SOON_S)
        assert not thread.is_alive()
        assert isinstance(found[0], Unreachable) and "stopped" in str(found[0])


@pytest.mark.parametrize("rpc", WAITS)
def test_a_wait_that_begins_later_ends_too(rpc: str) -> None:
    with odd_server() as (_, address), closing(GrpcTransport(address, rpc_deadline_s=LONG_S)) as transport:
        transport.stop()
        thread, found = outcome(WAITS[rpc], transport)
        thread.join(SOON_S)
        assert not thread.is_alive() and isinstance(found[0], Unreachable)


def test_closing_a_push_stream_waits_no_longer_than_it_must() -> None:
    with odd_server() as (server, address), closing(GrpcTransport(address, rpc_deadline_s=LONG_S)) as transport:
        stream = transport.open_push(split.FrameHeader(steps=1))
        server.reached("PushActivations")
        thread = threading.Thread(target=stream.close, daemon=True)
        thread.start()
        transport.stop()
        thread.join(SOON_S / 2)
        assert not thread.is_alive()


def test_a_leave_that_is_answered_goes_through_after_the_stop() -> None:
    def answer(requests: Any, context: Any) -> Any:
        yield pb.LeaveReply().SerializeToString()

    with odd_server(Leave=answer) as (_, address), closing(GrpcTransport(address, LONG_S)) as transport:
        transport.stop()
        transport.leave(pb.LeaveRequest())


def test_connections_that_grpc_does_not_end_hold_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(grpc_transport, "CLOSE_S", 0.05)
    transport = GrpcTransport("127.0.0.1:1", rpc_deadline_s=LONG_S)
    monkeypatch.setattr(transport._control, "close", over.wait)
    transport.close()
    over.set()
