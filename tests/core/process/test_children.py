"""No child and no folder of its own outlives a process, whatever moment it ends at."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from heron_core.process.children import kept_folder, let_go, start_child

PATIENCE_S = 60.0
WAITS = "from heron_core.process import signals; signals.install('child'); import threading; " \
        "print('here', flush=True); threading.Event().wait()"  # fmt: skip
PARENT = f"""
import sys
from heron_core.process.children import kept_folder, start_child
with kept_folder("heron-test-") as kept:
    (kept.path / "file").write_text("")
    if "child" in sys.argv:
        child = start_child("-c", {WAITS!r}, folder=kept)
    else:
        print("here", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_child_ends_once_its_parent_lets_go() -> None:
    child = start_child("-c", WAITS, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"here\n"
        let_go(child)
        child.wait(PATIENCE_S)


def test_a_kept_folder_is_there_within_its_block_and_for_this_user_alone(temporary: Path) -> None:
    with kept_folder("heron-test-") as kept:
        assert [kept.path] == list(temporary.iterdir())
        assert kept.path.stat().st_mode & 0o777 == 0o700
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("with_child", [[], ["child"]])
def test_a_kept_folder_goes_with_its_process_and_the_child_in_it(temporary: Path, with_child: list[str]) -> None:
    command = [sys.executable, "-c", PARENT, *with_child]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdin is not None
    with parent.stdout, parent.stdin:
        assert parent.stdout.readline() == b"here\n"
        started = psutil.Process(parent.pid).children(recursive=True)
        assert len(started) == 1 + len(with_child)
        assert [folder.name for folder in temporary.glob("heron-test-*/file")] == ["file"]
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE_S)
    assert psutil.wait_procs(started, timeout=PATIENCE_S)[1] == []
    assert list(temporary.iterdir()) == []
