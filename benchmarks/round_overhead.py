"""Seconds per round of the demo's run over gRPC (server and three client processes) over the same rounds simulated.

Both on the same cores, in turn; a round is the time between two commits, the first one left out. Then memory: the
PSS of each client at work, and of the whole system, server and three clients, idle before the first round. With --tls
the run over gRPC is made twice, in turn in plain text and under mutual TLS, and nothing is simulated.

With --short something else: rounds of one local step, five client processes, in turn with an evaluation and a
checkpoint after each round and after each 20th (--every). A round's time (from one round's end to the next's) is
divided by that of its steps together: the CPU seconds of all clients' local steps, divided by the cores on which they
can run at once, and after them the CPU seconds of the server's steps, one after the other on one thread. Everything
else is overhead: state, uploads and updates over gRPC, the average, evaluations, checkpoints, waiting. Where CPU went
is printed beside it; other work on the same cores lengthens the round, and not its steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from common import MIB, REPO, certificates, median_ratio, table, verdict, wait_until

from heron_client.compute.meter import proportional_bytes

DEMO = REPO / "heron_server" / "demo.toml"
CLIENTS = 3
TIMED = Path(__file__).with_name("timed.py")
SHORT = REPO / "benchmarks" / "sweeps" / "presets" / "scratch.toml"
SHORT_CLIENTS, WARM_UP = 5, 5
FRONTS: dict[str, dict[str, object]] = {
    "scratch preset": {},
    "cifar_cnn, a front of 55,904 weights": {
        "model.name": "cifar_cnn", "model.input_shape": [1, 8, 8], "model.widths": [32, 64, 64],
    },
}  # fmt: skip
Notes = list[dict[str, float]]


def heron(module: str, *words: str, timed: Path | None = None, **settings: object) -> subprocess.Popen[bytes]:
    """`timed`: where the process notes what its rounds took."""
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    start = ["-m", module] if timed is None else [str(TIMED), str(timed), module]
    return subprocess.Popen([sys.executable, *start, *words, *sets], stdout=subprocess.DEVNULL)


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class System:
    """A server and its clients, each a process; they end with this block."""

    def __init__(
        self, folder: Path, store: Any = None, run_file: Path = DEMO, clients: int = CLIENTS, timed: bool = False,
        **settings: object,
    ) -> None:  # fmt: skip
        """`store`: of certificates; without it, plain text. `timed`: each process notes what its rounds took."""
        self.port, self.folder, self._store, self._count = free_port(), folder, store, clients
        self._timed = timed
        common = {"server.address": f"127.0.0.1:{self.port}", "server.run_dir": folder, **settings}
        common |= {"server.certs": store.server} if store else {}
        self.server = heron("heron_server", "run", str(run_file), timed=self._notes("server"), **common)
        self.clients: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> System:
        for i in range(self._count):
            own = {"name": f"client-{i}", "server": f"127.0.0.1:{self.port}", "retry_for_s": 60}
            own |= {"certs": self._store.client(f"client-{i}")} if self._store else {}
            words, notes = ("run", "--once", "--log-level", "error"), self._notes(f"client-{i}")
            self.clients.append(heron("heron_client", *words, timed=notes, **own))
        return self

    def _notes(self, name: str) -> Path | None:
        return self.folder.with_name(f"{name}.jsonl") if self._timed else None

    def notes(self) -> tuple[Notes, list[Notes]]:
        """Of the server and of each client, once they have ended: a line a round."""
        texts = [self.folder.with_name(f"{name}.jsonl").read_text()
                 for name in ("server", *(f"client-{i}" for i in range(self._count)))]  # fmt: skip
        server, *clients = ([json.loads(line) for line in text.splitlines()] for text in texts)
        return server, clients

    def __exit__(self, *_: object) -> None:
        for process in [*self.clients, self.server]:
            if process.poll() is None:
                process.terminate()
        for process in [*self.clients, self.server]:
            process.wait(30)


def seconds_per_round(folder: Path) -> float:
    """Median time of the run's rounds but the first."""
    history = json.loads((folder / "summary.json").read_text())["history"]
    return median(record["wall_s"] for record in history[1:])


def over_grpc(rounds: int, store: Any = None) -> tuple[float, str, list[int]]:
    """Seconds per round, the model's digest, and the most PSS of each client seen meanwhile."""
    with tempfile.TemporaryDirectory() as name, System(Path(name) / "run", store, rounds=rounds) as system:
        most = [0] * CLIENTS
        while system.server.poll() is None:
            most = [max(a, proportional_bytes(c.pid)) for a, c in zip(most, system.clients, strict=True)]
            time.sleep(0.5)
        return seconds_per_round(system.folder), digest(system.folder), most


def simulated(rounds: int) -> tuple[float, str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        process = heron("heron_simulator", str(DEMO), **{"rounds": rounds, "server.run_dir": folder})
        if process.wait(600):
            raise RuntimeError(f"the simulation ended with exit status {process.returncode}")
        return seconds_per_round(folder), digest(folder)


def digest(folder: Path) -> str:
    return str(json.loads((folder / "summary.json").read_text())["model_sha256"])


def idle_system() -> tuple[int, list[int]]:
    """PSS of the server and of each client, joined and waiting for a fourth that never comes."""
    waiting = {"federation.clients": CLIENTS + 1}
    with tempfile.TemporaryDirectory() as name, System(Path(name) / "run", **waiting) as system:
        processes = [system.server, *system.clients]

        def settled() -> bool:
            sizes = [proportional_bytes(p.pid) for p in processes]
            time.sleep(2)
            return sizes == [proportional_bytes(p.pid) for p in processes] and min(sizes) > 50 * MIB

        wait_until(settled, 120, "an idle system")
        server, *clients = (proportional_bytes(p.pid) for p in processes)
        return server, clients


def tls_cost(rounds: int, runs: int) -> None:
    plain, tls = [], []
    with tempfile.TemporaryDirectory() as name:
        store = certificates(Path(name), (f"client-{i}" for i in range(CLIENTS)))
        for number in range(runs):
            sides = [(plain, None), (tls, store)]
            (first, store_of_first), (second, store_of_second) = sides[:: -1 if number % 2 else 1]
            seconds, sha, _ = over_grpc(rounds, store_of_first)
            more_seconds, other_sha, _ = over_grpc(rounds, store_of_second)
            assert sha == other_sha, "the two runs must give the same bits"
            first.append(seconds)
            second.append(more_seconds)
    print(f"\nDemo, {rounds} rounds, {runs} pairs of runs; same final bits on both sides")
    table(["seconds per round", "median", "least", "most"], [
        [word, median(each), min(each), max(each)] for word, each in (("plain text", plain), ("mutual TLS", tls))
    ])  # fmt: skip
    verdict("mutual TLS / plain text, a round", median_ratio(tls, plain), 1.03)


def short_rounds(rounds: int, runs: int, rare: int) -> None:
    """Rounds of one local step over the steps themselves, with an evaluation and a checkpoint after each, and after
    each `rare`-th."""
    for front, settings in FRONTS.items():
        rows, ratios, bounds = [], dict[int, list[float]](), dict[int, list[float]]()
        for every in (1, rare) * runs:
            found = one_short_run(rounds, {**settings, "server.checkpoint_every": every, "evaluate_every": every})
            ratios.setdefault(every, []).append(found["a round"] / found["its steps"])
            bounds.setdefault(every, []).append(found["all CPU"] / cores() / found["its steps"])
            rows.append([f"evaluated and saved every {every}", *(1e3 * value for value in found.values())])
        print(f"\n{front}: {rounds} rounds of one local step, {SHORT_CLIENTS} clients over gRPC; ms a round")
        table(["", *found], rows)
        for every, each in ratios.items():
            verdict(f"a round / its steps, evaluated and saved every {every}", median(each), 1.5)
            print(f"  all CPU on {cores()} cores / its steps, what other work on them does not lengthen: "
                  f"{median(bounds[every]):.3f}", flush=True)  # fmt: skip


def cores() -> int:
    """On which clients can compute at once."""
    return min(SHORT_CLIENTS, len(os.sched_getaffinity(0)))


def one_short_run(rounds: int, settings: dict[str, object]) -> dict[str, float]:
    """Seconds a round, without the first ones. The round's is a median, the others are CPU and means."""
    common = {"rounds": rounds, "method.local_steps": 1, "federation.min_clients": SHORT_CLIENTS, **settings}
    with tempfile.TemporaryDirectory() as name:
        with System(Path(name) / "run", None, SHORT, SHORT_CLIENTS, timed=True, **common) as system:
            if system.server.wait(600):
                raise RuntimeError("the server has failed")
            for client in system.clients:
                client.wait(60)
        server, clients = system.notes()

    def mean(notes: Notes, what: str) -> float:
        return (notes[-1][what] - notes[WARM_UP][what]) / (len(notes) - 1 - WARM_UP)

    ends = [note["at"] for note in server[WARM_UP:]]
    local, trained = sum(mean(notes, "steps") for notes in clients), mean(server, "steps")
    spent = {what: mean(server, what) for what in ("evaluation", "aggregation", "storing")}
    all_cpu = mean(server, "all") + sum(mean(notes, "all") for notes in clients)
    return {
        "a round": median(b - a for a, b in pairwise(ends)),
        "its steps": local / cores() + trained, "local steps, CPU": local, "server's steps, CPU": trained, **spent,
        "all CPU of the server": mean(server, "all"), "all CPU": all_cpu,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tls", action="store_true", help="what mutual TLS costs, and nothing else")
    parser.add_argument("--short", action="store_true", help="rounds of one local step, and nothing else")
    parser.add_argument("--every", type=int, default=20, help="with --short: rounds between rare evaluations")
    args = parser.parse_args()
    rounds, runs = (4, 1) if args.quick else (args.rounds, args.runs)
    if args.short:
        short_rounds(*(20, 1) if args.quick else (10 * args.rounds, args.runs), args.every)
        return
    if args.tls:
        tls_cost(rounds, runs)
        return
    grpc, alone, at_work = [], [], [0] * CLIENTS
    for _ in range(runs):
        seconds, sha, most = over_grpc(rounds)
        simulated_seconds, simulated_sha = simulated(rounds)
        assert sha == simulated_sha, "the two runs must give the same bits"
        grpc.append(seconds)
        alone.append(simulated_seconds)
        at_work = [max(pair) for pair in zip(at_work, most, strict=True)]
    print(f"\nDemo, {rounds} rounds, {runs} runs in turn; same final bits on both sides")
    table(["seconds per round", "median", "least", "most"], [
        ["gRPC, 4 processes", median(grpc), min(grpc), max(grpc)],
        ["simulator", median(alone), min(alone), max(alone)],
    ])  # fmt: skip
    verdict("gRPC / simulator", median_ratio(grpc, alone), 2.0)
    server, clients = idle_system()
    print("\nPSS, MiB")
    table(["", "client 0", "client 1", "client 2", "server", "all"], [
        ["at work, most seen", *(c / MIB for c in at_work), "", ""],
        ["idle", *(c / MIB for c in clients), server / MIB, (server + sum(clients)) / MIB],
    ])  # fmt: skip
    verdict("PSS of a client at work, MiB", max(at_work) / MIB, 260)
    verdict("PSS of the idle system, MiB", (server + sum(clients)) / MIB, 850)


if __name__ == "__main__":
    main()
