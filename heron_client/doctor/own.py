"""What this client brings, without asking its server: certificates, the folder that keeps its name, data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from heron_client.doctor.visit import Visit
from heron_core.doctor.certificates import certificates, check_readable, kept_private
from heron_core.doctor.examination import Finding, ok, warning
from heron_core.doctor.machine import open_files, space
from heron_core.errors import ConfigError, DataError
from heron_core.trust.addresses import is_loopback
from heron_core.trust.facts import day
from heron_core.trust.folder import CERT

STATE_BYTES = 1 << 20
OWN_FILES = 128
"""What Python, torch and gRPC's two connections have open at most, with room."""


def own_certificates(visit: Visit) -> Iterator[Finding]:
    """May this client go to that address so, and is what it proves itself with sound? Raises ConfigError."""
    trust, settings = visit.trust, visit.settings
    if trust.token:
        yield from _own_token(trust.token, trust.read_token, settings.name)
    if trust.certs is None:
        if trust.tls:
            yield ok("none of its own: it believes the authorities that everybody knows")
        elif is_loopback(settings.server):
            yield ok("none: plain text, which stays on this machine")
        else:
            yield warning(f"none: labels and activations go to {settings.server} in plain text, as --insecure says")
    elif not trust.certs.proves:
        trust.certs.ca()
        yield ok(f"none of its own, a CA to believe in {trust.certs.path}")
    else:
        facts = yield from certificates(trust.certs, visit.time)
        if facts.name != settings.name:
            raise ConfigError(
                f"{trust.certs.path / CERT} is the certificate of {facts.name!r}, and this client is called "
                f"{settings.name!r}; set name = {facts.name!r}, or copy here the folder that `heron-server certs "
                f"client {settings.name}` makes"
            )
        yield ok(f"{trust.certs.path}, of {facts.name!r}, valid until {day(facts.not_after)}")


def _own_token(path: Path, read: Callable[[], str], name: str) -> Iterator[Finding]:
    check_readable(path)
    whose = read().partition(":")[0]
    if whose != name:
        raise ConfigError(
            f"{path} is the token of {whose!r}, and this client is called {name!r}; set name = {whose!r}, or copy here "
            f"the token that `heron-server certs token {name}` makes"
        )
    yield from kept_private(path)
    yield ok(f"the token in {path}, of {whose!r}")


def state_folder(visit: Visit) -> Iterator[Finding]:
    """Can the identity be kept? Raises ConfigError."""
    folder = visit.settings.state_dir
    if folder is None:
        yield ok("none: this client is a new one at each start (state_dir)")
        return
    key = folder / "instance_key"
    try:
        if key.exists():
            key.open("rb").close()
    except OSError as error:
        raise ConfigError(
            f"{key} cannot be read: {error.strerror}; let the user that runs the client own it: chown -R USER {folder}"
        ) from None
    yield from space(folder, STATE_BYTES, "the client's identity", "choose another state_dir")


def own_data(visit: Visit) -> Iterator[Finding]:
    """Are the places there that the settings name? Raises DataError."""
    own = visit.settings.data
    named = {"data.path": own.path, "data.folder": own.folder}
    for key, path in named.items():
        if path is not None:
            yield ok(f"{_something_in(path, key)} ({key})")
    if not any(named.values()):
        yield ok(f"no place is named{f', the data is made by {own.source}' if own.source else ''}")


def _something_in(path: Path, key: str) -> Path:
    mend = f"copy the data there, or mend {key} in the client's file"
    try:
        if path.is_dir():
            if next(path.iterdir(), None) is None:
                raise DataError(f"{path} is an empty folder; {mend}")
        else:
            path.open("rb").close()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {mend}") from None
    return path


def own_files(_: Visit) -> Iterator[Finding]:
    """May a client open what it needs? Raises ConfigError."""
    return open_files(OWN_FILES, "a client")
