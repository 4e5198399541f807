"""A server that fails ends, over a real port and with a real worker: with its error, and its clients told."""

from __future__ import annotations

import errno
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import tiny

from heron_client.config import ClientSettings
from heron_client.session.runner import Runner
from heron_client.transport.grpc_transport import GrpcTransport
from heron_core import files
from heron_core.errors import RunFailed
from heron_core.pb.v1 import federation_pb2 as pb
from heron_server import launch
from heron_server.api import server as server_module
from heron_server.config import ServerSettings
from heron_server.metrics.observers import Observer
from heron_server.rounds import storing
from heron_server.run.coordinator import Coordinator
from heron_server.run.journal import Journal
from heron_server.run.phases.phases import Phases
from heron_server.serve import serve
from heron_server.storage.run_dir import RunDir
from heron_server.training import worker
from heron_server.training.trainer import Trainer


class Hearing(GrpcTransport):
    """Remembers why the server stops."""

    stops = ""

    def next_event(self, timeout_s: float) -> pb.RoundEvent | None:
        event = super().next_event(timeout_s)
        if event is not None and event.WhichOneof("event") == "draining":
            self.stops = event.draining.reason
        return event


class Clients(Observer):
    """Two clients, begun as the server listens; each runs until it hears that the server stops."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def listening(self, address: str, run_id: str) -> None:
        for name in "ab":
            self._threads.append(threading.Thread(target=self._run, args=(name, address), daemon=True))
            self._threads[-1].start()

    def _run(self, name: str, address: str) -> None:
        transport = Hearing(address, rpc_deadline_s=20.0)
        runner = Runner(ClientSettings(name=name), transport, name.encode() * 16, measure_memory=False)
        for _ in runner.run():
            if transport.stops or self._over.is_set():
                break
        self.heard.append(transport.stops)
        transport.close()

    def join(self) -> None:
        """They would come back to a server that failed; here none comes back."""
        self._over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def plant(*_: object, **__: object) -> None:
    raise ZeroDivisionError("planted")


PLACES: dict[str, tuple[type, str]] = {
    "what follows a commit": (Journal, "committed"),
    "a command on the worker": (Trainer, "end_round"),
    "an action inside an RPC": (Phases, "train"),
    "a handler": (Coordinator, "check_update"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_failure_anywhere_ends_the_server_and_its_clients_hear_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(*PLACES[place], plant)
    directory, clients = RunDir(tmp_path), Clients()
    with pytest.raises(RunFailed, match="a bug in the server: ZeroDivisionError: planted"):
        serve(tiny.spec(), ServerSettings(address="127.0.0.1:0"), directory, observers=[clients])
    directory.close()
    clients.join()
    if place != "a handler":  # whose callers are told `internal` at once
        assert any(heard.startswith("the server has failed: a bug in the server") for heard in clients.heard)


class Disk(Observer):
    """Full from the first round on, until the run has paused for it."""

    def __init__(self) -> None:
        self.full = False
        self.pauses: list[str] = []

    def round_began(self, number: int, rounds: int, participants: Sequence[str], uploads: int) -> None:
        self.full = number == 1

    def paused(self, why: str) -> None:
        self.pauses.append(why)
        self.full = False

    def fsync(self, descriptor: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_server_is_never_taken_apart_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC waits there without a limit for what is pending in it; on a busy machine that can hang."""
    servers: list[weakref.ref[grpc.aio.Server]] = []

    async def listen(*arguments: Any) -> tuple[grpc.aio.Server, str]:
        server, address = await server_module.listen(*arguments)
        servers.append(weakref.ref(server))
        return server, address

    monkeypatch.setattr("heron_server.serve.listen", listen)
    clients, directory = Clients(), RunDir(tmp_path)
    serve(tiny.spec(rounds=1), ServerSettings(address="127.0.0.1:0"), directory, observers=[clients])
    directory.close()
    clients.join()
    assert servers[0]() is not None


def test_a_full_disk_pauses_a_served_run_and_its_clients_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, clients, directory = Disk(), Clients(), RunDir(tmp_path)
    monkeypatch.setattr(files.os, "fsync", disk.fsync)
    monkeypatch.setattr(storing, "STORAGE_RETRY_S", 0.1)
    summary = serve(tiny.spec(), ServerSettings(address="127.0.0.1:0"), directory, observers=[disk, clients])
    directory.close()
    clients.join()
    assert len(disk.pauses) == 1 and summary["rounds_done"] == 2


def test_a_worker_that_hangs_ends_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(Trainer, "train", lambda *_: go.wait(60))
    monkeypatch.setattr(worker, "LAST_COMMAND_S", 0.1)
    clients, directory = Clients(), RunDir(tmp_path)
    settings = ServerSettings(address="127.0.0.1:0", round_deadline_s=1.0)
    with pytest.raises(RunFailed, match=r"one command has kept the server.s worker busy for more than 1 s"):
        serve(tiny.spec(), settings, directory, observers=[clients])
    go.set()
    directory.close()
    clients.join()


def test_a_bug_before_anything_is_set_up_has_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "RunDir", plant)
    with pytest.raises(RunFailed, match="a bug in the server: ZeroDivisionError"):
        launch.run_server(tiny.spec(), ServerSettings(run_dir=tmp_path), resume=False, log_format="json")


def test_a_bug_outside_of_any_round_has_the_exit_code_of_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heron_server.serve.listen", plant)
    directory = RunDir(tmp_path)
    with pytest.raises(RunFailed, match="a bug in the server: ZeroDivisionError"):
        serve(tiny.spec(), ServerSettings(address="127.0.0.1:0"), directory)
    directory.close()
