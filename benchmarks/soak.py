"""Does anything grow? One run of a server and eight clients over mutual TLS, disturbed for half an hour.

    python benchmarks/soak.py --minutes 30

Every 15 s on average a client is stopped for a while or its link is cut; half of the clients are also killed or
terminated now and then, and started again (`disturbed_run.py`). The server and the other half live from the beginning
to the end, and their resident memory at the end is compared with that after a sixth of the time (minute 5 of 30): each
the median over a minute, or over a sixth of the time where that is shorter.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any

from common import MIB, certificates, table, verdict
from disturbed_run import DisturbedRun
from endings import Disturbance, Plan
from warm import Child, Fresh

from heron_client.compute.meter import resident_bytes

CLIENTS = 8
LASTING = ("client-0", "client-1", "client-2", "client-3")
"""These are stopped and cut off, and never ended."""
EVERY_S, LOOK_S, SAMPLE_S = 15.0, 0.1, 5.0
GROWTH = 1.05
TABLES: dict[str, Any] = {
    "rounds": 1_000_000,
    "model": {"name": "digits_cnn"},
    "method": {"local_steps": 40, "batch_size": 32},
    "federation": {"clients": CLIENTS, "min_clients": 3},
    "server": {
        "heartbeat_s": 1.0, "silence_s": 6.0, "grace_s": 3.0, "step_deadline_s": 20.0, "round_deadline_s": 120.0,
        "rejoin_s": 10.0,
    },
}  # fmt: skip


def plan(seconds: float, seed: int) -> Plan:
    """Disturbances at random moments from second 30 to 10 s before the end."""
    rng, found, at_s = random.Random(seed), [], 30.0
    while (at_s := at_s + rng.expovariate(1 / EVERY_S)) < seconds - 10:
        client = rng.randrange(CLIENTS)
        lasting = f"client-{client}" in LASTING
        kind = rng.choice(("stop-client", "cut-link") if lasting else ("kill-client", "term-client", "cut-link"))
        lasts_s = rng.uniform(1, 12) if kind == "stop-client" else rng.uniform(0.1, 4.0)
        found.append(Disturbance(kind, at_s, client, lasts_s))
    return Plan(0, tuple(found))


class Soak(DisturbedRun):
    """Ends when its time is over, not when its rounds are."""

    def __init__(self, seconds: float, seed: int, folder: Path) -> None:
        super().__init__(plan(seconds, seed), folder, Fresh(), None, CLIENTS)
        self._seconds = seconds
        self._store = certificates(folder / "certs", (f"client-{number}" for number in range(CLIENTS)))
        self.sizes: dict[str, list[tuple[float, int]]] = {name: [] for name in ("server", *LASTING)}
        """(seconds, resident bytes) by name."""
        self.rounds = self.dropped = 0
        self._pids: dict[str, int] = {}

    def _play(self, start: float) -> None:
        self._begin(start)
        sampled = 0.0
        while (gone := monotonic() - start) < self._seconds and not self._end.wrong:
            self._look()
            if gone - sampled >= SAMPLE_S:
                sampled = gone
                self._sample(gone)
            sleep(LOOK_S)

    def _tables(self) -> dict[str, Any]:
        local = {"address": "127.0.0.1:0", "run_dir": str(self._run_dir), "certs": str(self._store.server)}
        return {**TABLES, "server": {**TABLES["server"], **local}}

    def _facts_of(self, number: int) -> dict[str, Any]:
        folder = self._store.client(f"client-{number}")
        return {**super()._facts_of(number), "retry_for_s": 60.0, "certs": str(folder)}

    def _sample(self, gone: float) -> None:
        children: dict[str, Child | None] = {"server": self._server}
        children |= {name: self._clients[number] for number, name in enumerate(LASTING)}
        for name, child in children.items():
            if child is None or not child.running or self._pids.setdefault(name, child.pid) != child.pid:
                self._end.wrong.append(f"{name} ended, and nobody had ended it")
                return
            self.sizes[name].append((gone, resident_bytes(child.pid)))

    def _heard_of(self, event: dict[str, Any]) -> None:
        if event["event"] == "round_done":
            self.rounds, self.dropped = event["round"], self.dropped + event["dropped"]


def size_at(sizes: list[tuple[float, int]], at_s: float, within_s: float) -> float:
    """Median of the samples that lie at most half of `within_s` from `at_s`."""
    return median(size for seconds, size in sizes if abs(seconds - at_s) <= within_s / 2)


def report(soak: Soak, seconds: float) -> None:
    within = min(60.0, seconds / 6)
    marks = [seconds * i / 6 - (within / 2 if i == 6 else 0) for i in range(1, 7)]
    found = {name: [size_at(sizes, at, within) for at in marks] for name, sizes in soak.sizes.items()}
    table(["resident MiB at minute", *(f"{at / 60:.1f}" for at in marks)], [
        [name, *(size / MIB for size in sizes)] for name, sizes in found.items()
    ])  # fmt: skip
    for name, sizes in found.items():
        verdict(f"{name}: memory at the end / at minute {marks[0] / 60:.1f}", sizes[-1] / sizes[0], GROWTH)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=Path, help="a CSV file for all samples")
    chosen = parser.parse_args()
    seconds = 60 * chosen.minutes
    with tempfile.TemporaryDirectory(prefix="heron-soak-") as name:
        soak = Soak(seconds, chosen.seed, Path(name) / "run")
        end = soak.run()
    if chosen.samples:
        lines = [f"{name},{at:.1f},{size}" for name, sizes in soak.sizes.items() for at, size in sizes]
        chosen.samples.write_text("\n".join(["process,seconds,bytes", *lines]) + "\n")
    done = f"{len(end.plan.disturbances)} disturbances, {soak.rounds} rounds, {soak.dropped} times a client was dropped"
    print(f"{chosen.minutes:g} minutes, {done}")
    for text in end.wrong:
        print(text)
    for text, count in end.refusals.most_common():
        print(f"  {count:4d}  {text}")
    report(soak, seconds)
    return bool(end.wrong)


if __name__ == "__main__":
    sys.exit(main())
