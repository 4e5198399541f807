"""A server's health, asked from its own machine, with and without certificates."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from secured import Secured
from server.driven import Start

from heron_core.errors import Unreachable
from heron_server.api.server import listen
from heron_server.certs.choice import OPEN, Guard
from heron_server.config import ServerSettings
from heron_server.health import check_health, near


@pytest.mark.parametrize("secured", [True, False], ids=["certificates", "plain"])
def test_a_server_that_serves_says_so_and_one_that_has_ended_does_not(
    start: Start, tmp_path: Path, secured: bool
) -> None:
    guard = Secured(tmp_path / "certs").guard if secured else OPEN

    async def scenario() -> str:
        port, address = await listen(start().coordinator, "127.0.0.1:0", False, guard)
        await asyncio.to_thread(check_health, ServerSettings(address=address), guard)
        await port.stop(0)
        return address

    address = asyncio.run(scenario())
    with pytest.raises(Unreachable, match=f"nobody says at {address} that it serves"):
        check_health(ServerSettings(address=address), guard)


def test_a_wildcard_is_asked_on_loopback() -> None:
    assert [near(a) for a in ("0.0.0.0:7", "[::]:7", "10.0.0.5:7", "unix:/s")] == [
        "127.0.0.1:7", "[::1]:7", "10.0.0.5:7", "unix:/s",
    ]  # fmt: skip
    assert Guard(None, None) == OPEN
