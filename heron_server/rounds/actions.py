"""What the rounds machine asks its driver to do."""

from __future__ import annotations

from dataclasses import dataclass

from heron_core.pb.v1 import federation_pb2 as pb


@dataclass(frozen=True)
class Tell:
    """Send this event to one session."""

    session_id: str
    event: pb.RoundEvent


@dataclass(frozen=True)
class Fence:
    """Cut this session's streams; it is no longer anybody."""

    session_id: str
    taken_over: bool = False
    """Another process joined with this client's name and key: the old one must end, not fight for the place."""


@dataclass(frozen=True)
class OpenRound:
    term: int
    round: int
    participants: tuple[str, ...]
    """Names in rank order."""


@dataclass(frozen=True)
class DropFromRound:
    name: str
    reason: str


@dataclass(frozen=True)
class Aggregate:
    names: tuple[str, ...]
    """Whose updates count, in rank order."""


@dataclass(frozen=True)
class Evaluate:
    names: tuple[str, ...]
    """Who could evaluate, in rank order, where the server has no test set."""


@dataclass(frozen=True)
class SkipEvaluation:
    """This client was lost while it evaluated; what it has counted stays."""

    name: str


@dataclass(frozen=True)
class Commit:
    pass


@dataclass(frozen=True)
class Restore:
    """Back to the last boundary."""

    reason: str


@dataclass(frozen=True)
class Finish:
    pass


Action = Tell | Fence | OpenRound | DropFromRound | Aggregate | Evaluate | SkipEvaluation | Commit | Restore | Finish
