"""The examples keep the promises that a user's own model and data are checked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron_core.testing import check_dataset, check_split_model

EXAMPLES = Path(__file__).parents[2] / "examples"
TASKS = ["classification", "multi_label", "next_token", "per_pixel", "regression"]
MODELS = {f"own_tasks.{task}": f"own_tasks.{task}:model" for task in TASKS if task != "multi_label"}
"""multi_label is one of Heron's own families."""


@pytest.fixture(autouse=True)
def own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    for folder in ("own_model", "tasks"):
        monkeypatch.syspath_prepend(str(EXAMPLES / folder))


@pytest.mark.parametrize("name", ["own_model.model:tabular", "own_model.model:whole_network", *MODELS.values()])
def test_a_model_keeps_its_contract(name: str) -> None:
    check_split_model(name)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "next_token"])
def test_data_of_a_task_keeps_its_contract(task: str) -> None:
    name = f"own_tasks.{task}"
    check_dataset(f"{name}:samples", MODELS.get(name), options={"part": 0}, most=50)


def test_own_data_keeps_its_contract() -> None:
    check_dataset("own_model.data:measurements", "own_model.model:tabular", options={"part": 0})
