"""`heron-server demo`, as a newcomer runs it, with fewer rounds."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tiny_text
import torch
from processes import PATIENCE_S, Bench, Program
from tiny_language import write_decoder

from heron_core import load_model
from heron_core.config import load_toml
from heron_core.data import load_experiment
from heron_core.spec.unused import as_method
from heron_server.config import load_run_file, split_run_file
from heron_server.demo import DEMO_FILE, DEMOS
from heron_simulator.simulator import simulate

pytestmark = pytest.mark.slow
ROUNDS = 4
GONE_WITHIN_S = 10.0
SUMMARY = {
    "schema", "run_id", "method", "model", "rounds", "rounds_done", "clients", "accuracy", "loss", "majority_accuracy",
    "wall_s", "model_sha256", "ledger", "client_step", "history",
}  # fmt: skip
LEDGER = {
    "activations_up", "labels_up", "cut_gradients_down", "client_state_up", "client_state_down", "evaluation_up",
    "evaluation_down", "control", "wire_up", "wire_down",
}  # fmt: skip
CLIENT_STEP = {"forward_passes", "seconds_median", "peak_bytes_median", "macs"}
RECORD = {"round", "accuracy", "loss", "wall_s", "participants", "dropped"}


def start_demo(bench: Bench, *flags: str) -> Program:
    arguments = ("--run-dir", str(bench.run_dir), "--set", f"rounds={ROUNDS}", *flags)
    return bench.program("-m", "heron_server", "demo", *arguments)


def read_summary(bench: Bench) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((bench.run_dir / "summary.json").read_text())
    return summary


def test_demo_shows_its_results_beside_the_control_and_first_order_and_leaves_a_model(bench: Bench) -> None:
    demo = start_demo(bench)
    assert demo.ends() == 0, demo.stderr
    assert demo.stderr == []

    assert ["heron", "frozen", "cse_fsl"] in [line.split() for line in demo.stdout]
    rows = {re.split("  +", line.strip())[0]: line for line in demo.stdout}
    for row in ("accuracy of the averaged back", "accuracy of the trained back", "majority-class accuracy"):
        assert rows[row].count("%") == 3, rows[row]
    assert rows["auxiliary head accuracy"].count("%") == 2, "heron's slopes are on the server's loss: it has no head"

    spec, _ = split_run_file({**load_toml(DEMO_FILE), "rounds": ROUNDS}, "demo")
    summaries = [read_summary(bench), *(simulate(as_method(spec, name)).summary for name in ("frozen", "cse_fsl"))]
    shown = rows["accuracy of the averaged back"].split()[5::2]
    assert shown == [f"{100 * found['accuracy']:.2f}" for found in summaries]
    for found in summaries:
        assert any(found["model_sha256"] in line for line in demo.stdout)

    summary = read_summary(bench)
    assert summary.keys() >= SUMMARY
    assert summary["ledger"].keys() == LEDGER
    assert summary["client_step"].keys() >= CLIENT_STEP
    assert all(record.keys() >= RECORD for record in summary["history"])
    assert (summary["schema"], summary["rounds_done"], len(summary["history"])) == (1, ROUNDS, ROUNDS)
    assert summary["ledger"]["wire_up"] > summary["ledger"]["activations_up"] > 0
    assert summary["client_step"]["peak_bytes_median"] > 0
    assert (bench.run_dir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert accuracy_of(bench.run_dir / "model") == pytest.approx(summary["accuracy"], abs=1e-9)


def accuracy_of(folder: Path) -> float:
    """Of the saved model on the held-out digits."""
    spec, _ = split_run_file(load_toml(DEMO_FILE), "demo")
    test = load_experiment(spec.data, spec.seed).test
    assert len(test) == 360
    (x,), labels = test.batch(np.arange(len(test)))
    with torch.inference_mode():
        found = load_model(folder)(torch.from_numpy(x)).argmax(dim=1).numpy()
    return float((found == labels).mean())


def test_interrupted_demo_leaves_no_process_and_resumes_to_the_undisturbed_bits(bench: Bench) -> None:
    demo = start_demo(bench)
    demo.line("round 1/4 ")
    clients = psutil.Process(demo.pid).children(recursive=True)
    assert len(clients) == 3
    demo.signal_group(signal.SIGINT)
    assert demo.ends() == 5, demo.stderr
    assert "--resume" in demo.stderr[-1]
    assert not any("Traceback" in line for line in demo.stderr), demo.stderr
    assert psutil.wait_procs(clients, timeout=0)[1] == []

    resumed = start_demo(bench, "--resume")
    assert resumed.ends() == 0, resumed.stderr
    spec, _ = split_run_file({**load_toml(DEMO_FILE), "rounds": ROUNDS}, "demo")
    assert read_summary(bench)["model_sha256"] == simulate(spec).summary["model_sha256"]


def test_the_language_demo_killed_and_resumed_ends_with_the_undisturbed_bits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own run file, shortened, with one client and a tiny decoder where SmolLM2's folder would lie."""
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    data = bench.folder / "data"
    folder = tiny_text.folder(data, "smollm2")
    write_decoder(folder, vocab_size=tiny_text.VOCABULARY, num_hidden_layers=8, max_position_embeddings=256)
    monkeypatch.setenv("HERON_DATA", str(data))
    shorter = ["data.test_limit=4", "model.language.length=256", "federation.clients=1", "federation.min_clients=1"]
    flags = ("--preset", "language", *(word for setting in shorter for word in ("--set", setting)))

    demo = start_demo(bench, *flags)
    demo.line("round 2/4 ")
    demo.signal(signal.SIGKILL)
    assert demo.ends() == -signal.SIGKILL
    resumed = start_demo(bench, *flags, "--resume")
    assert resumed.ends(3 * PATIENCE_S) == 0, resumed.stderr  # two runs and their texts
    assert any("perplexity" in line for line in resumed.stdout)
    spec, _ = load_run_file(DEMOS["language"].file, [*shorter, f"rounds={ROUNDS}"])
    client = {"data": {"folder": data}}
    alone = simulate(spec, settings={"data_folder": data}, client_settings=client).summary
    assert read_summary(bench)["model_sha256"] == alone["model_sha256"]


@pytest.mark.parametrize("where", ["round 1/4 ", "Now the control"])
def test_what_the_demo_has_started_ends_with_it_however_it_ends(
    bench: Bench, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = bench.folder / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    demo = start_demo(bench)
    demo.line(where)
    while not (started := psutil.Process(demo.pid).children(recursive=True)):
        assert demo.running  # the line comes just before the process
    demo.signal(signal.SIGKILL)
    assert demo.ends() == -signal.SIGKILL
    assert psutil.wait_procs(started, timeout=GONE_WITHIN_S)[1] == []
    assert list(temporary.glob("heron*")) == []


def test_demo_interrupted_in_its_control_has_its_model_and_exits_5(bench: Bench) -> None:
    demo = start_demo(bench, "--set", "method.local_steps=2")
    demo.line("Now the control")
    demo.signal_group(signal.SIGINT)
    assert demo.ends() == 5, demo.stderr
    assert len(demo.stderr) == 1, demo.stderr
    assert (bench.run_dir / "model" / "model.safetensors").exists()
