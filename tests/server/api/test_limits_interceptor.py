"""What a peer that sends too much, too little or nonsense is told, over a real port."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from server.api.toy import (
    KINDS,
    STREAM_STREAM,
    STREAM_UNARY,
    UNARY_STREAM,
    UNARY_UNARY,
    Toy,
    ask,
    channel_to,
    reason_of,
)

from heron_server.api.errors import Errors
from heron_server.api.limits import BULK, MAX_CONTROL_BYTES, Limits

NONSENSE = b"\xff\xff\xff"


def told(toy: Toy, rpc: str, *words: str | bytes) -> str:
    """The details of the INVALID_ARGUMENT (bad_tensor) that the call ends with."""

    async def scenario() -> grpc.aio.AioRpcError:
        async with channel_to(toy, Errors(pytest.fail), Limits()) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await ask(channel, rpc, *words)
            return failure.value

    failure = asyncio.run(scenario())
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(failure) == "bad_tensor"
    return str(failure.details())


def answers(rpc: str, *words: str) -> list[str]:
    async def scenario() -> list[str]:
        async with channel_to(Toy(), Errors(pytest.fail), Limits()) as channel:
            return await ask(channel, rpc, *words)

    return asyncio.run(scenario())


@pytest.mark.parametrize("rpc", KINDS)
def test_bytes_that_are_no_message_never_reach_the_handler(rpc: str) -> None:
    toy = Toy()
    assert told(toy, rpc, NONSENSE) == f"{rpc}: expected a protobuf message, got 3 bytes that are none"
    assert toy.calls == []


@pytest.mark.parametrize("rpc", [STREAM_UNARY, STREAM_STREAM])
def test_bytes_that_are_no_message_end_a_stream_where_they_come(rpc: str) -> None:
    toy = Toy()
    assert "expected a protobuf message" in told(toy, rpc, "one", "two", NONSENSE, "three")
    assert len(toy.calls) == 2


@pytest.mark.parametrize("rpc", [STREAM_UNARY, STREAM_STREAM])
def test_a_stream_needs_a_first_message(rpc: str) -> None:
    assert "ended before its first message" in told(Toy(), rpc)


@pytest.mark.parametrize("rpc", [UNARY_UNARY, UNARY_STREAM, STREAM_STREAM])
def test_a_message_without_tensors_has_a_cap(rpc: str) -> None:
    fits = "x" * (MAX_CONTROL_BYTES - 4)  # a tag, and a length of three bytes
    assert set(answers(rpc, fits)) == {fits}
    assert told(Toy(), rpc, fits + "x") == (
        f"{rpc}: a request has at most {MAX_CONTROL_BYTES} bytes, got {MAX_CONTROL_BYTES + 1}"
    )


def test_a_message_with_tensors_may_be_larger() -> None:
    assert STREAM_UNARY in BULK
    large = "x" * (MAX_CONTROL_BYTES + 1)
    assert answers(STREAM_UNARY, large) == [large]
