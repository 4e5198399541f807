"""What the rounds machine asks its driver to do."""

from __future__ import annotations

from dataclasses import dataclass

from heron_core.pb.v1 import federation_pb2 as pb


@dataclass(frozen=True)
class Tell:
    """Send this event to one session."""

    session_id: str
    event: pb.RoundEvent
    with_state: bool = False
    """The client state that its round begins with goes with it, where that is small."""

    def __str__(self) -> str:
        return f"Tell({self.session_id}: {self.event.WhichOneof('event')})"


@dataclass(frozen=True)
class Fence:
    """Cut this session's streams: the session is no longer valid, or its client has been silent for too long."""

    session_id: str
    taken_over: bool = False
    """Another process joined with this client's name and key: the old one must end, not fight for the place."""
    expelled: str = ""
    """What of the server the client has taken too much of."""


@dataclass(frozen=True)
class OpenRound:
    """Take uploads and updates of these clients."""

    term: int
    round: int
    participants: tuple[str, ...]
    """Names in rank order."""


@dataclass(frozen=True)
class DropFromRound:
    """Take nothing more from this participant; what its uploads have trained stays."""

    name: str
    reason: str


@dataclass(frozen=True)
class Aggregate:
    """Make one client state of the updates, then report `aggregated`."""

    names: tuple[str, ...]
    """Whose updates count, in rank order."""


@dataclass(frozen=True)
class Evaluate:
    """Report `evaluated` once the server's test set is counted, or `clients_evaluate` where it has none."""

    names: tuple[str, ...]
    """Who could evaluate, in rank order, where the server has no test set."""


@dataclass(frozen=True)
class SkipEvaluation:
    """This client was lost while it evaluated; what it has counted stays."""

    name: str


@dataclass(frozen=True)
class Commit:
    """Store what is due of the round, a checkpoint and its line in the log; report `committed`, or `out_of_space`."""


@dataclass(frozen=True)
class Restore:
    """Raise the term durably, go back to the end of the last round; report `restored`, or `out_of_space`."""

    reason: str


@dataclass(frozen=True)
class NoteFullDisk:
    """Tell the operator that the run is paused, and why."""

    text: str


@dataclass(frozen=True)
class TryAgain:
    """Do once more what the last Commit or Restore asked for; the disk was full."""


@dataclass(frozen=True)
class Fail:
    """The run cannot go on."""

    reason: str


@dataclass(frozen=True)
class Finish:
    """The run is over."""


Action = (
    Tell | Fence | OpenRound | DropFromRound | Aggregate | Evaluate | SkipEvaluation | Commit | Restore | NoteFullDisk
    | TryAgain | Fail | Finish
)  # fmt: skip
