"""The server's rounds: a state machine without I/O, clock or torch. All transitions live here, in in_progress.py and
in storing.py.

Events are methods that take `now` (seconds, any origin) and return actions for the driver. An illegal event raises
IllegalEvent and changes nothing.

No phase but GATHERING lasts for ever: clients are dropped at deadlines, and a driver that does not come to an end
fails the run.

phase        waits for                                  leaves it by
GATHERING    clients                                    all are here, or the wait is over with enough -> TRAINING
TRAINING     every participant's update                 all in -> AGGREGATING; too few left -> RESTORING
RESTORING    the driver to go back to the last round    restored, with a higher term -> GATHERING
AGGREGATING  the driver's average                       aggregated -> EVALUATING, or COMMITTING between evaluations
EVALUATING   the driver's or the clients' counts        evaluated -> COMMITTING
COMMITTING   the driver to store what is due            committed -> TRAINING, GATHERING or FINISHED
PAUSED       space on the disk, in either of the two      tried again -> COMMITTING or RESTORING
FINISHED     -                                          -
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from heron_server.rounds import events
from heron_server.rounds.actions import Action, Fence, Finish, OpenRound, Tell
from heron_server.rounds.gathering import Abandoned, all_here, check_name_free, check_place
from heron_server.rounds.invariants import check
from heron_server.rounds.lineup import Lineup, drawn
from heron_server.rounds.members import Member
from heron_server.rounds.phase import IllegalEvent, Phase
from heron_server.rounds.storing import StoringRounds
from heron_server.text.story import told


@dataclass
class Rounds(StoringRounds):
    """One run on this server, from its start or from the checkpoint that `table` and `rounds_done` are of."""

    _between_rounds: bool = False
    """Gathering after a committed round: waits only for those who are within their grace, not for the lost."""
    _not_before: float = -inf
    """An abandoned round begins again then."""

    def __post_init__(self) -> None:
        if self.rounds_done >= self.rules.rounds:
            self.phase = Phase.FINISHED

    # -- clients come, stay and go -------------------------------------------------------------------------------

    @told
    def join(self, name: str, key: bytes, session_id: str, now: float, proved: bool = False) -> list[Action]:
        """A place for `name`; raises NameTaken, Unreachable while the name waits for its owner, or JoinRefused.

        The name is its owner's. Who owns it is told by the key, or `proved` by a certificate or a token.
        """
        self.check_join(name, key, proved)
        old = self.members.get(name)
        actions: list[Action] = []
        if old is not None:
            actions.append(Fence(old.session_id, taken_over=True))
            if old.key != key and self.is_active(name):
                actions += self._drop(name, "restarted as a new instance")
        self.owners.came(name)
        self.members.put(Member(name, key, session_id, now))
        self.story.call(session_id, name)
        return actions

    def check_join(self, name: str, key: bytes, proved: bool = False) -> None:
        """Raises what `join` would, and changes nothing."""
        old = self.members.get(name)
        if old is not None and old.key != key:
            check_name_free(old, proved)
        if old is None:
            self.owners.check(name, key, proved)
        check_place(name, self.table, self.members, self.rules)

    @told
    def watch_opened(self, session_id: str, now: float) -> list[Action]:
        """The session's event stream is open: the client is here. Raises UnknownSession."""
        member = self.members.of_session(session_id)
        self.members.connect(member, now)
        if self.phase is Phase.FINISHED:
            return [events.finished(session_id, self.rounds_done)]
        if self.is_active(member.name):
            return [events.round_begins(session_id, self._place(member))]
        if self.phase is Phase.EVALUATING and member.name in self.lineup.evaluating:
            return [events.evaluation_begins(session_id, self._place(member))]
        if self.phase is Phase.GATHERING:
            return self._gather(now, newcomer=member)
        return [self._waits(member)]

    def beat(self, session_id: str, now: float) -> None:
        """A sign of life; it counts only while the session's event stream is open. Raises UnknownSession."""
        member = self.members.of_session(session_id)
        if member.connected:
            member.last_seen = now

    @told
    def watch_lost(self, session_id: str, now: float) -> list[Action]:
        """The session's event stream broke; it may come back within the grace."""
        member = self.members.find(session_id)
        if member is not None and member.connected:
            self.members.disconnect(member, now)
        return []

    @told
    def leave(self, session_id: str, reason: str) -> list[Action]:
        """The client ends in good order. Raises UnknownSession."""
        member = self.members.of_session(session_id)
        self.members.remove(member.name)
        return [Fence(session_id), *self._lose(member.name, f"left: {reason}")]

    @told
    def expel(self, name: str, reason: str) -> list[Action]:
        """The client takes too much of the server: it has no place any more."""
        member = self.members.get(name)
        if member is None:
            return []
        self.members.remove(name)
        return [Fence(member.session_id, expelled=reason), *self._lose(name, reason)]

    @told
    def client_failed(self, name: str, reason: str) -> list[Action]:
        """The client sent something unusable: it is out of this round."""
        return self._lose(name, reason)

    @told
    def tick(self, now: float) -> list[Action]:
        """Time passes: the silent are lost, and waits for clients end. Who is late is the driver's to say, by
        `client_failed`: it knows what each client owes."""
        actions: list[Action] = []
        self.owners.tick(now, self.rules)
        for member in self.members:
            if member.is_silent(now, self.rules):
                self.members.disconnect(member, now)
                actions.append(Fence(member.session_id))
            if member.is_lost(now, self.rules):
                self.members.remove(member.name)
                actions += [Fence(member.session_id), *self._lose(member.name, "lost: nothing heard from it")]
        if self.phase is Phase.GATHERING:
            actions += self._gather(now)
        return actions + self._tick_driver(now)

    @told
    def drain(self, reason: str) -> list[Tell]:
        """The server stops."""
        return events.draining(self.members.connected, reason)

    def check(self) -> None:
        """AssertionError, with the story, where something does not hold that always must."""
        check(self)

    # -- what the driver reports ---------------------------------------------------------------------------------

    @told
    def restored(self, term: int, now: float) -> list[Action]:
        """The driver stands at the end of the last round again, and `term` is durable."""
        self._require(Phase.RESTORING)
        if term <= self.term:
            raise IllegalEvent(f"a restart raises the term: it was {self.term}, got {term}")
        self.term, self.full_disk = term, None
        self.phase, self._since, self._between_rounds = Phase.GATHERING, now, False
        pause_s = self.abandoned.pause_s(self.rules)
        self._not_before = now + pause_s
        told = [self._pauses(member) for member in self.members.connected] if pause_s else []
        return [*told, *self._gather(now)]

    @told
    def committed(self, now: float) -> list[Action]:
        """What was due of the round is stored: it is over."""
        self._require(Phase.COMMITTING)
        self.rounds_done, self.full_disk, told = self.rounds_done + 1, None, self.members.connected
        self.abandoned = Abandoned()
        actions: list[Action] = [*events.round_ends(told, self.term, self.rounds_done)]
        if self.rounds_done >= self.rules.rounds:
            self.phase = Phase.FINISHED
            return [*actions, *(events.finished(member.session_id, self.rounds_done) for member in told), Finish()]
        self.phase, self._since, self._between_rounds = Phase.GATHERING, now, True
        return actions + self._gather(now)

    # -- transitions ---------------------------------------------------------------------------------------------

    def _waits(self, member: Member) -> Tell:
        if self.full_disk is not None:
            return events.full_disk(member.session_id)
        number = self.rounds_done + 1
        if member.name in self.lineup.not_drawn:
            return events.not_drawn(member.session_id, number)
        return events.under_way(member.session_id, number, some_are_drawn=self.rules.per_round > 0)

    def _pauses(self, member: Member) -> Tell:
        pause_s = self.abandoned.pause_s(self.rules)
        return events.pausing(member.session_id, self.rounds_done + 1, self.abandoned.times, pause_s)

    def _gather(self, now: float, newcomer: Member | None = None) -> list[Action]:
        self._since = min(self._since, now)
        complete = all_here(self.table, self.members, self.rules, self._between_rounds)
        wait_s = self.rules.rejoin_s if self.table else self.rules.start_wait_s
        waited = wait_s > 0 and now - self._since >= wait_s
        present = self.members.num_connected
        enough = (complete or waited) and present >= self.rules.min_clients
        if enough and now >= self._not_before:
            return self._begin([member.name for member in self.members.connected], now)
        if newcomer is None:
            return []
        if enough:
            return [self._pauses(newcomer)]
        return [events.gathering(newcomer.session_id, present, len(self.table) or self.rules.clients)]

    def _begin(self, here: list[str], now: float) -> list[Action]:
        for name in sorted(here):
            self.table.setdefault(name, len(self.table))
            self.owners.keys[name] = self.members[name].key.hex()
        present = sorted(here, key=self.table.__getitem__)
        number = self.rounds_done + 1
        participants = drawn(present, self.table, number, self.rules)
        self.lineup = Lineup(participants, frozenset(present) - set(participants))
        self.phase, self._since = Phase.TRAINING, now
        begin, wait = ([self.members[n] for n in present if (n in participants) is taken] for taken in (True, False))
        return [
            OpenRound(self.term, number, participants),
            *(events.round_begins(member.session_id, self._place(member), with_state=True) for member in begin),
            *(self._waits(member) for member in wait),
        ]
