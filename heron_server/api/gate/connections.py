"""Connections without a call, of which strangers may hold few: gRPC closes them only after minutes."""

from __future__ import annotations

import os
import socket
import stat
from collections import Counter
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager, suppress
from urllib.parse import unquote

from heron_core.errors import UnknownSession
from heron_server.api.gate.descriptors import OPEN_FILES, open_files
from heron_server.run.peer import Peer

MOST_IDLE = 32
"""Connections without a call, of strangers, that may stay until gRPC's own time-outs end them. Beside those that the
run's clients have yet to use: all of them connect as a round begins, and none has called yet."""
MOST_OF_A_SESSION = 4
"""A client has two, and for a moment those that it had before."""
MAPPED = "::ffff:"
"""Before an IPv4 address, as a socket for both kinds has it."""
Place = tuple[str, int]
"""Host and port of the other end of a connection."""


class Connections:
    """Those of this process, by what its calls say of them and what the system does. One thread uses it."""

    def __init__(self, check_session: Callable[[Peer, str], object], of_clients: int = 0) -> None:
        """`check_session` raises UnknownSession for a session that is not the peer's, or not any more. `of_clients`:
        connections of the run's clients once all are known; until then, as many more may be without a call."""
        self._check_session, self._of_clients = check_session, of_clients
        self._port = 0
        self._open_at_start = 0
        self._calling: Counter[Place] = Counter()
        self._known: dict[Place, tuple[Peer, str]] = {}
        """Which brought a call of a session, and of which; the oldest first."""
        self._of_session: dict[str, list[Place]] = {}
        """The same by session."""
        self._most_known = 0
        """Above that, those of sessions that are over are forgotten."""
        self._seen: dict[Place, None] = {}
        """Strangers' at the last tick, the oldest first."""

    def listen(self, port: int) -> None:
        """From now on they are those of this port; 0: of a socket in the file system, which no stranger reaches."""
        self._port, self._open_at_start = port, open_files()

    @contextmanager
    def in_call(self, address: str) -> Iterator[None]:
        """A call is open on the connection from gRPC's `address`."""
        place = place_of(address)
        self._calling[place] += 1
        try:
            yield
        finally:
            self._calling[place] -= 1
            if not self._calling[place]:
                del self._calling[place]

    def is_known(self, peer: Peer, session_id: str) -> None:
        """A call of this session came from there. A session has MOST_OF_A_SESSION connections, the newest."""
        place = place_of(peer.address)
        if place in self._known and self._known[place][1] == session_id:
            return
        mine = self._of_session.setdefault(session_id, [])
        if len(mine) >= MOST_OF_A_SESSION:
            self._known.pop(mine.pop(0), None)
        mine.append(place)
        self._known[place] = (peer, session_id)
        if len(self._known) > self._most_known:
            self._keep(self._known)

    def _keep(self, places: Container[Place]) -> None:
        """Forgets other places, and sessions that are over."""
        self._known = {place: mine for place, mine in self._known.items() if place in places and self._is_valid(*mine)}
        self._of_session = {}
        for place, (_, session_id) in self._known.items():
            self._of_session.setdefault(session_id, []).append(place)
        self._most_known = 2 * len(self._known) + MOST_IDLE

    @property
    def _most_idle(self) -> int:
        return MOST_IDLE + max(0, self._of_clients - len(self._known))

    def tick(self) -> int:
        """Closes strangers' connections without a call beyond MOST_IDLE, of the host with most of them the oldest, and
        says how many. Those that are new since the last tick stay. Call about twice a second."""
        expected = len(self._known.keys() | self._calling.keys()) + self._most_idle
        if not self._port or open_files() - self._open_at_start <= expected:
            return 0
        found = dict(_sockets(self._port))
        self._keep(found)
        idle = [place for place in found if place not in self._known and place not in self._calling]
        still = set(idle)
        before = [place for place in self._seen if place in still]
        self._seen = dict.fromkeys([*before, *idle])
        closed = 0
        while before and len(idle) - closed > self._most_idle:
            most = Counter(host for host, _ in before).most_common(1)[0][0]
            place = next(place for place in before if place[0] == most)
            before.remove(place)
            closed += _shut(found[place], place, self._port)
        return closed

    def _is_valid(self, peer: Peer, session_id: str) -> bool:
        try:
            self._check_session(peer, session_id)
        except UnknownSession:
            return False
        return True


def _sockets(port: int) -> Iterator[tuple[Place, int]]:
    """The other end of each connection to this port, and its file descriptor."""
    with suppress(OSError):
        for entry in OPEN_FILES.iterdir():
            with suppress(OSError, ValueError):
                number = int(entry.name)
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    with closing(socket.socket(fileno=os.dup(number))) as own:
                        if (place := _far_end(own, port)) is not None:
                            yield place, number


def _far_end(own: socket.socket, port: int) -> Place | None:
    if own.family not in (socket.AF_INET, socket.AF_INET6) or own.getsockname()[1] != port:
        return None
    host, far_port = own.getpeername()[:2]  # OSError for the one that listens
    return host.removeprefix(MAPPED), far_port


def _shut(number: int, place: Place, port: int) -> bool:
    """Ends this connection, if the descriptor is still its own: gRPC's threads close and open others meanwhile."""
    with suppress(OSError), closing(socket.socket(fileno=os.dup(number))) as own:
        if _far_end(own, port) == place:
            own.shutdown(socket.SHUT_RDWR)
            return True
    return False


def place_of(address: str) -> Place:
    """Of gRPC's "ipv4:127.0.0.1:41234" or "ipv6:%5B::1%5D:41234"; anything else has port 0.

    Without the zone of an IPv6 address, which the system tells apart from it.
    """
    _, _, rest = address.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    return (host.strip("[]").partition("%")[0], int(port)) if port.isdecimal() else (address, 0)


def host_of(address: str) -> str:
    """The machine, as far as gRPC's address tells."""
    return place_of(address)[0]
