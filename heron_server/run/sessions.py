"""Sessions as transports know them: who opened each, and the event stream of those that are here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from heron_core.arrays import Array
from heron_core.errors import Busy, HeronError, NameTaken, UnknownSession
from heron_core.pb.v1 import federation_pb2 as pb
from heron_core.replay.bundle import BASE
from heron_core.wire.bulk import whole_state
from heron_core.wire.codec import CHUNK_BYTES
from heron_server.aggregation.client_states import ClientStates
from heron_server.rounds.actions import Fence, Tell
from heron_server.rounds.machine import Rounds
from heron_server.rounds.members import Member, Members
from heron_server.run.journal import Journal
from heron_server.run.peer import Peer, is_same_caller
from heron_server.uploads.uploads import Send, Uploads

SPARE = 16
"""Owners of ended sessions that are kept beside those of live ones, and as many again as there are live ones."""
MOST_CARRIED_BYTES = 16 << 20
"""Of client states that go with RoundBegins to all of a round's participants: they wait here until they are written."""
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

StateOf = Callable[[Member, int], pb.StateChunk | None]
"""The client state of a version as this member gets it, where it is small and the member may lack it."""


class Handing:
    """Which form of the client state each client of one run gets: slopes, where it has what they begin with."""

    def __init__(self, rounds: Rounds, states: ClientStates, journal: Journal) -> None:
        self._rounds, self._states, self._journal = rounds, states, journal
        self._holds: dict[str, tuple[str, bytes]] = {}
        """By name, the session in which a client was given a state last, and that state's digest."""

    def small_state(self, member: Member, version: int) -> pb.StateChunk | None:
        """For RoundBegins: at most a chunk, and MOST_CARRIED_BYTES for a round's participants together."""
        if member.name in self._journal.up_to_date:
            return None
        session_id, holds = self._holds.get(member.name, ("", b""))
        if session_id != member.session_id:
            if version and self._states.replay is not None:
                return None  # it says what it has, as it fetches
            holds = b""
        most_bytes = min(CHUNK_BYTES, MOST_CARRIED_BYTES // len(self._rounds.lineup.participants))
        state = self._state(member.name, version, holds)
        found = whole_state(state, most_bytes)
        if found is not None:
            self._say(member.name, version, state)
            self.given(member, version)
        return found

    def state(self, name: str, version: int, holds: bytes) -> Mapping[str, Array]:
        """The client state of a version for a client that has the state of this digest; empty: none."""
        state = self._state(name, version, holds)
        self._say(name, version, state)
        return state

    def _state(self, name: str, version: int, holds: bytes) -> Mapping[str, Array]:
        rank = self._rounds.table.get(name)
        slopes = self._states.as_slopes(version, rank, holds) if holds else None
        return self._states.of(version, rank) if slopes is None else slopes

    def _say(self, name: str, version: int, state: Mapping[str, Array]) -> None:
        if version and self._states.replay is not None and BASE not in state:
            self._journal.said(f"{name} gets client state {version} as weights: no slopes lead there from what it has")

    def given(self, member: Member, version: int) -> None:
        """A client has all of a version, or will have it before anything else."""
        if version in self._states.versions:
            self._holds[member.name] = (member.session_id, self._states.versions[version].digest)


class Sessions:
    """Beside the rounds machine's members: what it need not know."""

    def __init__(self, members: Members, state_of: StateOf = lambda member, version: None) -> None:
        self._members, self._state_of = members, state_of
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
            watcher.send(self._with_state(tell) if tell.with_state else tell.event)

    def _with_state(self, tell: Tell) -> pb.RoundEvent:
        event = tell.event
        state = self._state_of(self._members.of_session(tell.session_id), event.round_begins.version)
        if state is None:
            return event
        begins = pb.RoundBegins(state=state)
        begins.MergeFrom(event.round_begins)
        return pb.RoundEvent(round_begins=begins)

    def fence(self, fence: Fence) -> None:
        """Cuts the event stream of a session that is not valid any more."""
        watcher = self._watchers.pop(fence.session_id, None)
        if watcher is not None:
            watcher.cut(Busy(fence.expelled) if fence.expelled else TAKEN_OVER if fence.taken_over else SILENT)
