"""A few random moments of `benchmarks/chaos.py`: every run ends by itself, with the bits and ledger it must have."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Bench

pytestmark = pytest.mark.slow
CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"
PATIENCE_S = 170.0


@pytest.mark.parametrize("kinds", [(), ("--only", "server-kills")], ids=["anything", "server kills"])
def test_a_run_ends_by_itself_whatever_happens_when(bench: Bench, kinds: tuple[str, ...]) -> None:
    chaos = bench.program(str(CHAOS), "--trials", "4", "--keep", str(bench.folder / "wrong"), *kinds)
    assert chaos.ends(PATIENCE_S) == 0
    assert any(line.startswith("4 of 4 ended by themselves") for line in chaos.stdout)
