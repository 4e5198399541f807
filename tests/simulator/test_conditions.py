"""What the [simulate] table changes, what it does not, and what it makes of a round."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from heron_core.models import build_split_model
from heron_core.spec.run_spec import RunSpec
from heron_core.wire import window
from heron_server.metrics.ledger import SESSION_UP_BYTES
from heron_server.planning.measuring import measure_model
from heron_simulator.conditions import Conditions, compute_of, upload_shares
from heron_simulator.settings import NetworkSettings, SimulateSettings
from heron_simulator.simulator import simulate

SPEC = RunSpec.model_validate({
    "rounds": 3, "method": {"local_steps": 3, "batch_size": 8}, "federation": {"clients": 4},
    "data": {"train_limit": 200, "test_limit": 50},
})  # fmt: skip
JOINT: dict[str, Any] = {"auxiliary_update": "zo"}


def run(**settings: Any) -> tuple[dict[str, Any], Conditions]:
    conditions = Conditions(SPEC, SimulateSettings(**settings))
    return simulate(SPEC, around=conditions.around).summary, conditions


def test_recording_changes_no_bit_and_notes_every_upload() -> None:
    summary, conditions = run()
    assert summary["model_sha256"] == simulate(SPEC).summary["model_sha256"]
    assert sorted(conditions.recording) == [(1, 1), (1, 2), (1, 3)]
    for by_rank in conditions.recording.values():
        assert sorted(by_rank) == [0, 1, 2, 3]
        assert all([len(upload) for upload in sent.uploads] == [1, 1, 1] for sent in by_rank.values())


def test_recorded_bytes_are_the_ledgers_but_for_calls_and_sessions() -> None:
    summary, conditions = run()
    noted = sum(sent.wire_up for by_rank in conditions.recording.values() for sent in by_rank.values())
    calls = summary["ledger"]["wire_up"] - noted
    assert 0 < calls < 4 * (SESSION_UP_BYTES + 2000) + noted * 0.02


def test_some_clients_vanish_and_come_back_the_same_way_each_time() -> None:
    summary, conditions = run(dropout=0.4)
    again, _ = run(dropout=0.4)
    dropped = [record["dropped"] for record in summary["history"]]
    assert sum(dropped) > 0
    assert [record["participants"] for record in summary["history"]] == [4 - count for count in dropped]
    assert summary["rounds_done"] == 3
    assert again["model_sha256"] == summary["model_sha256"]
    assert "simulate.dropout" in next(iter(summary["history"][dropped.index(max(dropped))]["dropped_reasons"].values()))
    assert all(len(by_rank) == 4 for by_rank in conditions.recording.values()), "who vanished was told of the round"


def test_a_slow_network_makes_rounds_long_and_takes_no_time() -> None:
    slow = NetworkSettings(latency_ms=1000, up_mbit_per_s=1, down_mbit_per_s=1)
    summary, conditions = run(network=slow)
    found = conditions.figures(measure_model(build_split_model(SPEC.model), SPEC.seed), 1 << 30)
    assert len(found.round_s) == 3
    assert all(seconds > 8 for seconds in found.round_s)
    assert summary["wall_s"] < sum(found.round_s)
    assert found.messages_up == 4 * 3 * 5


@pytest.mark.parametrize(
    ("method", "shares"),
    [  # the front takes 30 and the head 18 multiply-accumulates a sample, their weights' gradients as many again
        ({"name": "frozen", "micro_batch": 2}, (1 / 2, 1)),
        (JOINT, (1 / 2,)),
        ({**JOINT, "zo": {"num_directions": 2}, "micro_batch": 2}, (1 / 6, 2 / 6)),
        ({**JOINT, "zo": {"scope": "micro_batch"}, "micro_batch": 2}, (1 / 4, 3 / 4)),
        ({"zo": {"scope": "sample"}, "micro_batch": 2, "auxiliary_update": "server"}, (1 / 4, 3 / 4)),
        ({}, ((30 + 18 + 18) / (2 * (30 + 18) + 18),)),
        ({"name": "cse_fsl"}, (1,)),
        ({"name": "cse_fsl", "micro_batch": 2}, (1 / 2, 1)),
        ({"name": "fsl_sage", "micro_batch": 1}, (1 / 4, 2 / 4, 3 / 4, 1)),
        ({"name": "sflv2"}, (30 / 60,)),
        ({"objective": "cut_gradient", "zo": {"num_directions": 3}}, (1 / 4,)),
    ],
)
def test_activations_leave_once_what_comes_before_them_is_computed(
    method: dict[str, Any], shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where micro-batches travel together, that is what comes before the last of them."""
    spec, facts = tiny.spec(method=method), measure_model(tiny.mlp(), 0)
    assert upload_shares(spec.method, facts) == pytest.approx(shares[-1:])
    monkeypatch.setattr(window, "TOGETHER_BYTES", 0)
    assert upload_shares(spec.method, facts) == pytest.approx(shares)


def test_a_step_takes_its_multiply_accumulates_or_what_the_settings_say() -> None:
    method, facts = tiny.spec(method=JOINT).method, measure_model(tiny.mlp(), 0)
    step_s = compute_of(NetworkSettings(client_gmacs_per_s=1e-6), method, facts).step_s
    assert step_s == pytest.approx(4 * 2 * (30 + 18) / 1000)
    assert compute_of(NetworkSettings(client_gmacs_per_s=1e-6, compute_s_per_step=3), method, facts).step_s == 3
