"""Who sends mutated messages while an honest run goes on: somebody without a session, a member without a part in the
round, participants."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from google.protobuf.message import Message
from links import CHECK, FETCH, GRAPHS, JOIN, KINDS, LEAVE, PUSH, STREAMS_UP, SUBMIT, WATCH, Link
from mutating import Mutator
from players import Place, Player, Samples, Shape

from heron_core.pb.v1 import federation_pb2 as pb

Role = Literal["outsider", "member", "participant"]
ROLES: tuple[Role, ...] = ("outsider", "member", "participant")
HONEST, HOSTILE = 2, 6
"""Clients that are honest; participants that are not."""
SHARES = {JOIN: 12, WATCH: 12, FETCH: 10, GRAPHS: 4, SUBMIT: 26, LEAVE: 5, PUSH: 28, CHECK: 3}
"""Of the calls, in percent."""
REJOIN_AFTER = 25
"""Calls in one session, unless a mutation has ended it before."""
AT_ONCE = {"outsider": 6, "member": 1}
"""Calls that one attacker has open; of a member's, a newer one ends an older one of the same kind."""


@dataclass
class Tally:
    """What was sent and what came of it."""

    messages: int = 0
    """Mutated ones; the sound ones that stood before or between them in a stream are not counted."""
    calls: int = 0
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By RPC and reason, or gRPC's word where there is none."""
    faults: list[str] = field(default_factory=list)
    """Answers that must not be, each with the messages that led to it."""


class Attacker:
    """Mutates what honest clients have sent, and sends it at a place in the run."""

    def __init__(self, link: Link, samples: Samples, tally: Tally, seed: str) -> None:
        self._link, self._samples, self._tally = link, samples, tally
        self._rng = random.Random(seed)
        self._mutator = Mutator(self._rng)
        self.sessions: set[str] = set()
        """That a mutated Join has opened."""

    async def attack(
        self, place: Callable[[], Place], count: int, at_once: int, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        """Sends `count` mutated messages; `refresh` is awaited now and then, for a session that is valid."""
        until = self._tally.messages + count
        while self._tally.messages < until:
            await refresh()
            for _ in range(REJOIN_AFTER // at_once):
                await asyncio.gather(*(self.once(place()) for _ in range(at_once)))
                if self._tally.messages >= until:
                    break

    async def once(self, place: Place) -> int:
        """One call of any RPC, in which one message at least is mutated; returns how many are."""
        return await self.send(self._rng.choices(list(SHARES), list(SHARES.values()))[0], place)

    async def send(self, rpc: str, place: Place, share_mutated: float = 0.3) -> int:
        """One call of `rpc`, made of a sample that is put to `place`; with share 0 nothing is mutated."""
        kind, rng = KINDS[rpc], self._rng
        messages = [placed(kind, data, place) for data in rng.choice(self._samples.calls[rpc])]
        chosen = {i for i in range(len(messages)) if rng.random() < share_mutated}
        if share_mutated:
            chosen |= {rng.randrange(len(messages))}
        for index in chosen:
            messages[index] = self._mutator.mutated(kind, messages[index], self._other())
        answer = await self._link.call(rpc, messages if rpc in STREAMS_UP else messages[:1], place.session_id)
        self._tally.messages += len(chosen)
        self._tally.calls += 1
        self._tally.answers[rpc.rpartition("/")[2], answer.reason or answer.code] += 1
        if answer.fault:
            self._tally.faults.append(f"{rpc}: {answer.fault}: {[m[:2000].hex() for m in messages]}")
        if rpc == JOIN and answer.code == "OK":
            self.sessions.add(pb.JoinReply.FromString(answer.replies[0]).session_id)
        return len(chosen)

    def _other(self) -> bytes:
        rpc = self._rng.choice(list(self._samples.calls))
        return self._rng.choice(self._rng.choice(self._samples.calls[rpc]))

    async def leave_all(self) -> None:
        """Gives back every place that a mutated Join has taken."""
        for session_id in self.sessions:
            await self._link.call(LEAVE, [pb.LeaveRequest(session_id=session_id).SerializeToString()], session_id)
        self.sessions.clear()


def placed(kind: type[Message], data: bytes, place: Place) -> bytes:
    """The message, as of this run, session, term and round."""
    message = kind.FromString(data)
    header = getattr(message, "header", None)
    for holder in (message, header) if header is not None and message.HasField("header") else (message,):
        for name in ("run_id", "session_id", "term", "round", "version"):
            if name in holder.DESCRIPTOR.fields_by_name and (header is None or holder is header):
                setattr(holder, name, getattr(place, name))
    return message.SerializeToString()


class Attack:
    """One run of honest clients under attack by one role."""

    def __init__(
        self, role: Role, link: Callable[[], Link], shape: Shape, seed: int,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """`turn` lets time pass for a server that does not turn by itself."""
        self.tally, self._role, self._turn = Tally(), role, turn
        self._samples, self._rng = Samples(), random.Random(f"{seed}/{role}")
        self.honest = [Player(link(), f"honest-{i}", shape, self._samples) for i in range(HONEST)]
        count = {"outsider": 0, "member": 1, "participant": HOSTILE}[role]
        self.hostile = [Player(link(), f"zoe-{i}", shape) for i in range(count)]
        self._attackers = [
            Attacker(link(), self._samples, self.tally, f"{seed}/{role}/{i}") for i in range(max(1, count))
        ]

    async def run(self, rounds: int, messages: int, round_done: Callable[[int], None] = lambda _: None) -> None:
        """All rounds, with so many messages in all."""
        await self._enter(self.honest)
        if self._role == "participant":
            await self._enter(self.hostile)
        if self._turn:
            await self._turn()
        for number in range(rounds):
            until = messages * (number + 1) // rounds
            await asyncio.gather(*(player.begin() for player in self.honest))
            await self._round(until)
            await asyncio.gather(*(player.submit() for player in self.honest))
            await asyncio.gather(*(player.event("round_ends") for player in self.honest))
            round_done(number + 1)
        await asyncio.gather(*(player.end() for player in (*self.honest, *self.hostile)))

    async def _enter(self, players: Sequence[Player]) -> None:
        for player in players:
            answer = await player.join()
            assert answer.code == "OK", answer
            await player.watch()

    async def _round(self, until: int) -> None:
        """The attack goes on between any two uploads of the honest, and is over when this returns."""
        for player in self.hostile:
            player.place = replace(self.honest[0].place, session_id=player.place.session_id)
        attack = {"outsider": self._from_outside, "member": self._from_member, "participant": self._from_participants}
        steps = self.honest[0].steps
        for step in range(steps):
            await asyncio.gather(*(player.upload(step) for player in self.honest))
            left = until - self.tally.messages
            await attack[self._role](left // (steps - step), last=step == steps - 1)

    async def _from_outside(self, count: int, last: bool) -> None:
        def place() -> Place:
            return replace(self.honest[0].place, session_id=self._rng.choice(("", self._rng.randbytes(16).hex())))

        async def nothing() -> None: ...

        if self._samples.complete and count > 0:
            await self._attackers[0].attack(place, count, AT_ONCE["outsider"], nothing)

    async def _from_member(self, count: int, last: bool) -> None:
        """It comes once the round is under way, and goes before its end."""
        (member,), (attacker,) = self.hostile, self._attackers
        if count <= 0 or not self._samples.complete:
            return

        async def comes() -> None:
            await attacker.leave_all()
            answer = await member.join()
            assert answer.code == "OK", answer
            await member.watch()
            await member.event("waiting")

        def place() -> Place:
            return replace(self.honest[0].place, session_id=member.place.session_id)

        await attacker.attack(place, count, AT_ONCE["member"], comes)
        await attacker.leave_all()
        await member.leave()

    async def _from_participants(self, count: int, last: bool) -> None:
        share = -(-max(0, count) // len(self.hostile)) if self._samples.complete else 0
        each = zip(self.hostile, self._attackers, strict=True)
        await asyncio.gather(*(self._one_participant(p, a, share, last) for p, a in each))

    async def _one_participant(self, player: Player, attacker: Attacker, share: int, last: bool) -> None:
        done = 0
        for rpc, likely in ((PUSH, 0.5), (SUBMIT, 0.25)):
            if share and self._rng.random() < likely:
                await attacker.send(rpc, player.place, 0.0)
        while done < share:  # one call after the other: a refusal costs it the round, and most of them are one
            done += await attacker.once(player.place)
        if last:
            await self._settle(player, attacker)

    async def _settle(self, player: Player, attacker: Attacker) -> None:
        """A participant that still has a part finishes it, or leaves; it is here for the next round."""
        attacker.sessions.clear()
        if not await self._is_active(player):
            return
        if self._rng.random() < 0.7:
            with suppress(ConnectionError):  # what the worker found in its uploads has cost it the round meanwhile
                await player.finish()
                return
        await player.leave()
        await self._is_active(player)

    async def _is_active(self, player: Player) -> bool:
        """Comes back, in a new session, and hears whether it has a part in the round."""
        answer = await player.join()
        assert answer.code == "OK", answer
        await player.watch()
        event = await player.event("round_begins", "waiting")
        return event.WhichOneof("event") == "round_begins"
