"""Where only the clients know their data, the saved model says how stored values become its inputs all the same."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from integration.generated_inputs import RUN, npz, pictures

from heron_core import load_model
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
