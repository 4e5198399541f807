"""Every byte that crosses the wire, charged to a kind: message plus framing.

Payload bytes go to their own kind, exactly. Message fields around them and framing (gRPC's 5-byte prefix, HTTP/2's
9 bytes a frame, an estimate of each call's headers) are control, so that the kinds add up to wire_up + wire_down.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Direction = Literal["up", "down"]
Kind = Literal[
    "activations_up", "labels_up", "cut_gradients_down", "client_state_up", "client_state_down", "evaluation_up",
    "control",
]  # fmt: skip

GRPC_PREFIX_BYTES = 5
HTTP2_FRAME_BYTES = 9
HTTP2_FRAME_PAYLOAD = 16_384
CALL_UP_BYTES = 190
"""HEADERS of one call after the first on a connection (indexed by HPACK), with its window updates."""
CALL_DOWN_BYTES = 90


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
    control: int = 0
    wire_up: int = 0
    wire_down: int = 0

    def charge(self, direction: Direction, message_bytes: int, kind: Kind = "control", payload_bytes: int = 0) -> None:
        """One message: `payload_bytes` of it to `kind`, the rest to control."""
        total = framed(message_bytes)
        self._add(kind, payload_bytes)
        self._add("control", total - payload_bytes)
        self._wire(direction, total)

    def charge_call(self) -> None:
        """The headers of one call, both ways."""
        self._add("control", CALL_UP_BYTES + CALL_DOWN_BYTES)
        self._wire("up", CALL_UP_BYTES)
        self._wire("down", CALL_DOWN_BYTES)

    def move(self, source: Kind, target: Kind, payload_bytes: int) -> None:
        """Payload charged to one kind that turned out to be another's."""
        self._add(source, -payload_bytes)
        self._add(target, payload_bytes)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    def _add(self, kind: Kind, count: int) -> None:
        setattr(self, kind, getattr(self, kind) + count)

    def _wire(self, direction: Direction, count: int) -> None:
        if direction == "up":
            self.wire_up += count
        else:
            self.wire_down += count

