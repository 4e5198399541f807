"""The server's optimiser steps per second, fed over gRPC, over the same steps on batches in memory.

ResNet-18's back from layer1.0. Fed: three processes replay recorded uploads over the product's client transport; the
clock runs over the steps of a round, first to last. In memory: the same trainer takes the same recorded batches in
turn, while the three processes sit idle beside it. Both sides check each step and use the same thread count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import ServerThread, interleaved, median_ratio, table, verdict, wait_until

from heron_core.models import build_split_model
from heron_core.spec.run_spec import RunSpec
from heron_server.training.trainer import Trainer
from heron_server.uploads.assembly import Upload

CLIENTS = 3
RECORDED = 2


def run_spec(norm: str, batch: int, steps: int, threads: int) -> RunSpec:
    return RunSpec.model_validate({
        "rounds": 10_000,
        "model": {"name": "resnet18", "cut": "layer1.0", "norm": norm},
        "method": {"batch_size": batch, "local_steps": steps},
        "federation": {"clients": CLIENTS, "min_clients": CLIENTS},
        "server_optimizer": {"name": "adam", "lr": 1e-4},
        "threads": {"server": threads},
    })  # fmt: skip


class Timed(Trainer):
    """Notes the clock before and after each step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.clocks: list[tuple[float, float]] = []

    def train(self, client: str, rank: int, round_number: int, upload: Upload) -> None:
        started = time.monotonic()
        super().train(client, rank, round_number, upload)  # heron: nothing comes back
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self.clocks.append((started, time.monotonic()))

    def seconds_per_step(self) -> float:
        """From the first step's end to the last one's: the first waits for the pipe to fill."""
        return (self.clocks[-1][1] - self.clocks[0][1]) / (len(self.clocks) - 1)

    def save(self) -> dict[str, Any]:
        """Checkpoints are no part of this."""
        return {}


def record(spec: RunSpec, path: Path) -> list[Upload]:
    """Uploads of the spec's front at its start, from random images."""
    model, rng = build_split_model(spec.model), np.random.default_rng(0)
    front, rows = model.build("front", spec.seed), spec.method.batch_size
    with torch.inference_mode():
        images = torch.from_numpy(rng.standard_normal((RECORDED, rows, 3, 32, 32), dtype=np.float32))
        activations = torch.stack([front(x).contiguous() for x in images]).numpy()
    labels = rng.integers(0, 10, (RECORDED, rows))
    np.savez(path, activations=activations, labels=labels)
    return [
        Upload(i, (torch.from_numpy(a).clone(),), torch.from_numpy(b))
        for i, (a, b) in enumerate(zip(activations, labels, strict=True))
    ]


def fed(trainer: Timed, senders: list[subprocess.Popen[str]], steps: int) -> float:
    """Seconds per step of one round."""
    trainer.clocks.clear()
    for sender in senders:
        assert sender.stdin is not None
        print("grpc", file=sender.stdin, flush=True)
    for sender in senders:
        assert sender.stdout is not None
        sender.stdout.readline()
    wait_until(lambda: len(trainer.clocks) == steps, 300, "the last step")
    time.sleep(0.3)  # the round's end: nothing of it may run into the other side
    return trainer.seconds_per_step()


def in_memory(trainer: Timed, batches: list[Upload], steps: int) -> float:
    """Seconds per step, in a thread of its own as on the server."""
    trainer.clocks.clear()

    def work() -> None:
        with torch.inference_mode(False):
            for i in range(steps):
                batch = batches[i % RECORDED]
                trainer.train("memory", 0, 1, Upload(i, batch.activations, batch.labels_B))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return trainer.seconds_per_step()


def compare(norm: str, args: argparse.Namespace) -> None:
    spec = run_spec(norm, args.batch, args.steps, args.threads)
    total = args.steps * CLIENTS
    with tempfile.TemporaryDirectory() as folder:
        recorded = Path(folder) / "uploads.npz"
        batches = record(spec, recorded)
        trainer = Timed(spec, build_split_model(spec.model), torch.device(args.device))
        with ServerThread(spec, trainer) as server:
            command = [sys.executable, str(Path(__file__).with_name("replay.py")), server.address]
            options = ["--recorded", str(recorded), "--steps", str(args.steps)]
            senders = [
                subprocess.Popen(
                    [*command, f"client-{i}", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
                for i in range(CLIENTS)
            ]
            for sender in senders:
                assert sender.stdout is not None
                sender.stdout.readline()
            memory, over_grpc = interleaved(
                args.runs, lambda: in_memory(trainer, batches, total), lambda: fed(trainer, senders, total)
            )
        for sender in senders:
            sender.kill()
            sender.communicate(timeout=30)
    print(f"\n{norm} norm, batch {args.batch}, {total} steps a run, {args.runs} runs, {args.device}")
    rates = [[1 / s for s in side] for side in (memory, over_grpc)]
    table(["steps / s", "median", "least", "most"], [
        [name, median(side), min(side), max(side)]
        for name, side in zip(["in memory, senders idle", "fed over gRPC by 3 processes"], rates, strict=True)
    ])  # fmt: skip
    verdict("fed / in memory", median_ratio(memory, over_grpc), 0.85, at_least=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--norm", nargs="*", default=["group", "batch"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="uploads of each client in a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.norm, args.runs, args.steps = args.norm[:1], 2, 2
    for norm in args.norm:
        compare(norm, args)


if __name__ == "__main__":
    main()
