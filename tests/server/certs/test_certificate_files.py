"""What the certs commands leave on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from secured import today

from heron_core.errors import ConfigError
from heron_core.trust.folder import CertFolder, Side
from heron_server.certs.files import Store
from heron_server.certs.tokens import Tokens


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "certs")
    store.init(10, today())
    return store


def modes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): oct(p.stat().st_mode & 0o777) for p in folder.rglob("*") if p.is_file()}


def test_keys_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(tmp_path)
        store.init(10, today())
        store.make_server(["localhost"], 5, today())
        store.make_client("a", 5, today())
        store.make_token("b")
    finally:
        os.umask(before)
    assert modes(tmp_path) == {
        "ca.key": "0o600", "ca.pem": "0o644",
        "server/ca.pem": "0o644", "server/cert.pem": "0o644", "server/key.pem": "0o600", "server/denied.txt": "0o644",
        "server/tokens.txt": "0o600",
        "clients/a/ca.pem": "0o644", "clients/a/cert.pem": "0o644", "clients/a/key.pem": "0o600",
        "clients/b/ca.pem": "0o644", "clients/b/token": "0o600",
    }  # fmt: skip


def test_nothing_is_replaced_without_force(store: Store, tmp_path: Path) -> None:
    again = {
        "ca.key": lambda s: s.init(10, today()), "key.pem": lambda s: s.make_client("a", 5, today()),
        "token": lambda s: s.make_token("a"), "server": lambda s: s.make_server(["localhost"], 5, today()),
    }  # fmt: skip
    for name, make in again.items():
        if name != "ca.key":
            make(store)
        before = modes(tmp_path)
        with pytest.raises(ConfigError, match=f"{name}.* is there already and stays; --force replaces it"):
            make(store)
        assert modes(tmp_path) == before
        make(Store(tmp_path / "certs", force=True))


def test_a_renewed_server_keeps_its_hosts_and_its_deny_list(store: Store) -> None:
    store.make_server(["10.0.0.5", "localhost"], 5, today())
    denied = store.server / "denied.txt"
    assert denied.read_text().startswith("# One client name")
    denied.write_text("bob\n")
    renewed = Store(store.server.parent, force=True).make_server(["heron.example", "localhost"], 5, today())
    assert renewed.hosts == ("heron.example", "localhost", "10.0.0.5")
    assert denied.read_text() == "bob\n"
    assert CertFolder(store.server, Side.SERVER).read().facts.hosts == renewed.hosts


@pytest.mark.parametrize("name", ["../../etc", "", ".", "a b", "x" * 65, "a/b", "-rf"])
def test_a_client_that_cannot_be_called_so_gets_no_folder(store: Store, name: str) -> None:
    with pytest.raises(ConfigError, match="a client name is 1 to 64"):
        store.make_client(name, 5, today())


def test_without_a_ca_the_command_to_make_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no CA in .*; make one first: heron-server certs init"):
        Store(tmp_path).make_client("a", 5, today())


def test_the_server_gets_no_token_and_knows_it(store: Store) -> None:
    path = store.make_token("gateway.7").path
    token = (path / "token").read_text().strip()
    listed = store.server / "tokens.txt"
    assert token.startswith("gateway.7:") and token.partition(":")[2] not in listed.read_text()
    tokens = Tokens(listed)
    assert tokens.name_of(token) == "gateway.7"
    for wrong in ("", ":", "gateway.7", "gateway.7:", token[:-1], token.upper(), f"other:{token.partition(':')[2]}"):
        assert tokens.name_of(wrong) is None
    renewed = Store(store.server.parent, force=True).make_token("gateway.7").path / "token"
    assert tokens.name_of(token) is None and tokens.name_of(renewed.read_text().strip()) == "gateway.7"
