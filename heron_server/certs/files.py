"""The folder of certificates as the `certs` commands write it.

certs/
├── ca.key, ca.pem     the CA; whoever has its key makes certificates. Needed here only to make more
├── server/            all that the server needs: ca.pem cert.pem key.pem denied.txt tokens.txt
└── clients/NAME/      all that one client needs: ca.pem cert.pem key.pem, or ca.pem and token
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from heron_core.errors import ConfigError
from heron_core.files import replace_file
from heron_core.trust.folder import CA, CERT, KEY
from heron_core.trust.names import NAME, RULE
from heron_server.certs.authority import Pair, make_ca, make_client, make_server, read_pair
from heron_server.certs.denied import DENIED, EXPLAINED
from heron_server.certs.tokens import TOKENS, make_token, with_token

CA_KEY, TOKEN = "ca.key", "token"
SECRET, PUBLIC = 0o600, 0o644


@dataclass(frozen=True)
class Made:
    """What was written, and until when it is valid."""

    path: Path
    expires: datetime | None = None
    hosts: tuple[str, ...] = ()


class Store:
    """`root` with everything below it. Nothing there is replaced without `force`: ConfigError."""

    def __init__(self, root: Path, force: bool = False) -> None:
        self._root, self._force = root, force

    @property
    def server(self) -> Path:
        """What the server reads."""
        return self._root / "server"

    def client(self, name: str) -> Path:
        """What this client reads, once it is copied to its machine. ConfigError: no client can be called so."""
        if not NAME.fullmatch(name):
            raise ConfigError(f"{RULE}; got {name!r}")
        return self._root / "clients" / name

    def init(self, days: float, now: datetime) -> Made:
        """A new CA. With `force` all certificates of the old one are worth nothing any more."""
        self._check_free(self._root / CA_KEY)
        ca = make_ca(f"Heron CA {secrets.token_hex(4)}", days, now)
        self._put(self._root / CA_KEY, ca.key_pem, SECRET)
        self._put(self._root / CA, ca.cert_pem, PUBLIC)
        return Made(self._root / CA, ca.cert.not_valid_after_utc)

    def make_server(self, hosts: Sequence[str], days: float, now: datetime) -> Made:
        """The server's folder; with `force` the hosts of an earlier certificate stay, and so does the deny list."""
        self._check_free(self.server / KEY)
        ca, every = self._ca(), tuple(dict.fromkeys([*hosts, *self._earlier_hosts()]))
        self._put_pair(self.server, ca, make_server(ca, "heron-server", every, days, now))
        if not (self.server / DENIED).exists():
            self._put(self.server / DENIED, EXPLAINED.encode(), PUBLIC)
        return Made(self.server, self._expiry(self.server), every)

    def make_client(self, name: str, days: float, now: datetime) -> Made:
        """One client's folder."""
        folder = self.client(name)
        self._check_free(folder / KEY)
        ca = self._ca()
        self._put_pair(folder, ca, make_client(ca, name, days, now))
        return Made(folder, self._expiry(folder))

    def make_token(self, name: str) -> Made:
        """One client's token, for servers that ask for tokens; an older one of the same name ends with it."""
        folder = self.client(name)
        self._check_free(folder / TOKEN)
        token, listed = make_token(name), self.server / TOKENS
        before = listed.read_text(encoding="utf-8") if listed.exists() else ""
        self._put(folder / TOKEN, f"{token}\n".encode(), SECRET)
        if (self._root / CA).exists():
            self._put(folder / CA, (self._root / CA).read_bytes(), PUBLIC)
        self._put(listed, with_token(before, token).encode(), SECRET)
        return Made(folder)

    def _ca(self) -> Pair:
        try:
            return read_pair((self._root / CA).read_bytes(), (self._root / CA_KEY).read_bytes())
        except FileNotFoundError:
            raise ConfigError(f"no CA in {self._root}; make one first: heron-server certs init") from None

    def _earlier_hosts(self) -> list[str]:
        try:
            earlier = x509.load_pem_x509_certificate((self.server / CERT).read_bytes())
            names = earlier.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, x509.ExtensionNotFound):
            return []
        return [str(name.value) for name in names]

    def _expiry(self, folder: Path) -> datetime:
        return x509.load_pem_x509_certificate((folder / CERT).read_bytes()).not_valid_after_utc

    def _check_free(self, path: Path) -> None:
        if path.exists() and not self._force:
            raise ConfigError(f"{path} is there already and stays; --force replaces it")

    def _put_pair(self, folder: Path, ca: Pair, made: Pair) -> None:
        # A reader that comes between the two files sees that they do not fit, and keeps what it had.
        self._put(folder / CA, ca.cert_pem, PUBLIC)
        self._put(folder / KEY, made.key_pem, SECRET)
        self._put(folder / CERT, made.cert_pem, PUBLIC)

    def _put(self, path: Path, data: bytes, mode: int) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, _writing(data, mode))
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}; make its folder writable") from None


def _writing(data: bytes, mode: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)

    return write
