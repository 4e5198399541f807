"""Observers of a simulated run hear the same as those of a served one, the clients' progress too."""

from __future__ import annotations

import tiny
from server.heard import Heard

from heron_server.config import ServerSettings
from heron_server.metrics.observers import Observer
from heron_simulator.simulator import simulate


def test_every_observer_hears_each_local_step_of_each_client_and_the_end() -> None:
    first, second = Heard(), Heard()
    summary = simulate(tiny.spec(rounds=2), settings=ServerSettings(device="cpu"), observers=[first, second]).summary
    assert first.events == second.events
    for name in ("client-0", "client-1"):
        told = [event[2:] for event in first.of("progress") if event[1] == name]
        assert told == [(number, step, 4) for number in (1, 2) for step in range(5)]
    assert {event[1] for event in first.of("joined")} == {"client-0", "client-1"}
    assert len(first.of("round_done")) == summary["rounds_done"] == 2
    assert first.events[-1] == ("close",)


def test_a_run_ends_the_same_whoever_observes_it() -> None:
    class Failing(Observer):
        def client_progress(self, name: str, number: int, step: int, steps: int) -> None:
            raise ValueError

    settings = ServerSettings(device="cpu")
    observed = simulate(tiny.spec(), settings=settings, observers=[Failing(), Heard()]).summary
    alone = simulate(tiny.spec(), settings=settings).summary
    assert observed["model_sha256"] == alone["model_sha256"]
    assert observed["ledger"] == alone["ledger"]
