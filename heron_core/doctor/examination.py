"""A doctor's list: each check gives lines, and one that fails says how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TypeVar

from heron_core.errors import HeronError, meaning_of
from heron_core.process.console import in_one_line

V = TypeVar("V")


class Level(Enum):
    """How a line begins."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Finding:
    """One line of a check that did not fail."""

    level: Level
    text: str
    """What was found; for a warning also what to do."""


def ok(text: str) -> Finding:
    """Nothing to do."""
    return Finding(Level.OK, text)


def warning(text: str) -> Finding:
    """Works, and may not be what was meant, or not for long."""
    return Finding(Level.WARNING, text)


@dataclass(frozen=True)
class Check:
    """One thing to look at."""

    topic: str
    """One or two words."""
    look: Callable[[], Iterable[Finding]]
    """Raises a HeronError, whose message says what is wrong and how to mend it."""
    needs: tuple[str, ...] = ()
    """Topics without which there is nothing to look at."""


def checks_of(visit: V, rows: Iterable[tuple[str, Callable[[V], Iterable[Finding]], *tuple[str, ...]]]) -> list[Check]:
    """Checks that look at one visit; a row is topic, look, and the topics that it needs."""
    return [Check(topic, partial(look, visit), tuple(needs)) for topic, look, *needs in rows]


class Examination:
    """Runs checks, says each line as it comes, and keeps how it ended."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` takes each line."""
        self._say = say
        self._counts = dict.fromkeys(Level, 0)
        self._out: dict[str, None] = {}
        self.exit_code = 0
        """Of the first check that failed, as of a command that ends with its error; 0 where none did."""

    def run(self, checks: Sequence[Check]) -> None:
        """Each in turn. A check whose needs have failed, or were not tried, is not tried."""
        for check in checks:
            missing = [topic for topic in check.needs if topic in self._out]
            if missing:
                self._out[check.topic] = None
                self._line(Level.NOT_TRIED, check.topic, f"needs {missing[0]}")
            else:
                for finding in self._looked(check):
                    self._line(finding.level, check.topic, finding.text)

    def _looked(self, check: Check) -> Iterator[Finding]:
        try:
            yield from check.look()
        except HeronError as error:
            self._out[check.topic] = None
            self.exit_code = self.exit_code or meaning_of(error).exit_code
            yield Finding(Level.FAILED, str(error))

    def conclude(self) -> None:
        """Says how many lines were of which kind."""
        self._say(", ".join(f"{count} {level.value}" for level, count in self._counts.items() if count))

    def _line(self, level: Level, topic: str, text: str) -> None:
        self._counts[level] += 1
        self._say(f"{level.value:<11}{topic:<14}{in_one_line(text)}")
