"""What clients are told: the events that the rounds machine sends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.rounds.actions import Tell
from heron_server.rounds.members import Member


@dataclass(frozen=True)
class Place:
    """Where a client stands in the run as a round begins."""

    term: int
    round: int
    rank: int
    clients: int


def round_begins(session_id: str, place: Place, *, with_state: bool = False) -> Tell:
    """A round trains on the client state of the round before. `with_state`: who is told may lack it."""
    begins = pb.RoundBegins(
        term=place.term, round=place.round, rank=place.rank, clients=place.clients, version=place.round - 1
    )
    return Tell(session_id, pb.RoundEvent(round_begins=begins), with_state)


def evaluation_begins(session_id: str, place: Place) -> Tell:
    """A round's own client state is evaluated."""
    begins = pb.EvaluationBegins(
        term=place.term, round=place.round, rank=place.rank, clients=place.clients, version=place.round
    )
    return Tell(session_id, pb.RoundEvent(evaluation_begins=begins))


def round_ends(members: Iterable[Member], term: int, number: int) -> list[Tell]:
    """The round is over, or it was abandoned."""
    ends = pb.RoundEvent(round_ends=pb.RoundEnds(term=term, round=number))
    return [Tell(member.session_id, ends) for member in members]


def dropped(session_id: str, term: int, number: int, reason: str) -> Tell:
    """The client has no part in this round any more."""
    return Tell(session_id, pb.RoundEvent(dropped=pb.Dropped(term=term, round=number, reason=reason)))


def gathering(session_id: str, present: int, wanted: int) -> Tell:
    """The next round waits for clients."""
    return _waiting(session_id, f"{present} of {wanted} clients are here")


def pausing(session_id: str, number: int, times: int, pause_s: float) -> Tell:
    """A round was abandoned so many times in a row, and begins again after a pause."""
    how_often = f" {times} times in a row" if times > 1 else ""
    return _waiting(
        session_id,
        f"round {number} was abandoned{how_often}; it begins again once enough clients are here, after {pause_s:g} s "
        "at the earliest",
    )


def not_drawn(session_id: str, number: int) -> Tell:
    """A round has begun with others."""
    return _waiting(session_id, f"not drawn for round {number}; you may be in the next")


def under_way(session_id: str, number: int, *, some_are_drawn: bool) -> Tell:
    """The client came too late for this round, or has done its part in it."""
    chance = "may be drawn for" if some_are_drawn else "take part in"
    return _waiting(session_id, f"round {number} is under way; you {chance} the next")


def full_disk(session_id: str) -> Tell:
    """The run is paused."""
    return _waiting(session_id, "the server's disk is full; the run goes on by itself once there is space")


def _waiting(session_id: str, reason: str) -> Tell:
    return Tell(session_id, pb.RoundEvent(waiting=pb.Waiting(reason=reason)))


def draining(members: Iterable[Member], reason: str) -> list[Tell]:
    """The server stops; clients shall keep trying."""
    event = pb.RoundEvent(draining=pb.Draining(reason=reason))
    return [Tell(member.session_id, event) for member in members]


def finished(session_id: str, rounds_done: int) -> Tell:
    """The run is over."""
    line = f"the run has ended after {rounds_done} rounds"
    return Tell(session_id, pb.RoundEvent(finished=pb.Finished(summary=line)))
