"""What an outsider and a member can take from a server: hostile traffic while an honest run goes on.

    python benchmarks/floods.py [--only NAME ...] [--seconds 10]

For each traffic a run of its own, whose server is a process with 256 file descriptors: first it is left alone for so
many seconds, then attacked for as many. Prints the server's memory, how long an honest client waits for its client
state and a newcomer for the answer to its Join, the rounds that were done, and the lines that the server logged.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from common import MIB, REPO, table, wait_until
from flood import IDLE, TRAFFICS
from traffics import MEMBERS

DESCRIPTORS = 256
MOST_MEMORY, MOST_LATENCY, MOST_LINES_A_S = 1.1, 5.0, 1.0
HONEST = ("alice", "bob")
TABLES: dict[str, Any] = {
    "rounds": 100_000,
    "model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [256, 256]},
    "federation": {"min_clients": 2},
    "server": {"address": "127.0.0.1:0", "step_deadline_s": 2.0, "start_wait_s": 3.0, "quorum": 0.5},
}
METHOD = {"local_steps": 4, "batch_size": 8}
LARGE = {"model": {"name": "mlp", "input_shape": [1, 8, 8], "widths": [1 << 14, 16]}}
OTHERWISE: dict[str, dict[str, Any]] = {
    "giant-histograms": {"method": {"name": "fedavg", "local_steps": 2, "batch_size": 8}},
    "unfinished-updates": LARGE,
    "unread-fetches": LARGE,
}
"""Tables of a run that a traffic needs: an update that counts without uploads; a client state of some 5 MB."""


# -- an honest client, in a process of its own -------------------------------------------------------------------


def honest(name: str, address: str) -> None:
    """Takes part until it is ended; a line of JSON for each wait: what for, and how long."""
    from heron_client.config import ClientSettings
    from heron_client.session.runner import Runner
    from heron_client.transport.grpc_transport import GrpcTransport

    class Timed(GrpcTransport):
        def fetch_model(self, request: Any, accept: Any) -> Any:
            begin = time.perf_counter()
            state = super().fetch_model(request, accept)
            say(fetch=time.perf_counter() - begin)
            return state

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    if name == HONEST[0]:
        threading.Thread(target=newcomers, args=(address,), daemon=True).start()
    settings = ClientSettings(name=name, server=address)
    runner = Runner(settings, Timed(address, 20.0), name.encode().ljust(16), measure_memory=False)
    for _ in runner.run():
        pass


def say(**what: Any) -> None:
    """One line, whole, from whichever thread."""
    os.write(1, (json.dumps({**what, "at": time.time()}) + "\n").encode())


def newcomers(address: str) -> None:
    """Asks ten times a second as `heron-client check` does."""
    import grpc

    from heron_core.pb.v1 import federation_pb2 as pb
    from heron_core.pb.v1 import federation_pb2_grpc
    from heron_core.version import PROTOCOL_VERSION

    stub = federation_pb2_grpc.FederationServiceStub(grpc.insecure_channel(address))
    request = pb.JoinRequest(
        protocol_version=PROTOCOL_VERSION, client_name=HONEST[0], instance_key=bytes(16), dry_run=True
    )
    while True:
        begin = time.perf_counter()
        try:
            stub.Join(request, timeout=20)
            say(join=time.perf_counter() - begin)
        except grpc.RpcError as error:
            say(refused=error.code().name)
        time.sleep(0.1)


# -- the server and what is measured of it -----------------------------------------------------------------------


@dataclass
class Window:
    """What was seen of the server in some seconds."""

    seconds: float = 0.0
    resident: list[int] = field(default_factory=list)
    """Bytes, many times a second."""
    fetch: list[float] = field(default_factory=list)
    join: list[float] = field(default_factory=list)
    refused: int = 0
    rounds: int = 0
    lines: int = 0
    """Of the log, without those of rounds."""


class Attacked:
    """One run in its own folder."""

    def __init__(self, folder: Path, otherwise: dict[str, Any], hostile: bool) -> None:
        from heron_server.text.toml import to_toml

        self._folder, self._run_dir = folder, folder / "run"
        federation = {**TABLES["federation"], "clients": 4 if hostile else 2}
        local = {**TABLES["server"], "run_dir": str(self._run_dir)}
        tables = {**TABLES, "method": METHOD, **otherwise, "federation": federation, "server": local}
        (folder / "run.toml").write_text(to_toml(tables))
        self._processes: list[subprocess.Popen[str]] = []
        self.server = self._start("server", "-m", "heron_server", "run", str(folder / "run.toml"), limited=True)
        self.address = ""
        wait_until(lambda: self._listens() or self.server.poll() is not None, 180, "the server")
        if not self.address:
            raise SystemExit("\n".join(self.log()))
        self.attackers: list[subprocess.Popen[str]] = []
        for name in HONEST:
            self._start(name, __file__, "--honest", name, self.address)

    def _listens(self) -> bool:
        for line in self.log():
            if line.startswith("listening on "):
                self.address = line.split()[2].rstrip(",")
        return bool(self.address)

    def _start(self, name: str, *command: str, limited: bool = False, nice: int = 0) -> subprocess.Popen[str]:
        with (self._folder / f"{name}.out").open("w") as out:
            started = subprocess.Popen(
                ["nice", "-n", str(nice), sys.executable, *command], stdout=out, stderr=subprocess.STDOUT, text=True,
                cwd=self._folder, env={**os.environ, "PYTHONPATH": str(REPO)}, preexec_fn=limit if limited else None,
            )  # fmt: skip
        self._processes.append(started)
        return started

    def attack(self, name: str, seconds: float) -> subprocess.Popen[str]:
        """Begins a traffic, for so long. It yields the processor: the machines that it stands for have their own."""
        return self._start(name, str(REPO / "benchmarks" / "flood.py"), name, self.address, str(seconds), nice=9)

    def said(self, name: str) -> str:
        """The last line of a traffic."""
        return (self._folder / f"{name}.out").read_text(errors="replace").strip().rpartition("\n")[2]

    def log(self, name: str = "server") -> list[str]:
        """A process's lines."""
        return (self._folder / f"{name}.out").read_text(errors="replace").splitlines()

    @property
    def rounds(self) -> int:
        """Rounds on the disk."""
        try:
            return (self._run_dir / "metrics.jsonl").read_text().count("\n")
        except FileNotFoundError:
            return 0

    def watch(self, seconds: float) -> Window:
        """Looks on."""
        begin, window = time.time(), Window()
        rounds, lines = self.rounds, sum(not line.startswith("round ") for line in self.log())
        while time.time() < begin + seconds and self.server.poll() is None:
            window.resident.append(resident(self.server.pid))
            time.sleep(0.05)
        window.seconds = time.time() - begin
        window.rounds = self.rounds - rounds
        window.lines = sum(not line.startswith("round ") for line in self.log()) - lines
        for heard in self._heard(begin):
            window.fetch += [heard["fetch"]] if "fetch" in heard else []
            window.join += [heard["join"]] if "join" in heard else []
            window.refused += "refused" in heard
        return window

    def _heard(self, since: float) -> Iterator[dict[str, Any]]:
        for name in HONEST:
            for line in self.log(name):
                if line.startswith("{") and line.endswith("}") and (heard := json.loads(line))["at"] > since:
                    yield heard

    def end(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def resident(pid: int) -> int:
    """Bytes of a process in memory; 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


@contextmanager
def attacked(name: str) -> Iterator[Attacked]:
    with tempfile.TemporaryDirectory(prefix="heron-floods-") as folder:
        run = Attacked(Path(folder), OTHERWISE.get(name, {}), hostile=name in MEMBERS)
        try:
            yield run
        finally:
            run.end()


def measure(name: str, seconds: float, keep: bool) -> list[Any]:
    """A row of the table: undisturbed, then under attack."""
    idle: subprocess.Popen[str] | None = None
    with attacked(name) as run:
        if name in MEMBERS:
            idle = run.attack(IDLE, 3600)
        wait_until(lambda: run.rounds >= 3 or run.server.poll() is not None, 120, "the first rounds")
        calm = run.watch(seconds)
        if idle is not None:
            idle.kill()
            idle.wait()
        attack = run.attack(name, seconds)
        time.sleep(0.5)
        storm = run.watch(seconds)
        try:
            attack.wait(seconds + 30)
        except subprocess.TimeoutExpired:
            attack.kill()
        ended = run.server.poll()
        print(f"{name}: {run.said(name)}" + (f"; THE SERVER ENDED with {ended}" if ended is not None else ""))
        if keep:
            for one in ("server", *HONEST):
                lines = [line for line in run.log(one) if not line.startswith(("{", "round "))]
                print("\n".join(f"    {one}: {line}" for line in lines[-12:]))
        return [
            name, median(calm.resident) / MIB, max(storm.resident) / MIB,
            max(storm.resident) / max(calm.resident), ratio(storm.fetch, calm.fetch), ratio(storm.join, calm.join),
            storm.refused, calm.rounds, storm.rounds, storm.lines / max(storm.seconds, 1e-9),
        ]  # fmt: skip


def ratio(storm: list[float], calm: list[float]) -> float:
    """Of the medians; infinite where nothing was answered."""
    return median(storm) / median(calm) if storm and calm else float("inf")


HEADER = [
    "traffic", "MiB before", "most MiB", "memory x", "fetch x", "join x", "joins refused", "rounds before", "rounds",
    "lines/s",
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(TRAFFICS), default=list(TRAFFICS))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--log", action="store_true", help="the end of each server's log")
    parser.add_argument("--honest", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.honest:
        honest(*chosen.honest)
        return 0
    rows = []
    for name in chosen.only:
        rows.append(measure(name, chosen.seconds, chosen.log))
        table(HEADER, rows[-1:])
    print()
    table(HEADER, rows)
    missed = [
        row[0] for row in rows
        if row[3] > MOST_MEMORY or max(row[4], row[5]) > MOST_LATENCY or not row[8] or row[9] > MOST_LINES_A_S
    ]  # fmt: skip
    print(f"memory <= {MOST_MEMORY:g}, latency <= {MOST_LATENCY:g}, rounds go on, <= {MOST_LINES_A_S:g} line a second: "
          f"{'all ok' if not missed else 'MISSED by ' + ', '.join(missed)}")  # fmt: skip
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
