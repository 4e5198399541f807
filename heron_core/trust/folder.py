"""The folder that holds what one side proves itself with: its certificate, its key, and the CA that it believes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from heron_core.errors import ConfigError
from heron_core.trust.facts import Facts, facts_of

CA, CERT, KEY = "ca.pem", "cert.pem", "key.pem"
AGAIN = "make it anew with `heron-server certs`, and copy the whole folder"


class Side(Enum):
    """Whose certificate a folder holds."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True)
class Contents:
    """PEM texts of a folder that fit each other."""

    ca: bytes
    cert: bytes
    key: bytes
    facts: Facts


@dataclass(frozen=True)
class CertFolder:
    """`ca.pem`, `cert.pem` and `key.pem` of one side. Files may be replaced at any time: that renews it."""

    path: Path
    side: Side

    @property
    def proves(self) -> bool:
        """Has it a certificate, or only a CA to believe?"""
        return (self.path / CERT).exists() or (self.path / KEY).exists()

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Changes when a file does."""
        return tuple(_stamp(self.path / name) for name in (CA, CERT, KEY))

    def ca(self) -> bytes:
        """The CA alone. Raises ConfigError."""
        return self._read(CA)

    def read(self) -> Contents:
        """What the folder holds; ConfigError where a file is missing or does not fit the others. Looks at no clock."""
        ca, cert, key = (self._read(name) for name in (CA, CERT, KEY))
        paths = (self.path / CERT, self.path / KEY, self.path / CA)
        try:
            return Contents(ca, cert, key, facts_of(*paths, of_server=self.side is Side.SERVER))
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(
                f"{self.path / CERT} is no {self.side.value}'s certificate of the CA in {CA} "
                f"({error.verify_message}); {AGAIN}"
            ) from None
        except ssl.SSLError as error:
            raise ConfigError(
                f"{CERT}, {KEY} and {CA} of {self.path} are not three PEM files that fit each other "
                f"({error.reason or error}); {AGAIN}"
            ) from None

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            raise ConfigError(f"no {name} in {self.path}, which is to prove the {self.side.value}; {AGAIN}") from None
        except OSError as error:
            raise ConfigError(f"{self.path / name} cannot be read: {error.strerror}; let this user read it") from None


def _stamp(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return (0, 0)
    return (state.st_mtime_ns, state.st_ino)
