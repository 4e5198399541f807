"""Which checkpoints stay, which one a run goes on from, and what is said of one that it cannot go on from."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import tiny
from server.storage.saved import a_checkpoint, record

from heron_core import files
from heron_core.errors import CheckpointError, RunFailed
from heron_server.metrics.figures import RoundRecord
from heron_server.storage import checkpoint
from heron_server.storage.durable import OutOfSpace
from heron_server.storage.run_dir import RunDir

SPEC = tiny.spec(rounds=2_000_000)


class Run:
    """A run directory and the checkpoints of its rounds; `values`: what judges each round."""

    def __init__(self, folder: Path, keep: int = 2, higher_is_better: bool = True) -> None:
        self.directory = RunDir(folder, keep)
        self.run_id, self.higher = self.directory.begin(SPEC), higher_is_better
        self.history: list[RoundRecord] = []

    def save(self, *values: float | None) -> Run:
        """One round more for each."""
        for value in values:
            self.history.append(record(len(self.history) + 1, value, higher_is_better=self.higher))
            self.again()
        return self

    def again(self) -> None:
        """Saves the last round."""
        self.directory.save(a_checkpoint(len(self.history), self.run_id, list(self.history)))

    def path(self, number: int) -> Path:
        return self.directory.path / "checkpoints" / f"round-{number:06d}.safetensors"

    @property
    def there(self) -> list[int]:
        return sorted(int(p.name[6:-12]) for p in (self.directory.path / "checkpoints").glob("round-*.safetensors"))

    def refused(self) -> str:
        """What `resume` says."""
        with pytest.raises(CheckpointError) as caught:
            self.directory.resume(SPEC)
        return str(caught.value)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def make(name: str = "run", **settings: bool | int) -> Run:
        made.append(Run(tmp_path / name, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for run in made:
        run.directory.close()


Begin = Callable[..., Run]


# -- which stay ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "keep", "stay"), [
    ((0.1, 0.9, 0.2, 0.3), 2, [2, 3, 4]),
    ((0.1, 0.2, 0.3, 0.9), 2, [3, 4]),
    ((0.9, 0.1, 0.1, 0.1), 1, [1, 4]),
    ((0.5, 0.9, 0.9, 0.1, 0.1), 1, [2, 5]),
    ((None, 0.1, float("nan"), float("inf"), None), 1, [2, 5]),
    ((None, None, None), 1, [3]),
], ids=["the best", "the last", "the first", "the earliest of equals", "not a number", "no figures"])  # fmt: skip
def test_the_last_ones_stay_and_the_best(
    begin: Begin, values: tuple[float, ...], keep: int, stay: list[int]
) -> None:
    assert begin(keep=keep).save(*values).there == stay


def test_where_lower_is_better_the_lowest_stays(begin: Begin) -> None:
    assert begin(keep=1, higher_is_better=False).save(0.5, 0.2, 0.9, 0.4).there == [2, 4]


def test_names_are_in_order_of_rounds_also_past_the_millionth(begin: Begin) -> None:
    run = begin(keep=1)
    for number in (999_999, 1_000_000):
        run.directory.save(a_checkpoint(number, run.run_id))
    assert run.there == [1_000_000]
    assert run.directory.resume(SPEC).facts["rounds_done"] == 1_000_000


def test_once_the_best_is_set_aside_the_best_of_the_rest_stays(begin: Begin) -> None:
    run = begin(keep=3).save(0.1, 0.5, 0.9)
    run.directory.go_back(SPEC, 2)
    del run.history[2:]
    assert run.save(0.2, 0.2, 0.2, 0.2).there == [2, 4, 5, 6]


def test_what_has_the_name_of_a_checkpoint_and_is_none_is_not_touched_and_ends_no_run(begin: Begin) -> None:
    run = begin(keep=1)
    run.path(1).mkdir()
    run.history.append(record(1))
    run.save(0.1, 0.2)
    assert run.there == [1, 3] and run.path(1).is_dir()


# -- a full disk -----------------------------------------------------------------------------------------------------


class Disk:
    """Takes so many files of checkpoints, and no more."""

    def __init__(self, folder: Path, room: int) -> None:
        self.folder, self.room = folder, room

    def __call__(self, descriptor: int) -> None:
        files_here = [path for path in self.folder.iterdir() if path.is_file()]
        if len(files_here) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_need_not_stay_makes_room_for_the_next_one(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five are there, then a server begins that keeps one, on a disk that has no room for a sixth."""
    begin(keep=5).save(0.1, 0.2, 0.3, 0.4, 0.5).directory.close()
    run = begin("other", keep=1)
    shutil.rmtree(run.directory.path / "checkpoints")
    shutil.copytree(run.directory.path.parent / "run" / "checkpoints", run.directory.path / "checkpoints")
    (run.directory.path / "checkpoints" / ".round-000003.safetensors.tmp").write_bytes(b"of a server that was killed")
    run.history = [record(number, number / 10) for number in range(1, 6)]
    monkeypatch.setattr(files.os, "fsync", Disk(run.directory.path / "checkpoints", 5))
    assert run.save(0.6).there == [6]
    assert not list((run.directory.path / "checkpoints").glob(".*"))


def test_the_only_one_stays_while_the_disk_is_full(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(keep=1).save(0.1)
    with monkeypatch.context() as disk:
        disk.setattr(files.os, "fsync", Disk(run.path(1).parent, 1))
        for _ in range(3):
            with pytest.raises(OutOfSpace, match="No space left on device; free some space and go on with --resume"):
                run.directory.save(a_checkpoint(2, run.run_id, [*run.history, record(2, 0.9)]))
            assert [path.name for path in run.path(1).parent.iterdir()] == [run.path(1).name]
    assert run.directory.resume(SPEC).facts["rounds_done"] == 1


# -- a kill -9 at any moment -----------------------------------------------------------------------------------------


class Killed(BaseException): ...


def kill_at(moment: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The process ends before its `moment`-th access to the disk: nothing is done any more, nothing tidied up. Writing
    ends in the middle. Returns what was done until then."""
    done: list[str] = []

    def watched(owner: object, name: str, half: Callable[..., object] | None = None) -> None:
        was = getattr(owner, name)

        def step(*arguments: object, **more: object) -> object:
            if len(done) >= moment:
                if half is not None and len(done) == moment:
                    half(*arguments)
                done.append("killed")
                raise Killed
            done.append(name)
            return was(*arguments, **more)

        monkeypatch.setattr(owner, name, step)

    write = Path.write_bytes
    watched(Path, "write_bytes", lambda path, data: write(path, data[: len(data) // 2]))
    for name in ("replace", "unlink"):
        watched(Path, name)
    watched(files.os, "fsync")
    return done


def test_the_last_and_the_best_survive_a_kill_at_every_access_to_the_disk(tmp_path: Path) -> None:
    """Round 3 is best; round 5 is being saved, which lets 1 and 4 go. Whatever is left goes on without a word."""
    for moment in range(99):
        run = Run(tmp_path / f"{moment}", keep=1).save(0.2, 0.3, 0.9, 0.1)
        shutil.copy(run.path(3), run.path(2))  # a file that was left over
        run.history.append(record(5, 0.5))
        with pytest.MonkeyPatch.context() as patched:
            done = kill_at(moment, patched)
            with suppress(Killed):
                run.again()
        run.directory.close()
        again = RunDir(run.directory.path, 1)
        last = again.resume(SPEC).facts["rounds_done"]
        assert last in (4, 5) and again._shelf.load(3, run.run_id).facts["rounds_done"] == 3, done
        again.save(a_checkpoint(5, run.run_id, run.history))
        again.close()
        assert run.there == [3, 5] and len(list(run.path(3).parent.iterdir())) == 2, done
        if "killed" not in done:
            assert moment >= 6
            return
    raise AssertionError("saving does not end")


# -- one that cannot be used -----------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def of_an_older_version(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoint, "VERSION", checkpoint.VERSION - 1)
        checkpoint.write_checkpoint(path, a_checkpoint(3))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def another_run_s(path: Path) -> None:
    checkpoint.write_checkpoint(path, a_checkpoint(3, "tiny-0"))


def another_round_s(path: Path) -> None:
    shutil.copy(path.with_name("round-000002.safetensors"), path)


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (truncate, r"is torn \("),
    "emptied": (lambda path: path.write_bytes(b""), r"is torn \("),
    "something else": (lambda path: path.write_bytes(b"hello" * 100), r"is torn \("),
    "of an older version": (of_an_older_version, f"has version {checkpoint.VERSION - 1}, this Heron reads"),
    "another run's": (another_run_s, "is of another run, tiny-0"),
    "another round's": (another_round_s, "holds round 2, and not"),
    "a folder": (a_folder, "is not a file"),
    "a pipe": (a_pipe, "is not a file"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_one_that_cannot_be_used_is_refused_with_the_reason_and_the_newest_good_one_is_offered(
    begin: Begin, harm: str
) -> None:
    run = begin(keep=3).save(0.1, 0.2, 0.3)
    do, reason = HARMS[harm]
    do(run.path(3))
    said = run.refused()
    assert re.search(reason, said), said
    assert str(run.path(3)) in said and said.endswith("; the newest good one is that after round 2")
    truncate(run.path(2))
    assert run.refused().endswith("; the newest good one is that after round 1")
    with pytest.raises(CheckpointError, match=r"round-000002.* the newest good one is that after round 1"):
        run.directory.go_back(SPEC, 2)
    assert run.there == [1, 2, 3], "nothing is moved before what is wanted is found to be good"
    run.directory.go_back(SPEC, 1)
    assert run.there == [1] and run.directory.resume(SPEC).facts["rounds_done"] == 1
    assert run.path(3).with_name("round-000003.safetensors.aside").exists(), "what is wrong with it can be looked at"


def test_where_none_is_good_that_is_said(begin: Begin) -> None:
    run = begin().save(0.1, 0.2)
    for number in (1, 2):
        truncate(run.path(number))
    assert run.refused().endswith("; no other one is good; start a new run in another run_dir")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_one_that_cannot_be_read_is_refused_with_what_the_system_says(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run, read = begin().save(0.1, 0.2), Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == run.path(2):
            raise OSError(number, os.strerror(number))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert f"cannot be read: {os.strerror(number)}; the newest good one is that after round 1" in run.refused()


def test_a_run_whose_id_is_lost_says_where_to_find_it(begin: Begin) -> None:
    run = begin().save(0.1)
    (run.directory.path / "run_id").unlink()
    assert "run_id must hold the run's id and cannot be read" in run.refused()


# -- going back ------------------------------------------------------------------------------------------------------


def test_one_that_is_not_there_is_refused_with_those_that_are(begin: Begin) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint after round 7; there are those after 2, 3"):
        begin().save(0.1, 0.2, 0.3).directory.go_back(SPEC, 7)


def test_going_back_in_another_run_s_folder_moves_nothing(begin: Begin) -> None:
    run = begin().save(0.1, 0.2)
    with pytest.raises(CheckpointError, match="seed was 0, is 5"):
        run.directory.go_back(tiny.spec(seed=5), 1)
    assert run.there == [1, 2]


def test_a_summary_of_the_end_that_is_taken_back_is_gone(begin: Begin) -> None:
    run = begin().save(0.1, 0.2)
    run.directory.write_summary({"rounds_done": 2})
    run.directory.go_back(SPEC, 1)
    assert not (run.directory.path / "summary.json").exists()


def test_a_checkpoint_that_cannot_be_renamed_is_a_failure_of_the_storage(begin: Begin) -> None:
    run = begin().save(0.1, 0.2)
    aside = run.path(2).with_name("round-000002.safetensors.aside")
    aside.mkdir()
    with pytest.raises(RunFailed, match=r"round-000002\.safetensors cannot be written"):
        run.directory.go_back(SPEC, 1)
    assert run.there == [1, 2]
