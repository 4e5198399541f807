"""What the benchmarks share: tables, verdicts, a server in a thread."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

REPO = Path(__file__).resolve().parents[1]
if str(REPO) not in sys.path:
    sys.path.insert(0, str(REPO))
MIB = 1 << 20


def table(header: list[str], rows: list[list[Any]]) -> None:
    """Prints columns, numbers to three digits."""
    texts = [header, *[[f"{c:,.3f}" if isinstance(c, float) else f"{c}" for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in texts) for i in range(len(header))]
    for row in texts:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))
    sys.stdout.flush()


def verdict(what: str, value: float, target: float, *, at_least: bool = False) -> None:
    """One line: the ratio and its target."""
    met = value >= target if at_least else value <= target
    sign, word = ">=" if at_least else "<=", "ok" if met else "MISSED"
    print(f"{what}: {value:.3f} (target {sign} {target:g}) {word}", flush=True)


def interleaved(runs: int, *sides: Callable[[], float]) -> list[list[float]]:
    """Each side `runs` times, in turn, the order reversed every other time; the first of each is warm-up."""
    for side in sides:
        side()
    results: list[list[float]] = [[] for _ in sides]
    for number in range(runs):
        order = list(enumerate(sides))
        for index, side in reversed(order) if number % 2 else order:
            results[index].append(side())
    return results


def median_ratio(first: list[float], second: list[float]) -> float:
    """Median of the ratios of neighbouring runs: drift of the machine hits both sides of each."""
    return median(a / b for a, b in zip(first, second, strict=True))


def exact(what: str, value: float, target: float, decimals: int) -> None:
    """One line: is it the target to so many decimals?"""
    word = "ok" if round(value, decimals) == target else "MISSED"
    print(f"{what}: {value:,.{decimals}f} (target exactly {target:,.{decimals}f}) {word}", flush=True)


def exhaust(waiting: Iterable[object]) -> None:
    for _ in waiting:
        pass


def certificates(folder: Path, clients: Iterable[str]) -> Any:
    """A Store in `folder` with a CA, a server's certificate for loopback, and one for each client."""
    from heron_server.certs.files import Store

    store, now, days = Store(folder), datetime.now(UTC), 10
    store.init(days, now)
    store.make_server(("localhost", "127.0.0.1"), days, now)
    for name in clients:
        store.make_client(name, days, now)
    return store


# -- a server in this process ------------------------------------------------------------------------------------


class ServerThread:
    """The product's coordinator and gRPC front around `trainer`, on an event loop in a thread of this process."""

    def __init__(self, spec: Any, trainer: Any, **settings: Any) -> None:
        from heron_server.config import ServerSettings

        self._folder = tempfile.TemporaryDirectory(prefix="heron-bench-")
        self._settings = ServerSettings(address="127.0.0.1:0", run_dir=Path(self._folder.name), **settings)
        self._spec, self._trainer = spec, trainer
        self._ready, self._stop = threading.Event(), threading.Event()
        self.address = ""
        self.coordinator: Any = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> ServerThread:
        self._thread.start()
        if not self._ready.wait(60):
            raise RuntimeError("the server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._folder.cleanup()

    async def _serve(self) -> None:
        from heron_server.api.server import listen
        from heron_server.certs.choice import choose_guard
        from heron_server.run.coordinator import Coordinator
        from heron_server.storage.run_dir import RunDir
        from heron_server.training.worker import WorkerThread

        worker = WorkerThread(asyncio.get_running_loop().call_soon_threadsafe)
        directory = RunDir(self._settings.run_dir)
        self.coordinator = Coordinator(self._spec, self._settings, self._trainer, directory, worker)
        guard = choose_guard(self._settings, insecure=False)
        server, self.address = await listen(
            self.coordinator, self._settings.address, self._settings.reflection, guard
        )
        self._ready.set()
        while not self._stop.is_set():
            self.coordinator.tick()
            if self.coordinator.failure is not None:
                raise self.coordinator.failure
            await asyncio.sleep(0.05)
        await server.stop(0.5)
        worker.stop()
        directory.close()


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.02)
