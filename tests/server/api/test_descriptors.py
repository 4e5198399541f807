"""File descriptors: the run's own are kept free of connections."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from server.api.toy import reason_of
from server.driven import Start

from heron_core.errors import ConfigError
from heron_server.api.gate import descriptors
from heron_server.api.gate.descriptors import RESERVED, check_room, room_for_connections
from heron_server.api.server import listen

PATIENCE_S = 20.0


def limited(monkeypatch: pytest.MonkeyPatch, limit: int, in_use: int = 30) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    monkeypatch.setattr(descriptors, "open_files", lambda: in_use)


@pytest.mark.parametrize(("limit", "room"), [(1024, 1024 - 30 - RESERVED), (100, 16), (-1, 1 << 20)])
def test_connections_get_what_the_run_does_not_need(monkeypatch: pytest.MonkeyPatch, limit: int, room: int) -> None:
    limited(monkeypatch, limit)
    assert room_for_connections() == room


def test_too_few_files_for_the_run_s_clients_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 256)
    check_room(40)
    with pytest.raises(ConfigError, match=r"100 clients need 232 connections.*for 162.*raise it to 326 or more"):
        check_room(100)


def test_the_server_takes_no_more_connections_than_there_is_room_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are closed at once, and whoever is there goes on."""
    monkeypatch.setattr("heron_server.api.server.room_for_connections", lambda: 5)
    monkeypatch.setattr("heron_server.api.server.check_room", lambda clients: None)

    async def closed(sock: socket.socket) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await asyncio.get_running_loop().sock_recv(sock, 1024):
                    pass
        except OSError:
            pass
        return True

    async def run() -> int:
        port, address = await listen(start().coordinator, "127.0.0.1:0", False)
        host, _, number = address.rpartition(":")
        with ExitStack() as held:
            async with grpc.aio.insecure_channel(address) as channel:
                check = health_pb2_grpc.HealthStub(channel).Check
                await check(health_pb2.HealthCheckRequest())
                socks = [held.enter_context(socket.create_connection((host, int(number)))) for _ in range(20)]
                for sock in socks:
                    sock.setblocking(False)
                ends = [asyncio.create_task(closed(sock)) for sock in socks]
                while sum(end.done() for end in ends) < 16:
                    await asyncio.wait([end for end in ends if not end.done()], return_when=asyncio.FIRST_COMPLETED)
                await check(health_pb2.HealthCheckRequest())
                still = sum(not end.done() for end in ends)
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
        await port.stop(0)
        return still

    assert asyncio.run(asyncio.wait_for(run(), PATIENCE_S)) == 4


NONSENSE = b"\xff\xff\xff"


@pytest.mark.parametrize("rpc", ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"])
def test_nonsense_to_other_services_is_refused_with_a_reason_and_logs_nothing(
    start: Start, rpc: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> str:
        port, address = await listen(start().coordinator, "127.0.0.1:0", False)
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await channel.stream_stream(rpc)(iter([NONSENSE])).read()
                return reason_of(failure.value)
        finally:
            await port.stop(0)

    assert asyncio.run(run()) == "bad_tensor"
    assert caplog.records == []
