"""What a peer may send at most, and that what it sends are messages.

gRPC itself refuses what is larger than any message of the run (server.py), before any of this. How many answers may
wait for a client that does not read them is no matter of messages that pass: the handler holds that queue (service.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from google.protobuf.message import DecodeError

from heron_core.errors import TensorError
from heron_server.api.interceptor import ALL_SERVICES, In, Interceptor, Passing, Reply, Request
from heron_server.api.peer import Call

MAX_CONTROL_BYTES = 64 << 10
BULK = ("SubmitUpdate", "PushActivations")
"""RPCs whose requests carry tensors; those of all others are a few hundred bytes."""


class Limits(Interceptor[Call[Passing]]):
    """Raises TensorError for a request that is too large or no message, and for a stream without a first one."""

    services = ALL_SERVICES

    async def around(
        self, rpc: str, request: Request, call: Call[Passing], proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        """Hands on sound requests only."""
        return await proceed(Sound(request) if isinstance(request, AsyncIterator) else sound(request), call)

    def reading(self, rpc: str, read: Callable[[bytes], In]) -> Callable[[bytes], In | TensorError]:
        """As `read`, but gives what it raises: an error raised in here would reach the peer as one of gRPC's own."""

        def reading(data: bytes) -> In | TensorError:
            if rpc not in BULK and len(data) > MAX_CONTROL_BYTES:
                return TensorError(f"{rpc}: a request has at most {MAX_CONTROL_BYTES} bytes, got {len(data)}")
            try:
                return read(data)
            except DecodeError:
                return TensorError(f"{rpc}: expected a protobuf message, got {len(data)} bytes that are none")
            except TensorError as error:
                return error

        return reading


class Sound(AsyncIterator[Passing]):
    """A stream of messages that has a first one; the first says whose it is."""

    def __init__(self, messages: AsyncIterator[Passing | TensorError]) -> None:
        self._messages, self._begun = messages, False

    async def __anext__(self) -> Passing:
        try:
            message = sound(await anext(self._messages))
        except StopAsyncIteration:
            if self._begun:
                raise
            raise TensorError("the stream ended before its first message; the first one says whose it is") from None
        self._begun = True
        return message


def sound(message: Passing | TensorError) -> Passing:
    """The message; raises the error that was read in its place."""
    if isinstance(message, TensorError):
        raise message
    return message
