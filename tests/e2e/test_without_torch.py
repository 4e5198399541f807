"""Clients that have neither torch nor the model's code or weights take part in a run to its end: of a user's own model,
and of a pretrained language model on text of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_text
from processes import Bench
from tiny_language import write_decoder

from heron_core.config import load_tables
from heron_core.graphs.graph_set import read_graphs
from heron_server.config import RunFile
from heron_server.planning import checks
from heron_simulator.simulator import simulate

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"
BARE = (str(Path(__file__).with_name("without_torch.py")),)
CLIENTS = ("client-0", "client-1")
SETTINGS = [
    "rounds=4", "federation.clients=2", "model.options.width=8", "method.objective=cut_gradient",
    "method.local_steps=8",
]  # fmt: skip
SOME_UPLOADS_BYTES = 4_000
"""Of some 20 kB that two clients upload in a round."""
EXPORTED_S = 240.0
"""For an export that takes 15 s of an idle machine."""


def own_data(folder: Path, part: int) -> dict[str, Any]:
    """A client's [data]: its measurements as arrays, which need no code of the user's."""
    from own_model.data import measurements

    x, y = measurements(part, parts=len(CLIENTS))[:]
    np.savez(folder / f"{part}.npz", x=np.asarray(x), y=np.asarray(y))
    return {"source": "npz", "path": str(folder / f"{part}.npz")}


def test_a_users_own_model_trains_where_its_code_and_torch_are_missing_and_kill_9_of_the_server_and_a_client_is_mended(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    data, door = [own_data(bench.folder, part) for part in range(len(CLIENTS))], bench.relay()
    clients = [bench.client(n, door.address, start=BARE, data=d) for n, d in zip(CLIENTS, data, strict=True)]
    spec = {k: v for k, v in load_tables(RunFile, EXAMPLE / "run.toml", SETTINGS).items() if k != "server"}
    run = {**spec, "server": {"python_path": [str(EXAMPLE)], "graphs": True, "grace_s": 0.2}}
    first = bench.server(run)
    door.lead_to(first.address())
    first.event("round_began", round=2)
    door.holds_up_after(SOME_UPLOADS_BYTES)
    first.kill()
    assert any("ONNX Runtime instead of torch at client-0" in line for line in first.stdout)

    second = bench.server(run, "--resume")
    door.lead_to(second.address())
    second.event("round_began", round=3)
    door.holds_up_after(SOME_UPLOADS_BYTES)
    clients[1].kill()
    door.let_go()
    second.line("round 3 is abandoned")
    clients.append(bench.client(CLIENTS[1], door.address, start=BARE, data=data[1]))
    summary = second.summary()
    assert [clients[0].ends(), clients[2].ends()] == [0, 0]
    said = "\n".join(clients[0].stderr)
    assert "onnxruntime" in said
    assert said.count("fetched the run's graphs") == 1, "both servers made the same set, and the state folder keeps it"
    assert not any("fetched" in line for line in clients[2].stderr), "its folder had it already"

    (home,) = (bench.folder / "state" / CLIENTS[0] / "graphs").iterdir()
    monkeypatch.setattr(checks, "export_graphs", lambda *_: read_graphs(home))  # both servers made the very same
    own = [{"name": n, "data": d, "backend": "onnx"} for n, d in zip(CLIENTS, data, strict=True)]
    simulated = simulate(spec, client_settings=own)
    assert summary["model_sha256"] == simulated.summary["model_sha256"]
    assert "own_model.model" in sys.modules, "the server's side of the simulator has the code"


def text(folder: Path, part: int) -> dict[str, Any]:
    """A client's [data]: its rows, and a folder that has the model's tokeniser alone."""
    home = folder / f"machine-{part}"
    tiny_text.folder(home)
    rows = ({"prompt": "ab"[part], "completion": "xyz"[n % 3] * (1 + n)} for n in range(12))
    (home / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return {"source": "jsonl", "path": str(home / "rows.jsonl"), "folder": str(home)}


@pytest.mark.timeout(360)
def test_a_language_model_trains_where_its_weights_and_torch_are_missing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    tiny_text.folder(tmp_path)
    write_decoder(tmp_path / "base", vocab_size=tiny_text.VOCABULARY)
    language = {"length": 32, "client_adapter": "lora_xs"}
    spec = {
        "rounds": 1, "federation": {"clients": 2}, "data": {"source": "client", "holdout": 0.25},
        "model": {"name": "causal_lm", "base": "base", "cut": "1", "trainable": "lora", "language": language},
        "method": {"objective": "cut_gradient", "local_steps": 2, "batch_size": 4, "micro_batch": 2},
    }  # fmt: skip
    data = [text(bench.folder, part) for part in range(len(CLIENTS))]
    server = bench.server({**spec, "server": {"data_folder": str(tmp_path), "graphs": True}})
    address = str(server.event("listening", EXPORTED_S)["address"])
    clients = [bench.client(n, address, start=BARE, data=d) for n, d in zip(CLIENTS, data, strict=True)]
    summary = server.summary()
    assert [client.ends() for client in clients] == [0, 0]
    (home,) = (bench.folder / "state" / CLIENTS[0] / "graphs").iterdir()
    monkeypatch.setattr(checks, "export_graphs", lambda *_: read_graphs(home))
    own = [{"name": n, "data": d, "backend": "onnx"} for n, d in zip(CLIENTS, data, strict=True)]
    simulated = simulate(spec, settings={"data_folder": tmp_path}, client_settings=own).summary
    assert summary["model_sha256"] == simulated["model_sha256"]
    assert summary["metrics"] == simulated["metrics"]
