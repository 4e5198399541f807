"""A command without one of its libraries says what to install."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from pathlib import Path

import pytest

from heron_core.process.children import ending
from heron_core.process.console import run_command
from heron_core.process.libraries import LIBRARIES, least_versions

MISSING = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"


def end_of(module: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Exit code, and what a command says that imports `module`."""
    with pytest.raises(SystemExit) as end:
        run_command("heron-test", lambda: importlib.import_module(module))
    return end.value.code, capsys.readouterr().err


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that are found before all others."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("torch", "own_code"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def test_a_missing_library_is_one_line_with_the_command(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    (there / "torch.py").write_text(MISSING)
    monkeypatch.setattr(metadata, "version", version)
    code, said = end_of("torch", capsys)
    assert code == 2 and said.count("\n") == 1
    assert said.startswith(f"heron-test: torch is not installed for this Python: {sys.executable} -m pip install 't")
    assert "--index-url https://download.pytorch.org/whl/cpu" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "OSError: libgomp.so.1: cannot open"),
        ("raise ImportError('\\n\\nIMPORTANT: read\\nthis')", "ImportError:"),
        ("raise ImportError('read this') from OSError('the reason')", "OSError: the reason"),
        ("raise ModuleNotFoundError('torch._C', name='torch._C')", "ModuleNotFoundError: torch._C"),
    ],
)
def test_a_broken_library_is_one_line_with_the_reason_and_the_command(
    there: Path, text: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "torch.py").write_text(text)
    code, said = end_of("torch", capsys)
    assert code == 2 and said.count("\n") == 1
    assert f"is here and cannot be imported ({reason}" in said and "-m pip install --force-reinstall 'torch" in said


@pytest.mark.parametrize(("stub", "name"), [("some_pb2", "protobuf"), ("some_pb2_grpc", "grpcio")])
def test_a_stub_that_wants_a_newer_library_names_it(
    there: Path, stub: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from heron_core import pb

    (there / f"{stub}.py").write_text("raise RuntimeError('the installed version is older than the generated code')")
    monkeypatch.setattr(pb, "__path__", [*pb.__path__, str(there)])
    code, said = end_of(f"heron_core.pb.{stub}", capsys)
    assert code == 2 and f"'{name}>=" in said


def test_code_of_the_user_s_own_that_cannot_be_imported_is_no_fault_of_a_library(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (there / "own_code.py").write_text("import nothing_of_this_name")
    code, said = end_of("own_code", capsys)
    assert code == 6 and "a bug: ModuleNotFoundError" in said


def test_every_library_that_heron_needs_is_known() -> None:
    assert set(least_versions()) <= set(LIBRARIES.values())


def test_a_child_that_a_signal_ended_is_said_in_words() -> None:
    assert ending(3) == "it ended with exit code 3"
    assert ending(-4).startswith("it was ended by SIGILL: a library uses instructions that this processor lacks; ")
    assert "for want of memory" in ending(-9)
    assert ending(-11) == "it was ended by SIGSEGV" and ending(-99) == "it was ended by signal 99"
