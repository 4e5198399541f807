"""Every version that left a golden run is reproduced by this code, or refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from golden.make import FOLDER, Machine, one_more_round, recorded

from heron_core.errors import CheckpointError
from heron_core.models.digest import state_sha256
from heron_core.version import __version__
from heron_server.storage import checkpoint

pytest.importorskip("sklearn", reason="the golden run learns scikit-learn's digits")
VERSIONS = sorted(path.name for path in FOLDER.iterdir() if (path / "run.toml").is_file())
SMALL = 64 * 1024


def test_this_version_has_a_golden_run() -> None:
    assert __version__ in VERSIONS, "run: python tests/golden/make.py"


@pytest.mark.parametrize("version", VERSIONS)
def test_one_more_round_gives_the_recorded_digest_or_the_version_is_refused(version: str, tmp_path: Path) -> None:
    try:
        found = one_more_round(FOLDER / version, tmp_path / "run")
    except CheckpointError as error:
        assert version != __version__, error
        assert re.search(r"has version \d+, this Heron reads \d+", str(error))
        return
    wanted, machine = recorded(FOLDER / version, tmp_path)
    if state_sha256(found.tensors) != state_sha256(wanted.tensors):
        assert machine != Machine.this(), "other bits than recorded, on the same kind of machine: see CONTRIBUTING.md"
        assert found.tensors.keys() == wanted.tensors.keys()
        for name, tensor in wanted.tensors.items():  # other kernels round otherwise
            np.testing.assert_allclose(found.tensors[name], tensor, rtol=1e-3, atol=2e-4, err_msg=name)


def test_a_golden_run_of_another_checkpoint_version_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = checkpoint.VERSION
    monkeypatch.setattr(checkpoint, "VERSION", was + 1)
    with pytest.raises(CheckpointError, match=rf"has version {was}, this Heron reads {was + 1}"):
        one_more_round(FOLDER / __version__, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_run_is_small(version: str) -> None:
    assert sum(path.stat().st_size for path in (FOLDER / version).iterdir()) < SMALL
