"""A member's share of the server: one call of a kind at a time, none that stands still, and so many calls and beats.

Whoever takes more is told so and loses its round, and within a minute its place. What of a client's messages the run
itself bounds (uploads, chunks, figures) is checked where it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from traceback import clear_frames
from typing import Any

from heron_core.errors import Busy, HeronError, StaleTerm
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.wire.frames import Bulk
from heron_server.api.interceptor import Interceptor, Passing, Reply, Request
from heron_server.api.peer import Call
from heron_server.metrics.sparing import Bucket
from heron_server.run.coordinator import Coordinator

CALLS, CALLS_A_S, CALLS_A_ROUND = 128, 8.0, 16.0
"""That one client may begin at once, and what comes back of them each second and with each round, which takes about six
calls."""
JOINS, JOINS_A_S = 60, 1.0
BEATS, BEATS_EACH = 1000, 4.0
"""At once, and for each one that the server wants."""
SENTENCE_S = 60.0
"""Whoever takes too much twice within this time loses its place for this long."""
MOVING = ("FetchModel", "SubmitUpdate")
"""Calls that the run waits for: their bytes move, or they end."""
STREAMS_DOWN = ("WatchRounds", "FetchModel", "PushActivations")
REPLACED = "this client began the same call once more; only the newer one goes on"


@dataclass
class Share:
    """Of one name, whatever session it has."""

    beats: Bucket
    calls: Bucket = field(default_factory=lambda: Bucket(CALLS, CALLS_A_S))
    joins: Bucket = field(default_factory=lambda: Bucket(JOINS, JOINS_A_S))
    place: tuple[int, int] = (0, 0)
    """Term and round of its newest call."""
    used: float = -inf
    struck: float = -inf
    """When it last took too much."""
    barred_until: float = -inf

    def counts(self, now: float) -> bool:
        """Would it be another were it forgotten?"""
        return max(self.used, self.struck, self.barred_until) > now - SENTENCE_S


@dataclass(eq=False)
class Running:
    """One call in progress."""

    task: asyncio.Task[Any]
    check: Callable[[], object]
    """Raises the HeronError that ends the call, once nobody wants it any more."""
    idle_s: float
    moved: float
    """When its newest message passed."""
    ended: HeronError | None = None

    def end(self, error: HeronError) -> None:
        """The call ends with this error."""
        if self.ended is None:
            self.ended = error
            self.task.cancel()


class Shares(Interceptor[Call[Passing]]):
    """Raises Busy for too much, and StaleTerm in a call that a newer one of the same kind has replaced."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._standing, self._clock, settings = coordinator.standing, coordinator.clock, coordinator.settings
        self._beats_a_s, self._idle_s = BEATS_EACH / settings.heartbeat_s, settings.step_deadline_s
        self._shares: dict[str, Share] = {}
        self._running: dict[tuple[str, str], Running] = {}
        """By client and RPC; event streams, which a newer session ends in its own words, by session and RPC."""

    async def around(
        self, rpc: str, request: Request, call: Call[Passing], proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        """Runs the call within its client's share."""
        assert isinstance(request, AsyncIterator), "every call is a stream of requests here: gate/streams.py"
        if rpc == "Join":
            return await self._join(request, call, proceed)
        if rpc == "FetchGraphs":  # of no session: the gate alone bounds how many there are
            await call.begin()
            return await proceed(request, call)
        name = self._standing.name_of(call.peer, call.session_id)
        share = self._share(name)
        if not share.calls.take(self._clock()):
            raise self._over(name, f"more than {CALLS} calls at once, and then {CALLS_A_S:g} a second")
        if rpc == "Leave":
            return await proceed(request, call)
        first, task = await anext(request), asyncio.current_task()
        assert task is not None
        idle_s = self._idle_s if rpc in MOVING else inf
        running = Running(task, self._check(rpc, call, first), idle_s, self._clock())

        def passed() -> None:
            running.moved = self._clock()

        async def write(message: Passing) -> None:
            await call.write(message)
            passed()

        if rpc in STREAMS_DOWN:
            await call.begin()
        key = (call.session_id if rpc == "WatchRounds" else name, rpc)
        each = partial(self._beat, name, share) if rpc == "WatchRounds" else passed
        messages = Watched(first, request, each)
        return await self._alone(key, running, partial(proceed, messages, replace(call, write=write)))

    async def _join(
        self, request: AsyncIterator[Passing], call: Call[Passing], proceed: Callable[..., Awaitable[Reply]]
    ) -> Reply:
        first, now = await anext(request), self._clock()
        assert isinstance(first, pb.JoinRequest)
        name = first.client_name
        barred_s = self._shares[name].barred_until - now if name in self._shares else 0.0
        if barred_s > 0:
            raise Busy(f"{name!r} took more than its share and lost its place; it may join again in {barred_s:.0f} s")
        reply = await proceed(Watched(first, request, lambda: None), call)
        if not first.dry_run and not self._share(name).joins.take(now):
            raise self._over(name, f"more than {JOINS} Joins at once, and then {JOINS_A_S:g} a second")
        return reply

    async def _alone(
        self, key: tuple[str, str], running: Running, proceed: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """Takes the place of an older call, whose memory is free before this one takes any."""
        older, self._running[key] = self._running.get(key), running
        try:
            if older is not None:
                older.end(StaleTerm(REPLACED))
                await asyncio.wait({older.task})
            return await proceed()
        except asyncio.CancelledError as cancelled:
            if running.ended is None:
                raise
            running.task.uncancel()
            clear_frames(cancelled.__traceback__)  # what the handler held would live as long as this error does
            raise running.ended from None
        finally:
            if self._running.get(key) is running:
                del self._running[key]

    def tick(self) -> None:
        """Ends calls that nobody wants any more, and those that stand still. Call about twice a second."""
        now = self._clock()
        for running in list(self._running.values()):
            try:
                running.check()
            except HeronError as error:
                running.end(error)
            if now - running.moved > running.idle_s:
                running.end(Busy(f"nothing moved for {running.idle_s:g} s (server.step_deadline_s); try again"))
        self._shares = {name: share for name, share in self._shares.items() if share.counts(now)}

    def _check(self, rpc: str, call: Call[Passing], first: Passing) -> Callable[[], object]:
        standing, message = self._standing, first.rest if isinstance(first, Bulk) else first
        if isinstance(message, pb.FetchModelRequest):
            return partial(standing.check_version, call.peer, message)
        if isinstance(message, pb.UpdateChunk):
            return partial(standing.check_update, call.peer, message.header)
        if rpc == "WatchRounds":
            return lambda: None
        return partial(standing.name_of, call.peer, call.session_id)

    def _beat(self, name: str, share: Share) -> None:
        if not share.beats.take(self._clock()):
            raise self._over(name, f"more than {BEATS} heartbeats at once, and then {self._beats_a_s:g} a second")

    def _share(self, name: str) -> Share:
        """The client's, a little larger than before where a round has begun since."""
        share = self._shares.setdefault(name, Share(Bucket(BEATS, self._beats_a_s)))
        share.used = self._clock()
        if share.place != self._standing.place:
            share.place = self._standing.place
            share.calls.add(CALLS_A_ROUND)
        return share

    def _over(self, name: str, what: str) -> Busy:
        """The client pays for it, and is told."""
        share, now = self._shares[name], self._clock()
        if now - share.struck <= SENTENCE_S:
            share.barred_until = now + SENTENCE_S
            why = f"too much: {what}. It costs the place in the run for {SENTENCE_S:g} s"
            self._standing.loses_place(name, why)
        else:
            why = f"too much: {what}. It costs the round, and once more within {SENTENCE_S:g} s the place"
            self._standing.loses_round(name, why)
        share.struck = now
        return Busy(why)


class Watched(AsyncIterator[Passing]):
    """A stream of messages whose first one has been read."""

    def __init__(self, first: Passing, rest: AsyncIterator[Passing], each: Callable[[], None]) -> None:
        """`each` is told of every message but the first, and may raise."""
        self._first: Passing | None = first
        self._rest, self._each = rest, each

    async def __anext__(self) -> Passing:
        if (first := self._first) is not None:
            self._first = None
            return first
        message = await anext(self._rest)
        self._each()
        return message
