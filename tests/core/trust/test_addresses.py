"""The form of an address, and who reaches it."""

from __future__ import annotations

import pytest

from heron_core.trust.addresses import a_server, checked_address, is_loopback, is_public

LOOPBACK = [
    "127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/run/heron.sock",
    "unix:heron.sock", "unix:a folder/heron.sock", "unix-abstract:heron",
]  # fmt: skip
PRIVATE = ["10.0.0.5:1", "172.16.3.4:1", "192.168.1.1:1", "169.254.7.7:1", "[fe80::1%eth0]:1", "[fd00::1]:65535"]
PUBLIC = [
    "0.0.0.0:1", "[::]:1", "8.8.8.8:1", "100.64.0.1:1", "[2001:4860:4860::8888]:1", "heron.example:1", "server:1",
    "127.0.0.1.example:1", "127.1:1", "0:1",
]  # fmt: skip


@pytest.mark.parametrize("address", LOOPBACK + PRIVATE + PUBLIC)
def test_an_address_is_loopback_private_or_public_and_a_name_or_wildcard_may_be_anybody_s(address: str) -> None:
    assert (is_loopback(address), is_public(address)) == (address in LOOPBACK, address in PUBLIC)
    assert a_server(checked_address(address)) == address


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("10.0.0.5", "expected host:port such as"),
        ("nowhere", "expected host:port such as"),
        (":50051", "expected host:port such as"),
        ("a b:1", "expected host:port such as"),
        ("http://box:1", "or unix:PATH, without http://"),
        ("box:99999", "a port is a whole number up to 65535"),
        ("box:65536", "a port is a whole number up to 65535"),
        ("box:-1", "a port is a whole number up to 65535"),
        ("box:http", "a port is a whole number up to 65535"),
        ("box:", "a port is a whole number up to 65535"),
        ("box:¹", "a port is a whole number up to 65535"),
        ("box:" + "9" * 5000, "a port is a whole number up to 65535"),
        ("::1:50051", r'an IPv6 address stands in brackets: "\[::1\]:50051"'),
        ("[box]:1", r"\[box\] is no IPv6 address in brackets, such as"),
        ("[fe80::1%]:1", "is no IPv6 address in brackets"),
        ("[::1:1", "is no IPv6 address in brackets"),
        ("unix:", "expected a path"),
        ("unix-abstract:", "has 1 to 107 bytes"),
        ("unix:/" + "x" * 107, "the path of a socket has 1 to 107 bytes, .* has 108"),
        ("unix:/a%20b", "gRPC reads % in the path of a socket as the beginning of a code"),
    ],
)
def test_another_form_is_refused_with_what_is_wrong(address: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        checked_address(address)


def test_port_0_is_for_servers() -> None:
    assert checked_address("127.0.0.1:0") == "127.0.0.1:0"
    with pytest.raises(ValueError, match="port 0 is for a server that takes any; give the one that it said"):
        a_server("127.0.0.1:0")
