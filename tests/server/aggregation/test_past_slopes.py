"""Which rounds a client that sat some out may replay."""

from __future__ import annotations

import numpy as np

from heron_core.replay.bundle import Averaged
from heron_server.aggregation.client_states import PastSlopes


def averaged(*ranks: int) -> Averaged:
    return Averaged(dict.fromkeys(ranks, 1 / len(ranks)), dict.fromkeys(ranks, np.zeros((2, 1))))


def test_rounds_between_two_versions_come_in_their_order() -> None:
    past, rounds = PastSlopes(99), [averaged(0, 1), averaged(2), averaged(0, 2)]
    for version, each in enumerate(rounds, 1):
        past.add(version, b"digest %d" % (version - 1), each)
    assert past.between(b"digest 0", 3) == tuple(rounds)
    assert past.between(b"digest 1", 2) == (rounds[1],)
    assert past.between(b"digest 3", 3) is None and past.between(b"", 3) is None
    assert past.between(b"digest 0", 4) is None


def test_no_more_clients_are_kept_than_are_replayed_at_once() -> None:
    past = PastSlopes(3)
    for version in range(1, 6):
        past.add(version, b"digest %d" % (version - 1), averaged(0, 1))
    assert past.between(b"digest 4", 5) is not None and past.between(b"digest 3", 5) is None
    past.add(6, b"digest 5", averaged(0))
    assert past.between(b"digest 4", 6) is not None


def test_what_an_abandoned_round_left_is_replaced() -> None:
    past = PastSlopes(99)
    for version in (1, 2):
        past.add(version, b"digest %d" % (version - 1), averaged(0))
    past.go_back(1)
    assert past.between(b"digest 0", 2) is None
    again = averaged(0, 1)
    past.add(2, b"digest 1", again)
    past.add(2, b"digest 1", again)
    assert past.between(b"digest 1", 2) == (again,)
