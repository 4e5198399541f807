"""`heron-simulate`: its arguments, its file, and what it leaves and prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from heron_core.errors import ConfigError
from heron_server.config import load_run_file
from heron_simulator.cli import simulate

TEXT = """
rounds = 1
[method]
local_steps = 2
batch_size = 8
[data]
train_limit = 100
test_limit = 20
[federation]
clients = 2
"""


def run_file(folder: Path, more: str = "") -> Path:
    path = folder / "run.toml"
    path.write_text(TEXT + f'[server]\nrun_dir = "{folder / "run"}"\n' + more)
    return path


def test_it_wants_a_run_file_or_a_sweep() -> None:
    done = subprocess.run([sys.executable, "-m", "heron_simulator"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "one of the two" in done.stderr
    with pytest.raises(ConfigError, match="one of the two"):
        simulate(Path("run.toml"), sweep=Path("sweep.toml"))


def test_what_is_for_a_sweep_is_refused_for_one_run_and_the_other_way_round() -> None:
    for arguments in ({"jobs": 2}, {"out": Path("out")}):
        with pytest.raises(ConfigError, match="for a sweep"):
            simulate(Path("run.toml"), **arguments)
    for arguments in ({"clients": 2}, {"client_files": [Path("client.toml")]}, {"resume": True}):
        with pytest.raises(ConfigError, match="for one run"):
            simulate(sweep=Path("sweep.toml"), **arguments)


@pytest.mark.parametrize(("override", "said"), [
    ("simulate.dropot=0.1", r"unknown key simulate\.dropot \(did you mean dropout\?\)"),
    ("simulate.network.latency=1", r"simulate\.network\.latency \(did you mean latency_ms\?\)"),
    ("dropout=0.1", r"did you mean simulate\.dropout\?"),
    ("simulate.dropout=1.5", r"simulate\.dropout: .*, got 1\.5"),
    ("simulate=3", "simulate: "),
])  # fmt: skip
def test_a_wrong_setting_of_the_simulate_table_is_named_with_its_place(
    tmp_path: Path, override: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        simulate(run_file(tmp_path), overrides=[override])


def test_the_servers_own_commands_leave_the_simulate_table_alone(tmp_path: Path) -> None:
    plain = load_run_file(run_file(tmp_path))
    assert load_run_file(run_file(tmp_path, "[simulate]\nanything = [1, {goes = 2}]\n")) == plain


def test_it_leaves_a_run_directory_and_says_how_long_the_network_would_have_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(run_file(tmp_path, "[simulate.network]\nlatency_ms = 1000\n"), clients=3)
    out = capsys.readouterr().out
    assert "over the network of [simulate]: 6.0 s in all, 6.0 s a round" in out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["clients"] == 3


def test_a_number_of_clients_that_the_settings_forbid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="clients_per_round"):
        simulate(run_file(tmp_path), clients=1, overrides=["federation.clients_per_round=2"])
