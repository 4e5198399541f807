"""Ways from messages as bytes to a server's handlers, and what came of a call. Here: no socket, but the server's own
interceptors, and what they and its handlers make of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from unittest.mock import patch

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from heron_core.errors import REASON_KEY
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.channel import of_session
from heron_server.api import shares
from heron_server.api.server import listen

FEDERATION, SPLIT, HEALTH = "/heron.v1.FederationService/", "/heron.v1.SplitService/", "/grpc.health.v1.Health/"
KINDS: dict[str, type[Message]] = {
    FEDERATION + "Join": pb.JoinRequest,
    FEDERATION + "WatchRounds": pb.Beat,
    FEDERATION + "FetchModel": pb.FetchModelRequest,
    FEDERATION + "FetchGraphs": pb.FetchGraphsRequest,
    FEDERATION + "SubmitUpdate": pb.UpdateChunk,
    FEDERATION + "Leave": pb.LeaveRequest,
    SPLIT + "PushActivations": split.ActivationFrame,
    HEALTH + "Check": health_pb2.HealthCheckRequest,
}
"""Every RPC with the kind of its requests."""
JOIN, WATCH, FETCH, GRAPHS, SUBMIT, LEAVE, PUSH, CHECK = KINDS
STREAMS_UP = (WATCH, SUBMIT, PUSH)
UNARY_DOWN = (JOIN, SUBMIT, LEAVE, CHECK)
PATIENCE_S = 120.0
"""A call that lasts longer hangs."""


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    code: str
    """gRPC's word; HUNG where it did not end."""
    reason: str = ""
    """The `heron-reason`."""
    details: str = ""
    replies: tuple[bytes, ...] = ()

    @property
    def fault(self) -> str:
        """What is wrong with it; empty: it is a fine answer, be it a refusal."""
        unexplained = self.code in ("INTERNAL", "UNKNOWN") and not self.reason
        return f"{self.code} {self.reason}: {self.details[:300]}" if (
            unexplained or self.code == "HUNG" or self.reason in ("internal", "run_failed")
        ) else ""  # fmt: skip


class Stream(Protocol):
    """One call that stays open."""

    async def send(self, data: bytes) -> None: ...

    async def read(self) -> bytes | None:
        """The next reply; None: the call has ended."""
        ...

    async def end(self) -> Answer:
        """Sends no more, and waits for the end; replies that were not read are lost."""
        ...


class Link(Protocol):
    """One connection to a server."""

    def open(self, rpc: str, session_id: str) -> Stream:
        """`session_id`: that the call says it is of, beside its messages. Empty: of none."""
        ...

    async def call(self, rpc: str, messages: Sequence[bytes], session_id: str) -> Answer:
        """The messages, and then no more."""
        ...


# -- within this process ---------------------------------------------------------------------------------------------


class _Port:
    """Stands for grpc.aio.server: keeps what Heron's server gives it."""

    def __init__(self, interceptors: Sequence[Any] = (), **_: Any) -> None:
        self.interceptors, self.handlers = interceptors, list[Any]()

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        self.handlers += handlers

    def add_registered_method_handlers(self, *_: Any) -> None: ...

    def add_insecure_port(self, _: str) -> int:
        return 1

    async def start(self) -> None: ...


@dataclass
class _Details:
    method: str
    invocation_metadata: tuple[Any, ...] = ()


class InProcess:
    """Calls the handlers of `coordinator`'s server as gRPC would."""

    def __init__(self, port: Any) -> None:
        self._port = port

    @classmethod
    async def to(cls, coordinator: Any) -> InProcess:
        with patch.object(grpc.aio, "server", _Port):
            port, _ = await listen(coordinator, "127.0.0.1:0", False)
        return cls(port.grpc)

    async def handler(self, rpc: str) -> Any:
        details = _Details(rpc)

        async def served(number: int) -> Any:
            if number < len(self._port.interceptors):
                return await self._port.interceptors[number].intercept_service(lambda _: served(number + 1), details)
            return next(filter(None, (handlers.service(details) for handlers in self._port.handlers)), None)

        return await served(0)

    def open(self, rpc: str, session_id: str) -> _Call:
        return _Call(self, rpc, session_id)

    async def call(self, rpc: str, messages: Sequence[bytes], session_id: str) -> Answer:
        call = self.open(rpc, session_id)
        for message in messages:
            await call.send(message)
        return await call.end()


class _Call:
    """gRPC's context of one call, and the other end of it."""

    def __init__(self, link: InProcess, rpc: str, session_id: str) -> None:
        self._rpc, self._metadata = rpc, of_session(session_id)
        self._up: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._down: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._replies: list[bytes] = []
        self._serialize: Any = None
        self._status = ("OK", "", "")
        self._task = asyncio.ensure_future(self._serve(link))

    async def send(self, data: bytes) -> None:
        self._up.put_nowait(data)

    async def read(self) -> bytes | None:
        return await asyncio.wait_for(self._down.get(), PATIENCE_S)

    async def end(self) -> Answer:
        self._up.put_nowait(None)
        done, _ = await asyncio.wait({self._task}, timeout=PATIENCE_S)
        if not done:
            self._task.cancel()
            return Answer("HUNG", details=self._rpc)
        return Answer(*self._status, tuple(self._replies))

    async def _serve(self, link: InProcess) -> None:
        try:
            handler = await link.handler(self._rpc)
            self._serialize = handler.response_serializer
            behaviour = getattr(handler, f"{_side(handler.request_streaming)}_{_side(handler.response_streaming)}")
            read = handler.request_deserializer
            reply = await behaviour(self._all(read) if handler.request_streaming else read(await self._up.get()), self)
            if reply is not None:
                await self.write(reply)
        except grpc.aio.AbortError:
            pass
        except Exception as error:
            self._status = ("UNKNOWN", "", repr(error))
        self._down.put_nowait(None)

    async def _all(self, read: Any) -> AsyncIterator[Any]:
        while (data := await self._up.get()) is not None:
            yield read(data)

    # -- gRPC's context ------------------------------------------------------------------------------------------

    async def write(self, message: Any) -> None:
        data = self._serialize(message)
        self._replies.append(data)
        self._down.put_nowait(data)

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Nobody here looks at it."""

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: Sequence[Any] = ()) -> None:
        self._status = (code.name, dict(trailing).get(REASON_KEY, ""), details)
        raise grpc.aio.AbortError

    def set_code(self, code: grpc.StatusCode) -> None:
        self._status = (code.name, "", "")

    def peer(self) -> str:
        return "in-process"

    def auth_context(self) -> dict[str, Any]:
        return {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


@contextmanager
def without_limits() -> Iterator[None]:
    """No client's share is used up, so that mutations go on to what lies behind."""
    with ExitStack() as stack:
        for name in ("CALLS", "JOINS", "BEATS"):
            stack.enter_context(patch.object(shares, name, 10**9))
        yield


def _side(streams: bool) -> str:
    return "stream" if streams else "unary"
