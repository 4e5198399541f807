"""How large a file and a function may grow, who must say what it does, and how much may be of any type."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from tree import ROOT, module_files, parsed

MOST_LINES, MEDIAN_LINES, MOST_LINES_OF_A_FUNCTION, MOST_ANY = 300, 110, 45, 84
DOCUMENTED = (
    "heron_core", "heron_client", "heron_server/api", "heron_server/rounds", "heron_server/training",
    "heron_server/aggregation",
)  # fmt: skip
Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(node: ast.AST, public: bool = True) -> Iterator[tuple[Function, bool]]:
    """Every function below `node`, and whether it is public: not private, not within another."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child, public and not child.name.startswith("_")
            yield from functions(child, False)
        else:
            hidden = isinstance(child, ast.ClassDef) and child.name.startswith("_")
            yield from functions(child, public and not hidden)


def test_half_of_the_files_are_short() -> None:
    assert median(lines(path) for path in module_files() if path.name != "__init__.py") <= MEDIAN_LINES


@pytest.mark.parametrize("path", module_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_and_its_functions_stay_readable(path: Path) -> None:
    assert lines(path) <= MOST_LINES
    sizes = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f, _ in functions(parsed(path))}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES_OF_A_FUNCTION} == {}


@pytest.mark.parametrize(
    "path",
    [p for p in module_files() if str(p.relative_to(ROOT)).startswith(DOCUMENTED)],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_every_public_function_says_what_it_does(path: Path) -> None:
    silent = [f.name for f, public in functions(parsed(path)) if public and not ast.get_docstring(f)]
    assert silent == []


def test_any_is_rare() -> None:
    uses = {
        str(path.relative_to(ROOT)): sum(isinstance(n, ast.Name) and n.id == "Any" for n in ast.walk(parsed(path)))
        for path in module_files()
    }
    assert sum(uses.values()) <= MOST_ANY, {file: count for file, count in uses.items() if count}
