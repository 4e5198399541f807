"""The transitions within one round: from its first update to its checkpoint, or to its end without one.

machine.py has the table of all phases, and the transitions around a round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from heron_server.rounds import events
from heron_server.rounds.actions import Action, Aggregate, Commit, DropFromRound, Evaluate, Restore, SkipEvaluation
from heron_server.rounds.gathering import Abandoned, Owners
from heron_server.rounds.lineup import Lineup
from heron_server.rounds.members import Member, Members
from heron_server.rounds.phase import IllegalEvent, Phase
from heron_server.rounds.rules import Rules
from heron_server.text.story import Story, told


@dataclass
class RoundInProgress:
    """What a run is at, and the events that move its round on."""

    rules: Rules
    term: int = 1
    """Raised with each start of the server and each abandoned round."""
    table: dict[str, int] = field(default_factory=dict)
    """name -> rank, fixed when the run starts."""
    owners: Owners = field(default_factory=Owners)
    """Of the names in the table."""
    rounds_done: int = 0
    phase: Phase = Phase.GATHERING
    members: Members = field(default_factory=Members)
    lineup: Lineup = field(default_factory=Lineup)
    """Of the round in progress, or of the last one."""
    abandoned: Abandoned = field(default_factory=Abandoned)
    """Attempts at the round in progress that came to nothing."""
    story: Story = field(default_factory=Story, repr=False)
    """The last events, each with where the run stood and what it asked of its driver."""
    _since: float = inf
    """When the present phase began; inf: at its first tick."""

    def where(self) -> str:
        """Where the run stands, in a few words."""
        return f"round {self.rounds_done + 1}, term {self.term}, {self.phase.name}"

    def is_active(self, name: str) -> bool:
        """Takes part in the round in progress and has not submitted."""
        return self.phase is Phase.TRAINING and self.lineup.awaits(name)

    # -- what the driver reports ---------------------------------------------------------------------------------

    @told
    def update_received(self, name: str) -> list[Action]:
        """A whole, checked update, all uploads of its client consumed; the driver has refused repeated ones."""
        self._require(Phase.TRAINING)
        if not self.lineup.awaits(name):
            raise IllegalEvent(f"{name!r} has no update to give in round {self.rounds_done + 1}")
        self.lineup.submitted.add(name)
        return self._close_if_complete()

    @told
    def aggregated(self, now: float) -> list[Action]:
        """The round's client state is there, the round not yet over."""
        self._require(Phase.AGGREGATING)
        if not self.rules.evaluates(self.rounds_done + 1):
            return self._commit()
        self.phase, self._since = Phase.EVALUATING, now
        return [Evaluate(tuple(name for name in self.lineup.counted if self.members.is_connected(name)))]

    @told
    def clients_evaluate(self, names: tuple[str, ...]) -> list[Action]:
        """The server has no test set: it takes the evaluations of these clients."""
        self._require(Phase.EVALUATING)
        self.lineup.evaluating = {name for name in names if name in self.members}
        if not self.lineup.evaluating:
            return self.evaluated()
        members = [self.members[name] for name in names if name in self.lineup.evaluating]
        return [events.evaluation_begins(member.session_id, self._place(member)) for member in members]

    @told
    def client_evaluated(self, name: str) -> list[Action]:
        """All that the client has to evaluate is counted."""
        self._require(Phase.EVALUATING)
        if name not in self.lineup.evaluating:
            return []  # lost meanwhile
        self.lineup.evaluating.discard(name)
        return [] if self.lineup.evaluating else self.evaluated()

    @told
    def evaluated(self) -> list[Action]:
        """The round's client state is evaluated."""
        self._require(Phase.EVALUATING)
        if self.lineup.evaluating:
            raise IllegalEvent(f"{', '.join(sorted(self.lineup.evaluating))} evaluate: client_evaluated ends that")
        return self._commit()

    # -- transitions ---------------------------------------------------------------------------------------------

    def _commit(self) -> list[Action]:
        self.phase, self._since = Phase.COMMITTING, inf
        return [Commit()]

    def _require(self, *phases: Phase) -> None:
        if self.phase not in phases:
            home = " or ".join(phase.name for phase in phases)
            raise IllegalEvent(f"in phase {self.phase.name}, this event belongs to {home}")

    def _place(self, member: Member) -> events.Place:
        return events.Place(self.term, self.rounds_done + 1, self.table[member.name], self.rules.clients)

    def _lose(self, name: str, reason: str) -> list[Action]:
        """The client is out of the round in progress, if it is in one."""
        if self.is_active(name):
            return self._drop(name, reason)
        if self.phase is Phase.EVALUATING and name in self.lineup.evaluating:
            return [SkipEvaluation(name), *self.client_evaluated(name)]
        return []

    def _drop(self, name: str, reason: str) -> list[Action]:
        self.lineup.dropped[name] = reason
        actions: list[Action] = [DropFromRound(name, reason)]
        if name in self.members:
            actions.append(events.dropped(self.members[name].session_id, self.term, self.rounds_done + 1, reason))
        if self.lineup.left < self.lineup.needed(self.rules):
            return actions + self._abandon()
        return actions + self._close_if_complete()

    def _close_if_complete(self) -> list[Action]:
        if self.phase is not Phase.TRAINING or self.lineup.is_awaiting:
            return []
        self.phase, self._since = Phase.AGGREGATING, inf
        return [Aggregate(self.lineup.counted)]

    def _abandon(self) -> list[Action]:
        self.phase, self._since = Phase.RESTORING, inf
        self.abandoned.once_more(list(self.lineup.dropped))
        number, needed = self.rounds_done + 1, self.lineup.needed(self.rules)
        again = self.abandoned.described(self.rules)
        gone = "; ".join(f"{name}: {reason}" for name, reason in self.lineup.dropped.items())
        return [
            *events.round_ends(self.members.connected, self.term, number),
            Restore(f"round {number} is abandoned: fewer than {needed} clients are left: {gone}; {again}"),
        ]
