"""`heron-server demo`: this process serves, three client processes train, then the frozen control is simulated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from heron_core.config import apply_overrides, load_toml
from heron_core.errors import Internal
from heron_core.process.children import kept_folder, let_go, start_child
from heron_core.spec.run_spec import RunSpec
from heron_core.spec.unused import as_method, file_tables
from heron_server.config import split_run_file
from heron_server.display.choose import make_display
from heron_server.going_back import going_back
from heron_server.launch import clear_run_dir, show
from heron_server.metrics.figures import Summary
from heron_server.metrics.observers import Observer
from heron_server.serve import serve
from heron_server.storage.run_dir import RunDir
from heron_server.text.toml import to_toml

DEMO_FILE = Path(__file__).with_name("demo.toml")


def run_demo(
    folder: Path, overrides: list[str], *, resume: bool, log_format: str, resume_after: int | None = None
) -> None:
    """Raises Interrupted on Ctrl-C, with everything up to the last round saved in `folder`."""
    tables = apply_overrides(load_toml(DEMO_FILE), overrides)
    spec, settings = split_run_file(tables, "the demo's run file")
    resume = resume or resume_after is not None
    if not resume:
        clear_run_dir(folder)
    with going_back(folder, spec, resume_after), Clients(spec.federation.clients, folder) as clients:
        directory = RunDir(folder, settings.keep_checkpoints)
        observers = [make_display(log_format, sys.stdout), StartClients(clients)]
        try:
            summary = serve(spec, settings, directory, resume=resume, observers=observers)
        finally:
            directory.close()
        clients.wait()
    summaries = [summary]
    if spec.method.name != "frozen":
        print("Now the control: the same run with clients that never train (in the simulator).", flush=True)
        summaries.append(run_control(spec))
    show(summaries, log_format)


def run_control(spec: RunSpec) -> Summary:
    """The summary of the same run with clients that never train, simulated by a process of its own.

    Where that fails, what it said goes to stderr, and SystemExit has its exit code; Internal: it was killed.
    """
    with kept_folder("heron-control-") as kept:
        folder = kept.path
        run_file, run_dir, said = folder / "run.toml", folder / "run", folder / "said.txt"
        tables = {**file_tables(as_method(spec, "frozen")), "server": {"run_dir": str(run_dir)}}
        run_file.write_text(to_toml(tables), encoding="utf-8")
        command = ("-m", "heron_simulator", str(run_file), "--log-format", "json")
        with said.open("wb") as stderr:
            control = start_child(*command, stdout=subprocess.DEVNULL, stderr=stderr, folder=kept)
            try:
                code = control.wait()
            finally:
                let_go(control)
        if code < 0:
            raise Internal(f"the control's process was ended by signal {-code}; the run before it is saved")
        if code:
            print(said.read_text(encoding="utf-8", errors="replace"), end="", file=sys.stderr)
            sys.exit(code)
        summary: Summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
        return summary


class StartClients(Observer):
    """Starts the demo's clients once the server takes them."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def listening(self, address: str, run_id: str) -> None:
        self._clients.start(address)


class Clients:
    """N client processes that end with this block, whatever happens."""

    def __init__(self, count: int, folder: Path) -> None:
        """Each keeps its key below `folder`, and so its name when the run goes on."""
        self._count, self._folder = count, folder
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
                "--set", f"state_dir={self._folder / 'clients' / f'client-{i}'}",
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
        if not self._over and any(process.returncode for process in self._processes):
            _stop_server("All clients of the demo have ended before the run did; see what they said above.")

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
