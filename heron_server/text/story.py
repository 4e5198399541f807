"""What a state machine was told, and what it answered: its last events, to be looked at when something is odd.

A machine keeps a `story`; its methods that are events are wrapped by `told`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from heron_core.errors import HeronError
from heron_core.process.console import printable

MOST_EVENTS = 400
MOST_ALIASES = 200
SHORT = 8
"""Letters of a session that are shown."""


@dataclass(frozen=True)
class _Event:
    at: float
    where: str
    name: str
    arguments: tuple[object, ...]
    answer: object


class Story:
    """The newest events; older ones are forgotten. `clock`: seconds, for machines whose events do not say when."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock, self._now = clock, 0.0
        self._events: deque[_Event] = deque(maxlen=MOST_EVENTS)
        self._aliases: dict[str, str] = {}
        self.telling = False
        """Is an event in hand? What it calls is part of it."""

    def call(self, session_id: str, name: str) -> None:
        """The session is shown as the client's."""
        if len(self._aliases) == MOST_ALIASES:
            del self._aliases[next(iter(self._aliases))]
        self._aliases[session_id] = f"{name}/{session_id[:SHORT]}"

    def add(self, where: str, name: str, arguments: tuple[object, ...], answer: object, now: float | None) -> None:
        """One event, where the machine stood then, and what came of it: its answer, or the error that it raised."""
        if now is not None:
            self._now = now
        elif self._clock is not None:
            self._now = self._clock()
        self._events.append(_Event(self._now, where, name, arguments, answer))

    def tell(self, about: str = "") -> str:
        """A line for each event, the oldest first; `about`: only those in which this word is found, such as a client's
        name or "round 3"."""
        word = re.compile(rf"(?<![\w.-]){re.escape(about)}(?![\w-])")
        lines = self._with_names("\n".join(map(_line, self._events))).split("\n")
        return "\n".join(line for line in lines if word.search(line))

    def _with_names(self, text: str) -> str:
        if not self._aliases:
            return text
        sessions = "|".join(map(re.escape, sorted(self._aliases, key=len, reverse=True)))
        return re.sub(sessions, lambda found: self._aliases[found.group()], text)


def _line(event: _Event) -> str:
    given = ", ".join(map(_shown, event.arguments))
    line = f"{event.at:.2f} {event.where}: {event.name}({given}) -> {_shown(event.answer)}"
    return printable(line)


def _shown(value: object) -> str:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "nothing"
    return "..." if isinstance(value, bytes) else str(value)


class HasStory(Protocol):
    """A machine whose events are told."""

    story: Story

    def where(self) -> str:
        """Where it stands, in a few words."""
        ...


M = TypeVar("M", bound=HasStory)
P = ParamSpec("P")
R = TypeVar("R")


def told(event: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Adds each call of this method to its machine's story, but those that one event makes of another, and ticks that
    come to nothing. An error that is nobody's refusal carries the story as a note."""
    parameters = list(signature(event).parameters)[1:]
    at = parameters.index("now") if "now" in parameters else None
    tick = event.__name__ == "tick"

    @wraps(event)
    def telling(machine: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        story = machine.story
        if story.telling:
            return event(machine, *args, **kwargs)
        where, given = machine.where(), (*args, *kwargs.values())
        now = kwargs.get("now", args[at] if at is not None and at < len(args) else None)
        story.telling = True
        try:
            answer = event(machine, *args, **kwargs)
        except Exception as error:
            story.add(where, event.__name__, given, error, _seconds(now))
            if not isinstance(error, HeronError):
                error.add_note(f"what came before:\n{story.tell()}")
            raise
        finally:
            story.telling = False
        if answer or not tick:
            story.add(where, event.__name__, given, answer, _seconds(now))
        return answer

    return telling


def _seconds(now: object) -> float | None:
    return float(now) if isinstance(now, int | float) else None
