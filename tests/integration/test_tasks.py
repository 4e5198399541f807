"""Each of the five kinds of task trains on its real inputs, and the run is judged by its own figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integration.five_tasks import KINDS, halves_of, need_data, run_of, simulated

from heron_core import load_model
from heron_core.measures import Measured, added
from heron_core.models import build_split_model
from heron_server.planning.checks import load_test
from heron_server.planning.measuring import measure_model

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


Run = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module", params=RUNS, ids=" ".join)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The kind, and the summary.json of its run."""
    kind, method = request.param
    folder: Path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        need_data(kind, patch)
        simulated(kind, f"method.name={method}", f"rounds={ROUNDS.get(kind, 4)}", run_dir=folder)
        yield kind, json.loads((folder / "summary.json").read_text())


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


def test_the_saved_model_is_called_with_the_tasks_inputs_and_comes_to_the_runs_figure(run: Run) -> None:
    kind, summary = run
    model, description = load_model(summary["model_path"], allow_model_code=True), Path(summary["model_path"])
    told = json.loads((description / "model.json").read_text())
    spec, settings = run_of(kind)
    split = build_split_model(spec.model)
    assert told["task"] == kind == split.task.name
    assert [(given["name"], given["dtype"]) for given in told["inputs"]] == [(i.name, i.dtype) for i in split.inputs]
    test = load_test(spec, settings, measure_model(split, spec.seed))
    measured: Measured = {}
    for source in [test] if test is not None else [held for _, held in halves_of(spec, kind)]:
        inputs, labels = source.batch(np.arange(len(source)))
        with torch.inference_mode():
            outputs = model(*map(torch.from_numpy, inputs))
        measured = added(measured, split.task.measure(outputs, torch.from_numpy(labels)))
    judged = split.task.metrics[0]
    assert judged.value(*measured[judged.name]) == pytest.approx(summary["metric"]["value"], rel=1e-5)


def test_only_classes_have_an_accuracy_a_majority_and_a_histogram(run: Run) -> None:
    kind, summary = run
    classes = kind == "classification"
    for key in ("accuracy", "auxiliary_accuracy", "majority_accuracy"):
        assert (summary[key] is not None) is classes
    assert all(bool(client["class_histogram"]) is classes for client in summary["per_client"].values())
