"""What a peer is told of an error, over a real port."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from server.api.toy import KINDS, Toy, as_bytes, ask, channel_to, reason_of

from heron_core.errors import NameTaken, StaleTerm, UnknownSession
from heron_server.api.errors import Errors


class Unlisted(StaleTerm):
    """Ours, with no row of its own in the table."""


def error_of(rpc: str, error: BaseException, told: list[BaseException] | None = None) -> grpc.aio.AioRpcError:
    """What the caller of `rpc` gets whose handler raises `error`; `told`: of what the run is told."""
    fail_run = ([] if told is None else told).append

    def fail(word: str) -> None:
        raise error

    async def scenario() -> grpc.aio.AioRpcError:
        async with channel_to(Toy(fail), Errors(fail_run)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await ask(channel, rpc, "word")
            return failure.value

    return asyncio.run(scenario())


@pytest.mark.parametrize("rpc", KINDS)
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (StaleTerm("too late"), grpc.StatusCode.ABORTED, "stale_term"),
        (UnknownSession("join again"), grpc.StatusCode.UNAUTHENTICATED, "unknown_session"),
        (NameTaken("another name"), grpc.StatusCode.ALREADY_EXISTS, "name_taken"),
        (Unlisted("too late, too"), grpc.StatusCode.ABORTED, "stale_term"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_ours_has_its_status_its_words_and_its_reason(
    rpc: str, error: Exception, status: grpc.StatusCode, reason: str
) -> None:
    failure = error_of(rpc, error)
    assert (failure.code(), failure.details()) == (status, str(error))
    assert reason_of(failure) == reason


@pytest.mark.parametrize("rpc", KINDS)
@pytest.mark.parametrize("error", [ZeroDivisionError("a secret"), SystemExit("a secret")], ids=type)
def test_any_other_error_is_logged_its_text_stays_here_and_the_run_is_told(
    rpc: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []
    failure = error_of(rpc, error, told)
    assert told == [error]
    assert failure.code() is grpc.StatusCode.INTERNAL
    assert reason_of(failure) == "internal"
    assert "secret" not in str(failure.details())
    assert f"a bug in the server, in {rpc}" in caplog.text and "a secret" in caplog.text


@pytest.mark.parametrize("rpc", KINDS)
def test_a_call_that_goes_well_is_left_alone(rpc: str) -> None:
    told: list[BaseException] = []

    async def scenario() -> list[str]:
        async with channel_to(Toy(), Errors(told.append)) as channel:
            return await ask(channel, rpc, "word")

    assert set(asyncio.run(scenario())) == {"word"} and not told


@pytest.mark.parametrize("error", [grpc.aio.UsageError("over"), grpc.aio.InternalError("the peer is gone")], ids=type)
def test_a_call_that_grpc_itself_has_ended_is_not_the_run_s_failure(error: Exception) -> None:
    told: list[BaseException] = []
    error_of("Join", error, told)
    assert not told


def test_a_peer_that_goes_while_much_is_written_to_it_is_not_the_run_s_failure() -> None:
    """The handler's write fails, or is cancelled, with 64 MiB still to be sent."""
    told: list[BaseException] = []
    ended = asyncio.Event()

    class Much(Toy):
        async def unary_stream(self, request: StringValue, call: Any) -> None:
            try:
                for _ in range(64):
                    await call.write(StringValue(value="x" * (1 << 20)))
            finally:
                ended.set()

    async def scenario() -> None:
        async with channel_to(Much(), Errors(told.append)) as channel:
            coding: Any = {"request_serializer": as_bytes, "response_deserializer": StringValue.FromString}
            call = channel.unary_stream("/heron.v1.Toy/FetchModel", **coding)("word")
            await call.read()
            call.cancel()
            await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(scenario())
    assert not told
