"""The whole client process at work, over gRPC: ResNet-18's paper front, one thread, a batch of 256 images.

Rows: first order (`cse_fsl`, backpropagation of the auxiliary loss) in the whole batch, and in pieces, as an engineer
with a small machine accumulates gradients; `heron` by torch in the same pieces; `heron` by graphs of the server's, in a
process that never loads torch. Each is a client of its own before a server of its own, and says what it took: the
resident set with all loaded, its peak during the local steps, and the median time of a step. Ratios are of the peaks,
over the leaner first order.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import MIB, table
from round_overhead import free_port, heron

SAMPLES, STEPS = 512, 2
PATIENCE_S = 900
FIRST_ORDER = {"method.name": "cse_fsl"}


def at_work(folder: Path, backend: str, settings: dict[str, Any]) -> list[float]:
    """MiB loaded, MiB at the peak and seconds of a local step, of one client in one round."""
    address = f"127.0.0.1:{free_port()}"
    (folder / "run.toml").write_text("")
    server = heron("heron_server", "run", str(folder / "run.toml"), **{
        "server.address": address, "server.run_dir": folder / "run", "server.graphs": str(backend == "onnx").lower(),
        "rounds": 1, "threads.client": 1, "federation.clients": 1, "federation.min_clients": 1,
        "data.source": "client", "data.holdout": 0.0, "model.name": "resnet18", "model.cut": "layer1.0",
        "method.batch_size": 256, "method.local_steps": STEPS, **settings,
    })  # fmt: skip
    client = heron("heron_client", "run", "--once", "--log-level", "error", **{
        "name": "a", "server": address, "backend": backend, "device": "cpu", "state_dir": folder / "state",
        "data.source": "npz", "data.path": folder.parent / "images.npz",
    })  # fmt: skip
    try:
        if server.wait(PATIENCE_S) or client.wait(PATIENCE_S):
            sys.exit(f"the run failed: its server ended with {server.returncode}, its client with {client.returncode}")
    finally:
        for process in (client, server):
            process.kill()
    own = json.loads((folder / "run" / "summary.json").read_text())["per_client"]["a"]
    return [own["loaded_bytes"] / MIB, own["peak_bytes"] / MIB, own["step_seconds_median"]]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--norm", choices=["group", "batch"], default="group")
    parser.add_argument("--micro-batch", type=int, default=8)
    chosen = parser.parse_args()
    common, pieces = {"model.norm": chosen.norm}, {"method.micro_batch": chosen.micro_batch}
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "first order, whole batch": ("torch", FIRST_ORDER),
        f"first order, pieces of {chosen.micro_batch}": ("torch", {**FIRST_ORDER, **pieces}),
        f"heron by torch, pieces of {chosen.micro_batch}": ("torch", pieces),
        f"heron by graphs, pieces of {chosen.micro_batch}": ("onnx", pieces),
    }
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="heron-") as name:
        rng = np.random.Generator(np.random.Philox(0))
        images, labels = rng.standard_normal((SAMPLES, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, SAMPLES)
        np.savez(Path(name) / "images.npz", x=images, y=labels)
        for number, (label, (backend, settings)) in enumerate(rows.items()):
            folder = Path(name) / str(number)
            folder.mkdir()
            found[label] = at_work(folder, backend, {**common, **settings})
    leaner = min(peak for label, (_, peak, _) in found.items() if label.startswith("first order"))
    table(
        ["client, whole process", "MiB loaded", "MiB at work", "s a step", "of the leaner first order"],
        [[label, *figures, figures[1] / leaner] for label, figures in found.items()],
    )


if __name__ == "__main__":
    main()
