"""The demo's client processes begin once the server listens, and the demo ends where they cannot."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from heron_server import demo
from heron_server.demo import Clients, StartClients
from heron_server.metrics.observers import Observers


def test_a_client_that_cannot_be_started_stops_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    signals: list[int] = []

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Resource temporarily unavailable")

    monkeypatch.setattr(demo, "start_child", refuse)
    monkeypatch.setattr(demo.os, "kill", lambda pid, number: signals.append(number))
    with Clients(3, tmp_path) as clients:
        Observers([StartClients(clients)]).listening("127.0.0.1:4711", "run-1")
    assert signals == [signal.SIGTERM]
    assert capsys.readouterr().err == "A client of the demo cannot be started: Resource temporarily unavailable.\n"
