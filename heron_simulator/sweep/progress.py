"""What a person sees while a sweep goes on: a bar on a terminal, a line for each run elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from heron_core.process.console import printable
from heron_server.display.lines import Lines
from heron_server.text.figures import name_text
from heron_server.text.units import number_text, percent_text, seconds_text
from heron_simulator.sweep.store import Row, number

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress:
    """Counts runs; a context manager that leaves the terminal as it found it."""

    def __init__(self, stream: TextIO, runs: int, done: int, clock: Callable[[], float] = monotonic) -> None:
        self._lines, self._stream, self._clock = Lines(stream), stream, clock
        self._runs, self._done, self._here = runs, done, 0
        self._began = clock()
        self._bar: Bar | None = None
        self._ends = ExitStack()

    def __enter__(self) -> Progress:
        if self._done:
            self._say(f"{self._done} of {self._runs} runs are here already")
        if self._stream.isatty() and self._done < self._runs:
            self._bar = self._ends.enter_context(_bar(self._stream))
            self._task = self._bar.add_task("", total=self._runs, completed=self._done, left="")
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def finished(self, name: str, row: Row) -> None:
        """One run has ended; `name` says which."""
        self._done, self._here = self._done + 1, self._here + 1
        if row.get("failed"):
            self._say(f"{self._count()}  {name}  FAILED: {row['failed']}")
        elif self._bar is None:
            cells = [self._count(), name, _figure(row), seconds_text(number(row, "wall_s")), self.time_left()]
            self._say("  ".join(cells).rstrip())
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, description=printable(name), left=self.time_left())

    def time_left(self) -> str:
        """By the mean pace of this call."""
        left = self._runs - self._done
        if not left or not self._here:
            return ""
        return f"about {seconds_text((self._clock() - self._began) / self._here * left)} left"

    def _count(self) -> str:
        return f"{self._done}/{self._runs}"

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(printable(text), markup=False, soft_wrap=True)
        else:
            self._lines.write(printable(text))


def _figure(row: Row) -> str:
    """`accuracy 91.40 %`, or what else judges the run."""
    if row.get("accuracy") is None and row.get("metric") is not None:
        return f"{name_text(str(row['metric_name']))} {number_text(number(row, 'metric'))}"
    return f"accuracy {percent_text(number(row, 'accuracy'))}"


def _bar(stream: TextIO) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"), TextColumn("{task.description}"))
    return Bar(*columns, console=Console(file=stream, highlight=False))
