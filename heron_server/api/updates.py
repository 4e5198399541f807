"""Updates as bytes: in chunks of their own call, or whole as the last frame of a push stream."""

from __future__ import annotations

from collections.abc import AsyncIterator

from heron_core.arrays import Array
from heron_core.errors import TensorError, UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import split_pb2 as split
from heron_core.wire.codec import BundleReceiver, empty_arrays, expected_bytes
from heron_core.wire.frames import Bulk
from heron_server.run.coordinator import Coordinator
from heron_server.run.peer import Peer
from heron_server.run.sessions import Pushing


async def take_chunks(coordinator: Coordinator, peer: Peer, chunks: AsyncIterator[Bulk[pb.UpdateChunk]]) -> None:
    """A client's update; the bytes of one that is here already are read and forgotten. Raises TensorError."""
    first = await anext(chunks)
    header = first.rest.header
    if not coordinator.check_update(peer, header, first.rest.manifest):
        await _forget(chunks, expected_bytes(coordinator.expected_update))
        return
    state = empty_arrays(coordinator.expected_update)
    receiver = BundleReceiver(list(state.values()), "update")
    receiver.write(first.rest.offset, first.payload)
    async for chunk in chunks:
        receiver.write(chunk.rest.offset, chunk.payload)
        coordinator.moved(peer, header.session_id, "update up", receiver.received)
    _submit(coordinator, peer, header, state, receiver)


def take_whole(coordinator: Coordinator, pushing: Pushing, frame: Bulk[split.ActivationFrame]) -> None:
    """A client's update in one frame of its push stream; one that is here already is forgotten. Raises UnknownSession,
    StaleTerm or TensorError."""
    coordinator.ledger.charge("up", frame.message_bytes, "client_state_up", frame.payload_bytes)
    header = frame.rest.update
    if header.session_id != pushing.session_id:
        raise UnknownSession("an update that ends a stream of uploads must be of the stream's own session")
    if coordinator.check_update(pushing.peer, header, frame.rest.manifest):
        state = empty_arrays(coordinator.expected_update)
        receiver = BundleReceiver(list(state.values()), "update")
        receiver.write(0, frame.payload)
        _submit(coordinator, pushing.peer, header, state, receiver)
    pushing.send(Bulk(split.PushEvent(update_taken=split.UpdateTaken())))


def _submit(
    coordinator: Coordinator, peer: Peer, header: pb.UpdateHeader, state: dict[str, Array], receiver: BundleReceiver
) -> None:
    if not receiver.complete:
        raise TensorError("the update ended before all the bytes of its manifest came; send it again")
    coordinator.submit(peer, header, state)


async def _forget(chunks: AsyncIterator[Bulk[pb.UpdateChunk]], most_bytes: int) -> None:
    """Reads what is here already, once. Raises TensorError for more."""
    async for chunk in chunks:
        most_bytes -= max(1, chunk.payload_bytes)
        if most_bytes < 0:
            raise TensorError("the update is here already, and more bytes came than it has; send nothing more of it")
