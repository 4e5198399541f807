"""The demo's frozen control, which a process of its own simulates."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron_core.errors import Internal
from heron_core.spec.run_spec import RunSpec
from heron_server.demo import run_control


def test_a_control_that_cannot_run_ends_the_demo_with_its_line_and_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HERON_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        run_control(RunSpec.model_validate({"model": {"name": "cifar_cnn"}, "data": {"source": "cifar10"}}))
    assert end.value.code == 4
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("heron-simulate: ")


def test_a_control_that_is_killed_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(killed))
    with pytest.raises(Internal, match="ended by signal 9"):
        run_control(RunSpec())
