"""Where each client of a round is, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from heron_core.process.console import printable


class ClientLine:
    """Local steps by name of the round in progress. May be read by another thread than writes it."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}
        self._of = 0
        self._away: frozenset[str] = frozenset()

    def present(self, name: str) -> None:
        """The client is connected, again maybe."""
        self._away -= {name}

    def lost(self, name: str) -> None:
        """The client is not connected."""
        self._away |= {name}

    def round_began(self, participants: Sequence[str]) -> None:
        """These clients have the round before them."""
        self._steps = dict.fromkeys(participants, 0)

    def progress(self, name: str, step: int, steps: int) -> None:
        """A participant has done so many of its local steps."""
        if name in self._steps:
            self._steps[name], self._of = step, steps

    def round_done(self) -> None:
        """No client is at work."""
        self._steps = {}

    def text(self, width: int) -> str:
        """`a 12/50  b 50/50  c away`; where that is wider: `24 clients  local steps 3 to 50 of 50, median 41  1 away`.

        Empty until a client has said where it is.
        """
        steps, away = dict(self._steps), self._away
        if not any(steps.values()):
            return ""
        each = [f"{printable(name)} {'away' if name in away else f'{step}/{self._of}'}" for name, step in steps.items()]
        line = "  ".join(each)
        return line if len(line) <= width else self._together(steps, sum(name in away for name in steps))

    def _together(self, steps: dict[str, int], away: int) -> str:
        done = steps.values()
        spread = f"local steps {min(done)} to {max(done)} of {self._of}, median {median(done):.0f}"
        parts = [f"{len(steps)} clients", spread]
        return "  ".join([*parts, f"{away} away"] if away else parts)
