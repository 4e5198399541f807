"""Mutated messages over every RPC: no crash, no hang, no failure without a reason; who has no part in a round changes
nothing, and a participant no more than by what is accepted. `benchmarks/mutations.py` sends a million over gRPC."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from accepted import Event, Recording, Replay
from attack import HONEST, HOSTILE, Attack, Role
from links import InProcess, without_limits
from players import Shape
from server import driven
from server.driven import Server

SHAPE = Shape(rows=4, width=6, classes=tiny.CLASSES)
PLACES = {"outsider": HONEST, "member": HONEST + 1, "participant": HONEST + HOSTILE}
FREE = {"quorum": 0.01, "start_wait_s": 1.0, "rejoin_s": 1.0}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    events: list[Event] = []
    monkeypatch.setattr(Recording, "sink", events.append, raising=False)
    monkeypatch.setattr(driven, "Coordinator", Recording)
    return events


def server(folder: Path, role: Role, rounds: int, method: str = "heron", **named: Any) -> Server:
    spec = tiny.spec(
        rounds=rounds, method={"name": method, "local_steps": SHAPE.steps},
        federation={"clients": PLACES[role], "min_clients": HONEST, "aggregation": "samples"},
    )  # fmt: skip
    return Server(folder, spec, **FREE, **named)


def attacked(made: Server, role: Role, rounds: int, messages: int) -> Attack:
    async def scenario() -> Attack:
        link = await InProcess.to(made.coordinator)

        async def turn() -> None:
            made.now += 1.0
            made.coordinator.tick()

        attack = Attack(role, lambda: link, SHAPE, seed=0, turn=turn)
        await attack.run(rounds, messages)
        return attack

    try:
        with without_limits():
            return asyncio.run(scenario())
    finally:
        made.close()


@pytest.mark.parametrize("role", ["outsider", "member"])
def test_who_has_no_part_in_the_round_changes_nothing(role: Role, tmp_path: Path) -> None:
    alone, under_attack = server(tmp_path / "alone", role, 6), server(tmp_path / "attacked", role, 6)
    attacked(alone, role, 6, 0)
    attack = attacked(under_attack, role, 6, 3000)
    assert attack.tally.faults == []
    assert attack.tally.messages >= 3000
    assert under_attack.coordinator.finished, under_attack.coordinator.failure
    assert under_attack.coordinator.model_sha256() == alone.coordinator.model_sha256()


@pytest.mark.parametrize("method", ["heron", "sflv1"])
def test_of_a_participant_counts_what_was_accepted_and_nothing_else(
    method: str, tmp_path: Path, recorded: list[Event]
) -> None:
    rounds = 15
    made = server(tmp_path / "attacked", "participant", rounds, method)
    attack = attacked(made, "participant", rounds, 2000)
    assert attack.tally.faults == []
    assert attack.tally.messages >= 2000
    assert made.coordinator.finished, made.coordinator.failure
    assert sum(record["dropped"] for record in made.history) > rounds
    assert sum(record["participants"] for record in made.history) > (HONEST + 1) * rounds
    events, again = list(recorded), []

    def make(worker: Any, clock: Any) -> Any:
        again.append(server(tmp_path / "again", "participant", rounds, method, worker=worker))
        again[0].coordinator.clock = clock
        return again[0].coordinator

    replay = Replay(made.coordinator.run_id, make)
    try:
        replay.feed(events)
    finally:
        again[0].close()
    assert replay.coordinator.model_sha256() == made.coordinator.model_sha256()
    assert only_learning(replay.coordinator.records.history) == only_learning(made.history)
    fed, held = replay.coordinator.ledger, made.coordinator.ledger
    assert replay.upload_bytes == fed.activations_up + fed.labels_up
    assert held.activations_up + held.labels_up >= replay.upload_bytes
    assert held.client_state_up >= replay.update_bytes


def only_learning(history: Any) -> str:
    """Neither times nor bytes: refused messages cross the wire too."""
    return json.dumps([{**record, "wall_s": 0, "wire_bytes": 0} for record in history])
