from __future__ import annotations

import json
import math
from typing import Any

import pytest
import tiny

from heron_core.json_text import to_json
from heron_core.measures import pair
from heron_core.models.tasks.regression import Regression
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.metrics.counts import Counts
from heron_server.metrics.ledger import Ledger
from heron_server.metrics.records import Records

SUMMARY = [
    "schema", "run_id", "method", "model", "rounds", "rounds_done", "clients", "accuracy", "loss", "majority_accuracy",
    "wall_s", "model_sha256", "ledger", "client_step", "history",
]  # fmt: skip
LEDGER = [
    "activations_up", "labels_up", "cut_gradients_down", "client_state_up", "client_state_down", "evaluation_up",
    "evaluation_down", "control", "wire_up", "wire_down",
]  # fmt: skip
CLIENT_STEP = ["forward_passes", "seconds_median", "peak_bytes_median", "macs", "macs_paper"]
HISTORY = ["round", "accuracy", "loss", "wall_s", "participants", "dropped"]


def figures(loss: float = 1.0, seconds: float = 0.1, peak: int = 1000) -> pb.ClientFigures:
    return pb.ClientFigures(
        first_loss=loss + 1, last_loss=loss - 1, mean_loss=loss, forward_passes=8, step_seconds_median=seconds,
        peak_bytes=peak, class_histogram=[3, 4],
    )  # fmt: skip


def two_rounds() -> Records:
    records = Records(tiny.spec(), tiny.mlp().task.metrics)
    records.round_began(100.0)
    records.client_figures("a", figures(1.0, 0.1, 1000))
    records.client_figures("b", figures(3.0, 0.3, 0))
    records.round_done(
        1, ["a", "b"], Counts(10, {"accuracy": pair(5, 10)}, {"accuracy": pair(4, 10)}, 20.0, [7, 3]), 102.0
    )
    records.round_began(200.0)
    records.dropped("b", "late")
    records.client_figures("a", figures(0.5, 0.2, 3000))
    records.server_loss = 0.25
    records.round_done(2, ["a"], Counts(10, {"accuracy": pair(8, 10)}, {"accuracy": pair(6, 10)}, 10.0, [7, 3]), 203.0)
    return records


def summary(records: Records) -> dict[str, Any]:
    return json.loads(to_json(records.summary("r", 2, "abc", Ledger().as_dict(), {"total": 7}, 17, 18)))


def test_the_summary_has_the_keys_that_the_design_promises() -> None:
    made = summary(two_rounds())
    assert set(SUMMARY) <= set(made)
    assert set(made["ledger"]) == set(LEDGER)
    assert set(made["client_step"]) == set(CLIENT_STEP)
    assert all(set(HISTORY) <= set(record) for record in made["history"])
    assert (made["schema"], made["rounds"], made["rounds_done"], made["clients"]) == (1, 2, 2, 2)
    assert made["ledger_paper"] == {"total": 7}
    assert made["client_step"] == {
        "forward_passes": 2.0, "seconds_median": 0.2, "peak_bytes_median": 2000, "macs": 17, "macs_paper": 18,
    }  # fmt: skip


def test_a_round_s_record_says_what_was_counted_and_measured() -> None:
    first, second = two_rounds().history
    assert first == {
        "round": 1, "accuracy": 0.5, "loss": 2.0, "wall_s": 2.0, "participants": 2, "dropped": 0, "dropped_reasons": {},
        "auxiliary_accuracy": 0.4, "majority_accuracy": 0.7, "client_loss": 2.0, "client_loss_first": 3.0,
        "client_loss_last": 1.0, "server_loss": None, "quarantined": 0, "wire_bytes": 0,
        "metric": {"name": "accuracy", "value": 0.5, "higher_is_better": True, "is_share": True},
        "metrics": {"accuracy": 0.5}, "auxiliary_metrics": {"accuracy": 0.4},
        "trained_accuracy": None, "trained_metrics": {}, "samples": 10,
    }  # fmt: skip
    assert (second["participants"], second["dropped"], second["dropped_reasons"]) == (1, 1, {"b": "late"})
    assert second["client_loss"] == 0.5 and second["server_loss"] == 0.25


def test_the_summary_s_headline_is_the_last_round_s() -> None:
    made = summary(two_rounds())
    assert (made["accuracy"], made["loss"], made["majority_accuracy"], made["wall_s"]) == (0.8, 1.0, 0.7, 5.0)
    assert made["best_round"] == 2


def test_nan_is_null_and_what_was_never_measured_too() -> None:
    records = Records(tiny.spec(), tiny.mlp().task.metrics)
    records.round_began(0.0)
    records.client_figures("a", figures(math.nan, math.inf, 0))
    records.round_done(1, ["a"], Counts(4, {"accuracy": pair(1, 4)}, {"accuracy": pair(1, 4)}, math.nan, [4, 0]), 1.0)
    made = summary(records)
    assert made["loss"] is None and made["history"][0]["client_loss"] is None
    assert made["client_step"]["seconds_median"] is None and made["client_step"]["peak_bytes_median"] is None
    records = Records(tiny.spec(), tiny.mlp().task.metrics)
    records.round_done(1, [], Counts(), 1.0)
    made = summary(records)
    assert made["accuracy"] is made["loss"] is made["majority_accuracy"] is None
    empty = summary(Records(tiny.spec(), tiny.mlp().task.metrics))
    assert empty["accuracy"] is None and empty["history"] == [] and empty["wall_s"] == 0
    assert empty["metric"] == {"name": "accuracy", "value": None, "higher_is_better": True, "is_share": True}


def test_a_regression_is_judged_by_its_error_and_has_no_accuracy() -> None:
    records = Records(tiny.spec(), Regression().metrics)
    sums = {"mse": pair(6, 12), "mae": pair(9, 12)}
    record = records.round_done(1, [], Counts(12, sums, {"mse": pair(12, 12), "mae": pair(12, 12)}, 6.0), 1.0)
    assert record["metric"] == {"name": "mse", "value": 0.5, "higher_is_better": False, "is_share": False}
    assert record["metrics"] == {"mse": 0.5, "mae": 0.75} and record["auxiliary_metrics"] == {"mse": 1.0, "mae": 1.0}
    assert record["accuracy"] is record["auxiliary_accuracy"] is record["majority_accuracy"] is None
    made = summary(records)
    assert (made["accuracy"], made["metric"], made["metrics"]) == (None, record["metric"], record["metrics"])


def test_an_averaged_back_s_figures_are_the_record_s_and_the_trained_one_s_stand_beside() -> None:
    records = Records(tiny.spec(), tiny.mlp().task.metrics)
    counts = Counts()
    for right in (3, 4):
        counts.add(Counts(5, {"accuracy": pair(right, 5)}, loss_sum=1.0, trained={"accuracy": pair(right - 1, 5)}))
    record = records.round_done(1, [], counts, 1.0)
    assert (record["accuracy"], record["metric"]["value"], record["trained_accuracy"]) == (0.7, 0.7, 0.5)
    assert record["trained_metrics"] == summary(records)["trained_metrics"] == {"accuracy": 0.5}


def test_records_survive_a_checkpoint_s_json() -> None:
    records = two_rounds()
    again = Records(tiny.spec(), tiny.mlp().task.metrics)
    again.restore(json.loads(json.dumps(records.as_dict())))
    assert summary(again) == summary(records)


def test_what_a_checkpoint_keeps_of_each_client_and_round_does_not_grow_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A header of 100 MB is more than safetensors writes: the run ended after some 5 million figures."""
    monkeypatch.setattr("heron_server.metrics.records.MOST_FIGURES", 3)
    records = Records(tiny.spec(), tiny.mlp().task.metrics)
    for number in range(1, 4):
        for name in "ab":
            records.client_figures(name, figures(seconds=number, peak=number))
        records.round_done(number, ["a", "b"], Counts(), 1.0)
    saved = records.as_dict()
    assert (saved["step_seconds"], saved["peaks"], len(saved["history"])) == ([2, 3, 3], [2, 3, 3], 3)
