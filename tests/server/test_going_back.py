from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from heron_core.errors import CheckpointError
from heron_server.going_back import command_after, going_back
from heron_server.storage.shelf import UnusableCheckpoint


@pytest.mark.parametrize("given", [
    ["--resume"], ["--resume-after", "7"], ["--resume-after=7"], ["--resume", "--resume-after", "7"], [],
])  # fmt: skip
def test_the_command_is_the_one_that_was_given_but_for_where_it_goes_on(given: list[str]) -> None:
    command = ["/opt/bin/heron-server", "run", "my run.toml", *given, "--set", "name=a b"]
    assert command_after(command, 5) == "heron-server run 'my run.toml' --set 'name=a b' --resume-after 5"


def test_a_program_that_was_started_as_a_module_is_again() -> None:
    assert command_after(["/x/heron_simulator/__main__.py", "run.toml"], 0) == (
        "python -m heron_simulator run.toml --resume-after 0"
    )


def test_what_comes_of_the_run_is_told_with_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["heron-server", "run", "run.toml", "--resume"])
    says = r"a is torn; the newest good one is that after round 5; go on from it with: heron-server run run.toml --resu"
    with pytest.raises(CheckpointError, match=says), going_back(tmp_path, tiny.spec(), None):
        raise UnusableCheckpoint("a is torn", 5)
    none = pytest.raises(CheckpointError, match="a is torn; no other one is good; start")
    with none, going_back(tmp_path, tiny.spec(), None):
        raise UnusableCheckpoint("a is torn", None)


def test_nothing_runs_where_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"), going_back(tmp_path, tiny.spec(), 3):
        raise AssertionError("this ran")
