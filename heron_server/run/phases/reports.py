"""What the phases of a round report; the loop tells it to the rounds machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class UploadConsumed:
    """One upload has trained the back, or is counted."""

    name: str


@dataclass(frozen=True)
class UpdateComplete:
    """The client's update is here, and all its uploads are consumed."""

    name: str


@dataclass(frozen=True)
class ClientFailed:
    """What the client sent cannot be used."""

    name: str
    reason: str


@dataclass(frozen=True)
class Aggregated:
    """The round's client state is made."""

    server_loss: float | None
    """Mean over the round's uploads; None where there were none."""
    quarantined: Mapping[str, int] = field(default_factory=dict)
    """By client, uploads that nothing was trained on."""


@dataclass(frozen=True)
class EvaluationOpened:
    """Uploads of these clients' held-out samples are awaited."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class ClientEvaluated:
    """All that the client held out is counted."""

    name: str


@dataclass(frozen=True)
class Evaluated:
    """The server has counted its own test set, or there was nothing to count."""


@dataclass(frozen=True)
class Committed:
    """The round's line is in the log, and its checkpoint, if one was due, on the disk."""


@dataclass(frozen=True)
class Restored:
    """The server stands at the end of the last round again, under a higher term."""

    term: int


@dataclass(frozen=True)
class NotStored:
    """What was to be made durable is not: the disk is full. It can be tried again."""

    why: str


@dataclass(frozen=True)
class Failed:
    """The run cannot go on; its last checkpoint stays usable."""

    error: BaseException


Report = (
    UploadConsumed | UpdateComplete | ClientFailed | Aggregated | EvaluationOpened | ClientEvaluated | Evaluated
    | Committed | Restored | NotStored | Failed
)  # fmt: skip
