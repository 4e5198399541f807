"""The server's rounds: a state machine without I/O, clock or torch. All transitions live here.

Events are methods that take `now` (seconds, any origin) and return actions for the driver. An illegal event raises
IllegalEvent and changes nothing.

phase        waits for                                  leaves it by
GATHERING    clients                                    all are here, or the wait is over with enough -> TRAINING
TRAINING     every participant's update                 all in -> AGGREGATING; too few left -> RESTORING (term raised)
RESTORING    the driver to go back to the boundary      restored -> GATHERING
AGGREGATING  the driver's average                       aggregated -> EVALUATING
EVALUATING   the driver's or the clients' counts        evaluated -> COMMITTING
COMMITTING   the driver's checkpoint                    committed -> TRAINING, GATHERING or FINISHED
FINISHED     -                                          -
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from math import ceil

from heron_core.errors import JoinRefused, NameTaken, UnknownSession
from heron_server.rounds import events
from heron_server.rounds.actions import (
    Action,
    Aggregate,
    Commit,
    DropFromRound,
    Evaluate,
    Fence,
    Finish,
    OpenRound,
    Restore,
    SkipEvaluation,
    Tell,
)


class IllegalEvent(Exception):
    """A bug on our own side: this event cannot happen in this phase."""


class Phase(Enum):
    GATHERING = auto()
    TRAINING = auto()
    RESTORING = auto()
    AGGREGATING = auto()
    EVALUATING = auto()
    COMMITTING = auto()
    FINISHED = auto()


@dataclass(frozen=True)
class Rules:
    """The numbers that the machine goes by; seconds of the driver's clock."""

    rounds: int
    clients: int
    min_clients: int
    per_round: int = 0
    """Clients drawn for each round, of those who are there. 0: all of them."""
    order: Callable[[int, int], Sequence[int]] = lambda number, ranks: range(ranks)
    """(round, R) -> a permutation of the ranks 0 to R - 1: a round takes its clients in this order."""
    open_ended: bool = False
    """Clients bring their own data, so more than `clients` may join."""
    quorum: float = 0.5
    round_deadline_s: float = 600.0
    start_wait_s: float = 0.0
    rejoin_s: float = 60.0
    silence_s: float = 30.0
    grace_s: float = 10.0


@dataclass
class Member:
    """One name with its live session."""

    name: str
    key: bytes
    session_id: str
    last_seen: float
    connected: bool = False
    watched: bool = False
    """Its event stream was opened at least once. Until then it may be loading its data, and silence_s is its grace."""


@dataclass
class Rounds:
    rules: Rules
    table: dict[str, int] = field(default_factory=dict)
    """name -> rank, fixed when the run starts."""
    rounds_done: int = 0
    term: int = 1
    phase: Phase = Phase.GATHERING
    members: dict[str, Member] = field(default_factory=dict)
    participants: tuple[str, ...] = ()
    not_drawn: frozenset[str] = frozenset()
    """Who was there when the round began and has no part in it."""
    submitted: set[str] = field(default_factory=set)
    dropped: dict[str, str] = field(default_factory=dict)
    """Participants no longer in the round, with the reason."""
    evaluating: set[str] = field(default_factory=set)
    _since: float | None = None
    """When the present wait (gathering, training, evaluating) began."""
    _between_rounds: bool = False
    """Gathering after a committed round: waits only for those who are within their grace, not for the lost."""

    # -- who is here ---------------------------------------------------------------------------------------------

    def join(self, name: str, key: bytes, session_id: str, now: float) -> list[Action]:
        """A place for `name`; raises NameTaken or JoinRefused."""
        old = self.members.get(name)
        if old is not None and old.key != key and old.connected:
            raise NameTaken(
                f"another live client holds the name {name!r}; give this one another name, or stop the other"
            )
        self._admit(name)
        actions: list[Action] = []
        if old is not None:
            actions.append(Fence(old.session_id, taken_over=True))
            if old.key != key and self._active(name):
                actions += self._drop(name, "restarted as a new instance", now)
        self.members[name] = Member(name, key, session_id, now)
        return actions

    def watch_opened(self, session_id: str, now: float) -> list[Action]:
        """The session's event stream is open: the client is here."""
        member = self.member(session_id)
        member.connected, member.watched, member.last_seen = True, True, now
        if self.phase is Phase.FINISHED:
            return [events.finished(member.session_id, self.rounds_done)]
        if self.phase is Phase.TRAINING and self._active(member.name):
            return [self._begins(member)]
        if self.phase is Phase.EVALUATING and member.name in self.evaluating:
            return [self._evaluation_begins(member)]
        if self.phase is Phase.GATHERING:
            return self._gather(now, newcomer=member)
        return [self._waits(member)]

    def beat(self, session_id: str, now: float) -> None:
        """A sign of life; it counts only while the session's event stream is open."""
        member = self.member(session_id)
        if member.connected:
            member.last_seen = now

    def watch_lost(self, session_id: str, now: float) -> list[Action]:
        """The session's event stream broke; it may come back within the grace."""
        member = self._find(session_id)
        if member is not None and member.connected:
            member.connected, member.last_seen = False, now
        return []

    def leave(self, session_id: str, now: float, reason: str) -> list[Action]:
        """The client ends in good order."""
        member = self.member(session_id)
        del self.members[member.name]
        return [Fence(session_id), *self._lose(member.name, f"left: {reason}", now)]

    def client_failed(self, name: str, reason: str, now: float) -> list[Action]:
        """The client sent something unusable: it is out of this round."""
        return self._lose(name, reason, now)

    def tick(self, now: float) -> list[Action]:
        """Time passes: the silent are lost, deadlines end waits."""
        actions: list[Action] = []
        for member in list(self.members.values()):
            if member.connected and now - member.last_seen > self.rules.silence_s:
                member.connected = False
                actions.append(Fence(member.session_id))
            patience_s = self.rules.grace_s if member.watched else self.rules.silence_s
            if not member.connected and now - member.last_seen > patience_s:
                del self.members[member.name]
                actions += [Fence(member.session_id), *self._lose(member.name, "lost: nothing heard from it", now)]
        if self.phase is Phase.GATHERING:
            actions += self._gather(now)
        elif self.phase in (Phase.TRAINING, Phase.EVALUATING) and self._waited(now) > self.rules.round_deadline_s:
            actions += self._deadline(now)
        return actions

    # -- what the driver reports ---------------------------------------------------------------------------------

    def update_received(self, name: str, now: float) -> list[Action]:
        """A whole, checked update; the driver has refused repeated ones."""
        self._require(Phase.TRAINING)
        if not self._active(name):
            raise IllegalEvent(f"{name!r} has no update to give in round {self.rounds_done + 1}")
        self.submitted.add(name)
        return self._close_if_complete(now)

    def restored(self, now: float) -> list[Action]:
        self._require(Phase.RESTORING)
        self.phase, self._since, self._between_rounds = Phase.GATHERING, now, False
        return self._gather(now)

    def aggregated(self, now: float) -> list[Action]:
        self._require(Phase.AGGREGATING)
        self.phase, self._since = Phase.EVALUATING, now
        return [Evaluate(tuple(n for n in self._counted() if self._here(n)))]

    def clients_evaluate(self, names: tuple[str, ...], now: float) -> list[Action]:
        """The driver has no test set and opened the evaluation for these clients."""
        self._require(Phase.EVALUATING)
        self.evaluating = {name for name in names if name in self.members}
        if not self.evaluating:
            return self.evaluated()
        return [self._evaluation_begins(self.members[name]) for name in names if name in self.evaluating]

    def client_evaluated(self, name: str) -> list[Action]:
        self._require(Phase.EVALUATING)
        if name not in self.evaluating:
            return []  # lost meanwhile
        self.evaluating.discard(name)
        return [] if self.evaluating else self.evaluated()

    def evaluated(self) -> list[Action]:
        self._require(Phase.EVALUATING)
        self.phase = Phase.COMMITTING
        return [Commit()]

    def committed(self, now: float) -> list[Action]:
        self._require(Phase.COMMITTING)
        self.rounds_done += 1
        told = self._sessions()
        actions: list[Action] = [*events.round_ends(told, self.term, self.rounds_done, committed=True)]
        if self.rounds_done >= self.rules.rounds:
            self.phase = Phase.FINISHED
            return [*actions, *(events.finished(session_id, self.rounds_done) for session_id in told), Finish()]
        self.phase, self._since, self._between_rounds = Phase.GATHERING, now, True
        return actions + self._gather(now)

    def drain(self, reason: str) -> list[Action]:
        """The server stops; clients shall keep trying."""
        return [*events.draining(self._sessions(), reason)]

    # -- looking -------------------------------------------------------------------------------------------------

    def member(self, session_id: str) -> Member:
        """The session's member; raises UnknownSession."""
        member = self._find(session_id)
        if member is None:
            raise UnknownSession("this session is unknown here (a restarted server, or another took over); join again")
        return member

    def is_active(self, name: str) -> bool:
        """Takes part in the round in progress and has not submitted."""
        return self.phase is Phase.TRAINING and self._active(name)

    def _find(self, session_id: str) -> Member | None:
        return next((m for m in self.members.values() if m.session_id == session_id), None)

    def _connected(self) -> list[Member]:
        return [m for m in self.members.values() if m.connected]

    def _sessions(self) -> list[str]:
        """Of those who are connected."""
        return [m.session_id for m in self._connected()]

    def _here(self, name: str) -> bool:
        return name in self.members and self.members[name].connected

    def _active(self, name: str) -> bool:
        return name in self.participants and name not in self.submitted and name not in self.dropped

    def _counted(self) -> tuple[str, ...]:
        return tuple(n for n in self.participants if n in self.submitted)

    def _waited(self, now: float) -> float:
        return now - (self._since if self._since is not None else now)

    def _require(self, phase: Phase) -> None:
        if self.phase is not phase:
            raise IllegalEvent(f"in phase {self.phase.name}, this event belongs to {phase.name}")

    # -- transitions ---------------------------------------------------------------------------------------------

    def _admit(self, name: str) -> None:
        """Ranks in the table and places of those who wait for one are `clients` in all."""
        taken = self.table.keys() | self.members.keys()
        if self.rules.open_ended or name in taken or len(taken) < self.rules.clients:
            return
        raise JoinRefused(
            f"the run is dealt to {self.rules.clients} clients and has them ({', '.join(sorted(taken))}); {name!r} has "
            "no part in it. Use one of these names, or raise federation.clients in a new run"
        )

    def _gather(self, now: float, newcomer: Member | None = None) -> list[Action]:
        if self._since is None:
            self._since = now
        here = [m for m in self._connected() if m.name in self.table or not self._full()]
        missing = self._expected() - {m.name for m in here}
        all_here = not missing if self.table else len(here) >= self.rules.clients
        wait_s = self.rules.rejoin_s if self.table else self.rules.start_wait_s
        waited = wait_s > 0 and self._waited(now) >= wait_s
        if (all_here or waited) and len(here) >= self.rules.min_clients:
            return self._begin(here, now)
        if newcomer is None:
            return []
        reason = f"{len(here)} of {len(self.table) or self.rules.clients} clients are here"
        return [events.waiting(newcomer.session_id, reason)]

    def _expected(self) -> set[str]:
        """Whom the next round waits for: everyone in the table, or between rounds those not yet taken for lost."""
        if self._between_rounds:
            return {m.name for m in self.members.values() if m.watched and m.name in self.table}
        return set(self.table)

    def _full(self) -> bool:
        return len(self.table) >= self.rules.clients and not self.rules.open_ended

    def _begin(self, here: list[Member], now: float) -> list[Action]:
        for name in sorted(m.name for m in here):
            self.table.setdefault(name, len(self.table))
        present = sorted((m.name for m in here), key=self.table.__getitem__)
        self.participants = self._drawn(present)
        self.not_drawn = frozenset(present) - set(self.participants)
        self.phase, self._since = Phase.TRAINING, now
        self.submitted, self.dropped, self.evaluating = set(), {}, set()
        opened = OpenRound(self.term, self.rounds_done + 1, self.participants)
        return [
            opened,
            *(self._begins(self.members[name]) for name in self.participants),
            *(self._waits(self.members[name]) for name in present if name in self.not_drawn),
        ]

    def _drawn(self, present: list[str]) -> tuple[str, ...]:
        """The first `per_round` of `present` (names by rank) in the round's own order, by rank again."""
        if not 0 < self.rules.per_round < len(present):
            return tuple(present)
        order = self.rules.order(self.rounds_done + 1, max(self.rules.clients, len(self.table)))
        turn = {rank: place for place, rank in enumerate(order)}
        drawn = sorted(present, key=lambda name: turn[self.table[name]])[: self.rules.per_round]
        return tuple(sorted(drawn, key=self.table.__getitem__))

    def _lose(self, name: str, reason: str, now: float) -> list[Action]:
        if self.phase is Phase.TRAINING and self._active(name):
            return self._drop(name, reason, now)
        if self.phase is Phase.EVALUATING and name in self.evaluating:
            return [SkipEvaluation(name), *self.client_evaluated(name)]
        return []

    def _drop(self, name: str, reason: str, now: float) -> list[Action]:
        self.dropped[name] = reason
        actions: list[Action] = [DropFromRound(name, reason)]
        if name in self.members:
            actions.append(events.dropped(self.members[name].session_id, self.term, self.rounds_done + 1, reason))
        if len(self.participants) - len(self.dropped) < self._needed():
            return actions + self._abandon()
        return actions + self._close_if_complete(now)

    def _needed(self) -> int:
        share = ceil(self.rules.quorum * len(self.participants) - 1e-9)  # 0.55 * 20 is a little over 11
        return max(self.rules.min_clients, share, 1)

    def _close_if_complete(self, now: float) -> list[Action]:
        if self.phase is not Phase.TRAINING or len(self.submitted) + len(self.dropped) < len(self.participants):
            return []
        self.phase = Phase.AGGREGATING
        return [Aggregate(self._counted())]

    def _deadline(self, now: float) -> list[Action]:
        actions: list[Action] = []
        late = [n for n in self.participants if self._active(n)] if self.phase is Phase.TRAINING else self.evaluating
        for name in sorted(late):
            actions += self._lose(name, f"late: the round's {self.rules.round_deadline_s:g} s are over", now)
        return actions

    def _abandon(self) -> list[Action]:
        told = events.round_ends(self._sessions(), self.term, self.rounds_done + 1, committed=False)
        self.phase = Phase.RESTORING
        self.term += 1
        gone = "; ".join(f"{name}: {reason}" for name, reason in self.dropped.items())
        return [
            *told,
            Restore(f"round {self.rounds_done + 1} is abandoned: fewer than {self._needed()} clients are left: {gone}"),
        ]

    # -- events for clients --------------------------------------------------------------------------------------

    def _begins(self, member: Member) -> Tell:
        return events.round_begins(member.session_id, *self._place(member))

    def _evaluation_begins(self, member: Member) -> Tell:
        return events.evaluation_begins(member.session_id, *self._place(member))

    def _place(self, member: Member) -> tuple[int, int, int, int]:
        """(term, round in progress, rank, clients)."""
        return self.term, self.rounds_done + 1, self.table[member.name], self.rules.clients

    def _waits(self, member: Member) -> Tell:
        number, some = self.rounds_done + 1, self.rules.per_round > 0
        if member.name in self.not_drawn:
            return events.waiting(member.session_id, f"not drawn for round {number}; you may be in the next")
        chance = "may be drawn for" if some else "take part in"
        return events.waiting(member.session_id, f"round {number} is under way; you {chance} the next")
