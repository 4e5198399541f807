"""What comes of a command on the worker is reported, also where nothing does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heron_core.errors import RunFailed
from heron_server.run.phases.reporting_worker import ReportingWorker
from heron_server.run.phases.reports import Aggregated, Evaluated, Failed, Report


class Held:
    """A worker whose commands end when the test says so."""

    def __init__(self) -> None:
        self.ends: list[Callable[[Any], None]] = []

    def submit(self, command: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Any], None]) -> None:
        self.ends.append(done)


class Scene:
    def __init__(self) -> None:
        self.now, self.held, self.reports = 0.0, Held(), list[Report]()
        self.worker = ReportingWorker(self.held, self.reports.append, lambda: self.now, most_s=100)

    def run(self, done: Callable[[Any], Report] = lambda _: Evaluated()) -> None:
        self.worker.run(lambda: None, done)

    def check(self, now: float) -> list[Report]:
        self.now = now
        self.worker.check(now)
        return self.reports


def test_a_command_may_take_as_long_as_it_says_and_no_longer() -> None:
    scene = Scene()
    scene.run()
    assert scene.check(100) == []
    (report,) = scene.check(101)
    assert isinstance(report, Failed) and isinstance(report.error, RunFailed)
    assert "one command has kept the server's worker busy for more than 100 s" in str(report.error)


def test_each_command_has_the_whole_time_and_one_that_has_ended_takes_none() -> None:
    scene = Scene()
    scene.run()
    scene.run()
    scene.now = 90
    scene.held.ends[0](None)
    assert scene.check(180) == [Evaluated()]
    scene.held.ends[1](None)
    assert scene.check(1000) == [Evaluated(), Evaluated()]
    scene.run()
    assert scene.check(1100) == [Evaluated(), Evaluated()]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)], ids=type)
def test_an_error_in_what_follows_a_command_is_reported(error: BaseException) -> None:
    def done(_: object) -> Report:
        raise error

    scene = Scene()
    scene.run(done)
    scene.run(lambda _: Aggregated(None))
    for end in scene.held.ends:
        end(None)
    assert scene.reports == [Failed(error), Aggregated(None)]
