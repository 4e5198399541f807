"""The worker as the phases of a round use it: what comes of a command is reported, also where it fails or hangs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from heron_core.errors import RunFailed
from heron_server.run.phases.reports import Failed, Report
from heron_server.training.worker import Worker

T = TypeVar("T")


class ReportingWorker:
    """One worker, and the loop that is told."""

    def __init__(
        self, worker: Worker, report: Callable[[Report], None], clock: Callable[[], float], most_s: float
    ) -> None:
        """`most_s`: seconds of `clock` that one command may take."""
        self._worker, self._report, self._clock, self._most_s = worker, report, clock, most_s
        self._in_hand = 0
        """Commands whose end has not been told."""
        self._since = 0.0
        """When the first of them began."""

    def report(self, report: Report | None) -> None:
        """Tells the loop, if there is something to tell."""
        if report is not None:
            self._report(report)

    def run(self, command: Callable[[], T], done: Callable[[T], Report]) -> None:
        """Runs a command; reports what `done` makes of its result, or that the run has failed."""
        self.submit(command, lambda result: self._report(done(result)), lambda error: self._report(Failed(error)))

    def submit(
        self, command: Callable[[], T], done: Callable[[T], None], failed: Callable[[BaseException], None]
    ) -> None:
        """As Worker.submit, for what is more than one report. The run has failed where `done` or `failed` does."""
        if not self._in_hand:
            self._since = self._clock()
        self._in_hand += 1
        self._worker.submit(command, partial(self._told, done), partial(self._told, failed))

    def _told(self, callback: Callable[[T], None], result: T) -> None:
        self._in_hand, self._since = self._in_hand - 1, self._clock()
        try:
            callback(result)
        except (Exception, SystemExit) as error:
            self._report(Failed(error))

    def check(self, now: float) -> None:
        """Call from time to time: the run has failed where one command takes longer than `most_s`."""
        if self._in_hand and now - self._since > self._most_s:
            taken = f"one command has kept the server's worker busy for more than {self._most_s:g} s"
            self._report(Failed(RunFailed(
                f"{taken} (server.round_deadline_s); the last checkpoint is usable, go on with --resume"
            )))  # fmt: skip
