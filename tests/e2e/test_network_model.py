"""The virtual clock of heron_simulator/network_model.py against real sockets behind a relay that delays every byte."""

from __future__ import annotations

from typing import Any

import pytest
from processes import Bench, spec_of

from heron_simulator.conditions import Conditions
from heron_simulator.settings import SimulateSettings
from heron_simulator.simulator import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LATENCY_S = 0.1
ROUNDS = 3
METHODS: dict[str, dict[str, Any]] = {
    "heron, k = 3": {"name": "heron", "upload_period": 3},
    "heron": {"name": "heron"},
    "sflv2": {"name": "sflv2"},
}
"""In the order in which latency hurts them."""


def tables(method: dict[str, Any]) -> dict[str, Any]:
    return {
        "rounds": ROUNDS, "federation": {"clients": 1}, "data": {"train_limit": 100, "test_limit": 20},
        "method": {"local_steps": 6, "batch_size": 8, **method},
    }  # fmt: skip


def predicted(method: dict[str, Any]) -> float:
    """Seconds of one round on the virtual clock."""
    spec = spec_of(tables(method))
    conditions = Conditions(spec, SimulateSettings.model_validate({"network": {"latency_ms": 1000 * LATENCY_S}}))
    facts = simulate(spec, around=conditions.around).facts
    return conditions.figures(facts, 1 << 30).round_s[-1]


def measured(bench: Bench, name: str, method: dict[str, Any]) -> float:
    """The fastest round after the first, in which both sides load code."""
    server = bench.server({**tables(method), "server": {"run_dir": str(bench.folder / name)}})
    bench.client("client-0", bench.relay(server.address(), LATENCY_S).address)
    history = server.summary()["history"]
    return float(min(record["wall_s"] for record in history[1:]))


def test_methods_take_as_long_as_the_model_says_and_rank_as_it_ranks_them(bench: Bench) -> None:
    model = {name: predicted(method) for name, method in METHODS.items()}
    assert list(model.values()) == [pytest.approx(n * LATENCY_S) for n in (6, 10, 16)]
    real = {name: measured(bench, name.replace(", k = ", "-"), method) for name, method in METHODS.items()}
    assert sorted(real, key=real.__getitem__) == list(METHODS)
    for name, seconds in model.items():
        assert real[name] > 0.95 * seconds, (name, real[name], seconds)
