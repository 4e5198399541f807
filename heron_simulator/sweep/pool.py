"""A sweep's runs in processes of their own, some at a time. None outlives the sweep, however that ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import IO

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
        """(fingerprint, row) as each ends."""
        pending: dict[Future[Row], str] = {
            self._threads.submit(self._run, run): fingerprint for fingerprint, run in runs.items()
        }
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
            for process in self._processes:
                process.kill()
        self._threads.shutdown(cancel_futures=True)

    def _run(self, run: Run) -> Row:
        with tempfile.TemporaryDirectory(prefix="heron-sweep-") as folder:
            return self._row(run, Path(folder))

    def _row(self, run: Run, folder: Path) -> Row:
        job = {part: getattr(run, part).model_dump(mode="json") for part in ("spec", "server", "simulate")}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        began, said = perf_counter(), folder / "said.txt"
        with said.open("wb") as output:
            code = self._wait(folder, output)
        row = folder / "row.json"
        if code == 0 and row.exists():
            found: dict[str, Figure] = json.loads(row.read_text(encoding="utf-8"))
        else:
            lines = said.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            found = {"failed": f"its process ended with code {code}: {' | '.join(lines)}"}
        if found["failed"]:
            found |= {"method": run.spec.method.name, "wall_s": perf_counter() - began}
            found["failed"] = without_machine(str(found["failed"]), folder)
        return found

    def _wait(self, folder: Path, output: IO[bytes]) -> int:
        with self._lock:
            if self._over:
                return -1
            # In a session of its own: Ctrl-C on the terminal is for the sweep, which then ends its processes.
            process = subprocess.Popen(
                [sys.executable, "-m", "heron_simulator.sweep.job", str(folder)], stdin=subprocess.PIPE, stdout=output,
                stderr=output, start_new_session=True, env={**os.environ, "TMPDIR": str(folder)},
            )  # fmt: skip
            self._processes.add(process)
        try:
            return process.wait()
        finally:
            self._processes.discard(process)
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()


def without_machine(text: str, folder: Path) -> str:
    """A reason as a page may show it: no path of this machine."""
    places = {str(folder): "<run>", str(Path.cwd()): ".", os.environ.get("HERON_DATA", ""): "$HERON_DATA",
              sys.prefix: "<python>", str(Path(__file__).parents[2]): "<heron>", str(Path.home()): "~"}  # fmt: skip
    for place in sorted(filter(None, places), key=len, reverse=True):
        text = text.replace(place, places[place])
    return text
