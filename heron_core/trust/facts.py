"""What a certificate says, read by the standard library: it decodes only what a handshake has verified."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: `fault_in_time` looks at dates, and says what is wrong."""
HANDSHAKE_TURNS = 8


@dataclass(frozen=True)
class Facts:
    """One certificate."""

    name: str
    """Its common name: a client's name."""
    hosts: tuple[str, ...]
    """Names and addresses that a server with it may be reached at."""
    serial: str
    """In hexadecimal digits."""
    not_before: datetime
    not_after: datetime


def facts_of(cert: Path, key: Path, ca: Path, *, of_server: bool) -> Facts:
    """Of the certificate in these files. ssl.SSLError where they do not fit each other; dates are not looked at.

    A handshake with itself, in memory: one end has the certificate, the other verifies it for that use.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for each in (server, client):
        each.load_cert_chain(cert, key, password=_no_password)
    verifier = client if of_server else server
    verifier.load_verify_locations(ca)
    verifier.verify_mode, verifier.verify_flags = ssl.CERT_REQUIRED, verifier.verify_flags | NO_CHECK_TIME
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for turn in range(HANDSHAKE_TURNS):
        try:
            ends[turn % 2].do_handshake()
        except ssl.SSLWantReadError:
            continue
    verified = ends[0 if of_server else 1].getpeercert()
    assert verified, "a finished handshake has verified the other end"
    return decoded(verified)


def _no_password() -> str:
    """For a key that wants one: an empty one is wrong, and asking at the terminal would wait for ever."""
    return ""


def decoded(verified: Mapping[str, Any]) -> Facts:
    """What `getpeercert()` gave."""
    subject = {key: value for part in verified["subject"] for key, value in part}
    return Facts(
        name=subject.get("commonName", ""),
        hosts=tuple(host for kind, host in verified.get("subjectAltName", ()) if kind in ("DNS", "IP Address")),
        serial=verified["serialNumber"].lower(),
        not_before=_time(verified["notBefore"]), not_after=_time(verified["notAfter"]),
    )  # fmt: skip


def fault_in_time(whose: str, facts: Facts, now: datetime) -> str:
    """Why the certificate is not valid at `now`, in words; empty where it is."""
    clock = f"this machine's clock says {day(now)}"
    if now < facts.not_before:
        return (
            f"{whose} is valid only from {day(facts.not_before)} on, and {clock}: that clock is wrong (a box without a "
            "battery?); set it"
        )
    if now > facts.not_after:
        return (
            f"{whose} expired on {day(facts.not_after)}, and {clock}; if the clock is right, make a new certificate "
            "with `heron-server certs`"
        )
    return ""


def day(time: datetime) -> str:
    """For people, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
