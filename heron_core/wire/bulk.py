"""Bundles as streams of bulk messages: made from arrays, and read back into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.codec import CHUNK_BYTES, chunks, manifest_of
from heron_core.wire.frames import Bulk


def state_chunks(arrays: Mapping[str, Array]) -> Iterator[Bulk[pb.StateChunk]]:
    """FetchModel's answer."""
    for offset, parts in chunks(list(arrays.values())):
        manifest = manifest_of(arrays) if offset == 0 else None
        yield Bulk(pb.StateChunk(manifest=manifest, offset=offset), parts)


def whole_state(arrays: Mapping[str, Array], most_bytes: int) -> pb.StateChunk | None:
    """FetchModel's answer as one message; None where it has more bytes than these."""
    if sum(array.nbytes for array in arrays.values()) > most_bytes:
        return None
    payload = b"".join(part for _, parts in chunks(list(arrays.values())) for part in parts)
    return pb.StateChunk(manifest=manifest_of(arrays), payload=payload)


def update_chunks(header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> Iterator[Bulk[pb.UpdateChunk]]:
    """SubmitUpdate's request."""
    for offset, parts in chunks(list(arrays.values())):
        rest = pb.UpdateChunk(offset=offset)
        if offset == 0:
            rest = pb.UpdateChunk(header=header, manifest=manifest_of(arrays))
        yield Bulk(rest, parts)


def whole_update(header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> Bulk[split.ActivationFrame] | None:
    """SubmitUpdate's request as one frame of a push stream; None where it has more bytes than a chunk."""
    if sum(array.nbytes for array in arrays.values()) > CHUNK_BYTES:
        return None
    parts = [part for _, each in chunks(list(arrays.values())) for part in each]
    return Bulk(split.ActivationFrame(update=header, manifest=manifest_of(arrays)), parts)
