"""The ledger's charges for calls and messages, as they pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from heron_server.api.interceptor import Interceptor, Passing, Reply, Request
from heron_server.api.peer import Call
from heron_server.metrics.charges import ChargedCall, Charges


class Charging(Interceptor[Call[Passing]]):
    """Tells `charges` of every call, of the messages that a handler reads and of those that it writes."""

    def __init__(self, charges: Charges) -> None:
        self._charges = charges

    async def around(
        self, rpc: str, request: Request, call: Call[Passing], proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        """Runs the call with its account open."""
        account = self._charges.call(rpc)

        async def write(message: Passing) -> None:
            account.down(message)
            await call.write(message)

        if isinstance(request, AsyncIterator):
            request = Charged(request, account)
        else:
            account.up(request)
        reply = await proceed(request, replace(call, write=write))
        if reply is not None:
            account.down(reply)
        return reply


class Charged(AsyncIterator[Passing]):
    """A stream of messages, each charged as it is read."""

    def __init__(self, messages: AsyncIterator[Passing], account: ChargedCall) -> None:
        self._messages, self._account = messages, account

    async def __anext__(self) -> Passing:
        message = await anext(self._messages)
        self._account.up(message)
        return message
