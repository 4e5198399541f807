"""A real server on a loopback port with one RPC of each kind, behind the interceptors that a test is about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

UNARY_UNARY, UNARY_STREAM, STREAM_UNARY, STREAM_STREAM = KINDS = ("Join", "FetchModel", "SubmitUpdate", "WatchRounds")
"""Their names are those of Heron's RPCs of these kinds; their messages are strings."""


class Toy:
    """Handlers that answer each word with the word; `on_word` sees them first and may raise."""

    def __init__(self, on_word: Callable[[str], None] = lambda word: None) -> None:
        self._on_word = on_word
        self.calls: list[Any] = []
        """What the handlers were given beside the request."""

    async def unary_unary(self, request: StringValue, call: Any) -> StringValue:
        return self._answer(request, call)

    async def unary_stream(self, request: StringValue, call: Any) -> None:
        for _ in range(2):
            await call.write(self._answer(request, call))

    async def stream_unary(self, requests: AsyncIterator[StringValue], call: Any) -> StringValue:
        return StringValue(value=" ".join([self._answer(request, call).value async for request in requests]))

    async def stream_stream(self, requests: AsyncIterator[StringValue], call: Any) -> None:
        async for request in requests:
            await call.write(self._answer(request, call))

    def _answer(self, request: StringValue, call: Any) -> StringValue:
        self.calls.append(call)
        self._on_word(request.value)
        return request

    def handlers(self) -> grpc.GenericRpcHandler:
        coding = (StringValue.FromString, StringValue.SerializeToString)
        return grpc.method_handlers_generic_handler("heron.v1.Toy", {
            UNARY_UNARY: grpc.unary_unary_rpc_method_handler(self.unary_unary, *coding),
            UNARY_STREAM: grpc.unary_stream_rpc_method_handler(self.unary_stream, *coding),
            STREAM_UNARY: grpc.stream_unary_rpc_method_handler(self.stream_unary, *coding),
            STREAM_STREAM: grpc.stream_stream_rpc_method_handler(self.stream_stream, *coding),
        })  # fmt: skip


@asynccontextmanager
async def channel_to(toy: Toy, *interceptors: grpc.aio.ServerInterceptor) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to `toy` behind `interceptors`, the outermost first."""
    server = grpc.aio.server(interceptors=interceptors)
    server.add_generic_rpc_handlers((toy.handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


async def ask(channel: grpc.aio.Channel, rpc: str, *words: str | bytes) -> list[str]:
    """The words that come back; bytes are sent as they are. Raises grpc.aio.AioRpcError."""
    coding: Any = {"request_serializer": as_bytes, "response_deserializer": StringValue.FromString}
    path = f"/heron.v1.Toy/{rpc}"
    if rpc == UNARY_UNARY:
        answers = [await channel.unary_unary(path, **coding)(*words)]
    elif rpc == UNARY_STREAM:
        answers = [answer async for answer in channel.unary_stream(path, **coding)(*words)]
    elif rpc == STREAM_UNARY:
        answers = [await channel.stream_unary(path, **coding)(each(words))]
    else:
        answers = [answer async for answer in channel.stream_stream(path, **coding)(each(words))]
    return [answer.value for answer in answers]


def as_bytes(word: str | bytes) -> bytes:
    return word if isinstance(word, bytes) else StringValue(value=word).SerializeToString()


def each(words: tuple[str | bytes, ...]) -> Iterator[str | bytes]:
    yield from words


def reason_of(failure: grpc.aio.AioRpcError) -> str:
    """The one `heron-reason` that the call ended with."""
    (reason,) = (str(value) for key, value in failure.trailing_metadata() or () if key == "heron-reason")
    return reason
