"""Who is calling, as the transport knows it."""

from __future__ import annotations

from dataclasses import dataclass

from heron_core.errors import NotAdmitted


@dataclass(frozen=True)
class Peer:
    """The other end of a call."""

    address: str
    """Where the call comes from, for people: gRPC's "ipv4:127.0.0.1:41234", or "in-process"."""
    identity: str = ""
    """Whom the transport has proved the caller to be. Empty: anonymous, nobody was asked for a proof."""


def is_same_caller(joined: Peer, calling: Peer) -> bool:
    """Whether `calling` may speak in the session that `joined` opened.

    Identities are compared, addresses are not: a client has two connections, and other ports after a reconnect.
    """
    return joined.identity == calling.identity


def check_name(peer: Peer, name: str) -> None:
    """Raises NotAdmitted where the caller is proved to be somebody else than the client of this name."""
    if peer.identity and peer.identity != name:
        raise NotAdmitted(
            f"the certificate or token is {peer.identity!r}'s, and the client calls itself {name!r}; set its name to "
            f"{peer.identity!r}, or give it its own"
        )
