"""Clean exits of client processes, one after another: do they all end with 0, and how long after the run?

Several clients of a small run each time, over gRPC, with the server in this process. The seconds of a client are those
from its line "the run has ended" to the end of its process. One that is still there after 20 s is made to show where
all its threads stand.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

from common import table, verdict

from heron_core.spec.run_spec import RunSpec
from heron_server.config import ServerSettings
from heron_server.metrics.observers import Observer
from heron_server.serve import serve
from heron_server.storage.run_dir import RunDir

OVER = "the run has ended"
TOO_LONG_S = 20.0
MOST_S = 5.0
"""The bound on leaving."""


class Client(threading.Thread):
    """One client process, and what is seen of its end."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__()
        sets = [word for setting in (f"name={name}", f"server={address}") for word in ("--set", setting)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "heron_client", "run", "--once", *sets],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )  # fmt: skip
        self._lines: list[str] = []
        self._over: float | None = None
        self.code = 0
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        """Reads what it says, and waits for its end."""
        reader = threading.Thread(target=self._read)
        reader.start()
        while self._process.poll() is None:
            if self._over is not None and time.monotonic() - self._over > TOO_LONG_S:
                self._process.send_signal(signal.SIGABRT)
                self._process.wait()
            time.sleep(0.005)
        ended = time.monotonic()
        reader.join()
        self.code = self._process.returncode
        self.seconds = ended - (self._over or ended)
        if self.code:
            print(f"a client ended with {self.code}:", *self._lines, sep="\n  ", flush=True)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line.rstrip())
            if OVER in line:
                self._over = time.monotonic()


class Starts(Observer):
    """Starts the clients once the server takes them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.clients: list[Client] = []

    def listening(self, address: str, run_id: str) -> None:
        self.clients = [Client(f"client-{i}", address) for i in range(self._count)]


def one_run(clients: int) -> list[Client]:
    """A run of two rounds to its end, and its clients, ended."""
    spec = RunSpec.model_validate({
        "rounds": 2, "model": {"name": "mlp", "input_shape": [1, 8, 8]}, "method": {"local_steps": 2, "batch_size": 8},
        "federation": {"clients": clients, "min_clients": clients},
    })  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="heron-exits-") as name:
        directory, starts = RunDir(Path(name)), Starts(clients)
        try:
            serve(spec, ServerSettings(address="127.0.0.1:0", run_dir=Path(name)), directory, observers=[starts])
        finally:
            directory.close()
        for client in starts.clients:
            client.join()
    return starts.clients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exits", type=int, default=600)
    parser.add_argument("--clients", type=int, default=6, help="of each run")
    arguments = parser.parse_args()
    ended: list[Client] = []
    while len(ended) < arguments.exits:
        ended += one_run(arguments.clients)
        print(f"{len(ended)} exits, the slowest {max(c.seconds for c in ended):.2f} s", file=sys.stderr, flush=True)
    seconds = sorted(client.seconds for client in ended)
    codes = Counter(client.code for client in ended)
    table(["exit code", "clients"], [[code, count] for code, count in sorted(codes.items())])
    table(["seconds to leave", ""], [
        ["median", median(seconds)], ["99 of 100", seconds[int(0.99 * (len(seconds) - 1))]], ["most", seconds[-1]],
    ])  # fmt: skip
    verdict("exits with another code than 0", float(len(ended) - codes[0]), 0)
    verdict("most seconds to leave", seconds[-1], MOST_S)


if __name__ == "__main__":
    main()
