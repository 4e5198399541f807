"""Who is calling, as handlers are told over a real port."""

from __future__ import annotations

import asyncio

import pytest
from server.api.toy import KINDS, Toy, ask, channel_to

from heron_server.api.access import Access
from heron_server.api.peer import Call, Peers
from heron_server.certs.choice import OPEN
from heron_server.run.peer import is_same_caller


@pytest.mark.parametrize("rpc", KINDS)
def test_every_handler_is_told_where_the_call_comes_from_and_that_it_is_anonymous(rpc: str) -> None:
    toy = Toy()

    async def scenario() -> None:
        async with channel_to(toy, Peers(Access(OPEN))) as channel:
            await ask(channel, rpc, "word")

    asyncio.run(scenario())
    for call in toy.calls:
        assert isinstance(call, Call)
        assert call.peer.address.startswith("ipv4:127.0.0.1:") and call.peer.identity == ""


def test_a_client_s_second_connection_has_another_address_and_is_the_same_caller() -> None:
    toy = Toy()

    async def scenario() -> None:
        async with channel_to(toy, Peers(Access(OPEN))) as first:
            await ask(first, KINDS[0], "word")
        async with channel_to(toy, Peers(Access(OPEN))) as second:
            await ask(second, KINDS[0], "word")

    asyncio.run(scenario())
    one, other = (call.peer for call in toy.calls)
    assert one.address != other.address and is_same_caller(one, other)
