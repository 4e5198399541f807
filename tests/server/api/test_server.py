"""The whole port: Heron's services, health and reflection beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from server.driven import Start

from heron_core.errors import ConfigError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import federation_pb2_grpc
from heron_core.version import PROTOCOL_VERSION
from heron_core.wire.channel import of_session
from heron_server.api.server import SERVICES, listen

Scenario = Callable[[grpc.aio.Channel], Awaitable[Any]]
SERVING = health_pb2.HealthCheckResponse.SERVING


def asked(start: Start, scenario: Scenario, reflection: bool = False) -> Any:
    """What `scenario` returns, given a channel to a server that listens."""

    async def run() -> Any:
        server, address = await listen(start().coordinator, "127.0.0.1:0", reflection)
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                return await scenario(channel)
        finally:
            await server.stop(0)

    return asyncio.run(run())


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health_says_that_each_service_serves(start: Start, service: str) -> None:
    async def scenario(channel: grpc.aio.Channel) -> list[Any]:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        checked = await health.Check(request)
        watching = health.Watch(request)
        first = await watching.read()
        watching.cancel()
        return [checked.status, first.status]

    assert asked(start, scenario) == [SERVING, SERVING]


def test_health_has_its_own_errors(start: Start) -> None:
    async def scenario(channel: grpc.aio.Channel) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="nobody's"))
        return failure.value.code()

    assert asked(start, scenario) is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(start: Start) -> None:
    async def scenario(channel: grpc.aio.Channel) -> set[str]:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
        return {service.name for service in answer.list_services_response.service}

    assert set(SERVICES) <= asked(start, scenario, reflection=True)


def test_a_method_that_nobody_serves_is_unimplemented(start: Start) -> None:
    async def scenario(channel: grpc.aio.Channel) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await channel.unary_unary(f"/{SERVICES[0]}/Steal")(b"")
        return failure.value.code()

    assert asked(start, scenario) is grpc.StatusCode.UNIMPLEMENTED


def test_a_beat_that_is_no_message_ends_its_stream_with_the_reason(start: Start) -> None:
    async def scenario(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError:
        request = pb.JoinRequest(protocol_version=PROTOCOL_VERSION, client_name="a", instance_key=b"k" * 16)
        joined = await federation_pb2_grpc.FederationServiceStub(channel).Join(request)
        beat = pb.Beat(session_id=joined.session_id).SerializeToString()
        watching = channel.stream_stream(f"/{SERVICES[0]}/WatchRounds")(
            iter([beat, b"\xff"]), metadata=of_session(joined.session_id)
        )
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            _ = [event async for event in watching]
        return failure.value

    failure = asked(start, scenario)
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.details() == "WatchRounds: expected a protobuf message, got 1 bytes that are none"


def test_an_address_that_is_taken_is_refused_by_name(start: Start) -> None:
    async def run() -> None:
        server, address = await listen(start().coordinator, "127.0.0.1:0", False)
        try:
            with pytest.raises(ConfigError, match=f"cannot listen on {address}: the port is in use"):
                await listen(start("other").coordinator, address, False)
        finally:
            await server.stop(0)

    asyncio.run(run())
