"""What this machine has left, and who may read what."""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from secured import Secured, today

from heron_core.doctor.certificates import certificates
from heron_core.doctor.examination import Level
from heron_core.doctor.machine import memory, space
from heron_core.errors import ConfigError
from heron_core.process.memory import free_memory, total_memory
from heron_core.trust.folder import CertFolder, Side

TIB = 1 << 40


def test_more_memory_than_the_machine_has_fails_more_than_is_free_warns() -> None:
    total = total_memory()
    assert 0 < free_memory() <= total
    with pytest.raises(ConfigError, match=r"^it needs .* MiB of memory; lower it$"):
        list(memory(total + TIB, "it", "lower it"))
    assert [f.level for f in memory(total, "it", "lower it")] == [Level.WARNING]
    assert [f.level for f in memory(1, "it", "lower it")] == [Level.OK]


def test_space_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    deep = tmp_path / "not" / "yet"
    assert [f.level for f in space(deep, 1, "it", "take another")] == [Level.OK]
    with pytest.raises(ConfigError, match=f"are free in {tmp_path}; free some, or take another$"):
        list(space(deep, 1000 * TIB, "it", "take another"))
    assert not deep.parent.exists()
    (tmp_path / "not").touch()
    with pytest.raises(ConfigError, match=f"{tmp_path / 'not'} is no folder of this user's; take another$"):
        list(space(deep, 1, "it", "take another"))


def test_a_key_that_this_user_may_not_read_is_named_with_its_owner() -> None:
    """As somebody who is not root, to whom modes mean something."""
    with tempfile.TemporaryDirectory() as outside:  # pytest's own folders are closed to others
        root = Path(outside)
        Secured(root / "certs").client("a", 30)
        folder = CertFolder(root / "certs" / "clients" / "a", Side.CLIENT)
        for path in (root, *folder.path.parents[:2], folder.path):
            path.chmod(0o755)
        (folder.path / "key.pem").chmod(0o000 if os.geteuid() else 0o600)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(ConfigError, match=r"may not read .*key\.pem: it belongs to .* chown -R \S+ .*a$"):
                list(certificates(folder, today()))
        finally:
            os.seteuid(me)
        (folder.path / "key.pem").chmod(0o600)
        assert list(certificates(folder, today())) == []
        assert [f.level for f in certificates(folder, today() + timedelta(days=20))] == [Level.WARNING]
