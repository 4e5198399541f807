"""Each part of the way to the server. What fails here explains why gRPC does not get there; where it does, it warns."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from heron_client.check import other_software
from heron_client.doctor.visit import PATIENCE_S, Visit
from heron_client.transport.handshake import facts_of_server, why_refused
from heron_client.transport.proxy import PROXIES, named_proxy
from heron_core.doctor.examination import Finding, ok, warning
from heron_core.errors import Unreachable
from heron_core.trust.addresses import socket_path
from heron_core.trust.facts import day

DIRECT, BY_PROXY = (("grpc.enable_http_proxy", used) for used in (0, 1))
AS_NAMED = "grpc.ssl_target_name_override"


def name(visit: Visit) -> Iterator[Finding]:
    """Does this machine know the server's name?"""
    host = visit.host
    if not visit.by_name:
        yield ok(f"{visit.settings.server} needs no look-up")
        return
    try:
        yield ok(f"{host} is {', '.join(visit.addresses)}")
    except OSError as error:
        if visit.reached:
            yield warning(
                f"this machine's own resolver does not know {host} ({error.strerror}), and gRPC's gets there: other "
                "programs here will not; add it to DNS or /etc/hosts"
            )
            return
        raise Unreachable(
            f"nobody here knows {host!r} ({error.strerror}); mend `server`, add the name to DNS or /etc/hosts, or put "
            "the server's address into `server`"
        ) from None


def proxy(visit: Visit) -> Iterator[Finding]:
    """Does a proxy of the environment keep this client from its server, or would one lead there? Raises Unreachable."""
    named, server = named_proxy(), visit.settings.server
    if visit.settings.use_proxy:
        yield _by_proxy(visit, named)
    elif not named:
        yield ok("none")
    elif not visit.reached and visit.reaches(server, BY_PROXY):
        raise Unreachable(f"{named} is not used, and the server is reached by it alone; set use_proxy = true")
    else:
        yield ok(f"{named} is not used (use_proxy)")


def _by_proxy(visit: Visit, named: str) -> Finding:
    without = "leave use_proxy out"
    if not named:
        return warning(f"use_proxy = true, and none of {', '.join(PROXIES)} names one; set one, or {without}")
    if visit.reached:
        return ok(f"gRPC goes by {named}, and gets there")
    if visit.reaches(visit.settings.server, DIRECT):
        raise Unreachable(f"gRPC goes by {named}, and does not get through; without it the server answers: {without}")
    return warning(f"gRPC goes by {named}; if the server is to be reached without: {without}")


def port(visit: Visit) -> Iterator[Finding]:
    """Does anything listen there?"""
    server, refusal = visit.settings.server, OSError("it has no address")
    for where in [socket_path(server)] if not visit.host else _addresses(visit):
        try:
            _connect(where, visit).close()
            yield ok(f"something listens at {server}")
            return
        except OSError as error:
            refusal = error
    if visit.reached:
        yield warning(f"{server} is not reached directly ({_words(refusal)}), but gRPC gets there by its own way")
        return
    raise Unreachable(f"{server}: {_words(refusal)}; {_remedy(refusal)}")


def _addresses(visit: Visit) -> list[str]:
    try:
        return visit.addresses
    except OSError:
        return []


def _connect(where: str, visit: Visit) -> socket.socket:
    if visit.host:
        return socket.create_connection((where, visit.port), PATIENCE_S)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(PATIENCE_S)
        connection.connect(where)
    except BaseException:
        connection.close()
        raise
    return connection


def _words(refusal: OSError) -> str:
    if isinstance(refusal, ConnectionRefusedError):
        return "the machine answers, and nothing listens at this port"
    if isinstance(refusal, TimeoutError):
        return f"no answer within {PATIENCE_S:g} s"
    return refusal.strerror or str(refusal)


def _remedy(refusal: OSError) -> str:
    if isinstance(refusal, ConnectionRefusedError | FileNotFoundError):
        return "start heron-server there, or put the address that it says it listens on into `server`"
    if isinstance(refusal, TimeoutError):
        return "open the port in the firewalls between, or mend the address in `server`"
    return "see to the network here, or mend the address in `server`"


def handshake(visit: Visit) -> Iterator[Finding]:
    """Do both sides speak TLS, or both plain text, and believe each other?"""
    server, trust = visit.settings.server, visit.trust
    if said := why_refused(server, trust, visit.now):
        raise Unreachable(said)
    shown = facts_of_server(server, trust) if trust.tls else None
    if shown is not None:
        yield ok(f"TLS, the server's certificate is for {', '.join(shown.hosts)}, valid until {day(shown.not_after)}")
    else:
        yield ok("TLS, tried by gRPC alone" if trust.tls else "plain text on both sides")


def server(visit: Visit) -> Iterator[Finding]:
    """Does a Heron server of this version answer, and let this client in?"""
    try:
        reply = visit.answer()
    except Unreachable:
        _blame_resolver(visit)
        raise
    yield ok(f"run {reply.run_id}, a heartbeat every {reply.heartbeat_s:g} s")
    if other := other_software(visit.settings, reply):
        yield warning(other)


def _blame_resolver(visit: Visit) -> None:
    """Raises Unreachable where the address gets there that this machine's own resolver gives for the name."""
    for address in _addresses(visit) if visit.by_name else ():
        at = f"[{address}]:{visit.port}" if ":" in address else f"{address}:{visit.port}"
        if visit.reaches(at, (AS_NAMED, visit.host)):
            raise Unreachable(
                f"this machine knows {visit.host} as {address}, and gRPC, which asks the name servers itself, does "
                "not: export GRPC_DNS_RESOLVER=native before the client starts, or put the address into `server`"
            )


