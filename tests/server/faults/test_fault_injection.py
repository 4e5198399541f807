"""Whatever fails in a server, at whatever point: the run ends with its exit code, or goes on to the undisturbed bits.

Some of all points, drawn; `benchmarks/faults.py` takes every one.
"""

from __future__ import annotations

import random

import pytest
from injection import Survey, bad, inject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DRAWN, SEED = 25, 0


def test_a_fault_at_any_point_ends_the_run_or_lets_it_go_on() -> None:
    survey = Survey()
    drawn = random.Random(SEED).sample(survey.cases(), DRAWN)
    results = inject(survey, drawn, processes=2)
    assert bad(results) == []
    assert sum(result.verdict != "not reached" for result in results) > 0.8 * len(results)
