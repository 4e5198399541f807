"""Every sample opened once: all that is wrong, grouped by kind, and the figures of all that is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from heron_core.arrays import TensorSpec
from heron_core.data.checks import Checked
from heron_core.data.facts import DataFacts, Measuring
from heron_core.data.partition import check_labels
from heron_core.data.source import Source
from heron_core.errors import DataError, HeronError
from heron_core.labels import LabelSpec

EXAMPLES = 3
_OWN_PART = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\\]\S*|\d+")
"""What differs between two messages of one kind: quoted text, paths, numbers."""


@dataclass
class Problem:
    """Samples that fail in one way."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    """The first messages, each of which names its sample."""

    def lines(self) -> list[str]:
        """The examples, and how many more there are."""
        more = self.count - len(self.examples)
        return self.examples + ([f"and {more} more such"] if more else [])


@dataclass(frozen=True)
class Survey:
    """What was found in all samples of a source."""

    samples: int
    problems: tuple[Problem, ...]
    facts: DataFacts | None
    """Of those that could be read; None where none could."""

    @property
    def bad(self) -> int:
        """Samples with a problem."""
        return sum(problem.count for problem in self.problems)


def survey(
    source: Source, inputs: Sequence[TensorSpec], labels: LabelSpec, tick: Callable[[], None] = lambda: None
) -> Survey:
    """Opens each sample of `source` once, and calls `tick` after it. Raises nothing for a sample that is wrong."""
    checked, measuring = Checked(source, inputs, labels), Measuring(source, inputs)
    problems: dict[str, Problem] = {}
    for place in range(len(source)):
        try:
            measuring.add(checked.batch(np.array([place]))[0])
        except HeronError as error:
            _note(problems, str(error))
        except Exception as error:  # a user's code may raise anything
            _note(problems, f"sample {place} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}")
        tick()
    if not problems and labels.classes:
        try:
            check_labels(source.labels, labels.classes)
        except DataError as error:
            _note(problems, str(error))
    return Survey(len(source), tuple(problems.values()), measuring.facts(labels) if measuring.looked_at else None)


def _note(problems: dict[str, Problem], message: str) -> None:
    problem = problems.setdefault(_OWN_PART.sub("", message), Problem())
    problem.count += 1
    if len(problem.examples) < EXAMPLES:
        problem.examples.append(message)
