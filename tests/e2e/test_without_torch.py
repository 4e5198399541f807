"""Clients that have neither torch nor the model's code take part in a run of a user's own model, to its end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Bench

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
