"""A simulated run whose own part fails ends with the error of that, not with a client's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from server.heard import Heard

from heron_core.errors import RunFailed
from heron_server.config import ServerSettings
from heron_server.metrics.figures import RoundRecord
from heron_server.run.journal import Journal
from heron_server.storage import run_dir as storage
from heron_server.storage.durable import OutOfSpace
from heron_simulator.simulator import Simulation, simulate


def run(folder: Path, **more: Any) -> Simulation:
    return simulate(tiny.spec(), settings=ServerSettings(device="cpu"), run_dir=folder, **more)


def test_what_fails_after_a_commit_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def committed(self: Journal) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as planted:
        planted.setattr(Journal, "committed", committed)
        with pytest.raises(RunFailed, match="a bug in the server: ZeroDivisionError; the last checkpoint is usable"):
            run(tmp_path)
    assert len(run(tmp_path, resume=True).summary["history"]) == 2


def test_a_full_disk_ends_a_simulated_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, line: str) -> None:
        raise OutOfSpace(f"{path} cannot be written: no space")

    monkeypatch.setattr(storage, "append_line", full)
    heard = Heard()
    with pytest.raises(RunFailed, match=r"metrics\.jsonl cannot be written: no space"):
        run(tmp_path, observers=[heard])
    assert len(heard.of("paused")) == 1


@pytest.mark.parametrize("name", ["model", "summary.json"])
def test_results_that_cannot_be_written_end_the_run_with_6_and_resuming_it_writes_them(
    tmp_path: Path, name: str
) -> None:
    in_the_way = tmp_path / name
    if name == "model":
        in_the_way.write_text("a file where a folder should be")
    else:
        in_the_way.mkdir()
    with pytest.raises(RunFailed, match=f"{name} cannot be written"):
        run(tmp_path)
    if name == "model":
        in_the_way.unlink()
    else:
        in_the_way.rmdir()
    again = run(tmp_path, resume=True)
    assert (tmp_path / "model" / "model.json").is_file() and (tmp_path / "summary.json").is_file()
    assert again.summary["rounds_done"] == 2


def test_a_run_directory_that_is_gone_at_the_end_is_not_rebuilt(tmp_path: Path) -> None:
    class Mover(Heard):
        def round_done(self, record: RoundRecord) -> None:
            if record["round"] == 2:
                (tmp_path / "run").rename(tmp_path / "moved")

    with pytest.raises(RunFailed, match="it was deleted, moved or replaced while the run was on"):
        run(tmp_path / "run", observers=[Mover()])
    assert not (tmp_path / "run").exists()
