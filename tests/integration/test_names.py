"""A name is its owner's: strangers at a server without certificates, over real gRPC, while the owner is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import tiny
from integration.test_transports import spec
from integration.worlds import GrpcWorld, MovedClock
from server.driven import Client, Server, play_round

from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.transport.interface import Transport
from heron_core.errors import NameTaken, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.version import PROTOCOL_VERSION
from heron_server.api.server import listen as serve

OWN, STRANGE = b"o" * 16, b"s" * 16


def join(transport: Transport, name: str, key: bytes) -> str:
    request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name=name, instance_key=key)
    return transport.join(request).session_id


def listen(transport: Transport, session: str) -> None:
    transport.watch(session, 1.0, 30.0)
    assert transport.next_event(20.0) is not None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def world(folder: Path, clock: MovedClock) -> Iterator[GrpcWorld]:
    world = GrpcWorld(spec(federation={"clients": 2}), folder, clock=clock, silence_s=30.0, grace_s=10.0)
    yield world
    world.close()


def gone(world: GrpcWorld, transport: Transport) -> None:
    """The connection breaks, and the server has seen it."""
    transport.disconnect()
    for _ in range(2000):
        if not world.coordinator.clients_present:
            return
        world.tick()
    pytest.fail("the server has not seen that the client is gone")


def test_nobody_takes_the_name_of_a_client_that_is_away_for_a_moment(world: GrpcWorld, clock: MovedClock) -> None:
    owner, stranger = world.transport(), world.transport()
    session = join(owner, "a", OWN)
    listen(owner, session)
    with pytest.raises(NameTaken, match="another live client holds the name 'a'"):
        join(stranger, "a", STRANGE)
    gone(world, owner)
    for clock.now in (0.009, 10.0):
        with pytest.raises(Unreachable, match="the name 'a' is kept for the client that has it, which is away"):
            join(stranger, "a", STRANGE)
    assert join(owner, "a", OWN), "it comes back"


def test_nobody_takes_a_name_between_its_join_and_its_event_stream(world: GrpcWorld, clock: MovedClock) -> None:
    owner, stranger = world.transport(), world.transport()
    session = join(owner, "a", OWN)
    clock.now = 29.0
    with pytest.raises(Unreachable, match="loads its data"):
        join(stranger, "a", STRANGE)
    listen(owner, session)
    clock.now = 61.0
    gone(world, owner)
    clock.now = 72.0
    world.tick()
    assert join(stranger, "a", STRANGE), "given up for lost, it is free"


def test_nobody_takes_a_name_of_the_table_once_a_server_goes_on(folder: Path) -> None:
    before = Server(folder, tiny.spec())
    play_round([Client(before.coordinator, name, OWN) for name in "ab"])
    before.close()
    saved = (folder / "checkpoints" / "round-000001.safetensors").read_bytes()
    assert OWN not in saved and OWN.hex().encode() not in saved, "what proves the name is not told"
    server = Server(folder, tiny.spec(), resume=True, rejoin_s=60.0)

    async def scenario() -> None:
        port, address = await serve(server.coordinator, "127.0.0.1:0", False)
        transport = GrpcTransport(address, rpc_deadline_s=20.0)
        ask = partial(asyncio.to_thread, join, transport)
        server.coordinator.tick()
        with pytest.raises(Unreachable, match=r"'a' is kept .* which was there before the server was started again"):
            await ask("a", STRANGE)
        assert await ask("a", OWN)
        server.now = 61.0
        server.coordinator.tick()
        assert await ask("b", STRANGE), "its owner has had its time"
        transport.close()
        await port.stop(0)

    try:
        asyncio.run(scenario())
    finally:
        server.close()
