"""Clients that have neither torch nor the model's code take part in a run of a user's own model, to its end."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Bench, Program, free_address

from heron_core.config import load_tables
from heron_server.config import RunFile
from heron_simulator.simulator import simulate

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"
BARE = (str(Path(__file__).with_name("without_torch.py")),)
CLIENTS = ("client-0", "client-1")
SETTINGS = [
    "rounds=8", "server.graphs=true", "federation.clients=2", "model.options.width=8", "method.objective=cut_gradient",
]  # fmt: skip


def serve(bench: Bench, address: str, *more: str) -> Program:
    settings = [*SETTINGS, f"server.address={address}", f"server.run_dir={bench.run_dir}", "server.heartbeat_s=0.5"]
    flags = [word for setting in settings for word in ("--set", setting)]
    command = ["-m", "heron_server", "run", str(EXAMPLE / "run.toml"), "--log-format", "json", *flags, *more]
    return bench.program(*command, cwd=bench.folder)


def own_data(folder: Path, part: int) -> dict[str, Any]:
    """A client's [data]: its measurements as arrays, which need no code of the user's."""
    from own_model.data import measurements

    x, y = measurements(part, parts=len(CLIENTS))[:]
    np.savez(folder / f"{part}.npz", x=np.asarray(x), y=np.asarray(y))
    return {"source": "npz", "path": str(folder / f"{part}.npz")}


def test_a_users_own_model_trains_where_its_code_and_torch_are_missing_and_the_server_is_killed_meanwhile(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    data, address = [own_data(bench.folder, part) for part in range(len(CLIENTS))], free_address()
    clients = [bench.client(n, address, start=BARE, data=d) for n, d in zip(CLIENTS, data, strict=True)]
    first = serve(bench, address)
    first.line(r'"round_done".*"round": 1,')
    first.signal(signal.SIGKILL)
    first.ends()
    second = serve(bench, address, "--resume")
    assert [second.ends(), *(client.ends() for client in clients)] == [0, 0, 0]
    said = "\n".join(clients[0].stderr)
    assert "onnxruntime" in said
    assert said.count("fetched the run's graphs") == 1, "both servers made the same set, and the state folder keeps it"
    assert any("ONNX Runtime instead of torch at client-0" in line for line in first.stdout)

    summary = json.loads((bench.run_dir / "summary.json").read_text())
    spec = {k: v for k, v in load_tables(RunFile, EXAMPLE / "run.toml", SETTINGS).items() if k != "server"}
    own = [{"name": n, "data": d, "backend": "onnx"} for n, d in zip(CLIENTS, data, strict=True)]
    simulated = simulate(spec, client_settings=own)
    assert summary["model_sha256"] == simulated.summary["model_sha256"]
    assert "own_model.model" in sys.modules, "the server's side of the simulator has the code"
