"""The simulator from 5 to 128 clients: wall time of a client's local step, and what one more idle client holds.

    python benchmarks/scale.py

Each figure comes from a fresh process. Idle clients are those that were not drawn: five train in every round,
whatever N.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from statistics import median
from typing import Any

from common import MIB, table, verdict

from heron_client.compute.meter import resident_bytes
from heron_core.models import build_split_model
from heron_core.spec.run_spec import RunSpec
from heron_server.metrics.observers import Observer
from heron_server.planning.client_state import client_state, state_bytes
from heron_server.planning.measuring import measure_model
from heron_simulator import simulate

FEW, MANY = 5, 128
WORST_GROWTH, MOST_IDLE_MIB = 1.2, 2.0


def spec_of(clients: int, drawn: int, rounds: int) -> RunSpec:
    """Real digits, 8 samples a step."""
    return RunSpec.model_validate({
        "rounds": rounds, "model": {"name": "digits_cnn"}, "method": {"local_steps": 5, "batch_size": 8},
        "federation": {"clients": clients, "clients_per_round": drawn},
    })  # fmt: skip


class Resident(Observer):
    """What the process holds as each round ends, all clients alive."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def round_done(self, record: dict[str, Any]) -> None:
        gc.collect()
        self.sizes.append(resident_bytes())


def measure(clients: int, drawn: int, rounds: int) -> dict[str, Any]:
    """In this process: seconds of wall per client-step in each round, and resident bytes that the run added."""
    simulate(spec_of(2, 0, 1))
    gc.collect()
    before, resident = resident_bytes(), Resident()
    history = simulate(spec_of(clients, drawn, rounds), observers=[resident]).summary["history"]
    steps = (drawn or clients) * 5
    return {"step_s": [record["wall_s"] / steps for record in history], "added": max(resident.sizes) - before}


def fresh(clients: int, drawn: int, rounds: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", str(clients), str(drawn), str(rounds)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=int, nargs=3, help=argparse.SUPPRESS)
    if (measured := parser.parse_args().measure) is not None:
        print(json.dumps(measure(*measured)))
        return
    step_ms = {n: 1e3 * median(fresh(n, 0, 6)["step_s"][1:]) for n in (FEW, 32, MANY)}
    table(["clients", "wall ms of a client's local step"], [[n, ms] for n, ms in step_ms.items()])
    verdict(f"a step with {MANY} clients over one with {FEW}", step_ms[MANY] / step_ms[FEW], WORST_GROWTH)
    verdict(f"a step with {FEW} clients over one with {MANY}", step_ms[FEW] / step_ms[MANY], WORST_GROWTH)
    spec = spec_of(FEW, 0, 1)
    own = state_bytes(client_state(spec.method, measure_model(build_split_model(spec.model), 0))).down
    idle = (fresh(MANY, FEW, 4)["added"] - fresh(FEW, FEW, 4)["added"]) / (MANY - FEW)
    verdict(f"MiB of one more idle client, beyond its own state of {own / MIB:.3f}", (idle - own) / MIB, MOST_IDLE_MIB)


if __name__ == "__main__":
    main()
