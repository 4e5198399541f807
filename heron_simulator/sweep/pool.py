"""A sweep's runs in processes of their own, some at a time. None outlives the sweep, however that ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from time import perf_counter
from typing import IO

from heron_core.config import written
from heron_core.errors import Interrupted
from heron_core.process.children import KeptFolder, ending, kept_folder, let_go, start_child
from heron_simulator.sweep.plan import Run
from heron_simulator.sweep.store import Figure, Row

LAST_LINES = 3
"""Lines of a process's output that its row shows, where it ended without writing one."""


class Pool:
    """Runs jobs; a context manager that ends all its processes."""

    def __init__(self, jobs: int) -> None:
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="heron-sweep")
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._over = False

    def results(self, runs: Mapping[str, Run]) -> Iterator[tuple[str, Row]]:
        """(fingerprint, row) as each ends; raises Interrupted once the pool was stopped."""
        pending: dict[Future[Row | None], str] = {
            self._threads.submit(self._run, run): fingerprint for fingerprint, run in runs.items()
        }
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                row = future.result()
                if row is None:
                    raise Interrupted("interrupted: runs that have finished are kept; call again for the others")
                yield pending.pop(future), row

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._threads.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Ends the runs in hand, and begins no more. Any thread may call it."""
        with self._lock:
            self._over = True
            for process in self._processes:
                process.kill()

    def _run(self, run: Run) -> Row | None:
        """None for a run that was ended with the pool."""
        with kept_folder("heron-sweep-") as kept:
            return self._row(run, kept)

    def _row(self, run: Run, kept: KeptFolder) -> Row | None:
        folder = kept.path
        (folder / "job.json").write_text(job_of(run), encoding="utf-8")
        began, said = perf_counter(), folder / "said.txt"
        with said.open("wb") as output:
            code = self._wait(kept, output)
        if self._over and code != 0:
            return None
        row = folder / "row.json"
        if code == 0 and row.exists():
            found: dict[str, Figure] = json.loads(row.read_text(encoding="utf-8"))
        else:
            lines = said.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            found = {"failed": f"its process: {ending(code or 0)}; it said: {' | '.join(lines)}"}
        if found["failed"]:
            found |= {"method": run.spec.method.name, "wall_s": perf_counter() - began}
            found["failed"] = without_machine(str(found["failed"]), folder)
        return found

    def _wait(self, kept: KeptFolder, output: IO[bytes]) -> int | None:
        with self._lock:
            if self._over:
                return None
            process = start_child(
                "-m", "heron_simulator.sweep.job", str(kept.path), stdout=output, stderr=output, folder=kept
            )
            self._processes.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._processes.discard(process)
            let_go(process)


def job_of(run: Run) -> str:
    """What its process reads, as JSON."""
    return json.dumps({
        "spec": run.spec.model_dump(mode="json"), "server": written(run.server.model_dump()),
        "simulate": run.simulate.model_dump(mode="json"), "clients": written(run.clients),
    })  # fmt: skip


def without_machine(text: str, folder: Path) -> str:
    """A reason as a page may show it: no path of this machine."""
    places = {str(folder): "<run>", str(Path.cwd()): ".", os.environ.get("HERON_DATA", ""): "$HERON_DATA",
              sys.prefix: "<python>", str(Path(__file__).parents[2]): "<heron>", str(Path.home()): "~"}  # fmt: skip
    for place in sorted(filter(None, places), key=len, reverse=True):
        text = text.replace(place, places[place])
    return text
