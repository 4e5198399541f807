"""What a user installs and imports: public names, packaged files, nothing of the machine it was written on."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tree import PACKAGES, ROOT, module_files, parsed, tracked_files

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", ["heron_core", "heron_simulator"])
def test_every_public_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_the_public_names_of_core_are_these() -> None:
    import heron_core

    assert heron_core.__all__ == ["PROTOCOL_VERSION", "__version__", "load_model"]
    assert heron_core.__version__ == PROJECT["project"]["version"]


@pytest.mark.parametrize("package", ["heron_core", "heron_simulator"])
def test_a_name_that_is_not_public_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'simulator_of_dreams'"):
        _ = importlib.import_module(package).simulator_of_dreams


def test_what_has_moved_to_the_simulator_says_where_to() -> None:
    import heron_server

    with pytest.raises(AttributeError, match=r"it is heron_simulator\.simulate"):
        _ = heron_server.simulate


def test_every_package_there_is_is_installed() -> None:
    found = PROJECT["tool"]["setuptools"]["packages"]["find"]
    assert found["include"] == ["heron_*"]
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_package_data_is_there() -> None:
    for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package).glob(pattern)), f"{package}/{pattern}"


@pytest.mark.parametrize("command", sorted(PROJECT["project"]["scripts"]))
def test_commands_point_at_functions(command: str) -> None:
    module, _, function = PROJECT["project"]["scripts"][command].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("path", module_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert (ast.get_docstring(parsed(path)) or "").strip()


MACHINE_PATH = re.compile(r"/(?:root|work|home/\w+|Users/\w+|tmp/env)/")
IN_CONTAINER = ("Dockerfile", ".service")
"""Files whose absolute paths are those of an image or of an installed system, not of the author's machine."""


def test_no_tracked_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    files = tracked_files()
    if not files:
        pytest.skip("not a git work tree")
    found = []
    for path in files:
        if path == Path(__file__) or path.name.endswith(IN_CONTAINER):
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_no_tracked_file_is_a_pickle_or_a_build_product() -> None:
    files = tracked_files()
    if not files:
        pytest.skip("not a git work tree")
    wrong = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".pyc", ".so", ".whl", ".safetensors"}
    assert [str(path.relative_to(ROOT)) for path in files if path.suffix in wrong] == []
    heads = {str(path.relative_to(ROOT)): path.read_bytes()[:2] for path in files}
    assert [name for name, head in heads.items() if head[:1] == b"\x80" and head[1:] in b"\2\3\4\5"] == []


def test_every_test_file_has_a_name_of_its_own() -> None:
    """pytest imports them by it."""
    names = Counter(Path(file).name for file in tracked_files() if Path(file).name.startswith("test_"))
    assert [name for name, count in names.items() if count > 1] == []
