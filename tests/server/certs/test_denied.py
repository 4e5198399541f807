from __future__ import annotations

import logging
from pathlib import Path

import pytest

from heron_server.certs.denied import EXPLAINED, DenyList
from heron_server.certs.tokens import Tokens, make_token, with_token


def test_names_and_serial_numbers_are_denied_as_soon_as_the_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "denied.txt"
    denied = DenyList(path)
    assert not denied.denies("bob", "a1b")
    path.write_text(EXPLAINED)
    assert not denied.denies("bob", "a1b") and not denied.denies("#", "")
    path.write_text("bob  # left the team\n0A:1b\n")
    assert denied.denies("bob", "77") and denied.denies("alice", "0a1B") and denied.denies("alice", "a1b")
    assert not denied.denies("alice", "77") and not denied.denies("alice", "") and not denied.denies("bo", "1b")
    path.unlink()
    assert not denied.denies("bob", "a1b")
    path.write_bytes(b"\xef\xbb\xbfbob\r\n")
    assert denied.denies("bob"), "a byte order mark is no part of a name"


def test_a_list_that_cannot_be_read_still_counts_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "denied.txt"
    path.write_text("bob\n")
    denied = DenyList(path)
    assert denied.denies("bob")
    path.write_bytes(b"\xff\xfe alice")
    with caplog.at_level(logging.WARNING, "heron.server"):
        assert [denied.denies("bob") for _ in range(3)] == [True] * 3
    assert len(caplog.records) == 1 and "what it said before still counts" in caplog.text


def test_a_line_that_is_no_token_gives_nobody_entry(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    token = make_token("a")
    path.write_text("b\nc  \nd x y\n\n# e\nf " + "0" * 64 + "\n" + with_token("", token))
    tokens = Tokens(path)
    assert tokens.name_of(token) == "a"
    assert all(tokens.name_of(f"{name}:") is None for name in "bcdef")
