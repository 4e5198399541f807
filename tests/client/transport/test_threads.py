"""Whoever waits for the server hears of what failed in a thread, whatever it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from time import monotonic
from typing import Any

import grpc
import numpy as np
import pytest
from client.transport.odd_server import Act, odd_server

from heron_client.transport.grpc_reader import Reader
from heron_client.transport.grpc_transport import GrpcTransport
from heron_core.errors import BadReply, HeronError, ModelError, ServerTensorError, TensorError, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2 as tensors

PATIENCE_S = 10.0


def says(*messages: bytes) -> Act:
    """Answers with these bytes, and ends."""

    def act(requests: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from messages

    return act


def ends(code: grpc.StatusCode) -> Act:
    def act(requests: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.abort(code, "no")
        yield b""

    return act


@contextmanager
def client_of(**acts: Act) -> Iterator[GrpcTransport]:
    """A transport to a server that acts so."""
    with odd_server(**acts) as (_, address), closing(GrpcTransport(address, PATIENCE_S)) as transport:
        yield transport


def event_of(transport: GrpcTransport) -> object:
    transport.watch("s", 1.0, PATIENCE_S)
    return transport.next_event(PATIENCE_S)


def fetched(transport: GrpcTransport) -> object:
    return transport.fetch_model(pb.FetchModelRequest(), lambda manifest: None)


CALLS: dict[str, Callable[[GrpcTransport], object]] = {
    "Join": lambda transport: transport.join(pb.JoinRequest()),
    "WatchRounds": event_of,
    "FetchModel": fetched,
    "FetchGraphs": lambda transport: transport.fetch_graphs(pb.FetchGraphsRequest(), lambda manifest: None),
    "SubmitUpdate": lambda transport: transport.submit(pb.UpdateHeader(), {}),
    "PushActivations": lambda transport: transport.open_push(split.FrameHeader()).receive(PATIENCE_S),
}


@pytest.mark.parametrize("rpc", CALLS)
def test_bytes_that_are_no_message_are_the_server_s_bad_reply(rpc: str) -> None:
    with client_of(**{rpc: says(b"\xff")}) as transport, pytest.raises(BadReply, match="got 1 bytes that are none"):
        CALLS[rpc](transport)


@pytest.mark.parametrize("rpc", CALLS)
@pytest.mark.parametrize("code", [grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL])
def test_a_status_without_a_reason_is_a_lost_server(rpc: str, code: grpc.StatusCode) -> None:
    with client_of(**{rpc: ends(code)}) as transport, pytest.raises(Unreachable, match=code.name):
        CALLS[rpc](transport)


def test_a_client_state_is_looked_at_before_anything_is_allocated() -> None:
    announced = tensors.TensorMeta(name="w", dtype=tensors.DTYPE_FLOAT32, shape=[1 << 45])
    chunk = pb.StateChunk(manifest=tensors.Manifest(tensors=[announced])).SerializeToString()

    def refuse(manifest: tensors.Manifest) -> None:
        raise TensorError(f"got {manifest.tensors[0].shape[0]}")

    with client_of(FetchModel=says(chunk)) as transport, pytest.raises(ServerTensorError, match="got 35184372088832"):
        transport.fetch_model(pb.FetchModelRequest(), refuse)


def test_a_client_state_that_ends_early_is_a_lost_server_and_one_that_goes_on_is_its_fault() -> None:
    meta = tensors.TensorMeta(name="w", dtype=tensors.DTYPE_UINT8, shape=[3])
    first = pb.StateChunk(manifest=tensors.Manifest(tensors=[meta]), payload=b"ab").SerializeToString()
    more = pb.StateChunk(offset=2, payload=b"cd").SerializeToString()
    errors: dict[bool, type[HeronError]] = {False: Unreachable, True: ServerTensorError}
    for goes_on, kind in errors.items():
        answers = says(first, more) if goes_on else says(first)
        with client_of(FetchModel=answers) as transport, pytest.raises(kind):
            fetched(transport)


def test_an_event_stream_that_ended_says_so_each_time() -> None:
    with client_of(WatchRounds=says()) as transport:
        transport.watch("s", 1.0, PATIENCE_S)
        for _ in range(3):
            with pytest.raises(Unreachable, match="ended the stream"):
                transport.next_event(PATIENCE_S)


def test_a_failure_in_the_beats_is_raised_where_events_are_waited_for() -> None:
    with odd_server() as (server, address), closing(GrpcTransport(address, PATIENCE_S)) as transport:
        transport.watch("s", 0.05, PATIENCE_S)
        server.reached("WatchRounds")
        transport.report(-1, 0, 0)  # no message can hold it
        with pytest.raises(ValueError):
            transport.next_event(PATIENCE_S)


def test_an_update_that_cannot_be_sent_is_no_lost_server() -> None:
    with client_of() as transport, pytest.raises(ModelError, match="tensor w has dtype complex64"):
        transport.submit(pb.UpdateHeader(), {"w": np.zeros(3, np.complex64)})


class Failing:
    """A call whose messages end with an error of no kind that gRPC promises."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        raise ZeroDivisionError("a bug")

    def cancel(self) -> bool:
        self.cancelled.set()
        return True


def test_any_failure_of_a_reader_is_raised_where_its_messages_are_waited_for() -> None:
    call = Failing()
    reader: Reader[int] = Reader("test", "nowhere", call)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            reader.next(PATIENCE_S)
    assert call.cancelled.is_set()


def test_a_server_that_answers_a_join_is_not_asked_again_at_once() -> None:
    with client_of(Join=says(pb.JoinReply().SerializeToString())) as transport:
        transport.join(pb.JoinRequest())
        began = monotonic()
        transport.join(pb.JoinRequest())
        assert monotonic() - began >= 0.4
        transport.stop()
        with pytest.raises(Unreachable, match="stopped"):
            transport.join(pb.JoinRequest())
