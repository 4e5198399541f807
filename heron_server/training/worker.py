"""Where commands to the trainer run: one worker thread beside the event loop, or inline for the simulator."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

T = TypeVar("T")
Callback = Callable[[], None]


class Worker(Protocol):
    """Runs commands one after the other."""

    def submit(self, command: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        """Runs `command` after all submitted before it.

        What it returns goes to `done`, or what it raises to `failed`, on the driver's thread.
        """
        ...


def outcome(command: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> Callback:
    """Runs the command; returns what is to be called on the driver's thread."""
    try:
        result = command()
    except Exception as error:
        return partial(failed, error)
    return partial(done, result)


class InlineWorker:
    """At once, in the caller's thread."""

    def submit(self, command: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        """At once; only its own errors go to `failed`."""
        outcome(command, done, failed)()


class WorkerThread:
    """One thread that owns the trainer. The queue is bounded by the scheduler: it holds released uploads only."""

    def __init__(self, post: Callable[[Callback], object]) -> None:
        """`post` runs a callback on the driver's thread, such as loop.call_soon_threadsafe."""
        self._post = post
        self._queue: queue.SimpleQueue[Callable[[], Callback] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="heron-worker", daemon=True)
        self._thread.start()

    def submit(self, command: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        """Behind those submitted before."""
        self._queue.put(partial(outcome, command, done, failed))

    def stop(self) -> None:
        """Ends after the command in hand; those still queued are not run."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (run := self._queue.get()) is not None:
            callback = run()
            with suppress(RuntimeError):  # the loop is closed: there is nobody to tell
                self._post(callback)
            del run, callback  # what they hold is free while the thread waits
