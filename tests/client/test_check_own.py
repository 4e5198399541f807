"""`heron-client check --model --data`: your own code without a server; one line, and the documented exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from heron_client.cli import check
from heron_core.errors import ConfigError, DataError, ModelError

CODE = """
import numpy as np
from torch import nn
from heron_core.models import CutModule

def model(width=4):
    return CutModule(lambda: nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 3)), "1", (2,), 3)

def softmax():
    return CutModule(lambda: nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3), nn.Softmax(1)), "0", (2,), 3)

def log_softmax():
    return CutModule(lambda: nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3), nn.LogSoftmax(1)), "0", (2,), 3)

def samples(count=4, classes=3):
    return [(np.full(2, i, np.float32), i % classes) for i in range(count)]

def in_folder(path):
    return samples(len(list(path.iterdir())))
"""
MODEL, DATA = "check_own_code:model", "check_own_code:samples"


@pytest.fixture(autouse=True)
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "check_own_code.py").write_text(CODE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "check_own_code", raising=False)
    monkeypatch.chdir(tmp_path)


def test_both_are_checked_data_for_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    check(model=MODEL, data=DATA, options=["model.width=5", "data.count=7"])
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if not line.startswith("  ")] == [MODEL, DATA]
    assert any("all 7 samples are input float32 [2] with labels one int64 class in 0..2" in line for line in said)


@pytest.mark.parametrize(("flag", "name"), [("model", MODEL), ("data", DATA)])
def test_one_of_them_is_checked_alone(flag: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    check(**{flag: name}, options=["width=5" if flag == "model" else "count=5"])  # type: ignore[arg-type]
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("  ")] == [name]


def test_what_is_probably_not_meant_in_a_model_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    check(model="check_own_code:log_softmax")
    assert "  warning  back ends in a log_softmax" in capsys.readouterr().out


def test_files_need_no_code_and_a_path_comes_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    np.savez("a.npz", x=np.zeros((3, 2), np.float32), y=np.arange(3))
    check(model=MODEL, data="npz:a.npz")
    check(data="check_own_code:in_folder", options=[f"path={tmp_path}"])
    assert "all 3 samples" in capsys.readouterr().out


def test_what_is_in_the_data_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    check(model=MODEL, data=DATA, options=["data.count=7"])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  --  ")]
    assert said == [
        "  --  input: float32 [2], from 0 to 6, mean 3, standard deviation 2",
        "  --  classes: [3, 2, 2]",
    ]


def test_all_that_is_wrong_with_files_is_said_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    for number, name in enumerate(["a", "b"] * 5):
        (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
        file = tmp_path / "pets" / name / f"{number}.png"
        image.new("L", (9, 9)).save(file)
        if number % 3 == 0:
            file.write_bytes(b"torn")
    (tmp_path / "pets" / "b" / "._1.png").write_bytes(b"of a Mac")
    with pytest.raises(DataError, match=r"4 of 10 samples cannot be used, listed above; the first: .*0\.png"):
        check(data="image_folder:pets")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "4 of 10 samples:" and said[-1] == "  and 1 more such" and len(said) == 5
    for number in range(0, 10, 3):
        (tmp_path / "pets" / "ab"[number % 2] / f"{number}.png").unlink()
    check(data="image_folder:pets")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "image_folder:pets" and "  ok  all 6 samples are x float32 [3, 32, 32]" in said[2]
    assert said[-3:] == [
        "  --  all values of x are -1: nothing can be learned from it",
        "  --  passed over 1 macOS resource files (._*) (first: b/._1.png)",
        "  --  changed, of the samples that were read: 6 resized (first: pets/a/2.png)",
    ]


def test_code_is_found_in_the_python_path_of_the_client_s_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "check_own_code.py").rename(tmp_path / "code" / "elsewhere.py")
    (tmp_path / "client.toml").write_text('name = "a"\npython_path = ["code"]\n')
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match="No module named 'elsewhere'"):
        check(data="elsewhere:samples")
    check(tmp_path / "client.toml", data="elsewhere:samples")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"model": "check_own_code:softmax"}, ModelError, "check_own_code:softmax: back ends in a softmax"),
        ({"model": MODEL, "data": DATA, "options": ["data.classes=4"]}, DataError, r"sample 3: labels must .*0\.\.2"),
        ({"model": MODEL, "data": DATA, "options": ["width=4"]}, ConfigError, r"whose is it\? Say model\.width="),
        ({"model": MODEL, "options": ["width"]}, ConfigError, r"--option wants a\.b=value, got 'model\.width'"),
        ({"options": ["width=4"]}, ConfigError, "--option is for the factory that --model or --data names"),
    ],
)
def test_what_is_wrong_is_said(arguments: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        check(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--model", MODEL], 0, ""),
        (["--model", "check_own_code:softmax"], 4, "heron-client: check_own_code:softmax: back ends in a softmax"),
        (["--data", DATA, "--option", "count"], 2, "heron-client: --option wants"),
    ],
)
def test_the_command_ends_in_one_line_and_its_exit_code(arguments: list[str], code: int, says: str) -> None:
    command = [sys.executable, "-m", "heron_client", "check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (code, bool(says))
    assert done.stderr.startswith(says)
