"""examples/own_model: a user's own model and data, trained by the two commands with the example's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import PATIENCE_S, Bench, Program

from heron_core import load_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"
CLIENTS = 3


def serve(bench: Bench, model: str) -> tuple[Program, str]:
    """The server of run.toml, fewer rounds, and its address."""
    here = ["server.address=127.0.0.1:0", f"server.run_dir={bench.run_dir}", f"model.name={model}", "rounds=6"]
    flags = [word for setting in here for word in ("--set", setting)]
    run_file = str(EXAMPLE / "run.toml")
    server = bench.program("-m", "heron_server", "run", run_file, "--log-format", "json", *flags, cwd=bench.folder)
    return server, json.loads(server.line('"listening"'))["address"]


def join(bench: Bench, number: int, address: str, *more: str) -> Program:
    """The client of client-<number>.toml."""
    here = [f"server={address}", "retry_max_s=0.5", f"retry_for_s={PATIENCE_S}", *more]
    flags = [word for setting in here for word in ("--set", setting)]
    client_file = str(EXAMPLE / f"client-{number}.toml")
    return bench.program("-m", "heron_client", "run", "--once", client_file, *flags, cwd=bench.folder)


def simulated(bench: Bench, model: str) -> str:
    """The SHA-256 that the simulator comes to with the same files."""
    folder = bench.folder / "simulated"
    here = [f"server.run_dir={folder}", f"model.name={model}", "rounds=6"]
    flags = [word for setting in here for word in ("--set", setting)]
    files = [word for i in range(CLIENTS) for word in ("--client", str(EXAMPLE / f"client-{i}.toml"))]
    run_file = str(EXAMPLE / "run.toml")
    simulator = bench.program("-m", "heron_simulator", run_file, *files, *flags, cwd=bench.folder)
    assert simulator.ends() == 0, simulator.stderr
    return str(json.loads((folder / "summary.json").read_text())["model_sha256"])


@pytest.mark.parametrize("model", ["own_model.model:tabular", "own_model.model:whole_network"])
def test_own_model_and_data_are_trained_and_evaluated_by_the_clients(
    bench: Bench, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, address = serve(bench, model)
    clients = [join(bench, i, address) for i in range(CLIENTS)]
    assert [server.ends(), *(client.ends() for client in clients)] == [0] * (1 + CLIENTS)

    summary: dict[str, Any] = json.loads((bench.run_dir / "summary.json").read_text())
    first, last = summary["history"][0], summary["history"][-1]
    assert summary["rounds_done"] == 6
    assert [record["participants"] for record in summary["history"]] == [CLIENTS] * 6
    assert summary["accuracy"] >= 0.9 > summary["majority_accuracy"]
    assert summary["auxiliary_accuracy"] >= 0.9, "the clients learn by themselves"
    assert last["client_loss_last"] < 0.5 * first["client_loss_first"]
    assert summary["ledger"]["evaluation_up"] > 0, "held-out samples stay with the clients"

    assert summary["model_sha256"] == simulated(bench, model)

    monkeypatch.syspath_prepend(str(EXAMPLE))
    from own_model.data import measurements

    x, labels = measurements(0, parts=1)[:]
    with torch.inference_mode():
        logits = load_model(bench.run_dir / "model", allow_model_code=True)(x)
    assert float((logits.argmax(dim=1) == labels).float().mean()) >= 0.9


def test_a_client_whose_operator_does_not_allow_the_code_refuses_it(bench: Bench) -> None:
    _, address = serve(bench, "own_model.model:tabular")
    client = join(bench, 0, address, "allow_model_code=[]")
    assert client.ends() == 4
    assert "'own_model.model:tabular'" in client.stderr[-1]
    assert "add it to allow_model_code" in client.stderr[-1]
