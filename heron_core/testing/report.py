"""What a check function gives back, and how its first failure becomes one clear line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from heron_core.arrays import Array
from heron_core.errors import HeronError
from heron_core.own_code import said_by

T = TypeVar("T")
Factory = str | Callable[[], object]
"""What makes the thing to be checked: a function without arguments, or its name `package.module:factory`."""

@dataclass(frozen=True)
class Report:
    """What was checked. Whoever holds one knows that all of it passed: a failure raises instead."""

    subject: str
    passed: tuple[str, ...]
    """One claim for each check, in the order of the checks."""
    warnings: tuple[str, ...] = ()
    """What is allowed but probably not meant."""

    def __str__(self) -> str:
        """A line for the subject, and one for each claim and each warning."""
        lines = [*(f"  ok  {claim}" for claim in self.passed), *(f"  warning  {said}" for said in self.warnings)]
        return "\n".join([self.subject, *lines])


class Checks:
    """Runs the checks of one subject in turn. The first that fails raises `error`, one line that names the subject."""

    def __init__(self, subject: str, error: type[HeronError]) -> None:
        self._subject, self._error = subject, error
        self._passed: list[str] = []

    def run(self, claim: str, check: Callable[[], T]) -> T:
        """What `check` returns. It raises a HeronError where the claim does not hold; a user's code raises anything."""
        try:
            result = check()
        except HeronError as error:
            text = one_line(error).removeprefix(f"{self._subject} ")  # some name the factory themselves
            raise self._error(f"{self._subject}: {text}") from error
        except Exception as error:
            raise self._error(f"{self._subject}: expected that {claim}, got {said_by(error)}; mend it") from error
        self._passed.append(claim)
        return result

    def report(self, warnings: tuple[str, ...] = ()) -> Report:
        """After the last check."""
        return Report(self._subject, tuple(self._passed), warnings)


def name_of(factory: Factory) -> str:
    """How messages call it: `package.module:factory`."""
    if isinstance(factory, str):
        return factory
    return f"{getattr(factory, '__module__', '?')}:{getattr(factory, '__qualname__', type(factory).__name__)}"


def one_line(error: Exception) -> str:
    """Its message without line breaks."""
    return " ".join(str(error).split())


def difference(first: Array, second: Array) -> str | None:
    """Where two arrays differ, as `at [0, 3]: 0.5, then 0.25`, or by dtype or shape; None for the same bits."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return f"{first.dtype} {list(first.shape)}, then {second.dtype} {list(second.shape)}"
    differ = first != second
    if first.dtype.kind == "f":
        differ &= ~(np.isnan(first) & np.isnan(second))
    places = np.argwhere(differ)
    if not len(places):
        return None
    place = tuple(places[0].tolist())
    return f"at {list(place)}: {first[place]}, then {second[place]}"
