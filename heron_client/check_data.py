"""Every sample of a client's own data, opened once: all that is wrong is said together."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from heron_core.arrays import TensorSpec
from heron_core.class_names import counted
from heron_core.data import class_histogram
from heron_core.data.facts import class_names_of
from heron_core.data.own.remarks import doubts, notes
from heron_core.data.own.survey import Survey, survey
from heron_core.data.source import Source
from heron_core.errors import DataError
from heron_core.labels import LabelSpec
from heron_core.process.console import in_one_line, printable


def check_samples(
    source: Source, inputs: Sequence[TensorSpec], labels: LabelSpec, say: Callable[[str], None]
) -> list[str]:
    """What is in the data, a line each. A progress bar is shown where there is a terminal.

    Raises DataError if anything is wrong, after `say` got all of it.
    """
    with _bar(len(source)) as tick:
        found = survey(source, inputs, labels, tick)
    if found.problems:
        _refuse(found, say)
    assert found.facts is not None, "no problem, so every sample was read"
    lines = [f"{each.name}: {each}" for each in found.facts.inputs]
    if labels.classes:
        counts = class_histogram(source.labels, labels.classes)
        lines.append(f"classes: {counted(counts, class_names_of(source))}")
    lines += doubts(source, found.facts, labels) + notes(source, found.facts)
    return [printable(line) for line in lines]


def _refuse(found: Survey, say: Callable[[str], None]) -> None:
    first = found.problems[0].examples[0]
    if found.bad == 1:
        raise DataError(first)
    for problem in sorted(found.problems, key=lambda problem: -problem.count):
        say(f"{problem.count} of {found.samples} samples:")
        for line in problem.lines():
            say(f"  {in_one_line(line)}")
    raise DataError(f"{found.bad} of {found.samples} samples cannot be used, listed above; the first: {first}")


@contextmanager
def _bar(samples: int) -> Iterator[Callable[[], None]]:
    """What is called after each sample; a count stands on standard error, and goes when it is done."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    number = itertools.count(1)
    shown_every = max(1, samples // 200)

    def advance() -> None:
        if not (done := next(number)) % shown_every:
            print(f"\ropening every sample: {done:,} of {samples:,}", end="", file=sys.stderr, flush=True)

    try:
        yield advance
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
