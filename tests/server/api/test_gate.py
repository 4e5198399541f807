"""What a peer without a session can have of the server: little, however much it sends."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from server.api.toy import KINDS, STREAM_STREAM, STREAM_UNARY, UNARY_UNARY, Toy, ask, channel_to, reason_of
from server.driven import Start
from work import instructions

from heron_core.errors import UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.wire.channel import of_session
from heron_server.api.access import Access
from heron_server.api.errors import Errors
from heron_server.api.gate import calls
from heron_server.api.gate.calls import MOST_OF_A_HOST, MOST_OF_A_SESSION, Calls
from heron_server.api.gate.connections import Connections, host_of, place_of
from heron_server.api.gate.streams import Streams
from heron_server.api.limits import Limits
from heron_server.api.peer import Peers
from heron_server.api.server import listen
from heron_server.certs.choice import OPEN
from heron_server.run.peer import Peer

PATIENCE_S = 20.0
SESSION = "mine"


def check(peer: Peer, session_id: str) -> None:
    if session_id != SESSION:
        raise UnknownSession("join again")


def gate() -> tuple[grpc.aio.ServerInterceptor, ...]:
    calls = Calls(check, Connections(check))
    return (Errors(pytest.fail), Peers(Access(OPEN)), calls, Limits(), Streams())


async def waiting() -> AsyncIterator[bytes]:
    """Messages of a peer that sends none."""
    await asyncio.Event().wait()
    yield b""


def run(scenario: Callable[[grpc.aio.Channel], Awaitable[Any]], toy: Toy) -> Any:
    async def main() -> Any:
        async with channel_to(toy, *gate()) as channel:
            return await asyncio.wait_for(scenario(channel), PATIENCE_S)

    return asyncio.run(main())


@pytest.mark.parametrize("rpc", [rpc for rpc in KINDS if rpc != UNARY_UNARY])
def test_a_call_without_a_session_is_refused_before_a_message_of_it_is_read(rpc: str) -> None:
    """The peer sends none at all: whoever read first would wait."""
    toy = Toy()

    async def scenario(channel: grpc.aio.Channel) -> list[str]:
        said = []
        for session in ("", "another's"):
            call = channel.stream_stream(f"/heron.v1.Toy/{rpc}")(waiting(), metadata=of_session(session))
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call.read()
            said.append(reason_of(failure.value))
        return said

    assert run(scenario, toy) == ["unknown_session"] * 2
    assert toy.calls == []


def test_of_too_many_calls_without_a_session_the_oldest_ends_and_says_why() -> None:
    async def scenario(channel: grpc.aio.Channel) -> list[Any]:
        path = f"/heron.v1.Toy/{UNARY_UNARY}"
        silent = [channel.stream_stream(path)(waiting()) for _ in range(MOST_OF_A_HOST)]
        await asyncio.gather(*(call.wait_for_connection() for call in silent))
        answers = [await ask(channel, UNARY_UNARY, "word") for _ in range(2)]
        codes = [asyncio.ensure_future(call.code()) for call in silent]
        await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
        ended = [call for call, code in zip(silent, codes, strict=True) if code.done()]
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await ended[0].read()
        for code in codes:
            code.cancel()
        return [answers, len(ended), reason_of(failure.value)]

    assert run(scenario, Toy()) == [[["word"]] * 2, 1, "busy"]


def test_a_caller_without_a_session_that_sends_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PATIENCE_S", 0.05)

    async def scenario(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await channel.stream_stream(f"/heron.v1.Toy/{UNARY_UNARY}")(waiting()).read()
        return failure.value

    failure = run(scenario, Toy())
    assert reason_of(failure) == "busy"
    assert "no whole message came within 0.05 s" in str(failure.details())


def test_a_session_has_a_handful_of_calls_and_is_told_so() -> None:
    async def scenario(channel: grpc.aio.Channel) -> list[Any]:
        mine = of_session(SESSION)
        path = f"/heron.v1.Toy/{STREAM_STREAM}"
        held = [channel.stream_stream(path)(waiting(), metadata=mine) for _ in range(MOST_OF_A_SESSION)]
        await asyncio.gather(*(call.wait_for_connection() for call in held))
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await channel.stream_stream(path)(waiting(), metadata=mine).read()
        held[0].cancel()
        freed = channel.stream_unary(f"/heron.v1.Toy/{STREAM_UNARY}")
        while True:  # until the server has heard of it
            try:
                await freed(iter([b""]), metadata=mine)
                return [reason_of(failure.value), failure.value.details()]
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0)

    reason, said = run(scenario, Toy())
    assert reason == "busy" and f"at most {MOST_OF_A_SESSION} open calls" in said


class Sent(str):
    """Can be watched."""


def test_nothing_of_a_refused_message_stays_until_the_next_garbage_collection() -> None:
    """What its error came through is let go: the error and the frames of its traceback hold each other."""
    held: list[weakref.ref[Sent]] = []

    def refuse(word: str) -> None:
        mine = Sent(word)
        held.append(weakref.ref(mine))
        try:
            raise UnknownSession("nobody's")
        except UnknownSession as error:
            again = error  # as a handler of streams does that gathers its tasks
            raise again from None

    async def scenario(channel: grpc.aio.Channel) -> None:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(channel, UNARY_UNARY, "word")

    gc.disable()
    try:
        run(scenario, Toy(refuse))
        assert [ref() for ref in held] == [None] * 3
    finally:
        gc.enable()


MANIFEST = tensors.Manifest(tensors=[tensors.TensorMeta(name="x" * 60)] * 2000)
TOO_LARGE = {
    "a frame's manifest": ("PushActivations", split.ActivationFrame(header=split.FrameHeader(manifest=MANIFEST))),
    "an update's manifest": ("SubmitUpdate", pb.UpdateChunk(manifest=MANIFEST)),
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_a_giant_manifest_of_a_member_is_refused_before_it_is_parsed(
    start: Start, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc, message = TOO_LARGE[what]
    server = start(federation={"clients": 1})
    (client,) = server.clients("a")
    service = "SplitService" if rpc == "PushActivations" else "FederationService"

    async def refused() -> grpc.aio.AioRpcError:
        port, address = await listen(server.coordinator, "127.0.0.1:0", False)
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                call = channel.stream_stream(f"/heron.v1.{service}/{rpc}")(
                    iter([message.SerializeToString()]), metadata=of_session(client.session)
                )
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await call.read()
                return failure.value
        finally:
            await port.stop(0)

    failure = asyncio.run(refused())
    assert reason_of(failure) == "bad_tensor"
    assert "bytes beside its payload, got" in str(failure.details())


# -- connections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("ipv4:10.1.2.3:4567", ("10.1.2.3", 4567)),
        ("ipv6:%5B::1%5D:4567", ("::1", 4567)),
        ("ipv6:%5Bfe80::1%254%5D:4567", ("fe80::1", 4567)),
        ("unix:", ("unix:", 0)),
    ],
)
def test_grpc_s_addresses_are_read(address: str, place: tuple[str, int]) -> None:
    assert place_of(address) == place
    assert host_of(address) == place[0]


class Listening:
    """A port of this process with connections to it."""

    def __init__(self, of_clients: int = 0) -> None:
        self.own = socket.create_server(("127.0.0.1", 0))
        self.own.settimeout(PATIENCE_S)
        self.connections = Connections(check, of_clients)
        self.connections.listen(self.own.getsockname()[1])
        self.far: list[socket.socket] = []
        self.near: list[socket.socket] = []

    def connect(self) -> str:
        self.far.append(socket.create_connection(self.own.getsockname()))
        near, (host, port) = self.own.accept()
        self.near.append(near)
        return f"ipv4:{host}:{port}"

    def closed(self) -> list[int]:
        """Which of them this side has ended."""
        found = []
        for number, far in enumerate(self.far):
            far.setblocking(False)
            with suppress(BlockingIOError):
                found += [number] if far.recv(1) == b"" else []
        return found

    def end(self) -> None:
        for each in (self.own, *self.far, *self.near):
            each.close()


def test_of_too_many_connections_without_a_call_the_oldest_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_server.api.gate.connections.MOST_IDLE", 3)
    here = Listening()
    try:
        addresses = [here.connect() for _ in range(8)]
        here.connections.is_known(Peer(addresses[0]), SESSION)
        with here.connections.in_call(addresses[1]):
            assert here.connections.tick() == 0 and here.closed() == []  # all are new
            here.connect()
            assert here.connections.tick() == 4
        assert here.closed() == [2, 3, 4, 5]
    finally:
        here.end()


def test_clients_that_connect_all_at_once_keep_their_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_server.api.gate.connections.MOST_IDLE", 1)
    here = Listening(of_clients=6)
    try:
        addresses = [here.connect() for _ in range(7)]
        here.connections.tick()
        assert here.connections.tick() == 0, "six of clients that have not called yet, and one stranger's"
        for address in addresses[:2]:
            here.connections.is_known(Peer(address), SESSION)
        here.connect()
        here.connections.tick()
        assert here.connections.tick() == 1 and here.closed() == [2], "two are known, four are yet to call"
    finally:
        here.end()


def test_a_new_connection_is_no_search_among_all_and_those_of_ended_sessions_are_forgotten() -> None:
    def cost(number: int) -> int:
        connections = Connections(lambda peer, session_id: None)
        for port in range(number):
            connections.is_known(Peer(f"ipv4:10.0.0.1:{port}"), f"session-{port}")
        connections.is_known(Peer("ipv4:10.0.0.2:1"), "new")
        return instructions(lambda: connections.is_known(Peer("ipv4:10.0.0.2:2"), "new"))

    assert cost(90) <= cost(10)
    connections = Connections(check)
    for port in range(1000):
        connections.is_known(Peer(f"ipv4:10.0.0.1:{port}"), "over")
    assert len(connections._known) < 100


def test_a_session_that_is_over_keeps_no_connection_and_a_live_one_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_server.api.gate.connections.MOST_IDLE", 0)
    here = Listening()
    try:
        addresses = [here.connect() for _ in range(7)]
        here.connections.is_known(Peer(addresses[0]), "over")
        for address in addresses[1:]:
            here.connections.is_known(Peer(address), SESSION)
        here.connections.tick()
        assert here.connections.tick() == 3
        assert here.closed() == [0, 1, 2]
    finally:
        here.end()
