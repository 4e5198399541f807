"""A run on an experiment of one's own: series of people, dealt out whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.references import reference_run

from heron_client.config import ClientSettings
from heron_core.errors import ConfigError, DataError
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.planning.validate import describe
from heron_simulator.simulator import simulate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(8), 12)
    np.savez(tmp_path / "people.npz", x=rng.normal(size=(96, 2, 16)), y=np.arange(96) % 3, groups=people)
    return tmp_path


def spec_of(**tables: Any) -> RunSpec:
    data = {"source": "arrays", "file": "people.npz", "partition": "groups", **tables.pop("data", {})}
    model = {"name": "series_cnn", "input_shape": [2, 16], "classes": 3, "widths": [4, 4, 4], **tables.pop("model", {})}
    method = {"local_steps": 2, "batch_size": 8, "micro_batch": 4, "zo": {"mu": 1e-2, "scope": "micro_batch"}}
    return RunSpec.model_validate({"rounds": 2, "data": data, "model": model, "method": method, **tables})


@pytest.mark.parametrize("method", ["heron", "sflv2"])
def test_the_simulator_ends_with_the_reference_bits(method: str, folder: Path) -> None:
    spec = spec_of()
    if method != "heron":
        spec = spec_of(method={"name": method, "local_steps": 2, "batch_size": 8})
    run = simulate(spec, settings=ServerSettings(data_folder=folder, device="cpu"),
                   client_settings=[ClientSettings.model_validate({"name": f"c{i}", "data": {"folder": folder}})
                                    for i in range(3)])  # fmt: skip
    summary: dict[str, Any] = dict(run.summary)
    assert summary["model_sha256"] == reference_run(spec, folder)
    assert summary["input_contract"]["source"] == "arrays"


def test_the_plan_says_how_people_are_dealt_and_what_is_not_compared(folder: Path) -> None:
    text = describe(spec_of(), ServerSettings(data_folder=folder, device="cpu"))
    assert "arrays, groups partition" in text and "smallest 24, median 24, largest 24" in text
    assert "data.file = 'people.npz' without file_sha256" in text


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"model": {"input_shape": [2, 20]}}, r"input must have the model's input shape, .*got \[2, 16\]"),
        ({"model": {"classes": 2}}, "labels must be 0 to 1, got 2"),
        ({"model": {"task": "regression", "classes": 1}, "data": {"partition": "dirichlet"}}, "divides samples by cl"),
        ({"federation": {"clients": 7}}, "deals whole groups to 7 clients, and there are 6 to train on"),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused(tables: dict[str, Any], says: str, folder: Path) -> None:
    with pytest.raises((ConfigError, DataError), match=says):
        describe(spec_of(**tables), ServerSettings(data_folder=folder, device="cpu"))
