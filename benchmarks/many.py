"""A thousand clients at one server, over gRPC and mutual TLS: what an idle one costs, and what an upload costs.

    python benchmarks/many.py                   # both, 1,000 clients against 50
    python benchmarks/many.py --clients 200     # small

The server is the product's command; the clients are light ones (`light_clients.py`), from a few processes. **Idle**:
what the server holds more for each client beyond the first tenth: joined and beating; right after it has fetched, with
two connections; and left alone until the second one closes. The same in plain text shows the share of TLS.
**Training**: four uploads of a client in a round; the processor time of the server over its uploads, and the wall time,
each for few and for many clients in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from common import certificates, median_ratio, table, verdict, wait_until

from heron_client.compute.meter import resident_bytes
from heron_core.wire.channel import BULK_OPTIONS
from heron_server.certs.files import Store
from heron_server.text.toml import to_toml

FEW = 50
WIDTH, ROWS, STEPS = 16, 8, 4
MOST_IDLE_KB, MOST_GROWTH = 60.0, 1.2
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """`heron-server run`; ends with the block."""

    def __init__(self, folder: Path, clients: int, rounds: int, certs: Path | None, prefix: tuple[str, ...]) -> None:
        folder.mkdir(parents=True)
        settings: dict[str, Any] = {"address": "127.0.0.1:0", "run_dir": str(folder / "run")}
        tables = {
            "rounds": rounds, "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [WIDTH, WIDTH]},
            "method": {"local_steps": STEPS, "batch_size": ROWS}, "data": {"source": "client"},
            "federation": {"clients": clients}, "server": settings | ({"certs": str(certs)} if certs else {}),
        }  # fmt: skip
        (folder / "run.toml").write_text(to_toml(tables))
        command = [*prefix, "heron_server", "run", str(folder / "run.toml"), "--log-format", "json"]
        self._out = folder / "out"
        with self._out.open("wb") as out:
            self._process = subprocess.Popen([sys.executable, *command], stdout=out)
        wait_until(lambda: bool(self.events("listening")), 120, "the server")
        self.address = str(self.events("listening")[0]["address"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = self._out.read_text().split("\n")[:-1]
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    @property
    def cpu_s(self) -> float:
        """Processor time so far, all threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def resident(self) -> int:
        return resident_bytes(self._process.pid)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()


class Driver:
    """A process of light clients."""

    def __init__(self, address: str, first: int, count: int, certs: Path | None) -> None:
        where = str(Path(__file__).with_name("light_clients.py"))
        facts = ["--rows", str(ROWS), "--width", str(WIDTH), "--steps", str(STEPS)]
        command = [sys.executable, where, address, str(first), str(count), *facts]
        self._process = subprocess.Popen(
            command + (["--certs", str(certs)] if certs else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.answer()

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("a process of clients has ended")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()


class World:
    """One server and the processes of its clients."""

    def __init__(
        self, folder: Path, clients: int, expected: int, rounds: int, store: Store | None, drivers: int,
        prefix: tuple[str, ...] = ("-m",),
    ) -> None:  # fmt: skip
        self._stack = ExitStack()
        certs = store and store.client("client-0000").parent
        self.server = Server(folder, expected, rounds, store and store.server, prefix)
        self._stack.callback(self.server.close)
        share = -(-clients // drivers)
        self.counts = [min(share, clients - first) for first in range(0, clients, share)]
        self.drivers = []
        for number, count in enumerate(self.counts):
            driver = Driver(self.server.address, number * share, count, certs)
            self._stack.callback(driver.close)
            self.drivers.append(driver)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def all_do(self, *lines: str) -> None:
        """A line for each driver, or the same for all; waits until they have done it."""
        for driver, line in zip(self.drivers, lines * (len(self.drivers) // len(lines)), strict=True):
            driver.tell(line)
        for driver in self.drivers:
            driver.answer()


def idle(folder: Path, clients: int, store: Store | None, drivers: int, watch_s: float) -> dict[str, float]:
    """KB that one more idle client costs the server, in three states of it; % of a core for all."""
    with World(folder, clients, clients + 1, 1, store, drivers) as world:
        first = [max(1, count // 10) for count in world.counts]
        world.all_do(*(f"join {count}" for count in first))
        world.all_do("fetch")
        time.sleep(2)
        before = world.server.resident
        world.all_do(*(f"join {count - begun}" for count, begun in zip(world.counts, first, strict=True)))
        time.sleep(5)
        joined, more = world.server.resident, clients - sum(first)
        world.all_do("fetch")
        time.sleep(5)
        fetched = world.server.resident
        time.sleep(2 * dict(BULK_OPTIONS)["grpc.client_idle_timeout_ms"] / 1e3 + 5)  # memory is given back later still
        alone, cpu_s = world.server.resident, world.server.cpu_s
        time.sleep(watch_s)
        core = 100 * (world.server.cpu_s - cpu_s) / watch_s
    kb = [(resident - before) / more / 1e3 for resident in (joined, fetched, alone)]
    return {"joined": kb[0], "fetched": kb[1], "alone": kb[2], "core": core}


def train(
    folder: Path, clients: int, store: Store | None, drivers: int, uploads: int, prefix: tuple[str, ...] = ("-m",)
) -> tuple[float, float]:
    """(CPU ms of the server, wall ms) for one upload: from the end of the first round to that of the last but one."""
    rounds = 2 + max(2, -(-uploads // (clients * STEPS)))
    with World(folder, clients, clients, rounds, store, drivers, prefix) as world:
        server = world.server
        world.all_do(*(f"join {count}" for count in world.counts))
        wait_until(lambda: bool(server.events("round_done")), 600, "the first round")
        cpu_s = server.cpu_s
        wait_until(lambda: len(server.events("round_done")) >= rounds - 1, 1200, "the rounds")
        first, *_, last = done = server.events("round_done")
        cpu_s = server.cpu_s - cpu_s
        wait_until(lambda: not server.running, 600, "the end of the run")
        lost = sum(event["dropped"] for event in done)
        if lost:
            raise RuntimeError(f"{lost} times a client was dropped")
    wall_s = (_time(last) - _time(first)).total_seconds()
    count = (len(done) - 1) * clients * STEPS
    return 1e3 * cpu_s / count, 1e3 * wall_s / count


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])


def idle_report(folder: Path, clients: int, store: Store, drivers: int, watch_s: float) -> None:
    found = {
        word: idle(folder / word, clients, chosen, drivers, watch_s)
        for word, chosen in {"mutual TLS": store, "plain text": None}.items()
    }
    header = [f"{clients} idle clients", "KB each, joined", "fetched", "left alone", "% of a core, all"]
    rows = [[word, *each.values()] for word, each in found.items()]
    tls, plain = found.values()
    table(header, [*rows, ["of which TLS", *(tls[key] - plain[key] for key in tls)]])
    verdict("KB of an idle client that has joined, mutual TLS", tls["joined"], MOST_IDLE_KB)
    verdict("KB of an idle client left alone after a round, mutual TLS", tls["alone"], MOST_IDLE_KB)


def train_report(folder: Path, few: int, many: int, store: Store, drivers: int, runs: int, uploads: int) -> None:
    found: dict[int, list[tuple[float, float]]] = {few: [], many: []}
    for run in range(runs):
        for clients in (few, many) if run % 2 == 0 else (many, few):
            found[clients].append(train(folder / f"{run}-{clients}", clients, store, drivers, uploads))
    table(["clients", "CPU ms of the server an upload", "wall ms an upload"], [
        [clients, *(median(times) for times in zip(*each, strict=True))] for clients, each in found.items()
    ])  # fmt: skip
    for what, at in (("CPU", 0), ("wall", 1)):
        ratio = median_ratio([each[at] for each in found[many]], [each[at] for each in found[few]])
        verdict(f"{what} time of an upload, {many} clients / {few}", ratio, MOST_GROWTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--few", type=int, default=FEW)
    parser.add_argument("--drivers", type=int, default=4, help="processes of clients")
    parser.add_argument("--runs", type=int, default=3, help="of training, in pairs")
    parser.add_argument("--uploads", type=int, default=8000, help="at least so many in a run of training")
    parser.add_argument("--watch-s", type=float, default=20.0, help="for how long the idle server is watched")
    parser.add_argument("--only", choices=("idle", "train"))
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory(prefix="heron-many-") as name:
        folder = Path(name)
        store = certificates(folder / "certs", (f"client-{i:04d}" for i in range(args.clients)))
        if args.only != "train":
            idle_report(folder, args.clients, store, args.drivers, args.watch_s)
        if args.only != "idle":
            train_report(folder, args.few, args.clients, store, args.drivers, args.runs, args.uploads)


if __name__ == "__main__":
    main()
