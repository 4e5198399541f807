from __future__ import annotations

import json
import math
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
from server.storage.saved import a_checkpoint

from heron_core.errors import CheckpointError, ConfigError, RunDirectoryBusy, RunFailed
from heron_core.spec.run_spec import RunSpec
from heron_server.storage.run_dir import RunDir


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDir]:
    made = RunDir(tmp_path / "runs" / "one")
    yield made
    made.close()


def test_a_second_server_on_the_same_folder_is_refused_until_the_first_ends(directory: RunDir) -> None:
    with pytest.raises(RunDirectoryBusy, match=r"another server works in .*runs/one"):
        RunDir(directory.path)
    directory.close()
    RunDir(directory.path).close()


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        RunDir(tmp_path / "file" / "run")


def test_the_run_spec_is_frozen_word_for_word(directory: RunDir) -> None:
    spec = tiny.spec(name="mine", model={"options": {"depth": 2, "names": ["a", "b"], "inner": {"eps": 1e-8}}})
    assert directory.begin(spec).startswith("mine-")
    assert RunSpec.model_validate(tomllib.loads((directory.path / "run.toml").read_text())) == spec
    assert (directory.path / "metrics.jsonl").read_text() == ""


def test_each_run_gets_an_id_of_its_own_and_a_folder_holds_one_run(directory: RunDir) -> None:
    first = directory.begin(tiny.spec())
    assert directory.begin(tiny.spec()) != first, "nothing was saved yet"
    directory.save(a_checkpoint())
    with pytest.raises(ConfigError, match="already holds a run; add --resume"):
        directory.begin(tiny.spec())


def test_resume_gives_the_last_checkpoint(directory: RunDir) -> None:
    run_id = directory.begin(tiny.spec())
    for number in (0, 1, 2):
        directory.save(a_checkpoint(number, run_id))
    assert directory.resume(tiny.spec()).facts["rounds_done"] == directory.last().facts["rounds_done"] == 2


def test_nothing_to_resume_is_said(directory: RunDir) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume from; run without --resume"):
        directory.resume(tiny.spec())


def test_another_run_s_spec_is_refused_with_the_keys_that_differ(directory: RunDir) -> None:
    directory.save(a_checkpoint(run_id=directory.begin(tiny.spec())))
    other = tiny.spec(seed=5, method={"zo": {"mu": 0.5}}, model={"options": {"depth": 2}})
    with pytest.raises(CheckpointError) as caught:
        directory.resume(other)
    text = str(caught.value)
    assert "is of another run" in text
    for difference in ("seed was 0, is 5", "method.zo.mu was 0.001, is 0.5", "model.options.depth was None, is 2"):
        assert difference in text
    assert "batch_size" not in text


def test_the_term_rises_at_every_start(directory: RunDir) -> None:
    assert [directory.raise_term() for _ in range(3)] == [1, 2, 3]
    directory.close()
    again = RunDir(directory.path)
    assert again.raise_term() == 4
    again.close()


def test_a_damaged_term_is_an_error_and_never_begins_again_at_1(directory: RunDir) -> None:
    (directory.path / "term").write_text("")
    with pytest.raises(CheckpointError, match="term must hold a number"):
        directory.raise_term()


def test_the_log_and_the_summary_are_strict_json_with_nan_as_null(directory: RunDir) -> None:
    directory.begin(tiny.spec())
    record = {"a": math.nan}
    directory.log_round(record)
    directory.log_round({"a": 1})
    assert [json.loads(line)["a"] for line in (directory.path / "metrics.jsonl").read_text().splitlines()] == [None, 1]
    directory.write_summary(record)
    assert json.loads((directory.path / "summary.json").read_text())["a"] is None


WRITES: dict[str, Callable[[RunDir], object]] = {
    "save": lambda d: d.save(a_checkpoint(1)),
    "raise_term": lambda d: d.raise_term(),
    "log_round": lambda d: d.log_round({"a": 1}),
    "restore_log": lambda d: d.restore_log([]),
    "write_summary": lambda d: d.write_summary({"a": 1}),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_folder_that_was_deleted_is_not_rebuilt(directory: RunDir, write: str) -> None:
    directory.begin(tiny.spec())
    shutil.rmtree(directory.path)
    with pytest.raises(RunFailed, match=r"runs/one cannot be found any more .*it was deleted, moved or replaced"):
        WRITES[write](directory)
    assert not directory.path.exists()


@pytest.mark.parametrize("write", WRITES)
def test_a_folder_that_another_run_has_taken_is_not_touched(directory: RunDir, write: str) -> None:
    directory.begin(tiny.spec())
    directory.path.rename(directory.path.with_name("moved"))
    other = RunDir(directory.path)
    other.begin(tiny.spec())
    before = sorted(path.name for path in directory.path.rglob("*"))
    with pytest.raises(RunFailed, match="is no longer the folder that this run began in"):
        WRITES[write](directory)
    assert sorted(path.name for path in directory.path.rglob("*")) == before
    other.close()


def test_checkpoints_that_were_deleted_are_said_to_be_gone(directory: RunDir) -> None:
    directory.begin(tiny.spec())
    checkpoints = directory.path / "checkpoints"
    shutil.rmtree(checkpoints)
    with pytest.raises(CheckpointError, match="held this run's last checkpoint and is empty"):
        directory.last()
    with pytest.raises(RunFailed, match="No such file"):
        directory.save(a_checkpoint(1))
    assert not checkpoints.exists()
