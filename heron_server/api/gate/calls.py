"""Who may have how many calls open: a session is known before anything is read, and strangers have few."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from heron_core.errors import Busy
from heron_server.api.gate.connections import Connections, host_of
from heron_server.api.interceptor import ALL_SERVICES, Interceptor, Passing, Reply, Request
from heron_server.api.peer import Call, Context
from heron_server.run.peer import Peer

WITHOUT_SESSION = ("Join", "FetchGraphs")
"""RPCs of ours that a stranger may call; those of health and reflection are for everybody too."""
MOST_OF_A_SESSION = 8
"""Open calls; a client has two or three."""
MOST_OF_A_HOST, MOST_OF_STRANGERS = 16, 32
"""Open calls without a session. What each of them has sent may lie here, one message at most."""
PATIENCE_S = 10.0
"""How long a stranger may take to send a message."""


class Calls(Interceptor[Call[Passing] | Context]):
    """Refuses calls of unknown sessions unread, and ends the oldest of too many calls of strangers.

    It is the oldest that ends, not the newest that is refused: an honest Join is answered in milliseconds, while those
    that fill the places only wait.
    """

    services = ALL_SERVICES

    def __init__(self, check_session: Callable[[Peer, str], object], connections: Connections) -> None:
        """`check_session` raises UnknownSession for a session that is not the peer's."""
        self._check_session, self._connections = check_session, connections
        self._of_session: Counter[str] = Counter()
        self._strangers: dict[asyncio.Task[Any], str] = {}
        """The host of each open call without a session, the oldest first."""
        self._ended: set[asyncio.Task[Any]] = set()

    async def around(
        self, rpc: str, request: Request, call: Call[Passing] | Context, proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        """Runs the call while it is counted. Raises UnknownSession, or Busy."""
        address = call.peer.address if isinstance(call, Call) else call.peer()
        with self._connections.in_call(address):
            if isinstance(call, Call) and rpc not in WITHOUT_SESSION:
                self._check_session(call.peer, call.session_id)
                self._connections.is_known(call.peer, call.session_id)
                return await self._of_member(call.session_id, request, call, proceed)
            return await self._of_stranger(host_of(address), request, call, proceed)

    async def _of_member(
        self, session_id: str, request: Request, call: Call[Passing], proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        if self._of_session[session_id] >= MOST_OF_A_SESSION:
            raise Busy(f"a client has at most {MOST_OF_A_SESSION} open calls; end one, or wait for one to end")
        self._of_session[session_id] += 1
        try:
            return await proceed(request, call)
        finally:
            self._of_session[session_id] -= 1
            if not self._of_session[session_id]:
                del self._of_session[session_id]

    async def _of_stranger(
        self, host: str, request: Request, call: Call[Passing] | Context, proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        self._make_room(host)
        task = asyncio.current_task()
        assert task is not None
        self._strangers[task] = host
        try:
            return await proceed(Prompt(request) if isinstance(request, AsyncIterator) else request, call)
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise Busy("the server has too many open calls of callers without a session; try again later") from None
        finally:
            self._strangers.pop(task, None)
            self._ended.discard(task)

    def _make_room(self, host: str) -> None:
        of_host = [task for task, other in self._strangers.items() if other == host]
        oldest = of_host[:1] if len(of_host) >= MOST_OF_A_HOST else []
        if not oldest and len(self._strangers) >= MOST_OF_STRANGERS:
            oldest = [next(iter(self._strangers))]
        for task in oldest:
            del self._strangers[task]
            self._ended.add(task)
            task.cancel()


class Prompt(AsyncIterator[Passing]):
    """A stream of messages none of which may be waited for long."""

    def __init__(self, messages: AsyncIterator[Passing]) -> None:
        self._messages = messages

    async def __anext__(self) -> Passing:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await anext(self._messages)
        except TimeoutError:
            raise Busy(f"no whole message came within {PATIENCE_S:g} s; send it right after the call begins") from None
