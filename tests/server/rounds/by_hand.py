"""A rounds machine driven by hand, and short words for what it says."""

from __future__ import annotations

import copy
from typing import Any

from heron_server.rounds.actions import (
    Action,
    Tell,
)
from heron_server.rounds.machine import Rounds
from heron_server.rounds.phase import Phase
from heron_server.rounds.rules import Rules


def machine(**rules: Any) -> Rounds:
    return Rounds(Rules(**{"rounds": 2, "clients": 3, "min_clients": 1, **rules}))


def kinds(actions: list[Action]) -> list[str]:
    """What the actions are, a Tell by its event."""
    return [a.event.WhichOneof("event") if isinstance(a, Tell) else type(a).__name__ for a in actions]


def of(kind: type[Any], actions: list[Action]) -> Any:
    (found,) = [a for a in actions if isinstance(a, kind)]
    return found


def told(session_id: str, actions: list[Action]) -> list[str]:
    return kinds([a for a in actions if isinstance(a, Tell) and a.session_id == session_id])


def come(rounds: Rounds, name: str, now: float = 0.0, key: bytes = b"", session: str = "") -> list[Action]:
    """Joins and opens the event stream."""
    session = session or f"{name}-1"
    actions = rounds.join(name, key or name.encode(), session, now)
    return actions + rounds.watch_opened(session, now)


def training(names: str = "abc", now: float = 0.0, **rules: Any) -> Rounds:
    rounds = machine(clients=len(names), **rules)
    for name in names:
        come(rounds, name, now)
    assert rounds.phase is Phase.TRAINING
    return rounds


def submit_all(rounds: Rounds, now: float = 0.0) -> list[Action]:
    actions: list[Action] = []
    for name in rounds.lineup.participants:
        if rounds.is_active(name):
            actions += rounds.update_received(name)
    return actions


def commit(rounds: Rounds, now: float = 0.0) -> list[Action]:
    """From AGGREGATING to whatever follows the commit."""
    rounds.aggregated(now)
    rounds.evaluated()
    return rounds.committed(now)


def in_phase(phase: Phase) -> Rounds:
    """A machine of a, b and c that has come to this phase."""
    if phase is Phase.GATHERING:
        rounds = machine()
        come(rounds, "a")
        return rounds
    rounds = training(rounds=1 if phase is Phase.FINISHED else 2, quorum=1.0)
    if phase is Phase.RESTORING:
        rounds.client_failed("a", "NaN")
    if phase in (Phase.TRAINING, Phase.RESTORING):
        return rounds
    submit_all(rounds)
    steps = {
        Phase.EVALUATING: lambda: rounds.aggregated(0), Phase.COMMITTING: rounds.evaluated,
        Phase.PAUSED: lambda: rounds.out_of_space("the disk is full", 0), Phase.FINISHED: lambda: rounds.committed(0),
    }  # fmt: skip
    for reached, step in steps.items():
        if rounds.phase is phase:
            break
        if reached in (phase, Phase.EVALUATING, Phase.COMMITTING):
            step()
    assert rounds.phase is phase
    return rounds


def facts(rounds: Rounds) -> Any:
    return copy.deepcopy({name: value for name, value in rounds.__dict__.items() if name != "story"})


DRIVER_EVENTS = {
    "update_received": (Phase.TRAINING, lambda r: r.update_received("a")),
    "restored": (Phase.RESTORING, lambda r: r.restored(2, 1)),
    "aggregated": (Phase.AGGREGATING, lambda r: r.aggregated(1)),
    "clients_evaluate": (Phase.EVALUATING, lambda r: r.clients_evaluate(("a",))),
    "client_evaluated": (Phase.EVALUATING, lambda r: r.client_evaluated("a")),
    "evaluated": (Phase.EVALUATING, lambda r: r.evaluated()),
    "committed": (Phase.COMMITTING, lambda r: r.committed(1)),
}
