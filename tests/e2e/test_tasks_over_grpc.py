"""examples/tasks over gRPC: token ids in, hidden states and a mask over the cut, the same bits as everywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from integration.five_tasks import CLIENTS, EXAMPLES, client_file, halves_of, need_data, run_of, simulated
from integration.references import reference_run
from processes import PATIENCE_S, Bench, Program

KIND = "next_token"
SHORT = ("rounds=2", "method.local_steps=4", "method.batch_size=8", "method.micro_batch=4", "method.zo.mu=1e-2")


@pytest.fixture(autouse=True)
def sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    need_data(KIND, monkeypatch)


def flags(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def serve(bench: Bench) -> tuple[Program, str]:
    """The server of the example's run file, and its address."""
    here = flags("server.address=127.0.0.1:0", f"server.run_dir={bench.run_dir}", *SHORT)
    run_file = str(EXAMPLES / KIND / "run.toml")
    server = bench.program("-m", "heron_server", "run", run_file, "--log-format", "json", *here)
    return server, json.loads(server.line('"listening"'))["address"]


def over_grpc(bench: Bench) -> dict[str, Any]:
    """The summary.json of the run with the example's own files."""
    server, address = serve(bench)
    there = flags(f"server={address}", "retry_max_s=0.5", f"retry_for_s={PATIENCE_S}")
    clients = [
        bench.program("-m", "heron_client", "run", "--once", str(client_file(KIND, number)), *there)
        for number in range(CLIENTS)
    ]
    assert [server.ends(), *(client.ends() for client in clients)] == [0] * (1 + CLIENTS)
    summary: dict[str, Any] = json.loads((bench.run_dir / "summary.json").read_text())
    return summary


def test_the_next_token_over_grpc_equals_simulator_and_reference(bench: Bench) -> None:
    summary, (spec, _) = over_grpc(bench), run_of(KIND, *SHORT)
    assert summary["metric"]["name"] == "token_loss" and summary["accuracy"] is None
    assert summary["model_sha256"] == simulated(KIND, *SHORT)["model_sha256"]
    assert summary["model_sha256"] == reference_run(spec, shares=[train for train, _ in halves_of(spec, KIND)])


def test_a_check_says_the_task_and_what_its_labels_are(bench: Bench) -> None:
    _, address = serve(bench)
    check = bench.program("-m", "heron_client", "check", str(client_file(KIND, 0)), *flags(f"server={address}"))
    assert check.ends() == 0
    assert "task         next_token: labels int64 [up to 80] in 0..48, or -100 where none counts" in check.stdout
