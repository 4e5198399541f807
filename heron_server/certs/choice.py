"""How a server's port is guarded: what the settings, the files and the command line together say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from heron_core.errors import ConfigError
from heron_core.trust.addresses import is_loopback, is_public
from heron_core.trust.folder import CertFolder, Side
from heron_server.certs.denied import DENIED
from heron_server.config import ServerSettings

USUAL = Path("certs/server")


@dataclass(frozen=True)
class Guard:
    """What a caller has to bring."""

    certs: CertFolder | None
    """TLS with this certificate. None: plain text."""
    tokens: Path | None
    """A token of this file proves who calls, in place of a certificate."""

    @property
    def denied(self) -> Path | None:
        """The deny list, where callers prove who they are."""
        beside = self.tokens.parent if self.tokens else self.certs.path if self.certs else None
        return beside / DENIED if beside else None


OPEN = Guard(certs=None, tokens=None)
"""Nothing is asked for."""


def choose_guard(settings: ServerSettings, insecure: bool) -> Guard:
    """`insecure`: the operator said --insecure. ConfigError where the port would be open to more than was said."""
    if settings.certs and insecure:
        raise ConfigError("--insecure goes without the certificates that server.certs names; leave one of them out")
    address, usual = settings.address, USUAL if USUAL.is_dir() else None
    folder = settings.certs or (None if insecure or is_loopback(address) else usual)
    if folder is None and not is_loopback(address):
        _check_open(settings, insecure)
    return Guard(CertFolder(folder, Side.SERVER) if folder else None, settings.tokens)


def _check_open(settings: ServerSettings, insecure: bool) -> None:
    if not insecure:
        host = settings.address.rpartition(":")[0]
        raise ConfigError(
            f"server.address = {settings.address!r} can be reached from other machines, and there are no certificates "
            f"in {settings.certs or USUAL}. Make them: heron-server certs init; heron-server certs server --host "
            f"{'THIS-MACHINE' if is_public(settings.address) else host}; heron-server certs client NAME for each "
            "client. Or say --insecure for plain text to and from anybody"
        )
    if is_public(settings.address) and not settings.insecure:
        raise ConfigError(
            f"server.address = {settings.address!r} can be reached by strangers: --insecure alone is not enough. Make "
            "certificates (heron-server certs init), listen on a private address, or say server.insecure = true in "
            "the run file too"
        )
