"""Sweeps as a user calls them: real processes, killed, called again, in parallel and one by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

TEXT = """
seeds = 2
control = false
[run]
rounds = 1
[run.data]
train_limit = 100
test_limit = 50
[run.method]
local_steps = 2
batch_size = 8
[axes]
"method.zo.num_directions" = [1, 2]
"""
TIMES = ("wall_s", "step_seconds")
PATIENCE_S = 120.0


def start(folder: Path, *flags: str, text: str = TEXT) -> subprocess.Popen[str]:
    (folder / "try.toml").write_text(text)
    command = ["-m", "heron_simulator", "--sweep", "try.toml", "--out", "out", *flags]
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Without what differs from one time to another."""
    lines = [json.loads(line) for line in (folder / "out" / "runs.jsonl").read_text().splitlines()]
    assert len({line["fingerprint"] for line in lines}) == len(lines), "a run was done twice"
    return {line.pop("fingerprint"): {k: v for k, v in line.items() if k not in TIMES} for line in lines}


def test_a_killed_sweep_goes_on_with_what_is_missing_and_ends_as_one_left_alone(tmp_path: Path) -> None:
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    for folder in (cut, whole):
        folder.mkdir()
    process = start(cut, "--jobs", "1")
    assert process.stdout is not None
    first = process.stdout.readline()  # a run has finished, the next is in progress
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    assert first.startswith("1/4")
    assert len(rows(cut)) < 4

    code, out, _ = finish(start(cut, "--jobs", "2"))
    assert code == 0
    assert "of 4 runs are here already" in out
    assert finish(start(whole, "--jobs", "1"))[0] == 0
    assert rows(cut) == rows(whole)
    assert len(rows(whole)) == 4

    code, out, _ = finish(start(cut))
    assert (code, "4 of 4 runs are here already" in out) == (0, True)


def test_ctrl_c_ends_every_process_and_leaves_a_page(tmp_path: Path) -> None:
    process = start(tmp_path, "--jobs", "1")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 5, err
    assert "interrupted" in err
    assert "runs are missing" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
def test_however_a_sweep_ends_its_runs_and_their_folders_go_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = start(tmp_path, "--jobs", "2", text=TEXT.replace("seeds = 2", "seeds = 8"))
    assert process.stdout is not None
    process.stdout.readline()  # a run has finished, others are in progress, and many are left
    process.send_signal(signal.SIGSTOP)  # so that it starts nothing between these two lines
    runs = psutil.Process(process.pid).children(recursive=True)
    assert runs
    process.send_signal(how)
    process.send_signal(signal.SIGCONT)
    code, _, err = finish(process)
    assert code == (-how if how is signal.SIGKILL else 5), err
    assert psutil.wait_procs(runs, timeout=PATIENCE_S)[1] == []
    assert list(temporary.glob("heron*")) == []


def test_a_failing_point_is_recorded_and_shown_and_the_others_go_on(tmp_path: Path) -> None:
    axis = '"federation.clients" = [3, 40]'
    text = TEXT.replace('"method.zo.num_directions" = [1, 2]', axis).replace("seeds = 2", "seeds = 1")
    code, out, err = finish(start(tmp_path, text=text))
    assert code == 4, err
    assert "1 of 2 runs failed" in err
    assert "FAILED" in out
    found = rows(tmp_path).values()
    assert sorted(bool(row["failed"]) for row in found) == [False, True]
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Runs that failed" in page
    assert "clients = 40: every client needs method.batch_size" in page
