from __future__ import annotations

import pytest

from heron_core.trust.addresses import is_loopback, is_public

LOOPBACK = ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/run/heron.sock"]
PRIVATE = ["10.0.0.5:1", "172.16.3.4:1", "192.168.1.1:1", "169.254.7.7:1", "[fe80::1]:1", "[fd00::1]:1"]
PUBLIC = [
    "0.0.0.0:1", "[::]:1", "8.8.8.8:1", "100.64.0.1:1", "[2001:4860:4860::8888]:1", "heron.example:1", "server:1",
    "127.0.0.1.example:1", "127.1:1", "0:1",
]  # fmt: skip


@pytest.mark.parametrize("address", LOOPBACK + PRIVATE + PUBLIC)
def test_an_address_is_loopback_private_or_public_and_a_name_or_wildcard_may_be_anybody_s(address: str) -> None:
    assert (is_loopback(address), is_public(address)) == (address in LOOPBACK, address in PUBLIC)
