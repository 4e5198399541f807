"""Drop-outs alone, over a transport that only has events."""

from __future__ import annotations

from collections import deque

import pytest

from heron_core.errors import Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_simulator.faults import DroppingOut

WAITING = pb.RoundEvent(waiting=pb.Waiting(reason="for the others"))


def begins(number: int, term: int = 1, rank: int = 0) -> pb.RoundEvent:
    return pb.RoundEvent(round_begins=pb.RoundBegins(term=term, round=number, rank=rank, clients=4))


class Events:
    """A Transport that has events, and notes who leaves."""

    def __init__(self, *events: pb.RoundEvent) -> None:
        self.events = deque(events)
        self.left: list[pb.LeaveRequest] = []

    def watch(self, session_id: str, heartbeat_s: float, silence_s: float) -> None:
        """Nothing to do."""

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        return self.events.popleft() if self.events else None

    def leave(self, request: pb.LeaveRequest) -> None:
        self.left.append(request)


def client(inner: Events, chance: float, seed: int = 0) -> DroppingOut:
    transport = DroppingOut(inner, seed, chance)
    transport.watch("s", 1.0, 1.0)
    return transport


def vanishes(event: pb.RoundEvent, chance: float = 0.5, seed: int = 0) -> bool:
    try:
        client(Events(event), chance, seed).next_event(0)
    except Unreachable:
        return True
    return False


def test_a_client_that_vanishes_leaves_its_session_first() -> None:
    inner = Events(begins(3))
    with pytest.raises(Unreachable, match="vanished from round 3"):
        client(inner, 1 - 2**-53).next_event(0)
    assert [(request.session_id, "round 3" in request.reason) for request in inner.left] == [("s", True)]


def test_a_client_vanishes_from_nothing_but_rounds() -> None:
    transport = client(Events(WAITING), 1 - 2**-53)
    assert transport.next_event(0) == WAITING
    assert transport.next_event(0) is None


def test_who_vanishes_is_a_matter_of_seed_round_term_and_rank_alone() -> None:
    places = [{"number": n, "term": t, "rank": r} for n in range(1, 5) for t in (1, 2) for r in range(4)]
    found = [vanishes(begins(**place)) for place in places]
    assert found == [vanishes(begins(**place)) for place in places]
    assert 0 < sum(found) < len(found)
    assert found != [vanishes(begins(**place), seed=1) for place in places]
    first, second = ([f for f, place in zip(found, places, strict=True) if place["term"] == t] for t in (1, 2))
    assert first != second, "a round that was abandoned comes again with other absences"
