"""The ledger after calls of each kind, over a real port."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from server.api.toy import STREAM_STREAM, STREAM_UNARY, UNARY_STREAM, UNARY_UNARY, Toy, ask, channel_to

from heron_server.api.access import Access
from heron_server.api.charges import Charging
from heron_server.api.peer import Peers
from heron_server.certs.choice import OPEN
from heron_server.metrics.charges import Charges
from heron_server.metrics.ledger import Ledger

WORD = "a word"
SIZE = StringValue(value=WORD).ByteSize()


def charged(toy: Toy, rpc: str, *words: str) -> Ledger:
    ledger = Ledger()

    async def scenario() -> None:
        async with channel_to(toy, Peers(Access(OPEN)), Charging(Charges(ledger))) as channel:
            await ask(channel, rpc, *words)

    asyncio.run(scenario())
    return ledger


def expected(up: int, down: int, session: bool = False) -> Ledger:
    """The ledger of one call with so many messages of SIZE bytes."""
    ledger = Ledger()
    ledger.charge_call()
    if session:
        ledger.charge_session()
    for _ in range(up):
        ledger.charge("up", SIZE)
    for _ in range(down):
        ledger.charge("down", SIZE)
    return ledger


def test_one_message_each_way_and_the_connections_of_a_join() -> None:
    assert charged(Toy(), UNARY_UNARY, WORD) == expected(1, 1, session=True)


def test_every_answer_of_a_stream_is_charged_as_it_is_written() -> None:
    assert charged(Toy(), UNARY_STREAM, WORD) == expected(1, 2)


def test_every_message_up_is_charged_as_it_is_read() -> None:
    assert charged(Toy(), STREAM_UNARY, WORD, WORD, WORD) == expected(3, 0)  # an update's reply is not counted


def test_both_ways_of_a_call_are_charged_at_once() -> None:
    assert charged(Toy(), STREAM_STREAM, WORD, WORD, WORD) == expected(2, 3)  # the first beat is not counted


def test_what_was_sent_before_a_call_failed_is_charged() -> None:
    def refuse(word: str) -> None:
        raise ValueError("refused")

    ledger = Ledger()

    async def scenario() -> None:
        async with channel_to(Toy(refuse), Peers(Access(OPEN)), Charging(Charges(ledger))) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(channel, UNARY_STREAM, WORD)

    asyncio.run(scenario())
    assert ledger == expected(1, 0)
