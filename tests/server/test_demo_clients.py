"""The demo's client processes begin once the server listens, and the demo ends where they cannot."""

from __future__ import annotations

import signal
import subprocess
import threading
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


def test_what_ended_the_clients_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stopped = threading.Event()
    killed = ("sh", "-c", "kill -ILL $$")
    monkeypatch.setattr(demo, "start_child", lambda *_: subprocess.Popen(killed, stdin=subprocess.PIPE))
    monkeypatch.setattr(demo.os, "kill", lambda *_: stopped.set())
    with Clients(2, tmp_path) as clients:
        Observers([StartClients(clients)]).listening("127.0.0.1:4711", "run-1")
        assert stopped.wait(20.0)
    said = capsys.readouterr().err
    assert "All clients of the demo have ended before the run did" in said
    assert "client-1: it was ended by SIGILL: a library uses instructions that this processor lacks" in said
