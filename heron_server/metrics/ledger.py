"""Every byte that crosses the wire, charged to a kind: message plus framing.

Payload bytes go to their own kind, exactly. Message fields around them and framing are control: gRPC's 5-byte prefix,
HTTP/2's 9 bytes a frame, and estimates of headers, window updates and pings. The kinds add up to wire_up + wire_down.
TCP's and IP's own headers, and what was sent in vain over a broken connection, are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

Direction = Literal["up", "down"]
Kind = Literal[
    "activations_up", "labels_up", "cut_gradients_down", "client_state_up", "client_state_down", "evaluation_up",
    "evaluation_down", "control",
]  # fmt: skip

GRPC_PREFIX_BYTES = 5
HTTP2_FRAME_BYTES = 9
HTTP2_FRAME_PAYLOAD = 1 << 18
"""gRPC lets frames grow with the connection's window, from 16 KiB to whole messages; too small is off by 0.05 %."""

# What follows depends on timing a little: means per session, call and message of real runs, every HTTP/2 frame
# counted by a relay. gRPC sends WINDOW_UPDATEs (13 bytes) against the data, and measures the path with PINGs (17).
SESSION_UP_BYTES = 1000
"""Two connections: prefaces 48, SETTINGS 108, first HEADERS beyond later ones' 590, WINDOW_UPDATEs 124, PINGs 130."""
SESSION_DOWN_BYTES = 370
"""SETTINGS 84, first HEADERS beyond later ones' 156, PINGs 130."""
CALL_UP_BYTES = 41
"""HEADERS of a method called before on its connection 17, its WINDOW_UPDATE 13, PINGs 11."""
CALL_DOWN_BYTES = 48
"""HEADERS 25, trailers 12, PINGs 11."""
AGAINST_UP_BYTES = 26
"""What a message up causes down: a WINDOW_UPDATE of its stream and one of its connection; fewer in a dense stream."""
AGAINST_DOWN_BYTES = 14
"""What a message down causes up: 1.1 WINDOW_UPDATEs."""


def framed(message_bytes: int) -> int:
    """Bytes on the wire of one gRPC message of this size."""
    body = message_bytes + GRPC_PREFIX_BYTES
    frames = -(-body // HTTP2_FRAME_PAYLOAD)
    return body + HTTP2_FRAME_BYTES * frames


@dataclass
class Ledger:
    """Bytes so far, by kind and by direction."""

    activations_up: int = 0
    labels_up: int = 0
    cut_gradients_down: int = 0
    client_state_up: int = 0
    client_state_down: int = 0
    evaluation_up: int = 0
    evaluation_down: int = 0
    """Client states that were fetched to be evaluated, and by those alone that did not train on them next."""
    control: int = 0
    wire_up: int = 0
    wire_down: int = 0

    def charge(self, direction: Direction, message_bytes: int, kind: Kind = "control", payload_bytes: int = 0) -> None:
        """One message: `payload_bytes` of it to `kind`, the rest and what it causes the other way to control."""
        total = framed(message_bytes)
        self._add(kind, payload_bytes)
        self._add("control", -payload_bytes)
        self._control(*(total, AGAINST_UP_BYTES) if direction == "up" else (AGAINST_DOWN_BYTES, total))

    def charge_session(self) -> None:
        """A client's connections, at its Join."""
        self._control(SESSION_UP_BYTES, SESSION_DOWN_BYTES)

    def charge_call(self) -> None:
        """The headers of one call."""
        self._control(CALL_UP_BYTES, CALL_DOWN_BYTES)

    def move(self, source: Kind, target: Kind, payload_bytes: int) -> None:
        """Payload charged to one kind that turned out to be another's; at most what is charged there."""
        moved = min(payload_bytes, getattr(self, source))
        self._add(source, -moved)
        self._add(target, moved)

    def as_dict(self) -> dict[str, int]:
        """Bytes by kind and by direction."""
        return asdict(self)

    def restore(self, counted: Mapping[str, int]) -> None:
        """The inverse of `as_dict`, in place."""
        for name in asdict(self):
            setattr(self, name, counted[name])

    def _add(self, kind: Kind, count: int) -> None:
        setattr(self, kind, getattr(self, kind) + count)

    def _control(self, up: int, down: int) -> None:
        self.control += up + down
        self.wire_up += up
        self.wire_down += down
