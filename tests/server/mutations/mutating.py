"""Messages made wrong: on the level of bytes, of protobuf's fields, and of what the fields mean. Seeded."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

INTEGERS = (0, 1, 2, 3, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (0.0, -0.0, -1.0, 1e-320, 1e30, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "\0", "a" * 64, "a" * 65, "ä" * 300, "../../etc/passwd", "%s{}", "b" * 60_000, "\x1b[2J\n\n", "0" * 32)
WORDS = (b"\0\0\0\0", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\x7f\xff\x7f\x7f", b"\xff\xff\xff\xff")
"""Of tensors: zero, NaN, infinity, and others."""
WIDTHS = {FieldDescriptor.CPPTYPE_UINT32: 2**32, FieldDescriptor.CPPTYPE_UINT64: 2**64}
NOTHING: dict[int, object] = {FieldDescriptor.CPPTYPE_STRING: "", FieldDescriptor.CPPTYPE_DOUBLE: 0.0}
"""Of lists that are empty; else 0."""
MANY = 3000
"""Entries of a list that is made long."""


class Mutator:
    """Makes one message out of a sound one."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._of_bytes: Sequence[Callable[[bytes, bytes], bytes]] = (
            self._flipped, self._flipped, self._cut, self._longer, self._spliced, self._noise, self._without_field,
            self._field_twice, self._shuffled, self._other_wire_type, self._huge_varint, self._huge_length,
            self._groups, self._empty,
        )  # fmt: skip

    def mutated(self, kind: type[Message], sound: bytes, other: bytes) -> bytes:
        """`sound`, a message of `kind`, made wrong; `other` is any other message, from which a part may come."""
        if self._rng.random() < 0.5:
            return self._rng.choice(self._of_bytes)(sound, other)
        message = kind()
        try:
            message.ParseFromString(sound)
        except DecodeError:
            return self._flipped(sound, other)
        for _ in range(self._rng.choice((1, 1, 1, 2, 4))):
            self._field_changed(message)
        return message.SerializeToString()

    # -- what fields mean ----------------------------------------------------------------------------------------

    def _field_changed(self, message: Message) -> None:
        """One field, of the message or of one within it, gets a value that it should not have."""
        holder = self._rng.choice(list(_within(message)))
        field = self._rng.choice(holder.DESCRIPTOR.fields)
        if self._rng.random() < 0.1:
            holder.ClearField(field.name)
        elif _is_list(getattr(holder, field.name)):
            self._list_changed(holder, field)
        elif field.message_type is not None:
            getattr(holder, field.name).SetInParent()
        else:
            setattr(holder, field.name, self._value(field, getattr(holder, field.name)))

    def _list_changed(self, holder: Message, field: FieldDescriptor) -> None:
        values = getattr(holder, field.name)
        if field.message_type is not None:
            for _ in range(self._rng.choice((1, 2, MANY))):
                values.add()
        elif values and self._rng.random() < 0.6:
            values[self._rng.randrange(len(values))] = self._value(field, values[0])
        else:
            values.extend([self._value(field, NOTHING.get(field.cpp_type, 0))] * self._rng.choice((1, 2, MANY)))

    def _value(self, field: FieldDescriptor, now: object) -> object:
        rng = self._rng
        if isinstance(now, str):
            return rng.choice((*TEXTS, now[:-1], now + "x", now[::-1]))
        if isinstance(now, bytes):
            return rng.choice((b"", b"k" * 16, now[:-1], now + b"\0", now * 2, self._tensor_bytes(now)))
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return not now
        if isinstance(now, float):
            return rng.choice(NUMBERS)
        assert isinstance(now, int)
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice((0, 1, 2, 3, 99, 2**31 - 1))
        return rng.choice((*INTEGERS, now + 1, now - 1, now * 2)) % WIDTHS[field.cpp_type]

    def _tensor_bytes(self, now: bytes) -> bytes:
        """Of the same length: other numbers, also such as are none."""
        word = self._rng.choice(WORDS)
        start = self._rng.randrange(0, max(1, len(now)), 4)
        return (now[:start] + word + now[start + 4 :])[: len(now)]

    # -- bytes and fields ----------------------------------------------------------------------------------------

    def _flipped(self, sound: bytes, other: bytes) -> bytes:
        data = bytearray(sound)
        for _ in range(self._rng.choice((1, 1, 2, 8)) if data else 0):
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        return bytes(data)

    def _cut(self, sound: bytes, other: bytes) -> bytes:
        return sound[: self._rng.randrange(len(sound) + 1)]

    def _longer(self, sound: bytes, other: bytes) -> bytes:
        return sound + self._rng.randbytes(self._rng.choice((1, 8, 300)))

    def _spliced(self, sound: bytes, other: bytes) -> bytes:
        return sound[: self._rng.randrange(len(sound) + 1)] + other[self._rng.randrange(len(other) + 1) :]

    def _noise(self, sound: bytes, other: bytes) -> bytes:
        return self._rng.randbytes(self._rng.choice((1, 3, 40, 2000)))

    def _empty(self, sound: bytes, other: bytes) -> bytes:
        return self._rng.choice((b"", other))

    def _groups(self, sound: bytes, other: bytes) -> bytes:
        """Groups within groups, deeper than protobuf goes."""
        return sound + bytes([31 << 3 & 0x7F | 3]) * 500

    def _without_field(self, sound: bytes, other: bytes) -> bytes:
        found = fields(sound)
        return b"".join(self._rng.sample(found, len(found) - 1)) if len(found) > 1 else b""

    def _field_twice(self, sound: bytes, other: bytes) -> bytes:
        found = fields(sound) or [b""]
        return sound + self._rng.choice(found) * self._rng.choice((1, 1, 50))

    def _shuffled(self, sound: bytes, other: bytes) -> bytes:
        found = fields(sound) + self._rng.sample(fields(other), min(1, len(fields(other))))
        self._rng.shuffle(found)
        return b"".join(found)

    def _other_wire_type(self, sound: bytes, other: bytes) -> bytes:
        found = fields(sound) or [b"\x08\0"]
        index = self._rng.randrange(len(found))
        tag = found[index][0] & 0xF8 | self._rng.randrange(8)
        found[index] = bytes([tag]) + found[index][1:]
        return b"".join(found)

    def _huge_varint(self, sound: bytes, other: bytes) -> bytes:
        number = self._rng.randrange(1, 16)
        value = self._rng.choice((b"\xff" * 4 + b"\x0f", b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\0", b"\xff" * 11))
        place = self._rng.choice((0, len(sound)))
        return sound[:place] + bytes([number << 3]) + value + sound[place:]

    def _huge_length(self, sound: bytes, other: bytes) -> bytes:
        number = self._rng.randrange(1, 16)
        return sound + bytes([number << 3 | 2]) + self._rng.choice((b"\xff" * 4 + b"\x07", b"\xff" * 9 + b"\x01"))


def _within(message: Message) -> list[Message]:
    """The message and those that it holds, some of each list."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in list(value)[:4] if _is_list(value) else (value,):
                found += _within(each)
    return found


def _is_list(value: object) -> bool:
    return hasattr(value, "extend")


def fields(data: bytes) -> list[bytes]:
    """The top-level fields of a message, each with its tag; what is no field comes last, whole."""
    found, at = [], 0
    while at < len(data):
        end = _end_of_field(data, at)
        found.append(data[at:end])
        at = end
    return found


def _end_of_field(data: bytes, at: int) -> int:
    kind = data[at] & 7
    at = _after_varint(data, at)
    if kind == 0:
        return _after_varint(data, at)
    if kind == 2:
        start = _after_varint(data, at)
        length = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(data[at:start]))
        return min(start + length, len(data))
    return min(at + {1: 8, 5: 4}.get(kind, len(data)), len(data))


def _after_varint(data: bytes, at: int) -> int:
    while at < len(data) and data[at] >= 0x80:
        at += 1
    return min(at + 1, len(data))
