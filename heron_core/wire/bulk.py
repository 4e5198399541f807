"""Bundles as streams of bulk messages: made from arrays, and read back into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from heron_core.arrays import Array
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.wire.codec import chunks, manifest_of
from heron_core.wire.frames import Bulk


def state_chunks(arrays: Mapping[str, Array]) -> Iterator[Bulk[pb.StateChunk]]:
    """FetchModel's answer."""
    for offset, parts in chunks(list(arrays.values())):
        manifest = manifest_of(arrays) if offset == 0 else None
        yield Bulk(pb.StateChunk(manifest=manifest, offset=offset), parts)


def update_chunks(header: pb.UpdateHeader, arrays: Mapping[str, Array]) -> Iterator[Bulk[pb.UpdateChunk]]:
    """SubmitUpdate's request."""
    for offset, parts in chunks(list(arrays.values())):
        rest = pb.UpdateChunk(offset=offset)
        if offset == 0:
            rest = pb.UpdateChunk(header=header, manifest=manifest_of(arrays))
        yield Bulk(rest, parts)
