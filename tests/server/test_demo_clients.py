"""The demo's client processes begin once the server listens, and the demo ends where they cannot."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import pytest
from tiny_text import tokens

from heron_core.config import load_toml
from heron_core.data.sources.asked import TextAsked
from heron_core.data.sources.text import asked_of
from heron_server import demo
from heron_server.config import split_run_file
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


def test_clients_are_told_where_the_server_s_data_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(demo, "start_child", lambda *command: started.append(command) or _ended())
    tables = {"server": {"data_folder": str(tmp_path)}, "federation": {"clients": 2}}
    spec, settings = split_run_file({**load_toml(demo.DEMO_FILE), **tables}, "demo")
    with demo._clients(spec, settings, tmp_path) as clients:
        clients.start("127.0.0.1:4711")
        clients.wait()
    assert [command[-2:] for command in started] == [("--set", f"data.folder={tmp_path}")] * 2


def _ended() -> subprocess.Popen[bytes]:
    return subprocess.Popen(("true",), stdin=subprocess.PIPE)


PRESETS = Path(__file__).parents[2] / "benchmarks" / "sweeps" / "presets"
LANGUAGE = [demo.DEMOS["language"].file, *sorted(PRESETS.glob("e2e*.toml"))]


@pytest.mark.parametrize("file", LANGUAGE, ids=lambda file: file.stem)
def test_what_fine_tunes_a_language_model_is_a_run(file: Path) -> None:
    tables = load_toml(file)
    tables["model"]["base_sha256"] = "0" * 64  # the model's folder need not be here
    spec, settings = split_run_file(tables, file.name)
    assert spec.model.name == "causal_lm" and spec.method.micro_batch == 1 and settings.evaluate_start
    assert asked_of(spec, (tokens(),), None) == TextAsked(spec.data.text, spec.model.base, tokens(), None)
