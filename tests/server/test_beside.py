"""`--control` and `--compare`: which methods stand beside a run, and what the processes that simulate them leave."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from server.heard import Heard
from server.made_records import round_record

from heron_core.errors import ConfigError, DataError, Internal
from heron_core.spec.run_spec import RunSpec
from heron_core.spec.unused import as_method
from heron_server.beside import announcement, methods_beside, runs_beside, show, show_beside
from heron_server.config import ServerSettings, load_run_file
from heron_server.control import control_beside
from heron_server.launch import run_server
from heron_server.simulated import tables_beside
from heron_server.text.toml import to_toml
from heron_simulator.settings import load_simulate_settings
from heron_simulator.simulator import simulate

TINY: dict[str, Any] = {
    "rounds": 1, "model": {"name": "digits_cnn"}, "federation": {"clients": 2},
    "data": {"train_limit": 100, "test_limit": 20}, "method": {"local_steps": 2, "batch_size": 8},
}  # fmt: skip
CIFAR = RunSpec.model_validate({"model": {"name": "cifar_cnn"}, "data": {"source": "cifar10"}})


def heron() -> RunSpec:
    return RunSpec.model_validate(TINY)


@pytest.mark.parametrize(("method", "control", "compare", "found"), [
    ("heron", False, "", []),
    ("heron", True, "", ["frozen"]),
    ("heron", False, "sflv2", ["frozen", "sflv2"]),
    ("heron", True, " cse_fsl, frozen,cse_fsl ", ["frozen", "cse_fsl"]),
    ("frozen", False, "heron", ["heron"]),
])  # fmt: skip
def test_the_control_stands_first_beside_whatever_is_compared(
    method: str, control: bool, compare: str, found: list[str]
) -> None:
    assert methods_beside(as_method(heron(), method), control, compare) == found


@pytest.mark.parametrize(("method", "control", "compare", "said"), [
    ("heron", False, "sflv3", "no such method .*did you mean 'sflv2' or 'sflv1'"),
    ("heron", False, " , ", "wants methods"),
    ("heron", True, "heron", "heron is this run's own method"),
    ("frozen", True, "", "frozen is this run's own method"),
])  # fmt: skip
def test_what_cannot_stand_beside_the_run_is_refused(method: str, control: bool, compare: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        methods_beside(as_method(heron(), method), control, compare)


def test_a_method_that_cannot_run_here_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        runs_beside(CIFAR, ServerSettings(data_folder=tmp_path), True, "")


def test_a_server_has_no_data_of_its_clients_to_simulate_with(tmp_path: Path) -> None:
    spec = RunSpec.model_validate({"data": {"source": "client"}})
    with pytest.raises(ConfigError, match=r"heron-simulate RUN\.toml --control --client"):
        run_server(spec, ServerSettings(run_dir=tmp_path / "run"), resume=False, log_format="text", control=True)
    assert not (tmp_path / "run").exists()


def test_one_table_has_the_run_its_control_and_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, settings = heron(), ServerSettings()
    monkeypatch.setattr("heron_server.control.at_once", lambda threads: 2)
    others, heard = runs_beside(spec, settings, False, "cse_fsl"), Heard()
    with control_beside(spec, others, settings, heard) as controls:
        summary = simulate(spec, observers=controls).summary
        show_beside(summary, others, settings, "text", controls=controls)
    assert heard.of("note") == [("note", "the control, clients that never train, is simulated beside the run")]
    out = capsys.readouterr().out
    assert "Now the same run with cse_fsl (in the simulator)" in out
    assert ["heron", "frozen", "cse_fsl"] in [line.split() for line in out.splitlines()]
    for name in ("frozen", "cse_fsl"):
        assert simulate(as_method(spec, name)).summary["model_sha256"] in out, name


def test_a_control_that_could_not_run_beside_it_is_compared_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def summary(method: str, accuracy: float) -> Any:
        history = [round_record(number, accuracy, samples=1000) for number in range(1, 13)]
        return {"method": method, "rounds": 12, "history": history}

    monkeypatch.setattr("heron_server.beside.simulated", lambda *_: nullcontext(SimpleNamespace(
        summary=lambda: summary("frozen", 0.8)
    )))  # fmt: skip
    for own, lines in ((0.6, 1), (0.8, 0)):
        show_beside(summary("heron", own), [as_method(heron(), "frozen")], ServerSettings(), "json")
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        warnings = [event["text"] for event in events if event["event"] == "warning"]
        assert len(warnings) == lines and all("ahead after round 12" in text for text in warnings)


def test_programs_get_an_object_for_each_run_beside_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    summary = simulate(heron()).summary
    show([summary, {**summary, "method": "frozen"}], "json")
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["event"], json.loads(line)["summary"]["method"]) == ("beside", "frozen")


def test_the_file_of_a_run_beside_has_the_servers_settings_wherever_it_lies(tmp_path: Path) -> None:
    settings = ServerSettings(test_data="none", byte_budget=1 << 20, address="127.0.0.1:1")
    settings = settings.model_copy(update={"data_folder": Path("pay $5"), "python_path": (Path("code"),)})
    control = as_method(heron(), "frozen")
    path = tmp_path / "run.toml"
    path.write_text(to_toml(tables_beside(control, settings, tmp_path / "run", {"dropout": 0.5})))
    spec, server = load_run_file(path)
    assert (spec, load_simulate_settings(path, []).dropout) == (control, 0.5)
    assert (server.test_data, server.byte_budget, server.run_dir) == ("none", 1 << 20, tmp_path / "run")
    assert (server.data_folder, server.python_path) == (Path.cwd() / "pay $5", (Path.cwd() / "code",))
    assert server.address == ServerSettings().address


def test_one_that_fails_is_named_with_its_exit_code_and_the_run_has_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = simulate(heron()).summary
    with pytest.raises(SystemExit) as end:
        show_beside(summary, [CIFAR], ServerSettings(data_folder=tmp_path), "text")
    assert end.value.code == 4
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and said.err.startswith("heron: heron-simulate: ")
    assert summary["model_sha256"] in said.out


def test_one_that_is_killed_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    summary = simulate(heron()).summary
    monkeypatch.setattr("sys.executable", str(killed))
    with pytest.raises(Internal, match=r"ran frozen: it was ended by SIGKILL: most often .* want of memory"):
        show_beside(summary, [as_method(heron(), "frozen")], ServerSettings(), "text")


@pytest.mark.parametrize(("methods", "said"), [
    (["frozen", "cse_fsl"], "Now the control: the same run with clients that never train, and with cse_fsl (in the "
     "simulator)."),
    (["frozen"], "Now the control: the same run with clients that never train (in the simulator)."),
    (["sflv2", "fedavg"], "Now the same run with sflv2, fedavg (in the simulator)."),
])  # fmt: skip
def test_it_says_what_is_simulated(methods: list[str], said: str) -> None:
    assert announcement(methods) == said
