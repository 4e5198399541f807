"""Where only the clients know their data, the saved model says how stored values become its inputs all the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from integration.generated_inputs import EACH, RUN, Data, npz, pictures
from integration.generated_tables import COLOURS, NAMES, TABLE_RUN, clean_table, rows_of

from heron_core import load_model
from heron_core.arrays import TensorSpec
from heron_core.data.source import Source
from heron_core.data.sources.own import load_own
from heron_core.labels import LabelSpec
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_simulator.simulator import simulate


def test_the_model_of_clients_with_pixels_takes_pixels(tmp_path: Path) -> None:
    spec = RunSpec.model_validate({**RUN, "federation": {"clients": 3}, "data": {"source": "client", "holdout": 0.2}})
    tables = []
    for name in "abc":
        x, y = pictures(name)
        stored = x if name != "a" else (x / 127.5 - 1).astype("f4")  # the first one: most say otherwise
        tables.append({"name": name, "data": npz(tmp_path / f"{name}.npz", x=stored, y=y)})
    run = simulate(spec, settings=ServerSettings(device="cpu"), client_settings=tables, run_dir=tmp_path / "run")
    folder = tmp_path / "run" / "model"
    described = json.loads((folder / "model.json").read_text())["input_contract"]
    assert described == run.summary["input_contract"] and described["source"] == "npz"
    assert (described["inputs"][0]["stored"], described["inputs"][0]["divide"]) == ("uint8", 255.0)
    x, _ = pictures("d")
    inputs = torch.from_numpy((x / 127.5 - 1).astype("f4"))
    assert torch.equal(load_model(folder, preprocess=True)(torch.from_numpy(x)), load_model(folder)(inputs))


def test_the_model_of_clients_with_tables_takes_a_file_s_own_numbers(tmp_path: Path) -> None:
    spec = RunSpec.model_validate({**TABLE_RUN, "data": {**TABLE_RUN["data"], "holdout": 0.2}})
    tables = [{"name": name, "data": clean_table(tmp_path, name, EACH)} for name in "ab"]
    simulate(spec, settings=ServerSettings(device="cpu"), client_settings=tables, run_dir=tmp_path / "run")
    folder = tmp_path / "run" / "model"
    found = json.loads((folder / "model.json").read_text())["input_contract"]["inputs"][0]
    assert found["columns"] == ["l\u00e4nge", "breite", "gr\u00f6\u00dfe", "farbe=rot", "farbe=gr\u00fcn", "farbe=gelb"]
    numbers = [[*map(float, row[:3]), *(float(row[3] == c) for c in COLOURS)] for row in rows_of("c", EACH)[1:]]
    stored = torch.tensor(numbers)
    (inputs,), _ = read(clean_table(tmp_path, "c", EACH), spec).batch(np.arange(len(stored)))
    assert torch.equal(load_model(folder, preprocess=True)(stored), load_model(folder)(torch.from_numpy(inputs)))


def read(table: Data, spec: RunSpec) -> Source:
    """As a client reads it."""
    return load_own(
        "csv", path=Path(table["path"]), options={}, inputs=(TensorSpec("input", (6,)),), labels=LabelSpec(count=3),
        class_names=NAMES, table=spec.data.table,
    )  # fmt: skip
