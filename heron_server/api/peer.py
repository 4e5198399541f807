"""Who is calling: the outermost interceptor makes of gRPC's context what Heron's own handlers get."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import grpc

from heron_server.api.interceptor import Interceptor, Passing, Reply, Request
from heron_server.run.peer import Peer

Answer = TypeVar("Answer")
Context: TypeAlias = grpc.aio.ServicerContext[Passing, Passing]


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """What a handler knows of its call beside the messages."""

    peer: Peer
    write: Callable[[Answer], Awaitable[None]]
    """Sends one answer of a stream of them; waits while the peer does not read."""


class Peers(Interceptor[Context]):
    """Gives every handler a `Peer`, by address: nothing is authenticated yet, so everybody is anonymous."""

    async def around(
        self, rpc: str, request: Request, call: Context, proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        """Runs the rest of the call with a `Call` in the place of gRPC's context."""
        return await proceed(request, Call(Peer(call.peer()), call.write))
