"""Whatever happens in whatever order, what must hold holds, and the run can be brought to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from server.rounds.by_hand import DRIVER_EVENTS, facts, submit_all

from heron_core.errors import JoinRefused, NameTaken, UnknownSession, Unreachable
from heron_server.rounds.actions import Action, Aggregate, DropFromRound, Evaluate, Fail, OpenRound, Restore, TryAgain
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import IllegalEvent, Phase
from heron_server.rounds.rules import Rules

NAMES = "abcd"
NAME = st.sampled_from(NAMES)
REFUSED = (IllegalEvent, NameTaken, JoinRefused, UnknownSession, Unreachable)
STORING = (Phase.COMMITTING, Phase.RESTORING)


class AnySequence(RuleBasedStateMachine):
    """Performs actions as the coordinator does, whenever the sequence says so."""

    @initialize(
        clients=st.integers(1, 4), min_clients=st.integers(1, 3), per_round=st.integers(0, 3),
        start_wait_s=st.sampled_from([0.0, 10.0]), quorum=st.sampled_from([0.3, 0.5, 1.0]),
        pause_s=st.sampled_from([0.0, 1.0]),
    )  # fmt: skip
    def begin(
        self, clients: int, min_clients: int, per_round: int, start_wait_s: float, quorum: float, pause_s: float
    ) -> None:
        per_round = min(clients, per_round)
        self.rounds = Rounds(Rules(
            3, clients, min(clients, min_clients, per_round or clients), per_round=per_round, quorum=quorum,
            start_wait_s=start_wait_s, round_deadline_s=100, abandoned_pause_s=pause_s, evaluate_every=1 + clients % 2,
        ))  # fmt: skip
        self.now, self.serial, self.sessions = 0.0, 0, dict[str, str]()
        self.open: OpenRound | None = None
        self.counted: tuple[str, ...] = ()
        self.gone: set[str] = set()
        self.failed = False

    def session(self, name: str) -> str:
        return self.sessions.get(name, "none")

    def happens(self, event: Callable[[], list[Action] | None]) -> bool:
        """One event; False if it was refused, which must have left no trace."""
        rounds, before = self.rounds, facts(self.rounds)
        try:
            actions = event() or []
        except REFUSED as error:
            assert facts(rounds) == before, "it was refused and left a trace"
            assert not isinstance(error, IllegalEvent) or "what came before" in error.__notes__[0]
            return False
        restarted = before["phase"] is Phase.RESTORING and rounds.phase not in (Phase.RESTORING, Phase.PAUSED)
        assert rounds.term == before["term"] + restarted
        committed = before["phase"] is Phase.COMMITTING and rounds.rounds_done == before["rounds_done"] + 1
        assert committed or rounds.rounds_done == before["rounds_done"]
        assert before["table"].items() <= rounds.table.items(), "a rank once given stays"
        assert before["phase"] is not Phase.FINISHED or rounds.phase is Phase.FINISHED
        for action in actions:
            self.asked(action)
        return True

    def asked(self, action: Action) -> None:
        rounds = self.rounds
        match action:
            case OpenRound(term, number, participants):
                assert (term, number) == (rounds.term, rounds.rounds_done + 1)
                assert len(participants) >= rounds.rules.min_clients
                assert len(participants) <= (rounds.rules.per_round or len(participants))
                self.open, self.gone = action, set()
            case DropFromRound(name):
                assert self.open is not None and name in self.open.participants
                assert name not in self.gone, "dropped once only"
                self.gone.add(name)
            case Aggregate(names):
                assert self.open is not None and names, "an average of nobody"
                assert set(names) == set(self.open.participants) - self.gone
                self.counted = names
            case Evaluate(names):
                assert set(names) <= set(self.counted)
            case Restore():
                assert self.open is not None, "one round is given up once"
                self.open = None
            case Fail():
                self.failed = True
            case TryAgain():
                assert rounds.phase in STORING

    # -- clients -------------------------------------------------------------------------------------------------

    @rule(name=NAME, listens=st.sampled_from([True, True, False]))
    def comes(self, name: str, listens: bool) -> None:
        self.serial += 1
        session = f"{name}-{self.serial}"
        key = name.encode() if self.serial % 4 else b"other"
        proved = self.serial % 8 == 0
        if self.happens(lambda: self.rounds.join(name, key, session, self.now, proved)):
            self.sessions[name] = session
            if listens:
                self.happens(lambda: self.rounds.watch_opened(session, self.now))

    @rule(name=NAME)
    def listens(self, name: str) -> None:
        self.happens(lambda: self.rounds.watch_opened(self.session(name), self.now))

    @rule(name=NAME)
    def is_cut_off(self, name: str) -> None:
        self.happens(lambda: self.rounds.watch_lost(self.session(name), self.now))

    @rule(name=NAME)
    def leaves(self, name: str) -> None:
        self.happens(lambda: self.rounds.leave(self.session(name), "bye"))

    @rule(name=NAME)
    def is_late_or_sends_rubbish(self, name: str) -> None:
        self.happens(lambda: self.rounds.client_failed(name, "NaN"))

    @rule(names=st.sets(NAME))
    def beat(self, names: set[str]) -> None:
        for name in names:
            self.happens(lambda name=name: self.rounds.beat(self.session(name), self.now))  # type: ignore[misc]

    @rule(name=NAME)
    def submits(self, name: str) -> None:
        legal = self.rounds.is_active(name)
        assert self.happens(lambda: self.rounds.update_received(name)) is legal

    # -- the driver and time -------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 20.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.happens(lambda: self.rounds.tick(self.now))

    @rule(choice=st.integers(0, 6))
    def driver_reports(self, choice: int) -> None:
        self.happens(lambda: self.reported(choice))

    def reported(self, choice: int) -> list[Action]:
        rounds, now = self.rounds, self.now
        match rounds.phase:
            case Phase.AGGREGATING:
                return rounds.aggregated(now)
            case Phase.EVALUATING if rounds.lineup.evaluating:
                waited_for = sorted(rounds.lineup.evaluating)
                return rounds.client_evaluated(waited_for[choice % len(waited_for)])
            case Phase.EVALUATING:
                return rounds.evaluated() if choice % 2 else rounds.clients_evaluate(self.counted)
            case Phase.COMMITTING:
                return rounds.committed(now)
            case Phase.RESTORING:
                return rounds.restored(rounds.term + 1, now)
        return []

    @precondition(lambda self: self.rounds.phase in STORING)
    @rule()
    def finds_the_disk_full(self) -> None:
        assert self.happens(lambda: self.rounds.out_of_space("the disk is full", self.now))

    @rule(event=st.sampled_from(sorted(DRIVER_EVENTS)))
    def driver_is_wrong(self, event: str) -> None:
        self.happens(lambda: DRIVER_EVENTS[event][1](self.rounds))

    @rule()
    def server_stops(self) -> None:
        self.happens(lambda: [*self.rounds.drain("stop")])

    # -- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def is_sound(self) -> None:
        if hasattr(self, "rounds"):
            self.rounds.check()
            _ = self.rounds.story.tell("a")

    def teardown(self) -> None:
        """Everybody who has a part comes back, nobody is late, and there is space on the disk: the run ends, if it has
        not failed."""
        if not hasattr(self, "rounds"):
            return
        for _ in range(40):
            if self.rounds.phase is Phase.FINISHED or self.failed:
                return
            for seconds in (5, 60, 60):  # everyone who does not beat is silent, then lost
                self.time_passes(seconds)
                self.driver_reports(1)
            known = sorted(self.rounds.table) + [n for n in NAMES if n not in self.rounds.table]
            for name in known[: self.rounds.rules.clients]:
                if name not in self.rounds.members:
                    self.comes(name, listens=True)
            for _ in range(12):
                training = self.rounds.phase is Phase.TRAINING
                self.happens(lambda: submit_all(self.rounds)) if training else self.driver_reports(1)
        raise AssertionError(f"stuck: {self.rounds.where()}\n{self.rounds.story.tell()}")


TestAnySequence: Any = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
