"""The phases of a run, and the error of an event that does not belong to the phase it comes in."""

from __future__ import annotations

from enum import Enum, auto


class IllegalEvent(Exception):
    """A bug on our own side: this event cannot happen in this phase."""


class Phase(Enum):
    """What a round is at; the table in machine.py says what each waits for."""

    GATHERING = auto()
    TRAINING = auto()
    RESTORING = auto()
    AGGREGATING = auto()
    EVALUATING = auto()
    COMMITTING = auto()
    PAUSED = auto()
    FINISHED = auto()
