"""Several observers at once: all hear the same, and none can stop the run or the others."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

import pytest
from server.heard import Heard

from heron_server.metrics.observers import Observer, Observers

EVENTS: dict[str, Callable[[Observer], None]] = {
    "listening": lambda o: o.listening("127.0.0.1:4711", "run-1"),
    "note": lambda o: o.note("a left"),
    "warning": lambda o: o.warning("it learns nothing"),
    "paused": lambda o: o.paused("the disk is full"),
    "client_joined": lambda o: o.client_joined("a"),
    "client_present": lambda o: o.client_present("a"),
    "client_lost": lambda o: o.client_lost("a"),
    "client_progress": lambda o: o.client_progress("a", 1, 2, 4),
    "round_began": lambda o: o.round_began(1, 2, ("a", "b"), 8),
    "upload_consumed": lambda o: o.upload_consumed("a"),
    "round_done": lambda o: o.round_done({"round": 1}),
    "close": lambda o: o.close(),
}


def test_these_are_all_the_events_and_an_observer_ignores_what_it_does_not_override() -> None:
    assert {name for name, _ in inspect.getmembers(Observer, inspect.isfunction)} == EVENTS.keys()
    for event in EVENTS.values():
        event(Observer())


@pytest.mark.parametrize("name", EVENTS)
def test_each_observer_hears_every_event(name: str) -> None:
    alone, first, second = Heard(), Heard(), Heard()
    EVENTS[name](alone)
    EVENTS[name](Observers([first, second]))
    assert len(alone.events) == 1
    assert first.events == second.events == alone.events


def test_observers_hear_in_their_order() -> None:
    order: list[str] = []

    class Named(Observer):
        def __init__(self, name: str) -> None:
            self._name = name

        def note(self, text: str) -> None:
            order.append(self._name)

    Observers([Named("b"), Named("a"), Named("c")]).note("x")
    assert order == ["b", "a", "c"]


class Broken(Observer):
    """Fails at every round, and at being closed."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def upload_consumed(self, name: str) -> None:
        self.heard.append("upload_consumed")
        raise ValueError("no space")

    def note(self, text: str) -> None:
        self.heard.append("note")

    def close(self) -> None:
        self.heard.append("close")
        raise OSError


def test_an_observer_that_raises_is_closed_and_taken_out_and_the_others_hear_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, broken, last = Heard(), Broken(), Heard()
    with caplog.at_level(logging.ERROR, "heron.server"), Observers([first, broken, last]) as observers:
        observers.upload_consumed("a")
        observers.upload_consumed("b")
    said = "Broken failed and observes the run no longer: ValueError('no space')"
    assert broken.heard == ["upload_consumed", "close"]
    assert first.events == last.events
    assert first.events == [("upload_consumed", "a"), ("note", said), ("upload_consumed", "b"), ("close",)]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_observers_that_all_fail_leave_none() -> None:
    observers = Observers([Broken(), Broken()])
    observers.upload_consumed("a")
    observers.note("nobody is left")


def test_an_interrupt_is_not_an_observers_failure() -> None:
    class Interrupted(Heard):
        def note(self, text: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observers([Interrupted()]).note("x")


def test_an_observer_that_wants_to_leave_leaves_alone() -> None:
    class Leaving(Heard):
        def note(self, text: str) -> None:
            raise SystemExit(3)

        def close(self) -> None:
            raise SystemExit(3)

    heard = Heard()
    Observers([Leaving(), heard]).note("x")
    assert heard.events == [("note", "x"), ("note", "Leaving failed and observes the run no longer: SystemExit(3)")]
