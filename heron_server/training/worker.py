"""Where torch work runs: one worker thread beside the event loop, or inline for the simulator."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

Job = Callable[[], Any]
Done = Callable[[Any], None]
Failed = Callable[[Exception], None]


class Jobs(Protocol):
    def submit(self, job: Job, done: Done, failed: Failed) -> None:
        """Runs `job` after all submitted before it; its outcome goes to `done` or `failed` on the driver's thread."""
        ...


class InlineJobs:
    """At once, in the caller's thread."""

    def submit(self, job: Job, done: Done, failed: Failed) -> None:
        try:
            result = job()
        except Exception as error:
            failed(error)
        else:
            done(result)


class WorkerThread:
    """One thread that owns the torch side. The queue is bounded by the intake: it holds released steps only."""

    def __init__(self, post: Callable[[Callable[[], None]], Any]) -> None:
        """`post` runs a callback on the driver's thread, such as loop.call_soon_threadsafe."""
        self._post = post
        self._queue: queue.SimpleQueue[tuple[Job, Done, Failed] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="heron-worker", daemon=True)
        self._thread.start()

    def submit(self, job: Job, done: Done, failed: Failed) -> None:
        self._queue.put((job, done, failed))

    def stop(self) -> None:
        """Ends after the job in hand; jobs still queued are not run."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            job, done, failed = item
            del item
            try:
                result = job()
            except Exception as error:
                self._report(failed, error)
            else:
                self._report(done, result)
            del job, done, failed

    def _report(self, callback: Callable[[Any], None], value: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._post(lambda: callback(value))
