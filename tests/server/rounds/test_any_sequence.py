from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from server.rounds.by_hand import (
    DRIVER_EVENTS,
    facts,
    submit_all,
)

from heron_core.errors import JoinRefused, NameTaken, UnknownSession
from heron_server.rounds.actions import (
    Action,
    Aggregate,
    DropFromRound,
    Evaluate,
    OpenRound,
    Tell,
)
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import IllegalEvent, Phase
from heron_server.rounds.rules import Rules

NAMES = "abcd"
NAME = st.sampled_from(NAMES)
STEP = st.one_of(
    st.tuples(st.sampled_from(["come", "come", "join", "watch", "lost", "leave", "fail", "beat"]), NAME),
    st.tuples(st.just("update"), NAME),
    st.tuples(st.just("tick"), st.sampled_from([0.1, 5.0, 20.0, 200.0])),
    st.tuples(st.sampled_from(["perform", "perform", "perform", "wrong", "drain"]), st.integers(0, 6)),
)


class Driver:
    """Performs actions as the coordinator does, whenever the sequence says so, and checks what must always hold."""

    def __init__(self, rules: Rules) -> None:
        self.rounds, self.now, self.serial = Rounds(rules), 0.0, 0
        self.sessions: dict[str, str] = {}
        self.open: OpenRound | None = None
        self.counted: tuple[str, ...] = ()
        self.gone: set[str] = set()

    def step(self, what: str, arg: Any) -> list[Action]:
        rounds, now = self.rounds, self.now
        session = self.sessions.get(str(arg), "none")
        match what:
            case "come" | "join":
                self.serial += 1
                session = f"{arg}-{self.serial}"
                key = arg.encode() if self.serial % 4 else b"other"
                actions = rounds.join(arg, key, session, now)
                self.sessions[arg] = session
                return actions + (rounds.watch_opened(session, now) if what == "come" else [])
            case "watch":
                return rounds.watch_opened(session, now)
            case "lost":
                return rounds.watch_lost(session, now)
            case "leave":
                return rounds.leave(session, "bye")
            case "fail":
                return rounds.client_failed(arg, "NaN")
            case "beat":
                rounds.beat(session, now)
                return []
            case "update":
                return rounds.update_received(arg)
            case "tick":
                self.now += arg
                return rounds.tick(self.now)
            case "drain":
                return rounds.drain("stop")
            case "wrong":
                return list(DRIVER_EVENTS.values())[arg][1](rounds)
        return self.perform(arg)

    def perform(self, choice: int) -> list[Action]:
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

    def check(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case OpenRound(term, number, participants):
                    assert (term, number) == (self.rounds.term, self.rounds.rounds_done + 1)
                    assert len(participants) >= self.rounds.rules.min_clients
                    assert len(set(participants)) == len(participants)
                    assert len(participants) <= (self.rounds.rules.per_round or len(participants))
                    ranks = [self.rounds.table[n] for n in participants]
                    assert ranks == sorted(ranks) and all(r < self.rounds.rules.clients for r in ranks)
                    self.open, self.gone = action, set()
                case DropFromRound(name):
                    assert self.open is not None and name in self.open.participants
                    assert name not in self.gone, "dropped once only"
                    self.gone.add(name)
                case Aggregate(names):
                    assert self.open is not None and names, "an average of nobody"
                    assert set(names) == set(self.open.participants) - self.gone
                    assert len(names) >= self.rounds.lineup.needed(self.rounds.rules)
                    self.counted = names
                case Evaluate(names):
                    assert set(names) <= set(self.counted)
                case Tell(session_id):
                    assert isinstance(session_id, str)


@settings(max_examples=300)
@given(
    st.lists(STEP, max_size=60),
    st.integers(1, 4), st.integers(1, 3), st.sampled_from([0.0, 10.0]), st.sampled_from([0.3, 0.5, 1.0]),
    st.integers(0, 3),
)  # fmt: skip
def test_any_sequence_of_events_keeps_the_invariants(
    steps: list[tuple[str, Any]], clients: int, min_clients: int, start_wait_s: float, quorum: float, per_round: int
) -> None:
    rules = Rules(
        3, clients, min(clients, min_clients, per_round or clients), per_round=min(clients, per_round),
        quorum=quorum, start_wait_s=start_wait_s, round_deadline_s=100,
    )  # fmt: skip
    driver = Driver(rules)
    for what, arg in steps:
        rounds, before = driver.rounds, facts(driver.rounds)
        try:
            actions = driver.step(what, arg)
        except (IllegalEvent, NameTaken, JoinRefused, UnknownSession):
            assert facts(rounds) == before, f"{what} was refused and left a trace"
            continue
        driver.check(actions)
        restarted = before["phase"] is Phase.RESTORING and rounds.phase is not Phase.RESTORING
        assert rounds.term == before["term"] + restarted
        committed = before["phase"] is Phase.COMMITTING and rounds.rounds_done == before["rounds_done"] + 1
        assert committed or rounds.rounds_done == before["rounds_done"]
        lineup = rounds.lineup
        assert not lineup.submitted & lineup.dropped.keys()
        assert lineup.submitted | lineup.dropped.keys() <= set(lineup.participants)
        assert sorted(rounds.table.values()) == list(range(len(rounds.table)))
        assert before["table"].items() <= rounds.table.items(), "a rank once given stays"
        assert len({m.session_id for m in rounds.members}) == len({m.name for m in rounds.members})
        if before["phase"] is Phase.FINISHED:
            assert rounds.phase is Phase.FINISHED


@given(st.lists(STEP, max_size=40), st.integers(1, 4))
def test_a_run_can_always_be_brought_to_its_end(steps: list[tuple[str, Any]], clients: int) -> None:
    driver = Driver(Rules(3, clients, 1))
    for what, arg in steps:
        try:
            driver.check(driver.step(what, arg))
        except (IllegalEvent, NameTaken, JoinRefused, UnknownSession):
            continue
    rounds = driver.rounds
    for _ in range(20):
        for _ in range(2):  # everyone who does not beat is silent, then lost
            driver.now += 400
            driver.check(rounds.tick(driver.now))
        known = sorted(rounds.table) + [n for n in NAMES if n not in rounds.table]
        for name in known[:clients]:
            if name not in rounds.members:
                driver.check(driver.step("come", name))
        for _ in range(12):
            driver.check(submit_all(rounds, driver.now) if rounds.phase is Phase.TRAINING else driver.perform(1))
        if rounds.phase is Phase.FINISHED:
            return
    raise AssertionError(f"stuck in {rounds.phase}")
