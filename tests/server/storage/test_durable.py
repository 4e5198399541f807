from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heron_core import files
from heron_core.errors import RunFailed, meaning_of
from heron_server.storage.durable import OutOfSpace, append_line, storing, write_durably


def failing(path: Path, number: int) -> RunFailed:
    with pytest.raises(RunFailed) as caught, storing(path):
        raise OSError(number, os.strerror(number))
    return caught.value


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_want_of_space_is_told_from_other_failures_for_it_may_pass(tmp_path: Path, number: int) -> None:
    error = failing(tmp_path / "term", number)
    assert isinstance(error, OutOfSpace) and error.why == f"{tmp_path}/term cannot be written: {os.strerror(number)}"
    assert str(error).endswith("; free some space and go on with --resume, the last checkpoint is usable")
    assert meaning_of(error).exit_code == 6


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT])
def test_any_other_failure_names_the_file_and_what_is_wrong(tmp_path: Path, number: int) -> None:
    error = failing(tmp_path / "term", number)
    assert type(error) is RunFailed and os.strerror(number) in str(error) and "term cannot be written" in str(error)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "term").write_text("7")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutOfSpace):
        write_durably(tmp_path / "term", b"8")
    assert (tmp_path / "term").read_text() == "7" and len(list(tmp_path.iterdir())) == 1


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel writes as much as there is room for, and refuses the rest."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("")
    append_line(path, "first")
    with files_of_at_most(10), pytest.raises(RunFailed, match=r"metrics\.jsonl cannot be written"):
        append_line(path, "much longer")
    assert path.read_text() == "first\n"
    append_line(path, "säcond")
    assert path.read_text(encoding="utf-8") == "first\nsäcond\n"


def test_a_file_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="No such file"):
        append_line(tmp_path / "metrics.jsonl", "line")
    assert not list(tmp_path.iterdir())
