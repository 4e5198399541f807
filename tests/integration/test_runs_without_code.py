"""Runs on files of rows, by a run file and client files alone: two of real figures, and one of people's movements."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heron_client.config import ClientSettings
from heron_core import load_model
from heron_core.config import load_tables
from heron_core.errors import ConfigError, DataError
from heron_server.config import load_run_file
from heron_server.planning.checks import check_run
from heron_simulator.simulator import simulate

EXAMPLES = Path(__file__).parents[2] / "examples" / "tables"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, with their rows."""
    folder = tmp_path_factory.mktemp("tables")
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
    runpy.run_path(str(EXAMPLES / "deal.py"))["deal"](folder)
    return folder


def simulated(run_file: Path, client_files: list[Path], run_dir: Path, *overrides: str) -> dict[str, Any]:
    """summary.json of the run."""
    spec, settings = load_run_file(run_file, list(overrides))
    tables = [load_tables(ClientSettings, file) for file in client_files]
    simulate(spec, settings=settings, client_settings=tables, run_dir=run_dir)
    found: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())
    return found


def example(folder: Path, run_dir: Path, *overrides: str) -> dict[str, Any]:
    clients = sorted(file for file in folder.glob("*.toml") if file.name != "run.toml")
    return simulated(folder / "run.toml", clients, run_dir, *overrides)


def rows_of(file: Path) -> tuple[list[list[str]], list[str]]:
    """The values of all columns but the last, and the last one's, without the first line."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened))[1:]
    return [row[:-1] for row in rows], [row[-1] for row in rows]


def test_wine_from_csv_and_the_saved_model_takes_the_files_own_numbers(tables: Path, tmp_path: Path) -> None:
    summary = example(tables / "wine", tmp_path, "method.name=cse_fsl", "rounds=4")
    assert summary["accuracy"] > 0.9
    values, names = rows_of(tables / "wine" / "test.csv")
    model = load_model(summary["model_path"], preprocess=True)
    guessed = model(torch.tensor(np.array(values, dtype=np.float32))).argmax(dim=1)
    told = json.loads((Path(summary["model_path"]) / "model.json").read_text())
    classes = load_run_file(tables / "wine" / "run.toml")[0].data.class_names
    right = [classes[place] == name for place, name in zip(guessed.tolist(), names, strict=True)]
    assert np.mean(right) == pytest.approx(summary["accuracy"])
    assert told["input_contract"]["inputs"][0]["columns"][:2] == ["alcohol", "malic_acid"]


def test_diabetes_from_csv_is_a_regression(tables: Path, tmp_path: Path) -> None:
    summary = example(tables / "diabetes", tmp_path, "rounds=4")
    assert summary["metric"]["name"] == "mse" and summary["metric"]["value"] < 0.75
    assert summary["auxiliary_metrics"]["mse"] < 0.85


SERIES = """
name = "steps"
rounds = 4
[model]
name = "mlp"
widths = [16, 8]
auxiliary = "flatten_linear"
input_shape = [2, 8]
classes = 2
[data]
source = "client"
class_names = ["rests", "walks"]
holdout = 0.34
holdout_by = "group"
[data.table]
target = "does"
group = "person"
window = 8
step = 2
columns = [{ name = "up", std = 2.0 }, { name = "ahead" }]
[method]
name = "cse_fsl"
local_steps = 10
batch_size = 8
[method.optimizer]
lr = 1e-2
[server_optimizer]
lr = 1e-2
[federation]
clients = 2
min_clients = 2
"""


def people(file: Path, names: str, seed: int) -> None:
    """Each rests for 32 readings and walks for 32: a swing of a person's own strength, in two columns."""
    rng = np.random.default_rng(seed)
    lines = ["person,up,ahead,does"]
    for name in names:
        strength = rng.uniform(1, 3)
        for does, size in (("rests", 0.0), ("walks", strength)):
            for place in range(32):
                up, ahead = size * np.sin(place), size * np.cos(place)
                lines.append(f"{name},{up + rng.normal() / 4:.4f},{ahead + rng.normal() / 4:.4f},{does}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def series(tmp_path: Path) -> tuple[Path, list[Path]]:
    """The run file, and those of two clients with three people each."""
    (tmp_path / "run.toml").write_text(SERIES, encoding="utf-8")
    clients = []
    for number, names in enumerate(("abc", "def")):
        people(tmp_path / f"{number}.csv", names, number)
        client = tmp_path / f"{number}.toml"
        client.write_text(f'name = "c{number}"\n[data]\nsource = "csv"\npath = "{number}.csv"\n', encoding="utf-8")
        clients.append(client)
    return tmp_path / "run.toml", clients


def test_windows_of_people_who_stand_on_one_side_each(series: tuple[Path, list[Path]], tmp_path: Path) -> None:
    summary = simulated(*series, tmp_path / "run")
    assert summary["accuracy"] > 0.85


def test_windows_that_share_rows_are_not_held_out_by_sample(series: tuple[Path, list[Path]]) -> None:
    spec, settings = load_run_file(series[0], ["data.holdout_by=sample"])
    with pytest.raises(ConfigError, match=r"data\.table\.step = 2 windows of 8 rows share some.*holdout_by"):
        check_run(spec, settings)
    spec, settings = load_run_file(series[0], ["data.table.group="])
    with pytest.raises(ConfigError, match=r"no column says whose a row is; set data\.table\.group"):
        check_run(spec, settings)


def test_one_person_alone_leaves_nobody_to_learn_from(series: tuple[Path, list[Path]], tmp_path: Path) -> None:
    people(tmp_path / "1.csv", "d", 1)
    with pytest.raises(DataError, match="1 groups leave none to train on after holdout"):
        simulated(*series, tmp_path / "run")
