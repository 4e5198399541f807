"""Addresses: their form, and who can reach one: this machine alone, a private network, or everybody."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from heron_core.config import Placed, expanded

UNIX = "unix:"
"""A socket in the file system: `unix:/run/heron.sock`."""
ABSTRACT = "unix-abstract:"
"""A socket that is a name alone, which every user of this machine reaches."""
MOST_PORT, MOST_SOCKET_BYTES = 65535, 107
FORM = 'expected host:port such as "10.0.0.5:50051", or unix:PATH'


def checked_address(text: str) -> str:
    """The address, as gRPC takes it: host:port, [IPv6]:port, unix:PATH or unix-abstract:NAME. ValueError for others."""
    if is_socket(text):
        return _checked_socket(text)
    if re.match(r"[a-z]+://", text):
        raise ValueError(f"{FORM}, without {text.partition('://')[0]}://")
    host, _, port = text.rpartition(":")
    if not host or re.search(r"[\s/]", text):
        raise ValueError(FORM)
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > MOST_PORT:
        raise ValueError(f"a port is a whole number up to {MOST_PORT}")
    if host.startswith("["):
        _check_ipv6(host)
    elif ":" in host:
        raise ValueError(f'an IPv6 address stands in brackets: "[{host}]:{port}"')
    return text


def _check_ipv6(host: str) -> None:
    try:
        IPv6Address(host[1:-1] if host.endswith("]") else "")
    except ValueError:
        raise ValueError(f"{host} is no IPv6 address in brackets, such as [::1] or [fe80::1%eth0]") from None


def _checked_socket(text: str) -> str:
    """ValueError for a name or path that the system does not take, or that gRPC reads otherwise."""
    if text.startswith(ABSTRACT):
        name = text.removeprefix(ABSTRACT)
    else:
        name = str(expanded(text.removeprefix(UNIX)))
        text = UNIX + name
    length = len(os.fsencode(name))
    if not 1 <= length <= MOST_SOCKET_BYTES:
        raise ValueError(f"the path of a socket has 1 to {MOST_SOCKET_BYTES} bytes, {name!r} has {length}")
    if re.search(r"[%\0\n]", name):
        raise ValueError("gRPC reads % in the path of a socket as the beginning of a code; take another path")
    return text


def _beside(text: str, folder: Path) -> str:
    return UNIX + str(folder / expanded(text.removeprefix(UNIX))) if text.startswith(UNIX) else text


Address = Annotated[str, Placed(_beside), AfterValidator(checked_address)]
"""Where a server listens. A relative path of a socket is relative to the file that names it."""


def a_server(text: str) -> str:
    """The address, if a server may be reached there; ValueError for port 0, which only a server takes."""
    if not is_socket(text) and not port_of(text):
        raise ValueError("port 0 is for a server that takes any; give the one that it said it listens on")
    return text


ServerAddress = Annotated[Address, AfterValidator(a_server)]
"""Where a client finds its server."""


def is_socket(address: str) -> bool:
    """Is it a socket of this machine alone, not host:port?"""
    return address.startswith((UNIX, ABSTRACT))


def port_of(address: str) -> int:
    """The port of host:port."""
    return int(address.rpartition(":")[2])


def socket_path(address: str) -> str:
    """What Python's `socket` takes for one of this machine alone."""
    return "\0" + address.removeprefix(ABSTRACT) if address.startswith(ABSTRACT) else address.removeprefix(UNIX)


def host_of(address: str) -> str:
    """The host of host:port, without the brackets of an IPv6 address."""
    return address.rpartition(":")[0].strip("[]")


def certified_host(address: str) -> str:
    """The host of host:port as a certificate has it: without the zone of an IPv6 address, which is this machine's."""
    return host_of(address).partition("%")[0]


def is_loopback(address: str) -> bool:
    """Is host:port, or a socket, reachable from this machine alone? Names are not looked up."""
    if is_socket(address) or host_of(address) == "localhost":
        return True
    ip = _ip(host_of(address))
    return ip is not None and ip.is_loopback


def is_public(address: str) -> bool:
    """May strangers reach host:port? It is neither loopback, link-local nor private. A wildcard or a name counts."""
    if is_loopback(address):
        return False
    ip = _ip(host_of(address))
    return ip is None or ip.is_unspecified or not (ip.is_link_local or ip.is_private)


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    """None for a name."""
    try:
        ip = ip_address(host)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
