"""`heron-client check` of a server that answers nonsense: one error, not a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from client.transport.odd_server import odd_server

from heron_client.check import run_check
from heron_client.config import ClientSettings
from heron_core.errors import BadReply
from heron_core.pb.v1 import federation_pb2 as pb


def answering(reply: pb.JoinReply) -> Callable[[Any, Any], Iterator[bytes]]:
    return lambda requests, context: iter([reply.SerializeToString()])


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (pb.JoinReply(run_id="r", heartbeat_s=0.0, silence_s=30.0), "a heartbeat every 0 s"),
        (pb.JoinReply(run_id="r", heartbeat_s=5.0, silence_s=30.0, run_spec_json="{"), "run spec must be JSON"),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_said(reply: pb.JoinReply, says: str) -> None:
    with odd_server(Join=answering(reply)) as (_, address), pytest.raises(BadReply, match=says):
        run_check(ClientSettings(name="a", server=address, device="cpu"), print)
