"""Names with their live sessions, and who of them is present."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from heron_core.errors import UnknownSession
from heron_server.rounds.rules import Rules


@dataclass
class Member:
    """One name with its live session."""

    name: str
    key: bytes
    session_id: str
    last_seen: float
    connected: bool = False
    watched: bool = False
    """Its event stream was opened at least once. Until then it may be loading its data, and silence_s is its grace."""

    def is_silent(self, now: float, rules: Rules) -> bool:
        """Its event stream is open, and nothing has come for longer than silence_s."""
        return self.connected and now - self.last_seen > rules.silence_s

    def is_lost(self, now: float, rules: Rules) -> bool:
        """Its event stream is closed, and was not opened (again) in time."""
        patience_s = rules.grace_s if self.watched else rules.silence_s
        return not self.connected and now - self.last_seen > patience_s


@dataclass
class Members:
    """At most one session for each name. What one message asks for takes the same time however many there are."""

    _by_name: dict[str, Member] = field(default_factory=dict)
    _by_session: dict[str, Member] = field(default_factory=dict)
    _connected: dict[str, Member] = field(default_factory=dict)
    """By name, those whose event stream is open."""
    _changed: dict[str, None] = field(default_factory=dict)
    """Names that came or went since they were last asked for."""

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Member]:
        """In order of arrival; members may be removed meanwhile."""
        return iter(list(self._by_name.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Member:
        return self._by_name[name]

    @property
    def names(self) -> set[str]:
        """All that have a session."""
        return set(self._by_name)

    def get(self, name: str) -> Member | None:
        """The name's member, if it has joined."""
        return self._by_name.get(name)

    def put(self, member: Member) -> None:
        """A new member, or a name's new session in place of the old one."""
        if member.name in self._by_name:
            self._end_session(self._by_name[member.name])
        self._by_name[member.name] = self._by_session[member.session_id] = member

    def remove(self, name: str) -> None:
        """The name has no session any more."""
        self._end_session(self._by_name.pop(name))

    def _end_session(self, member: Member) -> None:
        del self._by_session[member.session_id]
        if self._connected.pop(member.name, None):
            self._changed[member.name] = None

    def connect(self, member: Member, now: float) -> None:
        """The member's event stream is open."""
        member.connected, member.watched, member.last_seen = True, True, now
        self._connected[member.name] = member
        self._changed[member.name] = None

    def disconnect(self, member: Member, now: float) -> None:
        """The member's event stream is closed: its grace begins."""
        member.connected, member.last_seen = False, now
        if self._connected.pop(member.name, None):
            self._changed[member.name] = None

    def take_changed(self) -> list[str]:
        """Names that came or went since the last call; some may be back where they were."""
        changed, self._changed = list(self._changed), {}
        return changed

    def find(self, session_id: str) -> Member | None:
        """The session's member, if the session is still valid."""
        return self._by_session.get(session_id)

    def of_session(self, session_id: str) -> Member:
        """The session's member; raises UnknownSession."""
        member = self.find(session_id)
        if member is None:
            raise UnknownSession("this session is unknown here (a restarted server, or another took over); join again")
        return member

    @property
    def connected(self) -> list[Member]:
        """Those whose event stream is open."""
        return list(self._connected.values())

    @property
    def num_connected(self) -> int:
        """How many those are."""
        return len(self._connected)

    def is_connected(self, name: str) -> bool:
        """Has this name a session whose event stream is open?"""
        return name in self._connected
