"""Who is calling, as handlers are told over a real port."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from server.api.toy import KINDS, Toy, ask, channel_to

from heron_core.errors import NotAdmitted
from heron_core.trust.token import TOKEN_KEY
from heron_server.api.access import Access
from heron_server.api.peer import Call, Peers
from heron_server.certs.choice import OPEN, Guard
from heron_server.certs.tokens import make_token, with_token
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


class Fake:
    """A call that brings a token."""

    def __init__(self, token: str) -> None:
        self.invocation_metadata = lambda: ((TOKEN_KEY, token),)
        self.peer, self.write = lambda: "somewhere", None
        self.send_initial_metadata = lambda _: None


def test_a_tick_looks_at_the_deny_list_once_however_many_calls_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, listed, denied = [make_token(f"client-{i}") for i in range(20)], "", tmp_path / "denied.txt"
    for token in tokens:
        listed = with_token(listed, token)
    (tmp_path / "tokens.txt").write_text(listed)
    denied.write_text("")
    looked: list[Path] = []
    stat = Path.stat

    def counted(path: Path, **named: bool) -> object:
        looked.append(path)
        return stat(path, **named)

    async def scenario() -> list[object]:
        peers, never = Peers(Access(Guard(None, tmp_path / "tokens.txt"))), asyncio.Event()

        async def proceed(*_: object) -> None:
            await never.wait()

        calls = [asyncio.create_task(peers.around("WatchRounds", None, Fake(t), proceed)) for t in tokens]
        await asyncio.sleep(0)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "stat", counted)
            peers.tick()
        denied.write_text("client-3\n")
        peers.tick()
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        ended = [call.exception() for call in calls if call.done()]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        return ended

    (ended,) = asyncio.run(scenario())
    assert isinstance(ended, NotAdmitted)
    assert sorted(looked) == [denied, tmp_path / "tokens.txt"]
