"""The address that the server is to listen on, and what it proves itself with there."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

from heron_core.doctor.certificates import certificates
from heron_core.doctor.examination import Finding, ok, warning
from heron_core.errors import ConfigError, PeerError
from heron_core.trust.addresses import ABSTRACT, certified_host, host_of, is_loopback, is_socket, port_of, socket_path
from heron_core.trust.facts import day
from heron_server.api.access import Access
from heron_server.doctor.visit import Visit
from heron_server.health import WILDCARDS, check_health

PATIENCE_S = 2.0
"""For what listens there to say that it is a Heron server."""
REMEDIES = {
    errno.EADDRINUSE: "stop what listens there (ss -ltnp shows it), or take another port: server.address",
    errno.EADDRNOTAVAIL: "that is no address of this machine; take one of its own (ip addr), or 0.0.0.0 for all",
    errno.EACCES: "this user may not have it; take a port from 1024 on, or a folder of this user's: server.address",
}


def own_certificates(visit: Visit) -> Iterator[Finding]:
    """May the server listen there so, and is what it proves itself with sound? Raises ConfigError."""
    guard, listens = visit.guard, visit.settings.address
    if guard.certs is not None:
        facts = yield from certificates(guard.certs, visit.time)
        if missing := _unnamed(listens, facts.hosts):
            yield warning(
                f"the certificate is for {', '.join(facts.hosts)}: who reaches this server {missing} refuses it; "
                "heron-server certs server --host NAME-OR-ADDRESS --force"
            )
        yield ok(f"{guard.certs.path}, valid until {day(facts.not_after)}")
    elif is_loopback(listens):
        yield ok("none: plain text, which stays on this machine")
    elif guard.tokens is None:
        yield warning(f"none: anybody who reaches {listens} takes part, in plain text, as --insecure says")
    Access(guard)
    if guard.tokens is not None:
        yield ok(f"clients prove their names by the tokens in {guard.tokens}")


def _unnamed(listens: str, hosts: tuple[str, ...]) -> str:
    """By which address clients would come that the certificate is not for; empty where it is for all that is known."""
    host = "" if is_socket(listens) else certified_host(listens)
    if host in WILDCARDS:
        here = {"localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()}
        return "" if set(hosts) - here else "by an address"
    return f"as {host}" if host and host not in hosts else ""


def address(visit: Visit) -> Iterator[Finding]:
    """Can the server listen there? Raises ConfigError."""
    listens = visit.settings.address
    try:
        _try_to_listen(listens)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "mend server.address")
        if isinstance(error, socket.gaierror):
            remedy = "nobody here knows that name; listen on an address of this machine: server.address"
        whose = " (a Heron server, which serves)" if error.errno == errno.EADDRINUSE and _serves(visit) else ""
        raise ConfigError(f"cannot listen on {listens}: {error.strerror or error}{whose}; {remedy}") from None
    yield ok(f"{listens} is free")


def _try_to_listen(listens: str) -> None:
    if is_socket(listens):
        _try_socket(listens)
        return
    host, number = host_of(listens), port_of(listens)
    for family, kind, protocol, _, where in socket.getaddrinfo(host, number, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
            trial.bind(where)
            trial.listen(1)


def _try_socket(listens: str) -> None:
    """A socket that nobody listens at any more is no obstacle to gRPC."""
    place, in_files = socket_path(listens), not listens.startswith(ABSTRACT)
    if in_files and Path(place).exists():
        with socket.socket(socket.AF_UNIX) as trial:
            if trial.connect_ex(place) == 0:
                raise OSError(errno.EADDRINUSE, "Address already in use")
        return
    with socket.socket(socket.AF_UNIX) as trial:
        trial.bind(place)
    if in_files:
        Path(place).unlink()


def _serves(visit: Visit) -> bool:
    try:
        check_health(visit.settings, visit.guard, PATIENCE_S)
    except (PeerError, ConfigError):
        return False
    return True
