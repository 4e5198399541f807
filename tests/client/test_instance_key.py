"""A client's identity is on the disk as a whole or not at all, and for its own eyes only."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from heron_client.daemon import instance_key
from heron_core.errors import ConfigError


def test_it_is_kept_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    key = instance_key(tmp_path / "state")
    assert len(key) == 16 and instance_key(tmp_path / "state") == key
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["instance_key"]
    assert (tmp_path / "state" / "instance_key").stat().st_mode & 0o777 == 0o600
    assert instance_key(None) != instance_key(None)


def test_it_is_whole_private_and_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    fsync = os.fsync

    def looking(descriptor: int) -> None:
        assert not (tmp_path / "instance_key").exists() or seen
        seen.append((os.fstat(descriptor).st_size, os.fstat(descriptor).st_mode & 0o777))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", looking)
    instance_key(tmp_path)
    assert seen and seen[0] == (32, 0o600)


def test_a_disk_that_does_not_take_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"state_dir .* cannot be used: .*No space left on device"):
        instance_key(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty, as an early power cut leaves it; remove it, and this client gets a new identity"),
        (b"00ff", "got 4 bytes that are not; remove it"),
        (b"\xff" * 32, "got 32 bytes that are not; remove it"),
        (b"no hex digits in here, nor 32 of them", "must hold 32 hex digits"),
    ],
)
def test_one_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "instance_key").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(says)) as error:
        instance_key(tmp_path)
    assert str(tmp_path / "instance_key") in str(error.value)
