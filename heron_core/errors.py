"""Every error that Heron raises on purpose, and the one table that says how each crosses the wire.

HeronError
├── ConfigError          a settings file or flag is wrong
├── PeerError            the other side cannot be reached, or said no
│   ├── Unreachable      nothing answers at the address, or the connection broke
│   │   └── Busy         the server answers, and has no room for this call now: more were open than one peer may have
│   ├── VersionMismatch  the two sides speak different protocol versions
│   ├── NameTaken        another live client holds this name
│   ├── JoinRefused      the run has no place for this client
│   ├── NotAdmitted      the caller proves nobody, somebody else, or somebody who is not let in any more
│   ├── StaleTerm        work of an older term, or of a round that has ended
│   ├── UnknownSession   the server does not know this session (it restarted, or another took over)
│   ├── BadReply         what the peer answered breaks the protocol: no message, or a number out of its range
│   └── Internal         the peer failed in a way it does not describe
├── InputError           what a user or peer handed over cannot be used
│   ├── TensorError      wrong name, dtype, shape, byte count, NaN or Inf: it costs its sender the round
│   │   └── ServerTensorError  the same, in what a client got from its server: the client ends
│   ├── DataError        missing, unreadable or implausible data
│   ├── ModelError       parts that do not fit, an unknown model or cut
│   └── CheckpointError  torn, of another run, or of another version
├── RunDirectoryBusy     a second server on the same run directory
├── RunFailed            a part of the program or its storage failed; the last checkpoint is usable
└── Interrupted          a signal ended the work; state is saved

Each message says what was expected, what came, and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass


class HeronError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(HeronError): ...


class PeerError(HeronError): ...


class Unreachable(PeerError): ...


class Busy(Unreachable): ...


class VersionMismatch(PeerError): ...


class NameTaken(PeerError): ...


class JoinRefused(PeerError): ...


class NotAdmitted(PeerError): ...


class StaleTerm(PeerError): ...


class UnknownSession(PeerError): ...


class BadReply(PeerError): ...


class Internal(PeerError): ...


class InputError(HeronError): ...


class TensorError(InputError): ...


class ServerTensorError(TensorError): ...


class DataError(InputError): ...


class ModelError(InputError): ...


class CheckpointError(InputError): ...


class RunDirectoryBusy(HeronError): ...


class RunFailed(HeronError): ...


class Interrupted(HeronError): ...


@dataclass(frozen=True)
class Meaning:
    """How one class of error crosses the wire and ends a process."""

    reason: str
    """Machine-readable, stable; travels as the metadata entry `heron-reason`."""
    status: str
    """Name of a grpc.StatusCode."""
    exit_code: int
    """Of the command that could not go on: 2 usage or config, 3 peer, 4 data or model, 5 interrupted, 6 run failed."""


REASON_KEY = "heron-reason"

MEANINGS: dict[type[HeronError], Meaning] = {
    ConfigError: Meaning("config", "INVALID_ARGUMENT", 2),
    RunDirectoryBusy: Meaning("run_directory_busy", "FAILED_PRECONDITION", 2),
    Unreachable: Meaning("unreachable", "UNAVAILABLE", 3),
    Busy: Meaning("busy", "RESOURCE_EXHAUSTED", 3),
    VersionMismatch: Meaning("version_mismatch", "FAILED_PRECONDITION", 3),
    NameTaken: Meaning("name_taken", "ALREADY_EXISTS", 3),
    JoinRefused: Meaning("join_refused", "FAILED_PRECONDITION", 3),
    NotAdmitted: Meaning("not_admitted", "PERMISSION_DENIED", 3),
    StaleTerm: Meaning("stale_term", "ABORTED", 3),
    UnknownSession: Meaning("unknown_session", "UNAUTHENTICATED", 3),
    BadReply: Meaning("bad_reply", "INTERNAL", 3),
    Internal: Meaning("internal", "INTERNAL", 3),
    TensorError: Meaning("bad_tensor", "INVALID_ARGUMENT", 4),
    ServerTensorError: Meaning("bad_server_tensor", "INTERNAL", 4),
    DataError: Meaning("bad_data", "INVALID_ARGUMENT", 4),
    ModelError: Meaning("bad_model", "INVALID_ARGUMENT", 4),
    CheckpointError: Meaning("bad_checkpoint", "DATA_LOSS", 4),
    Interrupted: Meaning("interrupted", "CANCELLED", 5),
    RunFailed: Meaning("run_failed", "INTERNAL", 6),
}

BY_REASON: dict[str, type[HeronError]] = {meaning.reason: kind for kind, meaning in MEANINGS.items()}


def meaning_of(error: HeronError) -> Meaning:
    """The table row of the nearest listed class; an unlisted one is `internal`."""
    for kind in type(error).__mro__:
        if kind in MEANINGS:
            return MEANINGS[kind]
    return MEANINGS[Internal]


def from_reason(reason: str, message: str) -> HeronError:
    """The error that a peer's `heron-reason` names; an unknown reason becomes Internal."""
    return BY_REASON.get(reason, Internal)(message)
