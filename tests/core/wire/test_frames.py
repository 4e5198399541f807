"""Bulk messages are the generated class's own bytes, and anything else is a TensorError."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st

from heron_core.errors import TensorError
from heron_core.pb.v1 import federation_pb2 as fed
from heron_core.pb.v1 import split_pb2 as split
from heron_core.pb.v1 import tensors_pb2 as tensors
from heron_core.wire.frames import Bulk, deserializer, serialize

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
MANIFESTS = st.builds(
    tensors.Manifest,
    tensors=st.lists(
        st.builds(
            tensors.TensorMeta, name=st.text(max_size=8), dtype=st.sampled_from(tensors.DType.values()),
            shape=st.lists(U64, max_size=3),
        ),
        max_size=3,
    ),
)  # fmt: skip
HEADERS = st.builds(
    split.FrameHeader, run_id=st.text(max_size=8), session_id=st.text(max_size=8), term=U64, round=U32,
    purpose=st.sampled_from(split.Purpose.values()), sequence=U64, row_start=U32, manifest=MANIFESTS, offset=U64,
)  # fmt: skip
RESTS: st.SearchStrategy[Message] = st.one_of(
    st.builds(split.ActivationFrame, header=HEADERS),
    st.builds(fed.StateChunk, manifest=MANIFESTS, offset=U64),
    st.builds(
        fed.UpdateChunk,
        header=st.builds(fed.UpdateHeader, run_id=st.text(max_size=8), term=U64),
        manifest=MANIFESTS,
        offset=U64,
    ),
    st.sampled_from([split.ActivationFrame(), fed.StateChunk(), fed.UpdateChunk()]),
)
PARTS = st.lists(st.binary(max_size=200), max_size=4)
KINDS = [split.ActivationFrame, fed.StateChunk, fed.UpdateChunk]
BIG = np.arange(3 << 18, dtype=np.uint32)


def whole(rest: Message, payload: bytes) -> Any:
    message = type(rest)()
    message.CopyFrom(rest)
    message.payload = payload  # type: ignore[attr-defined]
    return message


@given(rest=RESTS, parts=PARTS)
def test_bytes_equal_the_generated_class_s_own(rest: Message, parts: list[bytes]) -> None:
    bulk = Bulk(rest, [memoryview(p) for p in parts])
    data = serialize(bulk)
    assert data == whole(rest, b"".join(parts)).SerializeToString()
    assert bulk.message_bytes == len(data)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 1 << 20, (1 << 21) + 1])
def test_the_length_is_right_on_both_sides_of_every_varint_step(size: int) -> None:
    rest = fed.StateChunk(offset=3)
    assert serialize(Bulk(rest, [b"x" * size])) == whole(rest, b"x" * size).SerializeToString()


@given(rest=RESTS, parts=PARTS)
def test_what_was_sent_is_received(rest: Message, parts: list[bytes]) -> None:
    got = deserializer(type(rest))(serialize(Bulk(rest, parts)))
    assert got.rest == rest
    assert bytes(got.payload) == b"".join(parts)
    assert got.payload_bytes == sum(map(len, parts))


@pytest.mark.parametrize("kind", KINDS)
def test_every_bulk_message_keeps_its_payload_in_the_last_field_15(kind: type[Message]) -> None:
    field = kind.DESCRIPTOR.fields_by_name["payload"]
    assert field.number == 15 == max(f.number for f in kind.DESCRIPTOR.fields)
    assert field.type == field.TYPE_BYTES


def test_the_received_payload_is_a_view_of_what_grpc_handed_over() -> None:
    data = serialize(Bulk(fed.StateChunk(offset=1), [memoryview(BIG).cast("B")]))
    bulk = deserializer(fed.StateChunk)(data)
    assert bulk.payload.obj is data
    assert np.shares_memory(np.frombuffer(bulk.payload, np.uint8), np.frombuffer(data, np.uint8))
    assert bulk.rest.payload == b""


def refused_or_read(kind: type[Message], data: bytes) -> None:
    """Never another exception than TensorError, and never another reading than the generated class's."""
    try:
        bulk = deserializer(kind)(data)
    except TensorError:
        return
    rest: Any = bulk.rest
    assert whole(rest, bytes(bulk.payload) or rest.payload) == kind.FromString(data)


@given(data=st.binary(max_size=64), kind=st.sampled_from(KINDS))
@example(data=b"\x7a", kind=fed.StateChunk)
@example(data=b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", kind=fed.StateChunk)
@example(data=b"\x00", kind=fed.StateChunk)
@example(data=b"\x0b\x0c", kind=fed.StateChunk)
@example(data=b"\x0a\x02\xff\xfe", kind=fed.UpdateChunk)
@example(data=b"\xff" * 30, kind=split.ActivationFrame)
def test_random_bytes_are_read_as_protobuf_reads_them_or_refused(data: bytes, kind: type[Message]) -> None:
    refused_or_read(kind, data)


@given(rest=RESTS, payload=st.binary(max_size=40), data=st.data())
def test_mutated_messages_are_read_as_protobuf_reads_them_or_refused(
    rest: Message, payload: bytes, data: st.DataObject
) -> None:
    good = bytearray(serialize(Bulk(rest, [payload])))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(good)))
        good[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    refused_or_read(type(rest), bytes(good))


@given(rest=RESTS, payload=st.binary(min_size=1, max_size=40), data=st.data())
def test_a_payload_that_is_cut_short_is_refused(rest: Message, payload: bytes, data: st.DataObject) -> None:
    good = serialize(Bulk(rest, [payload]))
    cut = data.draw(st.integers(1, len(payload)))
    with pytest.raises(TensorError, match="cut short"):
        deserializer(type(rest))(good[:-cut])


def test_a_field_after_the_payload_is_refused() -> None:
    data = serialize(Bulk(fed.StateChunk(), [b"abc"]))
    with pytest.raises(TensorError, match="payload to be the message's last field"):
        deserializer(fed.StateChunk)(data + fed.StateChunk(offset=1).SerializeToString())


def test_a_second_payload_is_refused() -> None:
    data = serialize(Bulk(fed.StateChunk(), [b"abc"]))
    with pytest.raises(TensorError, match="last field"):
        deserializer(fed.StateChunk)(data + data)


def test_text_that_is_not_utf_8_is_refused_with_the_message_s_name() -> None:
    with pytest.raises(TensorError, match="expected a ActivationFrame, got 6 bytes that are none"):
        deserializer(split.ActivationFrame)(b"\x0a\x04\x0a\x02\xff\xfe")


def test_unknown_fields_of_a_newer_peer_are_passed_over() -> None:
    newer = fed.StateChunk(offset=4).SerializeToString() + b"\x70\x05" + b"\x6d\0\0\0\0" + b"\x61" + bytes(8)
    bulk = deserializer(fed.StateChunk)(newer + b"\x7a\x02hi")
    assert (bulk.rest.offset, bytes(bulk.payload)) == (4, b"hi")


def test_a_message_of_more_fields_than_there_are_is_refused_before_they_are_walked_over() -> None:
    with pytest.raises(TensorError, match="at most 32 fields"):
        deserializer(split.ActivationFrame)(b"\x08\x01" * 33)


def test_what_is_beside_the_payload_has_a_limit_that_is_looked_at_before_it_is_parsed() -> None:
    rest = split.ActivationFrame(header=split.FrameHeader(run_id="x" * 50)).SerializeToString()
    assert deserializer(split.ActivationFrame, len(rest))(rest).rest.header.run_id == "x" * 50
    with pytest.raises(TensorError, match=f"at most 20 bytes beside its payload, got {len(rest)}"):
        deserializer(split.ActivationFrame, 20)(rest)
