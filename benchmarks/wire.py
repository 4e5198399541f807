"""Activations from a client process into the server worker's tensor over loopback gRPC, against raw TCP.

gRPC side: the product's transport and uploader in one process; the product's service, coordinator and staging in this
one, with a trainer that only touches the tensors. TCP side: sendall of the same bytes between the same two processes,
recv_into one warm buffer. Both clocks run from the sender's first byte to the receiver's last. Bytes are counted by
a relay over one more round. With --tls the same bytes pass twice, in turn in plain text and under mutual TLS.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import MIB, ServerThread, certificates, interleaved, median_ratio, table, verdict, wait_until
from relay import Relay
from torch import nn

from heron_core.arrays import TensorSpec
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.classification import Classification
from heron_core.spec.run_spec import RunSpec
from heron_server.training.trainer import Trainer

ROW_BYTES = 64 * 32 * 32 * 4


def tiny_model() -> SplitModel:
    """The paper's cut, and next to no parameters: rounds begin and end at once."""
    return SplitModel(
        front=lambda: nn.Linear(1, 1), auxiliary=lambda: nn.Linear(1, 1), back=lambda: nn.Linear(1, 1),
        inputs=(TensorSpec("input", (3, 32, 32)),), activations=(TensorSpec("activations", (64, 32, 32)),),
        task=Classification(10),
    )  # fmt: skip


class Touching(Trainer):
    """Reads one value per sample of what arrived, and the clock."""

    last = 0.0
    steps = 0

    def train(self, client: str, rank: int, round_number: int, upload: Any) -> None:
        float(upload.activations[0][:, 0, 0, 0].sum())
        self.last = time.monotonic()
        self.steps += 1


def run_spec(rows: int, steps: int, pieces: int) -> RunSpec:
    return RunSpec.model_validate({
        "rounds": 10_000,
        "federation": {"clients": 1},
        "method": {"batch_size": rows, "local_steps": steps, "micro_batch": rows // pieces if pieces > 1 else 0},
    })  # fmt: skip


class Sender:
    """The replaying client process."""

    def __init__(self, address: str, rows: int, steps: int, pieces: int, certs: Path | None = None) -> None:
        command = [
            sys.executable, str(Path(__file__).with_name("replay.py")), address, "sender",
            "--rows", str(rows), "--steps", str(steps), "--pieces", str(pieces),
        ]  # fmt: skip
        command += ["--certs", str(certs)] if certs else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate(timeout=30)


def grpc_seconds(sender: Sender, trainer: Touching, steps: int) -> float:
    done = trainer.steps + steps
    sender.tell("grpc")
    started = float(sender.answer())
    wait_until(lambda: trainer.steps >= done, 60, "the last step")
    return trainer.last - started


def tcp_seconds(sender: Sender, listener: socket.socket, total: int, buffer: memoryview) -> float:
    sender.tell(f"tcp {listener.getsockname()[1]} {total}")
    sock, _ = listener.accept()
    with sock:
        received = 0
        while count := sock.recv_into(buffer[received % len(buffer) :]):
            received += count
    ended = time.monotonic()
    assert received == total
    return ended - float(sender.answer())


def throughput(rows: int, steps: int, pieces: int, runs: int) -> None:
    total = rows * steps * ROW_BYTES
    trainer = Touching(run_spec(rows, steps, pieces), tiny_model(), torch.device("cpu"))
    buffer = memoryview(torch.zeros(rows * ROW_BYTES, dtype=torch.uint8).numpy())
    with ServerThread(run_spec(rows, steps, pieces), trainer) as server, socket.create_server(("127.0.0.1", 0)) as tcp:
        sender = Sender(server.address, rows, steps, pieces)
        raw, ours = interleaved(
            runs, lambda: tcp_seconds(sender, tcp, total, buffer), lambda: grpc_seconds(sender, trainer, steps)
        )
        sender.close()

    def rate(seconds: list[float]) -> float:
        return total / MIB / median(seconds)

    print(f"\n{steps} uploads of {rows} rows ({rows * ROW_BYTES // MIB} MiB), {pieces} micro-batches each, {runs} runs")
    table(["", "MiB/s median", "least", "most"], [
        ["raw TCP", rate(raw), total / MIB / max(raw), total / MIB / min(raw)],
        ["gRPC", rate(ours), total / MIB / max(ours), total / MIB / min(ours)],
    ])  # fmt: skip
    verdict("gRPC / raw TCP", median_ratio(raw, ours), 0.25, at_least=True)


def tls_cost(rows: int, steps: int, pieces: int, runs: int) -> None:
    """The same uploads in plain text and under mutual TLS, in turn, each to a server of its own."""
    total, spec = rows * steps * ROW_BYTES, run_spec(rows, steps, pieces)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = certificates(Path(folder), ["sender"])
        sides: list[Callable[[], float]] = []
        for settings, certs in (({}, None), ({"certs": store.server}, store.client("sender"))):
            trainer = Touching(spec, tiny_model(), torch.device("cpu"))
            server = stack.enter_context(ServerThread(spec, trainer, **settings))
            sender = Sender(server.address, rows, steps, pieces, certs)
            stack.callback(sender.close)
            sides.append(partial(grpc_seconds, sender, trainer, steps))
        plain, tls = interleaved(runs, *sides)
    print(f"\n{steps} uploads of {rows} rows, {pieces} micro-batches each, {runs} pairs")
    table(["", "MiB/s median", "least", "most"], [
        [word, total / MIB / median(each), total / MIB / max(each), total / MIB / min(each)]
        for word, each in (("plain text", plain), ("mutual TLS", tls))
    ])  # fmt: skip
    verdict("mutual TLS / plain text, throughput", median_ratio(plain, tls), 0.85, at_least=True)


def weight(rows: int, steps: int, pieces: int) -> None:
    payload = rows * steps * (ROW_BYTES + 8)
    trainer = Touching(run_spec(rows, steps, pieces), tiny_model(), torch.device("cpu"))
    with ServerThread(run_spec(rows, steps, pieces), trainer) as server, Relay(server.address) as relay:
        sender = Sender(relay.address, rows, steps, pieces)
        grpc_seconds(sender, trainer, steps)
        wait_until(lambda: server.coordinator.rounds_done == 1, 30, "the round's end")
        sender.close()
        wait_until(lambda: server.coordinator.clients_present == 0, 30, "the client's leave")
        ledger = server.coordinator.ledger
        print(f"\none round through a counting relay, {pieces} micro-batches an upload")
        table(["bytes", "payload", "relay", "ledger"], [
            ["up", payload, relay.up, ledger.wire_up], ["down", 0, relay.down, ledger.wire_down],
        ])  # fmt: skip
        verdict("wire (both ways) / payload", (relay.up + relay.down) / payload, 1.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4, help="uploads in a round")
    parser.add_argument("--pieces", type=int, nargs="*", default=[1, 16], help="micro-batches in an upload")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tls", action="store_true", help="what mutual TLS costs, and nothing else")
    args = parser.parse_args()
    runs = 3 if args.quick else args.runs
    for pieces in args.pieces:
        if args.tls:
            tls_cost(args.rows, args.steps, pieces, runs)
            continue
        throughput(args.rows, args.steps, pieces, runs)
        weight(args.rows, args.steps, pieces)


if __name__ == "__main__":
    main()
