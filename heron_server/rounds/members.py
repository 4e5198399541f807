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
    """At most one session for each name."""

    _by_name: dict[str, Member] = field(default_factory=dict)

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
        self._by_name[member.name] = member

    def remove(self, name: str) -> None:
        """The name has no session any more."""
        del self._by_name[name]

    def find(self, session_id: str) -> Member | None:
        """The session's member, if the session is still valid."""
        return next((m for m in self._by_name.values() if m.session_id == session_id), None)

    def of_session(self, session_id: str) -> Member:
        """The session's member; raises UnknownSession."""
        member = self.find(session_id)
        if member is None:
            raise UnknownSession("this session is unknown here (a restarted server, or another took over); join again")
        return member

    @property
    def connected(self) -> list[Member]:
        """Those whose event stream is open."""
        return [m for m in self._by_name.values() if m.connected]

    def is_connected(self, name: str) -> bool:
        """Has this name a session whose event stream is open?"""
        return name in self._by_name and self._by_name[name].connected
