"""The events that the rounds machine has told to clients."""

from __future__ import annotations

from collections.abc import Iterable

from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.rounds.actions import Tell


def round_begins(session_id: str, term: int, number: int, rank: int, clients: int) -> Tell:
    """A round trains on the client state of the round before."""
    begins = pb.RoundBegins(term=term, round=number, rank=rank, clients=clients, version=number - 1)
    return Tell(session_id, pb.RoundEvent(round_begins=begins))


def evaluation_begins(session_id: str, term: int, number: int, rank: int, clients: int) -> Tell:
    """A round's own client state is evaluated."""
    begins = pb.EvaluationBegins(term=term, round=number, rank=rank, clients=clients, version=number)
    return Tell(session_id, pb.RoundEvent(evaluation_begins=begins))


def round_ends(session_ids: Iterable[str], term: int, number: int, *, committed: bool) -> list[Tell]:
    ends = pb.RoundEvent(round_ends=pb.RoundEnds(term=term, round=number, committed=committed))
    return [Tell(session_id, ends) for session_id in session_ids]


def dropped(session_id: str, term: int, number: int, reason: str) -> Tell:
    return Tell(session_id, pb.RoundEvent(dropped=pb.Dropped(term=term, round=number, reason=reason)))


def waiting(session_id: str, reason: str) -> Tell:
    return Tell(session_id, pb.RoundEvent(waiting=pb.Waiting(reason=reason)))


def draining(session_ids: Iterable[str], reason: str) -> list[Tell]:
    event = pb.RoundEvent(draining=pb.Draining(reason=reason))
    return [Tell(session_id, event) for session_id in session_ids]


def finished(session_id: str, rounds_done: int) -> Tell:
    line = f"the run has ended after {rounds_done} rounds"
    return Tell(session_id, pb.RoundEvent(finished=pb.Finished(rounds_done=rounds_done, summary=line)))
