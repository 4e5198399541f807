"""Commands as processes of their own that start in milliseconds: one interpreter imports what they need, then forks.

A forked process does what `python -m MODULE ARGUMENTS` does, from the module's first line to the last exit handler;
only the imports are done already, and the imported modules, a second's work, are not taken apart at the end. `Fresh`
starts real interpreters instead, some 2 s each.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn, Protocol

PRELOADED = (
    "heron_server.cli", "heron_server.launch", "heron_client.cli", "heron_client.daemon", "heron_client.logs",
    "heron_client.compute.backends.torch_backend", "heron_core.data.sources.digits", "heron_core.models.saved",
    "torch._dynamo", "numpy.random", "matplotlib.figure", "matplotlib.backends.backend_agg",
)  # fmt: skip
"""And what they import late: torch's optimisers, the picture of the curves."""


class Child:
    """One process and how it ended."""

    def __init__(self, name: str, out: Path, err: Path) -> None:
        self.name, self.out, self.err = name, out, err
        self.pid = 0
        self.code: int | None = None
        """Its exit code once it has ended; -9 where it was killed."""
        self._at = monotonic()
        self._stopped_at: float | None = None
        self._started, self._ended = threading.Event(), threading.Event()

    @property
    def running(self) -> bool:
        return self.code is None

    def signal(self, number: signal.Signals) -> None:
        """To this process, if it has not ended."""
        if self.begins(30) and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            if number == signal.SIGSTOP and self._stopped_at is None:
                self._stopped_at = monotonic()
            elif number == signal.SIGCONT and self._stopped_at is not None:
                self._at += monotonic() - self._stopped_at
                self._stopped_at = None

    def begins(self, timeout_s: float) -> bool:
        """Waits for its process id."""
        return self._started.wait(timeout_s)

    def ends(self, timeout_s: float) -> bool:
        """Waits for its end."""
        return self._ended.wait(timeout_s)

    @property
    def stderr(self) -> str:
        """What it said there."""
        return self.err.read_text(errors="replace") if self.err.exists() else ""

    @property
    def age_s(self) -> float:
        """Seconds since its start in which it was not stopped."""
        return (self._stopped_at or monotonic()) - self._at

    def has_started(self, pid: int) -> None:
        self.pid, self._at = pid, monotonic()
        self._started.set()

    def has_ended(self, code: int) -> None:
        self.code = code
        self._ended.set()


class Starter(Protocol):
    """Starts `python -m module arguments`."""

    too_early: int
    """Exit code of a process that got a SIGTERM before the command's first instruction."""

    def start(self, module: str, arguments: Sequence[str], out: Path, err: Path) -> Child: ...

    def close(self) -> None: ...


class Fresh:
    """An interpreter of its own for each start."""

    too_early = -signal.SIGTERM

    def start(self, module: str, arguments: Sequence[str], out: Path, err: Path) -> Child:
        child = Child(module, out, err)
        with out.open("ab") as stdout, err.open("ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                start_new_session=True,
            )  # fmt: skip
        child.has_started(process.pid)
        threading.Thread(target=lambda: child.has_ended(process.wait()), daemon=True).start()
        return child

    def close(self) -> None: ...


class Warm:
    """Forks of one interpreter that has imported everything. They end with it."""

    too_early = 75
    """Of this interpreter's own handler, whose place the command's takes."""

    def __init__(self, *modules: str, **environment: str) -> None:
        """`modules`: to import besides PRELOADED. `environment`: for the interpreter, on top of this process's own."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True, env={**os.environ, **environment},
        )  # fmt: skip
        self._children: dict[int, Child] = {}
        self._asking = threading.Lock()
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n", "it did not start"
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def start(
        self, module: str, arguments: Sequence[str], out: Path, err: Path, folder: Path | None = None
    ) -> Child:  # fmt: skip
        """In `folder`, or in this process's own, and with this process's environment."""
        child = Child(module, out, err)
        assert self._process.stdin is not None
        with self._asking:
            number = len(self._children)
            self._children[number] = child
            files = {"out": str(out), "err": str(err)}
            where = {"folder": str(folder or Path.cwd()), "environment": dict(os.environ)}
            wanted = {"number": number, "module": module, "arguments": list(arguments), **files, **where}
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
        return child

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._listening.join(30)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                number, what, value = line.split()
                child = self._children[int(number)]
                if what == "started":
                    child.has_started(int(value))
                else:
                    child.has_ended(int(value))


# -- the interpreter that forks: one thread, so that a fork is a whole copy ------------------------------------------


def serve_starts() -> dict[str, Any]:
    """Forks until stdin ends, which ends all that it started. Returns in each forked process, with what it is to do."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(Warm.too_early))
    numbers: dict[int, int] = {}
    rest = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _report_ended(numbers)
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                _end_all(numbers)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                wanted: dict[str, Any] = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for end in (woken, wake):
                        os.close(end)
                    return wanted
                numbers[pid] = wanted["number"]
                _say(wanted["number"], "started", pid)


def _report_ended(numbers: dict[int, int]) -> None:
    while numbers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _say(numbers.pop(pid), "ended", os.waitstatus_to_exitcode(status))


def _end_all(numbers: dict[int, int]) -> None:
    for pid in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _say(number: int, what: str, value: int) -> None:
    os.write(1, f"{number} {what} {value}\n".encode())


def _become(wanted: dict[str, Any]) -> None:
    """In a forked process: takes the place of the command, with its own session and files."""
    os.setsid()
    for target, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, wanted["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, wanted["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        file = os.open(path, flags, 0o644)
        os.dup2(file, target)
        os.close(file)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    tempfile.tempdir = None  # the environment says where
    sys.argv = [wanted["module"], *wanted["arguments"]]


def _run(module: str) -> int:
    """`python -m module`; its exit code."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _leave(code: int) -> NoReturn:
    """Ends as an interpreter does: threads that are waited for, exit handlers, what is buffered."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    for name in (*PRELOADED, *sys.argv[1:]):
        importlib.import_module(name)
    os.write(1, b"ready\n")
    todo = serve_starts()
    _become(todo)
    warnings.simplefilter("error")
    _leave(_run(todo["module"]))
