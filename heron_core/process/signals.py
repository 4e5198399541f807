"""Signals, from a command's first instruction on: a signal is a byte in a pipe, and a thread acts on it.

Nothing happens in a handler, so no lock is ever taken in one. What this file imports takes no time, so that it can come
before all that does.

signal                      nobody is told yet      somebody is (`stopping`)
SIGTERM, SIGINT, SIGHUP     ends at once, 5         they are told, once; what has not ended after a while is ended, 5
SIGINT again                                        ends at once, 130
SIGUSR1                     nothing                 those are told who asked for it (`on_user_signal`)

It works beside code that computes or waits, but not within one call of C code that never lets another thread run.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

INTERRUPTED, AT_ONCE = 5, 130
"""Exit codes: a signal ended the work; a second Ctrl-C ended the process."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_WITHIN_S = 4.0
"""From the first signal to the end of the process, whatever does not stop."""
LEAVE_WITHIN_S = 5.0
"""From the end of a command to the end of its process."""
SPEAK_WITHIN_S = 1.0
"""A process that ends at once waits no longer than this for the command's own last line."""
SHOW_CURSOR = b"\x1b[?25h"
WITH_PARENT = "HERON_ENDS_WITH_STANDARD_INPUT"
"""In the environment of a process that ends when its standard input does."""

Told = Callable[[], object]
"""Called in the thread that hears the signals; it must not wait."""


class Signals:
    """Who is told of signals, and how the process ends."""

    def __init__(self, exit_process: Callable[[int], object] = os._exit) -> None:
        """`exit_process`: ends it at once, with a code."""
        self._exit = exit_process
        self._lock = threading.Lock()
        self._stopping: list[tuple[Told, float]] = []
        self._on_user: list[Told] = []
        self._interrupts = 0
        self._program = ""
        """Empty: nothing is installed, and the process is a user's own."""
        self._code: int | None = None
        """The command's exit code, once it is over."""
        self._mouth = threading.Lock()
        """Held by whoever says why the process ends; one that ends it at once keeps it."""
        self._told_why = False
        """Has the command itself said why it ends?"""
        self._unfinished: set[Path] = set()
        self.limit: float | None = None
        """By which moment on the monotonic clock the process must have ended."""

    # -- who is told ---------------------------------------------------------------------------------------------

    @contextmanager
    def stopping(self, tell: Told, within_s: float = STOP_WITHIN_S) -> Iterator[None]:
        """Within the block the first signal that ends the work calls `tell` instead of ending the process, which has
        `within_s` from then on. One that has come already calls it at once."""
        with self._lock:
            self._stopping.append((tell, within_s))
            come = self.limit is not None
        try:
            if come:
                tell()
            yield
        finally:
            with self._lock:
                self._stopping.remove((tell, within_s))

    @contextmanager
    def on_user_signal(self, tell: Told) -> Iterator[None]:
        """Within the block SIGUSR1 calls `tell`."""
        with self._lock:
            self._on_user.append(tell)
        try:
            yield
        finally:
            with self._lock:
                self._on_user.remove(tell)

    @contextmanager
    def in_the_making(self, path: Path) -> Iterator[None]:
        """A file that is gone once the block is left, unless it was renamed, and also where the process ends in it."""
        self._unfinished.add(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            self._unfinished.discard(path)

    @contextmanager
    def last_line(self) -> Iterator[None]:
        """Around the line by which a command says why it ends: a second Ctrl-C just then adds none of its own."""
        with self._mouth:
            yield
            self._told_why = True

    # -- what happens --------------------------------------------------------------------------------------------

    def take(self, number: int) -> None:
        """A signal has come."""
        if number == signal.SIGUSR1:
            with self._lock:
                told = list(self._on_user)
            self._tell(told)
        elif number in STOPS:
            self._stop(signal.Signals(number))

    def _stop(self, number: signal.Signals) -> None:
        self._interrupts += number is signal.SIGINT
        if self._interrupts > 1:
            self.end(AT_ONCE, "interrupted twice; what was saved stays")
        with self._lock:
            first, told = self.limit is None, list(self._stopping)
            if first:
                self.limit = monotonic() + max((within_s for _, within_s in told), default=0.0)
        if first and not told:
            self.end(INTERRUPTED if self._code is None else self._code, f"interrupted by {number.name}")
        elif first:
            self._tell([tell for tell, _ in reversed(told)])

    def _tell(self, told: list[Told]) -> None:
        for tell in told:
            try:
                tell()
            except Exception as error:
                self._say(f"a bug: what a signal should do failed: {error!r}")

    # -- the end -------------------------------------------------------------------------------------------------

    def late(self) -> None:
        """The time to stop is over."""
        self.end(INTERRUPTED, f"interrupted; what had not ended in time was left as it was: {_threads()}")

    def leaving(self, code: int) -> None:
        """The command is over with this exit code: its process ends within LEAVE_WITHIN_S, whatever does not stop."""
        if self._program and self._code is None:
            self._code = code
            threading.Thread(target=self._leave, name="heron-leaving", daemon=True).start()

    def _leave(self) -> None:
        threading.Event().wait(LEAVE_WITHIN_S)
        assert self._code is not None
        self.end(self._code, f"ended; what did not stop was left as it was: {_threads()}")

    def last_hook(self) -> None:
        """As the last of all exit hooks: what remains is Python's own taking apart, which computes for seconds where
        torch is loaded, and can wait for ever for a thread of another library."""
        if self._code is not None:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            self._leave_nothing_unfinished()
            self._exit(self._code)

    def end(self, code: int, line: str = "") -> None:
        """Ends the process as it stands, and says why; without a line, silently."""
        self._leave_nothing_unfinished()
        if line:
            self._mouth.acquire(timeout=SPEAK_WITHIN_S)
            if not (self._told_why and code == AT_ONCE):
                self._say(line)
            if os.isatty(1):
                _write(1, SHOW_CURSOR)
        self._exit(code)

    def _leave_nothing_unfinished(self) -> None:
        """What a thread that did not stop was writing."""
        for path in list(self._unfinished):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _say(self, line: str) -> None:
        _write(2, f"{self._program}: {line}\n".encode())

    # -- the process's own ---------------------------------------------------------------------------------------

    def install(self, program: str) -> None:
        """Once, in the main thread, before anything else."""
        self._program = program
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (*STOPS, signal.SIGUSR1):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores it
                signal.signal(number, _nothing)
        threading.Thread(target=self._listen, args=(reading,), name="heron-signals", daemon=True).start()
        os.register_at_fork(after_in_child=_uninstall)
        atexit.register(self.last_hook)  # the first hook that is registered runs last
        self.end_with_parent()

    def end_with_parent(self) -> None:
        """Where this process was started by `start_child`: it ends with its parent."""
        if os.environ.pop(WITH_PARENT, None) is not None:  # not for what this process starts in its turn
            threading.Thread(target=self._await_parent, name="heron-parent", daemon=True).start()

    def _await_parent(self) -> None:
        os.read(0, 1)  # returns at the end of the pipe: nothing is ever written to it
        self.end(INTERRUPTED)

    def _listen(self, pipe: int) -> None:
        while True:
            left_s = None if self.limit is None else max(0.0, self.limit - monotonic())
            if select.select([pipe], [], [], left_s)[0]:
                for number in os.read(pipe, 64):
                    self.take(number)
            else:
                self.late()


def _nothing(_number: int, _frame: object) -> None:
    """The handler: Python's own has written the signal's number into the pipe before."""


def _uninstall() -> None:
    """A fork of this process is another's: its signals are not for this one."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) is _nothing:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is _nothing:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _threads() -> str:
    ours = ("heron-signals", "heron-leaving", "heron-parent")
    return ", ".join(thread.name for thread in threading.enumerate() if thread.name not in ours)


def _write(stream: int, data: bytes) -> None:
    """Unless it would wait: a terminal may stand still."""
    with suppress(OSError):
        if select.select([], [stream], [], 0)[1]:
            os.write(stream, data)


_process = Signals()
install, end_with_parent = _process.install, _process.end_with_parent
stopping, on_user_signal = _process.stopping, _process.on_user_signal
leaving, in_the_making, last_line = _process.leaving, _process.in_the_making, _process.last_line
