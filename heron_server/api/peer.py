"""Who is calling: the outermost interceptor but one makes of gRPC's context what Heron's own handlers get."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import grpc

from heron_core.errors import NotAdmitted
from heron_core.wire.channel import SESSION_KEY
from heron_server.api.access import WITHDRAWN, Access, Proof
from heron_server.api.interceptor import Interceptor, Passing, Reply, Request
from heron_server.run.peer import Peer

Answer = TypeVar("Answer")
Context: TypeAlias = grpc.aio.ServicerContext[Passing, Passing]


async def nothing_to_do() -> None:
    """As it says."""


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """What a handler knows of its call beside the messages."""

    peer: Peer
    write: Callable[[Answer], Awaitable[None]]
    """Sends one answer of a stream of them; waits while the peer does not read."""
    session_id: str = ""
    """The session that the call says it is of, before any message. Empty: of none."""
    begin: Callable[[], Awaitable[None]] = nothing_to_do
    """Sends the headers before the first answer does: gRPC cannot end a call with a reason while it sends both."""


class Peers(Interceptor[Context]):
    """Gives every handler a `Peer`, whose identity is what `access` takes for proved."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._open: dict[asyncio.Task[Any], Proof] = {}
        """Calls in progress."""
        self._withdrawn: set[asyncio.Task[Any]] = set()
        self._lists = access.lists()
        """What the deny list and the tokens said at the last tick."""

    async def around(
        self, rpc: str, request: Request, call: Context, proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        """Runs the rest of the call with a `Call` in the place of gRPC's context. Raises NotAdmitted."""
        proof, task = self._access.prove(call), asyncio.current_task()
        assert task is not None
        self._open[task] = proof
        try:
            begin = partial(call.send_initial_metadata, ())
            return await proceed(request, Call(Peer(call.peer(), proof.name), call.write, session_of(call), begin))
        except asyncio.CancelledError:
            if task not in self._withdrawn:
                raise
            task.uncancel()
            raise WITHDRAWN from None
        finally:
            del self._open[task]
            self._withdrawn.discard(task)

    def tick(self) -> None:
        """Ends the calls of those who have been denied since, or whose token counts no more. Call twice a second."""
        before, self._lists = self._lists, self._access.lists()
        if all(now is then for now, then in zip(self._lists, before, strict=True)):
            return  # and each call that was opened since has been checked then
        for task, proof in self._open.items():
            try:
                self._access.check(proof)
            except NotAdmitted:
                self._withdrawn.add(task)
                task.cancel()


def session_of(call: Context) -> str:
    """What the caller says of it in the call's metadata."""
    return next((str(value) for key, value in call.invocation_metadata() or () if key == SESSION_KEY), "")
