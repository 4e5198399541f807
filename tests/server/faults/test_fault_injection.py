"""Whatever fails in a server, at whatever point: the run ends with its exit code, or goes on to the undisturbed bits.

All points of the handlers and of the run, and some of the rest; `benchmarks/faults.py` takes every one.
"""

from __future__ import annotations

import random

import pytest
from injection import Survey, bad, inject
from points import of_packages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ALWAYS = ("heron_server.api", "heron_server.run", "heron_server.serve")
OF_THE_REST, SEED = 15, 0


def test_a_fault_at_any_point_ends_the_run_or_lets_it_go_on() -> None:
    survey = Survey()
    cases = survey.cases()
    always = [case for case in cases if of_packages([case.point], *ALWAYS)]
    rest = [case for case in cases if case not in always]
    results = inject(survey, [*always, *random.Random(SEED).sample(rest, OF_THE_REST)], processes=1)
    assert bad(results) == []
    assert sum(result.verdict != "not reached" for result in results) > 0.8 * len(results)
