"""A stream that is refused ends with the refusal, also while something is still being written to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from server.api.toy import reason_of
from server.driven import PEER, Start

from heron_core.errors import StaleTerm
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.channel import of_session
from heron_core.wire.frames import Bulk
from heron_server.api.peer import Call
from heron_server.api.server import listen
from heron_server.api.service import Service

PUSH = "/heron.v1.SplitService/PushActivations"
TRIES, AT_ONCE, PATIENCE_S = 20, 5, 10.0


def frames_of(start: Start) -> tuple[Any, list[split.ActivationFrame]]:
    """A coordinator, and a good opening followed by a frame of another term."""
    server = start(federation={"clients": 1})
    (client,) = server.clients("a")
    place: Any = {"term": client.begins.term, "round": 1, "purpose": split.PURPOSE_TRAIN}
    opening = split.FrameHeader(run_id=client.reply.run_id, session_id=client.session, steps=4, **place)
    return server.coordinator, [
        split.ActivationFrame(header=opening),
        split.ActivationFrame(header=split.FrameHeader(**{**place, "term": 99})),
    ]


def test_a_refusal_right_after_the_opening_always_arrives(start: Start) -> None:
    coordinator, frames = frames_of(start)
    sent = [frame.SerializeToString() for frame in frames]
    mine = of_session(frames[0].header.session_id)

    async def refused(channel: grpc.aio.Channel) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            _ = [event async for event in channel.stream_stream(PUSH)(iter(sent), timeout=PATIENCE_S, metadata=mine)]
        return reason_of(failure.value) if failure.value.trailing_metadata() else failure.value.code().name

    async def scenario() -> list[str]:
        server, address = await listen(coordinator, "127.0.0.1:0", False)
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                return [await refused(channel) for _ in range(TRIES)]
        finally:
            await server.stop(0)

    assert asyncio.run(scenario()) == ["stale_term"] * TRIES


Write = Callable[[Bulk[split.PushEvent]], Awaitable[None]]


def pushed(start: Start, write: Write) -> Callable[[], Awaitable[None]]:
    """The handler of a stream that is refused after its opening."""
    coordinator, frames = frames_of(start)

    async def sent() -> AsyncIterator[Bulk[split.ActivationFrame]]:
        for frame in frames:
            yield Bulk(frame)

    return lambda: Service(coordinator).push_activations(sent(), Call(PEER, write))


def test_what_is_being_written_is_written_whole_before_the_refusal(start: Start) -> None:
    written: list[str | None] = []

    async def scenario() -> None:
        begun, going_on = asyncio.Event(), asyncio.Event()

        async def write(event: Bulk[split.PushEvent]) -> None:
            begun.set()
            await going_on.wait()
            written.append(event.rest.WhichOneof("event"))

        call = asyncio.ensure_future(pushed(start, write)())
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not call.done()
        going_on.set()
        with pytest.raises(StaleTerm):
            await asyncio.wait_for(call, PATIENCE_S)

    asyncio.run(scenario())
    assert written == ["position"]


def test_a_failure_while_writing_ends_the_call_with_that_failure(start: Start) -> None:
    async def write(event: Bulk[split.PushEvent]) -> None:
        raise ZeroDivisionError("a bug")

    coordinator, (opening, _) = frames_of(start)

    async def silent() -> AsyncIterator[Bulk[split.ActivationFrame]]:
        yield Bulk(opening)
        await asyncio.Event().wait()

    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(Service(coordinator).push_activations(silent(), Call(PEER, write)), PATIENCE_S)

    asyncio.run(scenario())
