"""Bytes of the client state as slopes beside those as weights: the paper's ResNet-18 front, a pooled head, 3 clients.

Rounds of 20 local steps in the simulator, one direction a batch, front and head together, small batches of noise: what
client state costs depends on neither. Bytes are the ledger's, of one client in one round; the first fetch, of
weights, stands by itself. Each line is two runs, and says whether they came to the same model.

    python benchmarks/seeds.py
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import table, verdict
from local_rounds import images
from paper_client import small_back

from heron_simulator.simulator import simulate

CLIENTS, STEPS, ROWS = 3, 20, 4
FRONT_BYTES = 75_840 * 4
"""Of the front's weights, float32: parameters, as the paper counts them."""
TARGET = 500


def run(norm: str, moments: str, client_state: str, rounds: int) -> dict[str, Any]:
    """The summary."""
    zo = {"distribution": "rademacher", "scope": "batch", "num_directions": 1}
    method = {"auxiliary_update": "zo", "local_steps": STEPS, "batch_size": ROWS, "moments": moments, "zo": zo}
    tables = {
        "rounds": rounds, "method": method, "codec": {"client_state": client_state},
        "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
    }  # fmt: skip
    x, _ = images(2 * CLIENTS * ROWS)
    data = [(x[rank::CLIENTS], np.arange(2 * ROWS)) for rank in range(CLIENTS)]
    server = {"device": "cpu", "test_data": "none"}
    found = simulate(tables, model=small_back(norm, "gap_linear"), data=data, settings=server, progress=False)
    return dict(found.summary)


def line(norm: str, moments: str, rounds: int) -> list[Any]:
    """Bytes of one client and round, and whether both runs end with the same bits."""
    weights, seeds = (run(norm, moments, each, rounds) for each in ("weights", "seeds"))
    given, sent = weights["ledger"], seeds["ledger"]
    first = given["client_state_down"] // (rounds * CLIENTS)
    up = sent["client_state_up"] // (rounds * CLIENTS)
    down = (sent["client_state_down"] - first * CLIENTS) // ((rounds - 1) * CLIENTS)
    same = "yes" if weights["model_sha256"] == seeds["model_sha256"] else "NO"
    return [f"{norm}, moments {moments}", given["client_state_up"] // (rounds * CLIENTS), first, up, down,
            FRONT_BYTES / up, FRONT_BYTES / down, same]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="2 or more")
    rounds = parser.parse_args().rounds
    lines = [line(norm, moments, rounds) for norm in ("group", "batch") for moments in ("reset", "averaged")]
    table(["norm", "weights up", "weights down, first fetch", "slopes up", "slopes down", "front / up", "front / down",
           "same model"], lines)  # fmt: skip
    print(f"the front's weights: {FRONT_BYTES:,} bytes")
    for name, *_, up, down, _same in lines:
        verdict(f"{name}: front's weights over the larger of both", min(up, down), TARGET, at_least=True)


if __name__ == "__main__":
    main()
