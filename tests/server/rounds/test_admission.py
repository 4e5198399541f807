"""The numbers that the rounds machine goes by, from the run's settings."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from heron_server.config import ServerSettings
from heron_server.rounds.admission import rules


@pytest.mark.parametrize(
    ("federation", "mixing", "most"),
    [({}, False, 0), ({}, True, 3), ({"clients_per_round": 2}, True, 2), ({"clients_per_round": 2}, False, 2)],
)
def test_a_round_of_mixed_batches_takes_no_more_clients_than_the_budget_was_counted_for(
    federation: dict[str, Any], mixing: bool, most: int
) -> None:
    spec = tiny.spec(federation={"clients": 3, **federation}, method={"mixing": mixing}, data={"source": "client"})
    assert rules(spec, ServerSettings()).per_round == most
