"""Sessions as transports know them: who opened each, and the event stream of those that are here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heron_core.errors import Busy, HeronError, NameTaken, UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server.rounds.actions import Fence, Tell
from heron_server.rounds.members import Member, Members
from heron_server.run.peer import Peer, is_same_caller
from heron_server.uploads.uploads import Send, Uploads

SPARE = 16
"""Owners of ended sessions that are kept beside those of live ones, and as many again as there are live ones."""
SILENT = UnknownSession("this session was ended here after a silence; join again")
TAKEN_OVER = NameTaken(
    "another process joined with this client's name and instance key and took its place; run one process per state_dir"
)


@dataclass
class Watcher:
    """One session's event stream."""

    send: Callable[[pb.RoundEvent], None]
    cut: Callable[[HeronError], None]


@dataclass
class Pushing:
    """One open PushActivations stream."""

    peer: Peer
    name: str
    session_id: str
    uploads: Uploads
    send: Send


class Sessions:
    """Beside the rounds machine's members: what it need not know."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._watchers: dict[str, Watcher] = {}
        self._joined_by: dict[str, Peer] = {}
        """Who joined, for each session."""

    def joined(self, peer: Peer, session_id: str) -> None:
        """A new session is the peer's."""
        self._joined_by[session_id] = peer
        if len(self._joined_by) > 2 * len(self._members) + SPARE:  # once for as many Joins as there are clients
            self._joined_by = {each: who for each, who in self._joined_by.items() if self._members.find(each)}

    def member(self, peer: Peer, session_id: str) -> Member:
        """Whose session it is; raises UnknownSession, in the same words where another peer joined with it."""
        owner = self._joined_by.get(session_id)
        mine = owner is not None and is_same_caller(owner, peer)
        return self._members.of_session(session_id if mine else "")

    def watch(self, session_id: str, watcher: Watcher) -> None:
        """The session's event stream is open, in place of an older one."""
        self._watchers[session_id] = watcher

    def unwatch(self, session_id: str) -> bool:
        """The session's event stream is closed; was it open here?"""
        return self._watchers.pop(session_id, None) is not None

    def tell(self, tell: Tell) -> None:
        """Sends an event to a session that listens."""
        watcher = self._watchers.get(tell.session_id)
        if watcher is not None:
            watcher.send(tell.event)

    def fence(self, fence: Fence) -> None:
        """Cuts the event stream of a session that is not valid any more."""
        watcher = self._watchers.pop(fence.session_id, None)
        if watcher is not None:
            watcher.cut(Busy(fence.expelled) if fence.expelled else TAKEN_OVER if fence.taken_over else SILENT)
