"""A small client state that comes with the event by which its round begins: it need not be fetched."""

from __future__ import annotations

from heron_client.transport.interface import Accept
from heron_client.transport.received import from_server
from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.wire.codec import BundleReceiver, announced, empty_arrays

ORIGIN = "the server's client state"


class CarriedState:
    """The state of the newest RoundBegins, until it is asked for."""

    def __init__(self) -> None:
        self._begins: pb.RoundBegins | None = None

    def look_at(self, event: pb.RoundEvent | None) -> None:
        """Notes what this event brings; another event changes nothing."""
        if event is not None and event.WhichOneof("event") == "round_begins":
            self._begins = event.round_begins if event.round_begins.HasField("state") else None

    def forget(self) -> None:
        """What came in this session is of no use in the next."""
        self._begins = None

    def take(self, version: int, accept: Accept) -> dict[str, Array] | None:
        """The state of this version, once; None where it has to be fetched. ServerTensorError as in `fetch_model`."""
        begins = self._begins
        if begins is None or begins.version != version:
            return None
        self._begins = None
        with from_server():
            return _arrays(begins.state, accept)


def _arrays(state: pb.StateChunk, accept: Accept) -> dict[str, Array]:
    accept(state.manifest)
    arrays = empty_arrays(announced(state.manifest, ORIGIN))
    receiver = BundleReceiver(list(arrays.values()), ORIGIN)
    receiver.write(state.offset, state.payload)
    if not receiver.complete:
        raise TensorError(f"{ORIGIN}: what came as its round began ended after {receiver.received} bytes")
    return arrays
