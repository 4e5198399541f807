"""When a port may be open without certificates: every combination of address, flag, setting and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from heron_core.errors import ConfigError
from heron_server.certs.choice import USUAL, choose_guard
from heron_server.config import ServerSettings

NEAR, PRIVATE, PUBLIC, EVERYWHERE = "127.0.0.1:1", "10.0.0.5:1", "203.0.113.200:1", "0.0.0.0:1"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def guard(address: str, flag: bool = False, **settings: object) -> str:
    chosen = choose_guard(ServerSettings.model_validate({"address": address, **settings}), flag)
    return str(chosen.certs.path) if chosen.certs else "plain"


@pytest.mark.parametrize("address", [NEAR, "unix:/run/heron.sock", "[::1]:1"])
def test_loopback_is_plain_unless_certificates_are_named(address: str, here: Path) -> None:
    (here / USUAL).mkdir(parents=True)
    assert guard(address) == "plain" and guard(address, flag=True) == "plain"
    assert guard(address, certs=Path("elsewhere")) == "elsewhere"


@pytest.mark.parametrize("address", [PRIVATE, EVERYWHERE, "8.8.8.8:1", "heron.example:1"])
@pytest.mark.parametrize("insecure", [False, True])
def test_another_address_needs_certificates_or_the_flag_and_says_what_to_type(address: str, insecure: bool) -> None:
    with pytest.raises(ConfigError, match=r"heron-server certs init; heron-server certs server --host .*--insecure"):
        guard(address, insecure=insecure)


def test_certificates_in_the_usual_place_are_used_without_a_word(here: Path) -> None:
    (here / USUAL).mkdir(parents=True)
    for address in (PRIVATE, EVERYWHERE):
        assert guard(address) == str(USUAL)
        assert guard(address, insecure=True) == str(USUAL), "the setting alone takes nothing away"


def test_the_flag_is_enough_on_a_private_address_and_not_on_a_public_one() -> None:
    assert guard(PRIVATE, flag=True) == "plain"
    for address in (EVERYWHERE, "[::]:1", "8.8.8.8:1", "heron.example:1"):
        with pytest.raises(ConfigError, match=r"--insecure alone is not enough.*server\.insecure = true"):
            guard(address, flag=True)
        assert guard(address, flag=True, insecure=True) == "plain"


def test_the_flag_and_named_certificates_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        guard(PRIVATE, flag=True, certs=Path("certs"))


def test_the_deny_list_lies_beside_what_it_is_about() -> None:
    settings = {"address": PRIVATE, "certs": "a", "tokens": "b/tokens.txt"}
    assert choose_guard(ServerSettings.model_validate(settings), False).denied == Path("b/denied.txt")
    del settings["tokens"]
    assert choose_guard(ServerSettings.model_validate(settings), False).denied == Path("a/denied.txt")
    assert choose_guard(ServerSettings(), False).denied is None
