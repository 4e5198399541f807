"""Runs of about a second, made to pass as many of the server's points as they can: a server by its own entry point in
this thread, two clients in threads, loopback gRPC between them.

Every round needs both clients, so a run that ends well ends with the undisturbed bits, whatever happened on its way.
Import this after hook.install().
"""

from __future__ import annotations

import io
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
from bad_transports import SLOW_S, Spoiling, Troublesome
from hook import CLIENT_THREAD

from heron_client.config import ClientSettings
from heron_client.session.runner import Runner
from heron_client.session.session import State
from heron_client.transport.grpc_transport import GrpcTransport
from heron_core.errors import HeronError, meaning_of
from heron_core.process import signals
from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.launch import run_server
from heron_server.storage.checkpoint import Checkpoint, load_checkpoint
from heron_server.storage.durable import OutOfSpace
from heron_server.storage.run_dir import RunDir

NAMES = ("client-0", "client-1")
ROUNDS = 2
CLIENTS_END_S = 10.0
IMPATIENT = {
    "heartbeat_s": 0.1, "silence_s": 2.0, "grace_s": 0.2, "rejoin_s": 3.0, "step_deadline_s": 2.0,
    "round_deadline_s": 4.0,
}  # fmt: skip
"""Server settings under which every wait of a run ends within seconds."""

TABLES: dict[str, Any] = {
    "rounds": ROUNDS,
    "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [8, 8]},
    "method": {"local_steps": 2, "batch_size": 8},
    "federation": {"clients": 2, "min_clients": 2},
}
WIDE = {**TABLES["model"], "widths": [4200, 8]}
"""Its update is more than one chunk long."""


@dataclass(frozen=True)
class Scenario:
    """A way through the server's code."""

    tables: Mapping[str, Any] = field(default_factory=dict)
    log_format: str = "text"
    spoils: Literal["nothing", "an update", "an upload"] = "nothing"
    """The first that one client sends holds a NaN: its round is abandoned, and done again."""
    troubles: bool = False
    """One client leaves as soon as it is in, and comes back, sends each update twice, takes its time over every frame
    and over its last word; and in the middle somebody asks for the run's story."""
    finds_the_disk_full: bool = False
    """The first round's checkpoint does not fit on the disk; a moment later it does."""
    on_a_terminal: bool = False
    own_data: bool = False
    """Clients bring data of their own and evaluate on what they hold out."""
    resumes: bool = False
    """The run has done its first round before."""


SCENARIOS = {
    "plain": Scenario(),
    "resumed": Scenario(resumes=True, log_format="json"),
    "gradients sent back": Scenario(
        {"method": {"name": "sflv1", "local_steps": 2, "batch_size": 8}, "data": {"source": "client", "holdout": 0.25}},
        own_data=True, log_format="json",
    ),
    "an update spoiled": Scenario(
        {"federation": {"clients": 2, "min_clients": 2, "clients_per_round": 2}}, spoils="an update", on_a_terminal=True
    ),
    "an upload spoiled": Scenario(spoils="an upload"),
    "a full disk": Scenario(finds_the_disk_full=True, log_format="json"),
    "troubles": Scenario({"model": WIDE}, troubles=True, log_format="json"),
    "troubles on a terminal": Scenario({"model": WIDE}, troubles=True, on_a_terminal=True, finds_the_disk_full=True),
    "a full disk in plain text": Scenario(finds_the_disk_full=True),
}  # fmt: skip
"""The first one that passes a point is used for it."""


@dataclass
class Outcome:
    """How a run ended."""

    sha256: str = ""
    """Of the model, where the run went on to its end."""
    error: str = ""
    """What the server raised."""
    exit_code: int = 0
    """Of the command, for that error; 1: a traceback."""
    listening: bool = False
    """Did clients ever see it?"""
    broken: list[str] = field(default_factory=list)
    """What must not be, whatever the error: a client that does not end, a checkpoint that cannot be read."""


def run(scenario: Scenario, folder: Path) -> Outcome:
    """One run in an empty folder, which may hold `first_round`'s result."""
    spec = RunSpec.model_validate({**TABLES, **scenario.tables})
    settings = ServerSettings(address=_free_address(), run_dir=folder / "run", **IMPATIENT)
    outcome, clients = Outcome(), _Clients(scenario, settings.address, folder)
    clients.start()
    try:
        with _quiet(scenario.on_a_terminal) as said, _disk_full_once(scenario.finds_the_disk_full):
            summary = run_server(spec, settings, resume=scenario.resumes, log_format=scenario.log_format)
        outcome.sha256 = str(summary["model_sha256"])
    except HeronError as error:
        outcome.error, outcome.exit_code = f"{type(error).__name__}: {error}", meaning_of(error).exit_code
    except BaseException as error:
        outcome.error, outcome.exit_code = f"{type(error).__name__}: {error}", 1
    outcome.listening = "listening" in said.getvalue()
    outcome.broken = clients.end()
    try:
        for path in (folder / "run" / "checkpoints").glob("round-*"):
            load_checkpoint(path)
    except Exception as error:
        outcome.broken.append(f"a checkpoint is not usable: {error}")
    return outcome


def first_round(folder: Path) -> None:
    """A run directory whose server was killed after its first round."""
    run(SCENARIOS["plain"], folder)
    newest_of = sorted((folder / "run" / "checkpoints").glob("*"))[-1]
    newest_of.unlink()
    (folder / "run" / "summary.json").unlink()
    shutil.rmtree(folder / "run" / "model")


def be_impatient() -> None:
    """Shortens the pauses of the server that are no settings."""
    for module in [module for name, module in sys.modules.items() if name.startswith("heron_server")]:
        for name, seconds in (("TICK_S", 0.05), ("FAREWELL_S", 2.0), ("STORAGE_RETRY_S", 0.2)):
            if hasattr(module, name):
                setattr(module, name, seconds)


class _Clients:
    def __init__(self, scenario: Scenario, address: str, folder: Path) -> None:
        self._scenario, self._address, self._folder = scenario, address, folder
        self._over, self._runners = threading.Event(), dict[str, Runner]()
        self._broken: list[str] = []
        self._threads = [
            threading.Thread(target=self._live, args=(name,), name=CLIENT_THREAD + name, daemon=True) for name in NAMES
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        if self._scenario.troubles:
            threading.Thread(target=_ask_for_the_story, args=(self._over,), daemon=True).start()

    def end(self) -> list[str]:
        """Stops those that still run; returns what is wrong with them."""
        self._over.set()
        for runner in list(self._runners.values()):
            runner.stop()
        for name, thread in zip(NAMES, self._threads, strict=True):
            thread.join(CLIENTS_END_S)
            if thread.is_alive():
                self._broken.append(f"{name} did not end")
        return self._broken

    def _live(self, name: str) -> None:
        """Starts again after an error, as a service manager would, until the run is over."""
        spoil = [self._scenario.spoils] if name == NAMES[1] else []
        if self._scenario.troubles and name == NAMES[1]:
            spoil = ["leave"]
        try:
            while not self._over.is_set() and not self._once(name, spoil):
                self._over.wait(0.05)
        except BaseException as error:
            self._broken.append(f"{name} crashed: {error!r}")

    def _once(self, name: str, spoil: list[str]) -> bool:
        """One session after another until an error; True: the run has ended for the client."""
        transport = GrpcTransport(self._address, rpc_deadline_s=2.0)
        try:
            slow = self._scenario.troubles and name == NAMES[1]
            through, key = (Troublesome if slow else Spoiling)(transport, spoil), name.encode().ljust(16)
            runner = Runner(self._settings(name), through, key, measure_memory=False)
            self._runners[name] = runner
            for _ in runner.run():
                if self._over.is_set() or (runner.session.state is not State.OFFLINE and "leave" in spoil):
                    spoil.clear()
                    runner.stop()
            return runner.session.state is State.DONE
        except HeronError:
            return False
        finally:
            transport.close()

    def _settings(self, name: str) -> ClientSettings:
        facts: dict[str, Any] = {"name": name, "retry_for_s": 1.0, "retry_max_s": 0.1}
        if self._scenario.own_data:
            path = self._folder / f"{name}.npz"
            if not path.exists():
                x = np.random.default_rng(0).normal(size=(24, 1, 8, 8)).astype(np.float32)
                np.savez(path, x=x, y=np.arange(24) % 10)
            facts["data"] = {"source": "npz", "path": path}
        return ClientSettings.model_validate(facts)


def _ask_for_the_story(over: threading.Event) -> None:
    """As the thread does that hears signals."""
    while not over.wait(SLOW_S):
        signals._process.take(signal.SIGUSR1)


@contextmanager
def _disk_full_once(wanted: bool) -> Iterator[None]:
    real, left = RunDir.save, [wanted]

    def save(directory: RunDir, checkpoint: Checkpoint) -> None:
        if left[0] and checkpoint.facts["rounds_done"] == 1:
            left[0] = False
            raise OutOfSpace("the disk is full")
        real(directory, checkpoint)

    with patch.object(RunDir, "save", save):
        yield


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def _quiet(on_a_terminal: bool) -> Iterator[io.StringIO]:
    """What the server prints, kept."""
    real, said = sys.stdout, _Terminal() if on_a_terminal else io.StringIO()
    sys.stdout = said
    try:
        yield said
    finally:
        sys.stdout = real


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"
