"""Bulk messages: protobuf bytes made and read with one copy of the payload.

A bulk message (StateChunk, UpdateChunk, ActivationFrame) keeps `bytes payload = 15` as its last and largest field.
Protobuf concatenates: the serialised rest, then the tag, the length and the payload are the serialised whole. So the
sender joins them once, and the receiver takes the payload as a view of what gRPC handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError, Message

from heron_core.errors import TensorError
from heron_core.wire.codec import MAX_MESSAGE_BYTES

M = TypeVar("M", bound=Message)
M_co = TypeVar("M_co", bound=Message, covariant=True)
PAYLOAD_TAG = bytes([15 << 3 | 2])
MOST_FIELDS = 32
"""Of a bulk message at its top level, which has at most 15; the walk over them is Python."""
CUT_SHORT = "expected a whole protobuf message, got one that is cut short"


@dataclass(frozen=True)
class Bulk(Generic[M_co]):
    """A bulk message's rest, and the parts of its payload."""

    rest: M_co
    parts: Sequence[memoryview | bytes] = field(default_factory=tuple)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the payload alone."""
        return sum(len(part) for part in self.parts)

    @property
    def payload(self) -> memoryview:
        """The payload in one piece; no copy if it is one part, as it always is when received."""
        if len(self.parts) == 1:
            return memoryview(self.parts[0])
        return memoryview(b"".join(self.parts))

    @property
    def message_bytes(self) -> int:
        """Bytes of the whole serialised message."""
        payload = self.payload_bytes
        return self.rest.ByteSize() + (1 + len(varint(payload)) + payload if payload else 0)


def serialize(bulk: Bulk[M]) -> bytes:
    """The wire bytes: the same as the generated class would give."""
    if not bulk.payload_bytes:
        return bulk.rest.SerializeToString()
    return b"".join((bulk.rest.SerializeToString(), PAYLOAD_TAG, varint(bulk.payload_bytes), *bulk.parts))


def deserializer(kind: type[M], most_rest_bytes: int = MAX_MESSAGE_BYTES) -> Callable[[bytes], Bulk[M]]:
    """Reads messages of `kind`; raises TensorError for bytes that are none, and, before they are parsed, for more than
    `most_rest_bytes` beside the payload."""

    def deserialize(data: bytes) -> Bulk[M]:
        start, payload = _find_payload(data)
        if start > most_rest_bytes:
            raise TensorError(
                f"a {kind.DESCRIPTOR.name} has at most {most_rest_bytes} bytes beside its payload, got {start}; check "
                "that both sides build the same model"
            )
        rest = kind()
        try:
            rest.ParseFromString(data[:start])
        except DecodeError:
            raise TensorError(f"expected a {kind.DESCRIPTOR.name}, got {len(data)} bytes that are none") from None
        return Bulk(rest, (payload,) if len(payload) else ())

    return deserialize


def _find_payload(data: bytes) -> tuple[int, memoryview]:
    """Walks the top-level fields to field 15; its value must end the message."""
    position, end, fields = 0, len(data), 0
    while position < end:
        start, fields = position, fields + 1
        if fields > MOST_FIELDS:
            raise TensorError(f"a bulk message has at most {MOST_FIELDS} fields, got more")
        tag, position = read_varint(data, position)
        wire_type = tag & 7
        if wire_type == 2:
            length, position = read_varint(data, position)
            if position + length > end:
                raise TensorError(CUT_SHORT)
            if tag >> 3 == 15:
                if position + length != end:
                    raise TensorError("expected the payload to be the message's last field, got more after it")
                return start, memoryview(data)[position:]
            position += length
        elif wire_type == 0:
            _, position = read_varint(data, position)
        else:
            position += {1: 8, 5: 4}.get(wire_type, end + 1)
    if position != end:
        raise TensorError(CUT_SHORT)
    return end, memoryview(b"")


def varint(value: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """The number at a place, and where it ends. TensorError: none does."""
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value, position, shift = value | (byte & 0x7F) << shift, position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise TensorError(CUT_SHORT)
