"""Tokens: what a client proves its name with where something else ends TLS. The server keeps their hashes only.

A token is `NAME:secret`; the file lists `NAME sha256-of-the-token`, one a line.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from heron_server.certs.denied import LinesOf

TOKENS = "tokens.txt"
NOBODY = "0" * 64


def make_token(name: str) -> str:
    """A new one, with 256 random bits."""
    return f"{name}:{secrets.token_urlsafe(32)}"


def with_token(listed: str, token: str) -> str:
    """The file's text with this token in place of an older one of the same name."""
    name = token.partition(":")[0]
    others = [line for line in listed.splitlines() if line.split()[:1] != [name]]
    return "\n".join([*others, f"{name} {_hash(token)}"]) + "\n"


class Tokens:
    """Those that are listed, read again once the file changes."""

    def __init__(self, path: Path) -> None:
        self.lines = LinesOf(path)
        self._of: tuple[str, ...] = ()
        self._hashes: dict[str, str] = {}

    def name_of(self, token: str) -> str | None:
        """Whose token this is, None if nobody's; takes as long for a wrong token as for a right one."""
        lines = self.lines()
        if lines is not self._of:
            self._of = lines
            self._hashes = {entry[0]: entry[1].lower() for entry in map(str.split, lines) if len(entry) == 2}
        name = token.partition(":")[0]
        known = self._hashes.get(name, NOBODY)
        return name if hmac.compare_digest(known.encode(), _hash(token).encode()) and known != NOBODY else None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
