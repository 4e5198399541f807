"""Slopes in the place of weights, over both transports: the bits that weights lead to, in a fraction of the bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from integration.references import reference_run
from integration.worlds import GrpcWorld, InProcessWorld, Member, World

from heron_core.spec.run_spec import RunSpec
from heron_server.metrics.observers import Observer
from heron_simulator.simulator import simulate

Tables = dict[str, Any]
CLIENTS, ROUNDS, STEPS = 3, 3, 2
ADAM: Tables = {"moments": "averaged"}
SGD: Tables = {"optimizer": {"name": "sgd", "lr": 1e-2, "momentum": 0.9}}
FIRST = 5768
"""Bytes of the weights of digits_cnn's front and pooled head."""
UP, DOWN = STEPS * 8, 16 + 16 + CLIENTS * (4 + 8 + STEPS * 8)
"""Of a client's slopes, and of everybody's with both digests, ranks and weights."""


def spec_of(client_state: str = "seeds", method: Tables | None = None, **tables: Any) -> RunSpec:
    chosen = {
        "local_steps": STEPS, "batch_size": 8, "auxiliary_update": "zo",
        "zo": {"mu": 1e-2, "distribution": "rademacher"}, **(method or {}),
    }  # fmt: skip
    return RunSpec.model_validate({
        "rounds": ROUNDS, "federation": {"clients": CLIENTS}, "method": chosen,
        "codec": {"client_state": client_state}, **tables,
    })  # fmt: skip


@pytest.mark.parametrize("method", [SGD, ADAM], ids=["sgd", "averaged Adam"])
def test_both_transports_weights_and_the_plain_loop_come_to_one_model(method: Tables, tmp_path: Path) -> None:
    spec = spec_of(method=method)
    found: World = GrpcWorld(spec, tmp_path / "there")
    try:
        there = found.run(*(Member(f"client-{i}") for i in range(CLIENTS)))
    finally:
        found.close()
    assert there["errors"] == {}
    here, weights = simulate(spec).summary, simulate(spec_of("weights", method)).summary
    reference = reference_run(spec)
    assert there["model_sha256"] == here["model_sha256"] == weights["model_sha256"] == reference
    first = weights["ledger"]["client_state_down"] // (CLIENTS * ROUNDS)
    for summary in (there, here):
        ledger = summary["ledger"]
        assert ledger["client_state_up"] == CLIENTS * ROUNDS * UP
        assert ledger["client_state_down"] == CLIENTS * (first + (ROUNDS - 1) * DOWN), "weights once, then slopes"


@pytest.mark.parametrize(
    "method",
    [
        {"auxiliary_update": "first_order", "proximal": 0.1},
        {"auxiliary_update": "server", **ADAM},
        {"micro_batch": 4, "zo": {"mu": 1e-2, "distribution": "rademacher", "scope": "micro_batch", "normalise": True}},
    ],
    ids=["a head of its own", "the server's head", "micro-batches"],
)
def test_what_slopes_do_not_say_travels_beside_them(method: Tables) -> None:
    weights, seeds = (simulate(spec_of(each, method)).summary for each in ("weights", "seeds"))
    assert seeds["model_sha256"] == weights["model_sha256"]
    for kind in ("client_state_up", "client_state_down"):
        assert seeds["ledger"][kind] < weights["ledger"][kind]


def test_learned_buffers_travel_beside_slopes_and_clients_of_different_sample_counts_weigh_differently() -> None:
    tables: Tables = {
        "model": {"norm": "batch"}, "federation": {"clients": CLIENTS, "aggregation": "samples"},
        "data": {"partition": "dirichlet", "alpha": 0.5},
    }  # fmt: skip
    weights, seeds = (simulate(spec_of(each, **tables)).summary for each in ("weights", "seeds"))
    assert seeds["model_sha256"] == weights["model_sha256"]


class Notes(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_client_that_missed_a_round_gets_the_weights_and_the_run_says_so() -> None:
    federation = {"clients": CLIENTS, "clients_per_round": 2}
    notes = Notes()
    seeds = simulate(spec_of(rounds=4, federation=federation), observers=[notes]).summary
    weights = simulate(spec_of("weights", rounds=4, federation=federation)).summary
    assert seeds["model_sha256"] == weights["model_sha256"]
    assert any("as weights: it has not the one before" in text for text in notes.said)


def test_a_world_resumes_with_weights_once(tmp_path: Path) -> None:
    spec = spec_of()
    world = InProcessWorld(spec, tmp_path)
    try:
        world.coordinator.states.load(0, world.coordinator.states.tensors(0))
        assert world.coordinator.states.versions[0].seeds is None
        summary = world.run(*(Member(f"client-{i}") for i in range(CLIENTS)))
    finally:
        world.close()
    assert summary["model_sha256"] == simulate(spec).summary["model_sha256"]
