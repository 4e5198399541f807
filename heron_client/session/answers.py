"""What the server says about the run and a round is checked before anything depends on it."""

from __future__ import annotations

import json
from threading import TIMEOUT_MAX

from heron_client.session.session import Assignment
from heron_core.class_names import normal, problem_of
from heron_core.config import validate
from heron_core.errors import BadReply, Internal, RunFailed, UnknownSession, Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.spec.run_spec import RunSpec

SHORTEST_BEAT_S = 0.05
LOST = (Unreachable, UnknownSession, Internal, RunFailed)
"""Errors of a session after which a client comes back: the connection broke, or the server failed and may resume."""


def run_spec_of(reply: pb.JoinReply) -> RunSpec:
    """The run's settings. Raises BadReply if they are no JSON, ConfigError if this Heron does not know them."""
    try:
        tables = json.loads(reply.run_spec_json)
    except (ValueError, RecursionError):
        raise BadReply("the server's run spec must be JSON and is none; look at what answers at server") from None
    return validate(RunSpec, tables, "the server's run spec")


def class_names_of(reply: pb.JoinReply) -> tuple[str, ...]:
    """The run's, as far as they are known. Raises BadReply for what cannot be such names."""
    if problem := problem_of(reply.class_names):
        raise BadReply(f"the server's class names cannot be: {problem}; look at what answers at server")
    return tuple(map(normal, reply.class_names))


def check_session(reply: pb.JoinReply) -> None:
    """Raises BadReply unless the reply gives a session, and times by which one can live."""
    if not reply.session_id or not reply.run_id:
        raise BadReply("the answer to Join must name a session and a run; look at what answers at server")
    check_times(reply)


def check_times(reply: pb.JoinReply) -> None:
    """Raises BadReply for heartbeats that nobody can send, or between which the server takes its client for lost."""
    if not (SHORTEST_BEAT_S <= reply.heartbeat_s <= TIMEOUT_MAX and reply.heartbeat_s < reply.silence_s):
        raise BadReply(
            f"the server asks for a heartbeat every {reply.heartbeat_s:g} s and takes {reply.silence_s:g} s of silence "
            f"for a loss; set server.heartbeat_s to {SHORTEST_BEAT_S:g} or more, below server.silence_s"
        )


def check_assignment(assignment: Assignment, spec: RunSpec) -> None:
    """Raises BadReply for a round or a rank that the run does not have."""
    clients = spec.federation.clients
    possible = assignment.rank < clients or spec.data.source == "client"  # own data is not divided: ranks have no end
    if not (1 <= assignment.round <= spec.rounds and assignment.clients == clients and possible):
        raise BadReply(
            f"the server asks for round {assignment.round} as rank {assignment.rank} of {assignment.clients}; its run "
            f"has {spec.rounds} rounds and {clients} clients: see the server's log"
        )
