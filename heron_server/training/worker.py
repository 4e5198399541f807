"""Where commands to the trainer run: one worker thread beside the event loop, or inline for the simulator."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

T = TypeVar("T")
Callback = Callable[[], None]
LAST_COMMAND_S = 3.0
"""What the command in hand may still take once the worker is to end."""


class Worker(Protocol):
    """Runs commands one after the other."""

    def submit(
        self, command: Callable[[], T], done: Callable[[T], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Runs `command` after all submitted before it.

        What it returns goes to `done`, or what it raises to `failed`, on the driver's thread.
        """
        ...


def outcome(
    command: Callable[[], T], done: Callable[[T], None], failed: Callable[[BaseException], None]
) -> Callback:
    """Runs the command; returns what is to be called on the driver's thread.

    Whatever the command raises is its outcome, also what a user's code raises to leave, such as SystemExit. Only a
    Ctrl-C, which Python raises in the main thread, is for nobody here.
    """
    try:
        result = command()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        return partial(failed, error)
    return partial(done, result)


class InlineWorker:
    """At once, in the caller's thread."""

    def submit(
        self, command: Callable[[], T], done: Callable[[T], None], failed: Callable[[BaseException], None]
    ) -> None:
        """At once; only its own errors go to `failed`."""
        outcome(command, done, failed)()


class WorkerThread:
    """One thread that owns the trainer. The queue is bounded by the scheduler: it holds released uploads only."""

    def __init__(self, post: Callable[[Callback], object]) -> None:
        """`post` runs a callback on the driver's thread, such as loop.call_soon_threadsafe."""
        self._post = post
        self._queue: queue.SimpleQueue[Callable[[], Callback] | None] = queue.SimpleQueue()
        self._ends_at: float | None = None
        """Until when the command in hand may go on; None: nobody has asked the worker to end."""
        self._last: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name="heron-worker", daemon=True)
        self._thread.start()

    def submit(
        self, command: Callable[[], T], done: Callable[[T], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Behind those submitted before."""
        self._queue.put(partial(outcome, command, done, failed))

    def end(self, last: Callable[[], object] | None = None) -> None:
        """No further command begins, but for `last`, which must not raise; does not wait for the one in hand."""
        if self._ends_at is None:
            self._last = last
            self._ends_at = monotonic() + LAST_COMMAND_S
            self._queue.put(None)

    def stop(self) -> bool:
        """Ends the worker; waits for the command in hand, at most LAST_COMMAND_S since the end was first asked for.

        False: that command is still at work. Its thread is left, and ends with the process.
        """
        self.end()
        assert self._ends_at is not None
        self._thread.join(max(0.0, self._ends_at - monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (run := self._queue.get()) is not None and self._ends_at is None:
            callback = run()
            with suppress(RuntimeError):  # the loop is closed: there is nobody to tell
                self._post(callback)
            del run, callback  # what they hold is free while the thread waits
        if self._last is not None:
            self._last()
