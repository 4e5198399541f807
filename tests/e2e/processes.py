"""Heron's two commands as real processes, and a TCP relay to put between them. A Bench ends all that it started."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from heron_core.spec.run_spec import RunSpec
from heron_server.text.toml import to_toml

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from warm import Warm

PATIENCE_S = 60.0
"""For anything that takes a few seconds on an idle machine."""


WARM: list[Warm] = []
"""The interpreter that has imported Heron, while the tests of this folder run."""


class Forked:
    """One of Heron's commands, forked by that interpreter: what is needed of subprocess.Popen."""

    def __init__(self, arguments: tuple[str, ...], folder: Path | None) -> None:
        self.args = arguments
        pipes = [os.pipe() for _ in range(2)]
        self.stdout, self.stderr = (os.fdopen(end) for end, _ in pipes)
        self._ends = [end for _, end in pipes]
        out, err = (Path(f"/proc/{os.getpid()}/fd/{end}") for end in self._ends)
        self._child = WARM[0].start(arguments[1], arguments[2:], out, err, folder)
        assert self._child.begins(PATIENCE_S), "it was not forked"
        self.pid = self._child.pid
        threading.Thread(target=self._close, daemon=True).start()

    def poll(self) -> int | None:
        return self._child.code

    def wait(self, timeout_s: float) -> int:
        if not self._child.ends(timeout_s):
            raise subprocess.TimeoutExpired(self.args, timeout_s)
        assert self._child.code is not None
        return self._child.code

    def send_signal(self, number: signal.Signals) -> None:
        self._child.signal(number)

    def _close(self) -> None:
        self._child.ends(threading.TIMEOUT_MAX)
        for end in self._ends:  # it opened them for itself
            os.close(end)


def started(arguments: tuple[str, ...], env: dict[str, str] | None, cwd: Path | None) -> Forked | subprocess.Popen[str]:
    """Python with these arguments. Heron's own commands are forked, where that changes nothing but the wait."""
    if WARM and arguments[0] == "-m" and env is None:
        return Forked(arguments, cwd)
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        text=True, start_new_session=True, cwd=cwd, env={**os.environ, "PYTHONWARNINGS": "error", **(env or {})},
    )  # fmt: skip


class Program:
    """One process, its lines kept as they come. Warnings in it are errors."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self._process = started(arguments, env, cwd)
        self._news = threading.Condition()
        self._lines: list[tuple[str, str]] = []
        self._looked_at = 0
        streams = {"stdout": self._process.stdout, "stderr": self._process.stderr}
        self._readers = [threading.Thread(target=self._read, args=item) for item in streams.items()]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> list[str]:
        return [line for stream, line in self._lines if stream == "stderr"]

    @property
    def stdout(self) -> list[str]:
        return [line for stream, line in self._lines if stream == "stdout"]

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def line(self, pattern: str, patience_s: float = PATIENCE_S) -> str:
        """The next line, after the last one asked for, in which the pattern is found."""
        found = self._next(lambda text: text if re.search(pattern, text) else None, patience_s, f"a line {pattern!r}")
        return str(found)

    def ends(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended and its last line is read."""
        try:
            code = self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {patience_s:g} s\n{self._said()}") from None
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def signal_group(self, number: signal.Signals) -> None:
        """To the process and those it started in its group: what a terminal does on Ctrl-C."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """kill -9, and waits until it is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.send_signal(signal.SIGKILL)  # it may have no group of its own yet
        self.ends()

    def show(self) -> None:
        """Prints all that it said: pytest shows it where a test has failed."""
        print(self._said(), "\n")

    def _next(self, look: Callable[[str], Any], patience_s: float, what: str) -> Any:
        deadline = monotonic() + patience_s
        with self._news:
            while True:
                while self._looked_at < len(self._lines):
                    self._looked_at += 1
                    found = look(self._lines[self._looked_at - 1][1])
                    if found is not None:
                        return found
                over = not any(reader.is_alive() for reader in self._readers)
                if over or not self._news.wait(deadline - monotonic()):
                    raise AssertionError(f"{what} did not come\n{self._said()}")

    def _read(self, name: str, stream: Any) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self._lines.append((name, line.rstrip("\n")))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _said(self) -> str:
        return f"{self._process.args}\n" + "\n".join(f"{stream}: {line}" for stream, line in self._lines)


class Server(Program):
    """`heron-server run`, with JSON lines."""

    def __init__(self, run_file: Path, run_dir: Path, *flags: str, start: tuple[str, ...] = ("-m",)) -> None:
        """`start`: the arguments of Python before the package's name."""
        super().__init__(*start, "heron_server", "run", str(run_file), "--log-format", "json", *flags)
        self.run_dir = run_dir

    def event(self, kind: str, patience_s: float = PATIENCE_S, **facts: Any) -> dict[str, Any]:
        """The next event of this kind, after the last one asked for, with these facts."""
        wanted = {"event": kind, **facts}

        def look(text: str) -> Any:
            event = json.loads(text) if text.startswith("{") else {}
            return event if wanted.items() <= event.items() else None

        found: dict[str, Any] = self._next(look, patience_s, f"the event {wanted}")
        return found

    @property
    def last_event(self) -> dict[str, Any]:
        """The last one, but for notes and comings and goings."""
        events = [json.loads(line) for line in self.stdout]
        return next(e for e in reversed(events) if e["event"] not in ("note", "clients"))

    def address(self) -> str:
        return str(self.event("listening")["address"])

    def summary(self) -> dict[str, Any]:
        """The summary of a run that ends well."""
        assert self.ends() == 0, self._said()
        return self.summary_on_disk()

    def summary_on_disk(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.run_dir / "summary.json").read_text())
        return summary


class Relay:
    """A TCP relay at a port of its own; `target` is where it leads. Without one, whoever connects is turned away."""

    def __init__(self, target: str | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._target = target
        self._news = threading.Condition()
        self._open: set[socket.socket] = set()
        self._up = self._down = 0
        self._up_at_most = inf
        self._turned_away = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, target: str) -> None:
        self._target = target
        self.let_go()

    def cut(self) -> None:
        """Breaks every connection and lets none through until `lead_to`."""
        self._target = None
        self.let_go()
        with self._news:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def carried(self) -> tuple[int, int]:
        """Bytes so far, up and down."""
        with self._news:
            return self._up, self._down

    def carries_up(self, more_bytes: int) -> None:
        """Waits until so many more bytes have gone from clients to the server."""
        with self._news:
            goal = self._up + more_bytes
            assert self._news.wait_for(lambda: self._up >= goal, PATIENCE_S), f"{self._up} bytes of {goal} came"

    def holds_up_after(self, more_bytes: int) -> None:
        """As `carries_up`, and what clients send then is held until `let_go`: the round cannot end."""
        self._carry_up_to(self._up + more_bytes)
        self.carries_up(more_bytes)

    def let_go(self) -> None:
        """What `holds_up_after` holds goes on."""
        self._carry_up_to(inf)

    def _carry_up_to(self, most: float) -> None:
        with self._news:
            self._up_at_most = most
            self._news.notify_all()

    def turns_away(self) -> None:
        """Waits until somebody has tried in vain."""
        with self._news:
            before = self._turned_away
            assert self._news.wait_for(lambda: self._turned_away > before, PATIENCE_S), "nobody came"

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            target = self._target
            if target is None:
                with self._news:
                    self._turned_away += 1
                    self._news.notify_all()
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._news:
                    self._open |= {client, server}
                down = threading.Thread(target=self._pump, args=(server, client, False), daemon=True)
                down.start()
                self._pump(client, server, True)
                down.join()
                with self._news:
                    self._open -= {client, server}

    def carry(self, up: bool) -> Callable[[bytes], object]:
        """What is told of all that passes one way of a new connection, before it goes on."""
        return len

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        told = self.carry(up)
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if up:
                    with self._news:
                        self._news.wait_for(lambda: self._up < self._up_at_most)
                told(data)
                sink.sendall(data)
                with self._news:
                    self._up, self._down = self._up + up * len(data), self._down + (not up) * len(data)
                    self._news.notify_all()
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class DelayingRelay(Relay):
    """Hands every byte on `latency_s` after it came."""

    def __init__(self, target: str | None, latency_s: float) -> None:
        self._latency_s = latency_s
        super().__init__(target)

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        sender = threading.Thread(target=self._send_when_due, args=(line, sink), daemon=True)
        sender.start()
        with suppress(OSError):
            while data := source.recv(1 << 16):
                line.put((monotonic() + self._latency_s, data))
        line.put((0.0, b""))
        sender.join()

    def _send_when_due(self, line: queue.SimpleQueue[tuple[float, bytes]], sink: socket.socket) -> None:
        never = threading.Event()
        with suppress(OSError):
            while (item := line.get())[1]:
                never.wait(max(0.0, item[0] - monotonic()))
                sink.sendall(item[1])
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


class Bench:
    """Starts servers, clients and relays in one folder, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self._ends = ExitStack()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def run_file(self, tables: dict[str, Any]) -> Path:
        """The tables as a file, with a [server] table for this bench under what they say."""
        local = {"address": "127.0.0.1:0", "run_dir": str(self.run_dir), "heartbeat_s": 0.5}
        path = self.folder / "run.toml"
        path.write_text(to_toml({**tables, "server": {**local, **tables.get("server", {})}}))
        return path

    def server(self, tables: dict[str, Any], *flags: str) -> Server:
        """A server that runs these tables."""
        run_dir = Path(tables.get("server", {}).get("run_dir", self.run_dir))
        return self.keep(Server(self.run_file(tables), run_dir, *flags))

    def client(
        self, name: str, address: str, *flags: str, command: str = "run", once: bool = True,
        start: tuple[str, ...] = ("-m",), **settings: Any,
    ) -> Program:  # fmt: skip
        """A client of that name; `settings` are keys of its file, `start` is as for Server."""
        kept = {"state_dir": str(self.folder / "state" / name)}
        given = {"name": name, "server": address, "retry_max_s": 0.5, "retry_for_s": PATIENCE_S, **kept, **settings}
        path = self.folder / f"{name}.toml"
        path.write_text(to_toml({key: value for key, value in given.items() if value is not None}))
        mode = ["--once"] if once and command == "run" else []
        return self.program(*start, "heron_client", command, str(path), *mode, *flags)

    def clients(self, count: int, address: str, **settings: Any) -> list[Program]:
        """client-0, client-1, ...: the names that the simulator gives."""
        return [self.client(f"client-{i}", address, **settings) for i in range(count)]

    def program(self, *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Program:
        return self.keep(Program(*arguments, env=env, cwd=cwd))

    def relay(self, target: str | None = None, latency_s: float = 0.0) -> Relay:
        relay = DelayingRelay(target, latency_s) if latency_s else Relay(target)
        self._ends.callback(relay.close)
        return relay

    def keep(self, program: Any) -> Any:
        """Ends it with the bench."""
        self._ends.callback(program.show)
        self._ends.callback(program.kill)
        return program


def free_address() -> str:
    """A loopback address at which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


def spec_of(tables: dict[str, Any]) -> RunSpec:
    """The run spec that the tables of a run file hold."""
    return RunSpec.model_validate({key: table for key, table in tables.items() if key != "server"})
