"""`heron-server demo`: this process serves, three client processes train; then the control, and with digits first-order
clients, are simulated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from heron_core.config import text_of
from heron_core.process.children import ending, let_go, start_child
from heron_core.spec.run_spec import RunSpec
from heron_server.beside import runs_beside, show_beside
from heron_server.config import ServerSettings, load_run_file
from heron_server.control import CONTROL
from heron_server.display.choose import make_display
from heron_server.going_back import going_back
from heron_server.launch import clear_run_dir
from heron_server.metrics.observers import Observer
from heron_server.serve import serve
from heron_server.storage.run_dir import RunDir

DEMO_FILE = Path(__file__).with_name("demo.toml")


class Demo(NamedTuple):
    """One of the demo's runs."""

    file: Path
    beside: str
    """A method shown beside it and its control; none where that would take too long."""


DEMOS = {"digits": Demo(DEMO_FILE, "cse_fsl"), "language": Demo(DEMO_FILE.with_name("demo_language.toml"), "")}


def run_demo(
    folder: Path, overrides: list[str], *, resume: bool, log_format: str, resume_after: int | None = None,
    preset: str = "digits",
) -> None:  # fmt: skip
    """`preset`: one of DEMOS. Raises Interrupted on Ctrl-C, with everything up to the last round saved in `folder`."""
    demo = DEMOS[preset]
    spec, settings = load_run_file(demo.file, overrides)
    name = spec.method.name
    others = runs_beside(spec, settings, name != CONTROL, demo.beside if name != demo.beside else "")
    resume = resume or resume_after is not None
    if not resume:
        clear_run_dir(folder)
    with going_back(folder, spec, resume_after), _clients(spec, settings, folder) as clients:
        directory = RunDir(folder, settings.keep_checkpoints)
        observers = [make_display(log_format, sys.stdout), StartClients(clients)]
        try:
            summary = serve(spec, settings, directory, resume=resume, observers=observers)
        finally:
            directory.close()
        clients.wait()
    show_beside(summary, others, settings, log_format)


def _clients(spec: RunSpec, settings: ServerSettings, folder: Path) -> Clients:
    data = settings.data_folder
    return Clients(spec.federation.clients, folder, () if data is None else ("--set", f"data.folder={text_of(data)}"))


class StartClients(Observer):
    """Starts the demo's clients once the server takes them."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def listening(self, address: str, run_id: str) -> None:
        self._clients.start(address)


class Clients:
    """N client processes that end with this block, whatever happens."""

    def __init__(self, count: int, folder: Path, more: Sequence[str] = ()) -> None:
        """Each keeps its key below `folder`, and so its name when the run goes on. `more`: of their command line."""
        self._count, self._folder, self._more = count, folder, more
        self._processes: list[subprocess.Popen[bytes]] = []
        self._over = False

    def __enter__(self) -> Clients:
        return self

    def start(self, address: str) -> None:
        """Starts them; where this machine cannot, the server is stopped."""
        for i in range(self._count):
            command = (
                "-m", "heron_client", "run", "--once", "--log-level", "warning",
                "--set", f"name=client-{i}", "--set", f"server={address}",
                "--set", f"state_dir={text_of(self._folder / 'clients' / f'client-{i}')}", *self._more,
            )  # fmt: skip
            try:
                self._processes.append(start_child(*command))
            except OSError as error:
                _stop_server(f"A client of the demo cannot be started: {error}.")
                return
        threading.Thread(target=self._mind, name="heron-demo-clients", daemon=True).start()

    def _mind(self) -> None:
        """Without clients the server would wait for ever: stop it, resumable, once the last one has ended too early."""
        for process in self._processes:
            process.wait()
        codes = [process.returncode for process in self._processes]
        if not self._over and any(codes):
            killed = "".join(f"\n  client-{i}: {ending(code)}" for i, code in enumerate(codes) if code < 0)
            _stop_server(f"All clients of the demo have ended before the run did; see what they said above.{killed}")

    def wait(self) -> None:
        """For the clients' own ends; they heard that the run is over."""
        self._over = True
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                return

    def __exit__(self, *_: object) -> None:
        self._over = True
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            let_go(process)


def _stop_server(why: str) -> None:
    """As by a signal from outside: its state is saved."""
    print(why, file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)
