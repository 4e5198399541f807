"""The connection for states and activations closes while nobody uses it, and the next call makes it anew."""

from __future__ import annotations

import threading
from contextlib import closing

import grpc
import pytest
from client.transport.odd_server import odd_server
from client.transport.test_threads import PATIENCE_S, fetched, says

from heron_client.transport import grpc_transport
from heron_client.transport.grpc_transport import GrpcTransport
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.pb.v1 import tensors_pb2 as tensors


def test_an_unused_connection_closes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_transport, "BULK_OPTIONS", [("grpc.client_idle_timeout_ms", 1000)])  # gRPC's least
    meta = tensors.TensorMeta(name="w", dtype=tensors.DTYPE_UINT8, shape=[2])
    state = says(pb.StateChunk(manifest=tensors.Manifest(tensors=[meta]), payload=b"ab").SerializeToString())
    with odd_server(FetchModel=state) as (_, address), closing(GrpcTransport(address, PATIENCE_S)) as transport:
        was_ready, closed = threading.Event(), threading.Event()

        def heard(now: grpc.ChannelConnectivity) -> None:
            if now is grpc.ChannelConnectivity.READY:
                was_ready.set()
            elif was_ready.is_set() and now is grpc.ChannelConnectivity.IDLE:
                closed.set()

        transport._bulk.subscribe(heard)
        first = fetched(transport)
        assert was_ready.wait(PATIENCE_S) and closed.wait(PATIENCE_S)
        assert repr(fetched(transport)) == repr(first)
