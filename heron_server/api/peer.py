"""Who is calling, read from gRPC's context of the call."""

from __future__ import annotations

from typing import Any

import grpc

from heron_server.run.peer import Peer


def peer_of(context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
    """The other end of this call; anonymous, for nothing is authenticated yet."""
    return Peer(context.peer())
