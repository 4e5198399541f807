from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from heron_core import files
from heron_core.files import replace_file


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "term"
    for text in ("7", "8"):
        replace_file(path, lambda beside, text=text: beside.write_text(text))
        assert path.read_text() == text and list(tmp_path.iterdir()) == [path]


def test_what_fails_halfway_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "term"
    path.write_text("7")

    def half(beside: Path) -> None:
        beside.write_text("8 and")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, half)
    assert path.read_text() == "7" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "term"
    path.write_text("7")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, lambda beside: beside.write_text("8"))
    assert path.read_text() == "7" and list(tmp_path.iterdir()) == [path]
