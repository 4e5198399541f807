"""The client state of a version: as slopes, where this client has what they begin with, or as weights."""

from __future__ import annotations

import logging
from collections.abc import Callable

from heron_client.compute.replica import STATE, Replica
from heron_client.transport.interface import Transport
from heron_client.transport.received import from_server
from heron_core.arrays import Array
from heron_core.errors import TensorError
from heron_core.pb.v1 import federation_pb2 as pb

log = logging.getLogger("heron.client")


def fetch_state(
    transport: Transport, replica: Replica, session_id: str, version: int, after_each: Callable[[], None]
) -> dict[str, Array]:
    """The arrays, checked. `after_each`: after each client's round that is replayed on the way; may raise.
    ServerTensorError: they cannot be used."""
    request = pb.FetchModelRequest(session_id=session_id, version=version)
    for may_have_any in (True, True, False):
        if not may_have_any:
            replica.forget()
        request.holds = replica.digest
        state = _taken(transport, replica, request, after_each)
        if state is not None:
            return state
        log.warning("the slopes of client state %d do not lead there from what this client has: asking again", version)
    with from_server():
        raise TensorError(f"{STATE}: the weights of version {version} were asked for, and slopes came")


def _taken(
    transport: Transport, replica: Replica, request: pb.FetchModelRequest, after_each: Callable[[], None]
) -> dict[str, Array] | None:
    arrays = transport.fetch_model(request, replica.check)
    with from_server():
        return replica.take(arrays, request.version, after_each)
