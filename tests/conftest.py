"""Puts this folder on the path, so that every test may `import tiny`, hears signals, and looks at every state machine
after each test that made one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

MACHINES = ("heron_server.rounds.machine.Rounds", "heron_server.uploads.scheduler.Scheduler")


@pytest.fixture(autouse=True, scope="session")
def signals_are_heard() -> Iterator[None]:
    """Also where the tests themselves were started with nohup, or in the background of a script."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def every_machine_is_sound(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rounds machines and schedulers keep their invariants, whatever a test has done to them."""
    made: list[Any] = []
    for path in MACHINES:
        module, _, name = path.rpartition(".")
        if module in sys.modules:
            _remember(getattr(sys.modules[module], name), made, monkeypatch)
    yield
    for machine in made:
        machine.check()


def _remember(kind: type, made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    initialise = kind.__init__

    def initialised(self: Any, *arguments: Any, **named: Any) -> None:
        initialise(self, *arguments, **named)
        made.append(self)

    monkeypatch.setattr(kind, "__init__", initialised)
