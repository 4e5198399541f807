"""Bundles as streams: the first message says what comes, the others carry bytes alone."""

from __future__ import annotations

from itertools import chain

import numpy as np

from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.wire.bulk import state_chunks, update_chunks
from heron_core.wire.codec import CHUNK_BYTES, MAX_MESSAGE_BYTES, BundleReceiver, announced, empty_arrays
from heron_core.wire.frames import Bulk, deserializer, serialize

ARRAYS = {
    "a": np.arange(CHUNK_BYTES // 4 + 7, dtype=np.float32),
    "none": np.zeros((0, 3), np.int64),
    "b": np.arange(CHUNK_BYTES + 1, dtype=np.int64),
    "scalar": np.array(5.0),
}


def over_the_wire(kind: type[pb.StateChunk] | type[pb.UpdateChunk], sent: object) -> list[Bulk]:  # type: ignore[type-arg]
    return [deserializer(kind)(serialize(bulk)) for bulk in sent]  # type: ignore[attr-defined]


def test_a_state_arrives_bit_for_bit_in_pieces_cut_inside_tensors() -> None:
    chunks = over_the_wire(pb.StateChunk, state_chunks(ARRAYS))
    landed = empty_arrays(announced(chunks[0].rest.manifest, "state"))
    receiver = BundleReceiver(list(landed.values()), "state")
    for chunk in chunks:
        receiver.write(chunk.rest.offset, chunk.payload)
    assert receiver.complete
    assert list(landed) == list(ARRAYS)
    assert all(landed[n].tobytes() == a.tobytes() and landed[n].shape == a.shape for n, a in ARRAYS.items())


def test_only_the_first_message_carries_manifest_and_header() -> None:
    header = pb.UpdateHeader(run_id="r", term=3, round=2, num_samples=9)
    first, *others = over_the_wire(pb.UpdateChunk, update_chunks(header, ARRAYS))
    assert first.rest.header == header
    assert [t.name for t in first.rest.manifest.tensors] == list(ARRAYS)
    assert others
    assert not any(o.rest.HasField("header") or o.rest.HasField("manifest") for o in others)
    state = over_the_wire(pb.StateChunk, state_chunks(ARRAYS))
    assert [c.rest.HasField("manifest") for c in state] == [True] + [False] * (len(state) - 1)


def test_no_message_nears_the_cap() -> None:
    for bulk in chain(state_chunks(ARRAYS), update_chunks(pb.UpdateHeader(), ARRAYS)):
        assert bulk.payload_bytes <= CHUNK_BYTES
        assert bulk.message_bytes < MAX_MESSAGE_BYTES // 8


def test_an_empty_state_is_one_message_with_an_empty_manifest() -> None:
    (only,) = over_the_wire(pb.StateChunk, state_chunks({}))
    assert only.rest.HasField("manifest")
    assert (len(only.rest.manifest.tensors), only.payload_bytes) == (0, 0)


def test_sending_copies_nothing_before_the_message_is_joined() -> None:
    (bulk, *_) = state_chunks({"a": ARRAYS["a"]})
    assert all(np.shares_memory(np.frombuffer(part, np.uint8), ARRAYS["a"]) for part in bulk.parts)
