"""The short form of the table of attacks: hostile clients of the simulator, and what becomes of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def cells() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("attack_cells")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_replayed_and_forged_messages_are_refused_and_the_digest_is_as_without_them(cells: Any) -> None:
    honest, *others = (cells.run_cell(cell) for cell in cells.cells(short=True))
    found = {row["attack"]: row for row in others}
    for attack in ("replay", "impersonation"):
        assert found[attack]["messages_accepted"] == 0
        assert found[attack]["messages_refused"] > 20
        assert found[attack]["model_sha256"] == honest["model_sha256"]
    assert found["scaled"]["outcome"] == found["nan"]["outcome"] == "ended"
    assert found["scaled"]["model_sha256"] != honest["model_sha256"]
    assert found["nan"]["dropped"] == 6


def test_a_rule_that_needs_more_clients_is_a_cell_that_is_refused(cells: Any) -> None:
    row = cells.run_cell(cells.Cell("digits", "iid", "bulyan", 3, "sign_flip", 3, 0))
    assert row["outcome"] == "refused"
    assert "needs 15 clients" in row["reason"]


def test_every_cell_has_the_control_that_it_is_paired_with(cells: Any) -> None:
    names = [cell.name for cell in cells.cells(1)]
    assert len(set(names)) == len(names)
    assert {cells.honest_cell(cell).name for cell in cells.cells(1)} <= set(names)
