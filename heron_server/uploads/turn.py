"""For how long nothing has come from the client whose turn it is."""

from __future__ import annotations


class Turn:
    """Seconds are those of the caller's clock."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._name: str | None = None
        self._since = 0.0

    def sent(self, name: str, now: float) -> None:
        """The client sent something."""
        if name == self._name:
            self._since = now

    def is_late(self, name: str | None, now: float) -> bool:
        """Whose turn it is now, if anybody is waited for: has nothing come for longer than the deadline?"""
        if name != self._name:
            self._name, self._since = name, now
        return name is not None and now - self._since > self._deadline_s
