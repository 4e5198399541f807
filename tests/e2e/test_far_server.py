"""A server that is far away is reached, and one that was not there yet is found soon."""

from __future__ import annotations

from contextlib import closing
from time import monotonic
from typing import Any

import pytest
from processes import PATIENCE_S, Bench, free_address

from heron_client.transport.grpc_transport import GrpcTransport
from heron_core.errors import Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.version import PROTOCOL_VERSION

ONE_WAY_S = 0.3
"""As much as a round trip of 300 ms: the relay delays only bytes, no handshake of TCP."""
SOON_S = 10.0
TABLES: dict[str, Any] = {
    "rounds": 1,
    "model": {"name": "mlp", "input_shape": [1, 8, 8]},
    "method": {"local_steps": 1, "batch_size": 8},
    "federation": {"clients": 1},
    "data": {"train_limit": 100, "test_limit": 20},
}


def test_a_far_server_is_checked_and_the_run_goes_through(bench: Bench) -> None:
    server = bench.server(TABLES)
    relay = bench.relay(server.address(), ONE_WAY_S)
    check = bench.client("a", relay.address, command="check")
    assert check.ends() == 0, check.stderr
    client = bench.client("a", relay.address)
    assert server.summary()["rounds_done"] == 1
    assert client.ends() == 0, client.stderr


def test_an_address_where_nobody_listened_is_tried_again_soon(bench: Bench) -> None:
    address = free_address()
    asked = pb.JoinRequest(
        protocol_version=PROTOCOL_VERSION, client_name="a", instance_key=b"k" * 16, dry_run=True
    )
    with closing(GrpcTransport(address, rpc_deadline_s=PATIENCE_S)) as transport:
        with pytest.raises(Unreachable):
            transport.join(asked)
        bench.server({**TABLES, "server": {"address": address}}).address()
        began, run_id = monotonic(), ""
        while not run_id and monotonic() < began + SOON_S:
            try:
                run_id = transport.join(asked).run_id
            except Unreachable:
                continue
    assert run_id
