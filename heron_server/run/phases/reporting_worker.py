"""The worker as the phases of a round use it: what comes of a command is reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from heron_server.run.phases.reports import Failed, Report
from heron_server.training.worker import Worker

T = TypeVar("T")


class ReportingWorker:
    """One worker, and the loop that is told."""

    def __init__(self, worker: Worker, report: Callable[[Report], None]) -> None:
        self._worker, self._report = worker, report

    def report(self, report: Report | None) -> None:
        """Tells the loop, if there is something to tell."""
        if report is not None:
            self._report(report)

    def run(self, command: Callable[[], T], done: Callable[[T], Report]) -> None:
        """Runs a command; reports what `done` makes of its result, or that the run has failed."""
        self.submit(command, lambda result: self._report(done(result)), lambda error: self._report(Failed(error)))

    def submit(self, command: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        """As Worker.submit, for what is more than one report."""
        self._worker.submit(command, done, failed)
