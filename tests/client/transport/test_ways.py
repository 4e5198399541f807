"""The ways by which a client finds its server: sockets, zones, proxies, names that only the system's resolver knows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from client.transport.odd_server import odd_server
from client.transport.proxy_server import proxy_to

from heron_client.transport.grpc_transport import GrpcTransport
from heron_client.transport.proxy import EXCEPTIONS, PROXIES, named_proxy, without_user
from heron_client.transport.trust import Trust
from heron_core.errors import Unreachable
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.trust.addresses import checked_address

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in PROXIES + EXCEPTIONS:
        monkeypatch.delenv(variable, raising=False)


def welcome(*_: Any) -> Iterator[bytes]:
    yield pb.JoinReply(run_id="r").SerializeToString()


def asked(address: str, use_proxy: bool = False) -> str:
    """The run's id, as the server there says it."""
    with closing(GrpcTransport(checked_address(address), PATIENCE_S, Trust(use_proxy=use_proxy))) as transport:
        return transport.join(pb.JoinRequest()).run_id


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("at", ["unix:heron.sock", "unix:a folder/heron.sock", "unix-abstract:heron-test", "[::1%1]:0"])
def test_a_server_is_reached_where_it_listens(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if at.startswith("[") and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path)
    at = at.replace("heron-test", f"heron-test-{os.getpid()}")
    with odd_server(at, Join=welcome) as (_, address):
        assert asked(address) == "r"


def test_a_proxy_of_the_environment_is_used_only_where_the_settings_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{closed_port()}")
    with odd_server(Join=welcome) as (_, address):
        assert asked(address) == "r"
        with pytest.raises(Unreachable, match=r"; the way goes by http_proxy = 'http://127.0.0.1:"):
            asked(address, use_proxy=True)
        with proxy_to(address) as proxy:
            monkeypatch.setenv("http_proxy", f"http://{proxy}")
            assert asked(closed_port(), use_proxy=True) == "r"
            with pytest.raises(Unreachable, match=r"; http_proxy = '.*' is not used, use_proxy = true goes by it$"):
                asked(closed_port())


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, ""),
        ({"grpc_proxy": "", "http_proxy": "http://p:1"}, ""),
        ({"HTTP_PROXY": "http://p:1"}, ""),
        ({"https_proxy": "http://s:1", "http_proxy": "http://p:1"}, "https_proxy = 'http://s:1'"),
        ({"http_proxy": "http://p:1", "no_proxy": ".x"}, "http_proxy = 'http://p:1' (but for no_proxy = '.x')"),
        ({"http_proxy": "http://me:pa@ss@p:1/"}, "http_proxy = 'http://p:1/'"),
    ],
)
def test_a_message_names_the_proxy_that_grpc_takes_without_its_password(
    variables: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert named_proxy() == named


def test_nonsense_in_a_proxy_s_place_is_not_repeated() -> None:
    assert without_user("http://me:secret@[::1") == "a proxy"


ASK = """
from heron_core.process.console import run_command
def ask():
    from heron_client.transport.grpc_transport import GrpcTransport
    from heron_core.pb.v1 import federation_pb2 as pb
    print(GrpcTransport({address!r}, 20.0).join(pb.JoinRequest()).run_id)
run_command("heron-test", ask)
"""


def test_a_command_reaches_a_name_that_only_this_machine_s_resolver_knows() -> None:
    """As it knows short forms of IPv4, without asking any name server; gRPC's own asks one for them."""
    with odd_server(Join=welcome) as (_, address):
        program = ASK.format(address=address.replace("127.0.0.1", "127.1"))
        environment = {name: value for name, value in os.environ.items() if name != "GRPC_DNS_RESOLVER"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout) == (0, "r\n"), done.stderr
