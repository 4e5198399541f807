"""Libraries that cannot be imported, or whose build is for another processor, are named with what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from heron_core.doctor.course import examine
from heron_core.doctor.examination import Check, ok
from heron_core.doctor.probe import imports
from heron_core.errors import ConfigError

WORKS = """
from types import SimpleNamespace as N
class T:
    sum = lambda self: 0
    __matmul__ = lambda self, other: self
ones = lambda *_: T()
nn = N(functional=N(conv2d=lambda *_: T()))
"""
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGILL)\n"
UNLESS_TOLD = "import os, signal\nif os.environ.get('ATEN_CPU_CAPABILITY') != 'default': os.kill(os.getpid(), 4)\n"
AT_WORK = WORKS.replace("conv2d=lambda *_: T()", "conv2d=lambda *_: os.kill(os.getpid(), 4)") + "import os\n"
NO_LIBRARY = "raise OSError('libgomp.so.1: cannot open shared object file')\n"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules come before all others in a new process, and none of them is in this one."""
    for module in ("numpy", "torch", "grpc"):
        (tmp_path / f"{module}.py").write_text(WORKS if module == "torch" else "")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    return tmp_path


def refusal() -> str:
    with pytest.raises(ConfigError) as refused:
        list(imports())
    return str(refused.value)


def test_libraries_that_work_are_said(fake: Path) -> None:
    assert list(imports()) == [ok("numpy, torch, grpc can be imported, and torch computes")]


@pytest.mark.parametrize(("torch", "when"), [(KILLED, "imported"), (AT_WORK, "at work")])
def test_an_illegal_instruction_says_which_build_to_take(fake: Path, torch: str, when: str) -> None:
    (fake / "torch.py").write_text(torch)
    said = refusal()
    assert "torch was ended by an illegal instruction (SIGILL)" in said, when
    assert "conda install -c conda-forge pytorch-cpu" in said and "apt install python3-torch" in said


def test_where_the_library_chooses_while_it_runs_it_can_be_told(fake: Path) -> None:
    (fake / "torch.py").write_text(UNLESS_TOLD + WORKS)
    assert "export ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41" in refusal()


def test_a_broken_library_is_named_with_its_reason_and_the_command(fake: Path) -> None:
    (fake / "torch.py").write_text(NO_LIBRARY)
    said = refusal()
    assert "cannot be imported (OSError: libgomp.so.1: cannot open shared object file); " in said
    assert "-m pip install --force-reinstall 'torch" in said and "--index-url https://download.pytorch.org/" in said
    (fake / "torch.py").write_text(WORKS)
    (fake / "grpc.py").write_text("raise ImportError('cygrpc')\n")
    assert "grpcio" in refusal()


def test_nothing_else_is_looked_at_where_the_libraries_do_not_work(fake: Path) -> None:
    (fake / "numpy.py").write_text(KILLED)
    lines: list[str] = []

    def never() -> list[Check]:
        raise AssertionError

    assert examine((), never, lines.append) == 2
    assert any(line.startswith("failed     libraries     numpy was ended by an illegal") for line in lines)
