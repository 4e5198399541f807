"""Each of the five kinds of task trains on its real inputs, and the run is judged by its own figure."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
from integration.five_tasks import KINDS, need_data, simulated

METRICS = {
    "classification": ("accuracy", True, 0.9),
    "regression": ("mse", False, 0.6),
    "multi_label": ("f1", True, 0.9),
    "per_pixel": ("mean_iou", True, 0.75),
    "next_token": ("token_loss", False, 2.5),
}
"""The figure that judges a run, whether higher is better, and what the run must reach."""
ROUNDS = {"next_token": 2}


RUNS = [(kind, method) for kind in KINDS for method in ("heron", "cse_fsl")]


@pytest.fixture(scope="module", params=RUNS, ids=" ".join)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The kind, and the summary.json of its run."""
    kind, method = request.param
    folder: Path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        need_data(kind, patch)
        simulated(kind, f"method.name={method}", f"rounds={ROUNDS.get(kind, 4)}", run_dir=folder)
    return kind, json.loads((folder / "summary.json").read_text())


Run = tuple[str, dict[str, Any]]


def test_the_losses_of_clients_server_and_evaluation_fall(run: Run) -> None:
    _, summary = run
    first, last = summary["history"][0], summary["history"][-1]
    assert last["client_loss_last"] < 0.9 * first["client_loss_first"]
    assert last["server_loss"] < first["server_loss"]
    assert last["loss"] < first["loss"]


def test_the_figure_that_judges_the_run_is_named_with_its_direction(run: Run) -> None:
    kind, summary = run
    name, higher, bound = METRICS[kind]
    for record in summary["history"]:
        assert record["metric"]["name"] == name and record["metric"]["higher_is_better"] is higher
        assert record["metrics"][name] == record["metric"]["value"]
    assert summary["metric"] == summary["history"][-1]["metric"]
    assert (summary["metric"]["value"] > bound) is higher
    assert all(isfinite(value) for value in (*summary["metrics"].values(), *summary["auxiliary_metrics"].values()))


def test_the_clients_own_head_gets_no_worse_at_it(run: Run) -> None:
    kind, summary = run
    name, higher, _ = METRICS[kind]
    first, last = (summary["history"][place]["auxiliary_metrics"][name] for place in (0, -1))
    assert last == first or (last > first) is higher


def test_only_classes_have_an_accuracy_a_majority_and_a_histogram(run: Run) -> None:
    kind, summary = run
    classes = kind == "classification"
    for key in ("accuracy", "auxiliary_accuracy", "majority_accuracy"):
        assert (summary[key] is not None) is classes
    assert all(bool(client["class_histogram"]) is classes for client in summary["per_client"].values())
