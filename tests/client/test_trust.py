"""How a client reaches its server: every combination of address, flag, settings and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron_client.config import ClientSettings
from heron_client.transport.trust import PLAIN, Trust
from heron_client.trust import choose_trust
from heron_core.errors import ConfigError
from heron_core.trust.folder import CertFolder, Side

NEAR, PRIVATE, NAME = "127.0.0.1:1", "10.0.0.5:1", "heron.example:1"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trust(server: str, flag: bool = False, **settings: object) -> Trust:
    return choose_trust(ClientSettings.model_validate({"name": "a", "server": server, **settings}), flag)


def test_loopback_is_plain_unless_certificates_are_named(here: Path) -> None:
    (here / "certs").mkdir()
    assert trust(NEAR) == PLAIN and trust("unix:/run/heron.sock") == PLAIN
    assert trust(NEAR, certs="x") == Trust(tls=True, certs=CertFolder(Path("x"), Side.CLIENT))


@pytest.mark.parametrize("server", [PRIVATE, NAME])
def test_nothing_goes_to_another_machine_in_plain_text_that_nobody_asked_for(server: str) -> None:
    with pytest.raises(ConfigError, match="copy there the folder that `heron-server certs client a` makes"):
        trust(server, insecure=True)


def test_certificates_in_the_usual_place_are_used(here: Path) -> None:
    (here / "certs").mkdir()
    assert trust(NAME) == Trust(tls=True, certs=CertFolder(Path("certs"), Side.CLIENT))


def test_the_flag_is_enough_for_a_private_address_and_not_for_a_name() -> None:
    assert trust(PRIVATE, flag=True) == PLAIN
    with pytest.raises(ConfigError, match="--insecure alone is not enough"):
        trust(NAME, flag=True)
    assert trust(NAME, flag=True, insecure=True) == PLAIN


@pytest.mark.parametrize("named", ["certs", "token_file"])
def test_the_flag_contradicts_what_is_named(named: str) -> None:
    with pytest.raises(ConfigError, match="leave one out"):
        trust(PRIVATE, flag=True, **{named: "x"})


def test_a_token_goes_over_tls_and_over_plain_text_on_this_machine_only(here: Path) -> None:
    token = Path("t")
    assert trust(NAME, token_file="t") == Trust(tls=True, certs=None, token=token)
    assert trust(NEAR, token_file="t") == Trust(tls=False, certs=None, token=token)
    (here / "certs").mkdir()
    (here / "certs" / "token").write_text("a:b")
    assert trust(NAME).token == Path("certs/token"), "as `certs token` leaves it"
    (here / "certs" / "cert.pem").touch()
    assert trust(NAME).token is None


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\xff", b"a\x00", "ä".encode()])
def test_a_token_that_is_none_is_named(here: Path, content: bytes) -> None:
    (here / "t").write_bytes(content)
    with pytest.raises(ConfigError, match="t"):
        trust(NEAR, token_file="t").channel(NEAR)


def test_a_token_may_come_from_an_editor_of_windows(here: Path) -> None:
    (here / "t").write_bytes(b"\xef\xbb\xbfa:b\r\n")
    assert trust(NEAR, token_file="t").read_token() == "a:b"
