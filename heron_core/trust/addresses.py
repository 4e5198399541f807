"""Who can reach an address: this machine alone, a private network, or everybody."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

UNIX = "unix:"
"""A socket in the file system: `unix:/run/heron.sock`."""


def host_of(address: str) -> str:
    """The host of host:port, without the brackets of an IPv6 address."""
    return address.rpartition(":")[0].strip("[]")


def is_loopback(address: str) -> bool:
    """Is host:port, or a `unix:` socket, reachable from this machine alone? Names are not looked up."""
    if address.startswith(UNIX) or host_of(address) == "localhost":
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
