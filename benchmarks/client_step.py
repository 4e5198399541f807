"""What Heron adds to a client's local step, in time and in memory. ResNet-18 (small stem), cut layer1.0, one thread.

Time: the product's LocalRound (batch, perturbation, forwards, losses, Adam, codec, uploader, serialised frames) over
the bare q + 1 forward passes of the same modules in the same pieces, inputs ready in torch's memory.

Memory: VmHWM (reset by /proc/self/clear_refs) minus VmRSS after a forward of two samples, over two steps, so that the
second step runs beside the optimiser's state; a fresh process each. Counted: the batch, maps, parameter copies,
gradients, moments, and for Heron two unacknowledged micro-batches and the frame in hand. Not counted: the interpreter,
torch, imports (torch.optim and all it drags in are loaded and used once before the first reading), model parameters,
and the data set. The rival is stock torch: nn modules with in-place ReLU, autograd, torch.optim.Adam, whole batch.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import MIB, interleaved, median_ratio, reset_peak, status_bytes, table, verdict
from torch import Tensor, nn

from heron_core.device import to_input

BATCH = 256
SAMPLES = 2 * BATCH
STEPS = 2


def run_spec(norm: str, head: str, micro_batch: int, directions: int, steps: int) -> Any:
    from heron_core.run_spec import RunSpec

    return RunSpec.model_validate({
        "model": {"name": "resnet18", "cut": "layer1.0", "norm": norm, "auxiliary": head},
        "method": {
            "batch_size": BATCH, "micro_batch": micro_batch, "local_steps": steps,
            "zo": {"num_directions": directions}, "optimizer": {"name": "adam", "lr": 1e-4},
        },
    })  # fmt: skip


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (SAMPLES, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, SAMPLES)


class Sink:
    """A PushStream that serialises every frame, as the gRPC transport does, and acknowledges as late as it may."""

    def __init__(self) -> None:
        self._last = b""
        self._sent: deque[int] = deque()
        self._opened = False

    def send(self, frame: Any) -> None:
        from heron_core.frames import serialize

        self._last = serialize(frame)
        sequence = frame.rest.header.sequence
        if not self._sent or self._sent[-1] != sequence:
            self._sent.append(sequence)

    def receive(self, timeout_s: float) -> Any:
        from heron_core.pb.v1 import split_pb2 as pb

        if not self._opened:
            self._opened = True
            return pb.PushEvent(position=pb.Position(sequence=0, credit_steps=1 << 20))
        if timeout_s and self._sent:
            return pb.PushEvent(acknowledged=pb.Acknowledged(sequence=self._sent.popleft() + 1))
        return None

    def close(self) -> None: ...


class HeronClient:
    """The product's compute side with its local rounds."""

    def __init__(self, spec: Any, device: str = "cpu") -> None:
        from heron_client.compute import ClientCompute
        from heron_core.data.batches import BatchOrder
        from heron_core.data.source import ArraySource
        from heron_core.models import build_split_model

        self.spec, self.device = spec, torch.device(device)
        self.compute = ClientCompute(build_split_model(spec.model), spec.seed, self.device, 1)
        self.source = ArraySource(*images())
        self.order = BatchOrder(0, 0, SAMPLES, BATCH)

    def warm_up(self) -> None:
        x, labels = self.source.batch(np.arange(2))
        self.compute.forward(x, labels, ("warm", "up"), keep_activations=False)

    def round(self) -> None:
        from heron_client.local_round import LocalRound
        from heron_client.uploader import Uploader
        from heron_core.pb.v1 import split_pb2 as pb

        local = LocalRound(self.spec, self.compute, self.source, self.order, ["activations", "labels"], 1, 0)
        uploader = Uploader(pb.FrameHeader(run_id="r", session_id="s", term=1, round=1, purpose=pb.PURPOSE_TRAIN))
        exhaust(uploader.attach(Sink(), 1.0))
        uploads = local.uploads()
        while (upload := next(uploads, None)) is not None:
            exhaust(uploader.push(upload, 1.0))
            upload = None
        exhaust(uploader.settle(1.0))

    def bare_inputs(self) -> list[Tensor]:
        rows = self.spec.method.micro_batch_rows
        x = self.source.batch(np.arange(BATCH))[0]
        layout = self.compute._model.channels_last
        return [to_input(x[i : i + rows], self.device, layout) for i in range(0, BATCH, rows)]

    @torch.inference_mode()
    def bare(self, pieces: list[Tensor]) -> None:
        net = self.compute._net
        for _ in range(self.spec.method.zo.num_directions + 1):
            for piece in pieces:
                net.auxiliary(net.front(piece))


def exhaust(waiting: Any) -> None:
    for _ in waiting:
        pass


# -- the rival: stock torch, first order -------------------------------------------------------------------------


def stock_norm(norm: str) -> nn.Module:
    return nn.GroupNorm(32, 64) if norm == "group" else nn.BatchNorm2d(64)


class StockBlock(nn.Module):
    """ResNet's basic block, as torchvision writes it."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(64, 64, 3, padding=1, bias=False), stock_norm(norm)
        self.conv2, self.norm2 = nn.Conv2d(64, 64, 3, padding=1, bias=False), stock_norm(norm)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += x
        return self.relu(out)


def stock_client(norm: str, head: str) -> nn.Module:
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    flat = [nn.Flatten(), nn.Linear(65536, 10)]
    stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), stock_norm(norm), nn.ReLU(inplace=True)]
    return nn.Sequential(*stem, StockBlock(norm), *(pooled if head == "gap_linear" else flat))


def first_order_peak(norm: str, head: str) -> int:
    torch.set_num_threads(1)
    net = stock_client(norm, head)
    dummy = nn.Linear(2, 2)
    throwaway = torch.optim.Adam(dummy.parameters())
    dummy(torch.zeros(2, 2)).sum().backward()  # type: ignore[no-untyped-call]
    throwaway.step()
    x_all, labels_all = images()
    with torch.no_grad():
        net(torch.from_numpy(x_all[:2]).float())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)

    def step(number: int) -> None:
        rows = slice(number * BATCH, (number + 1) * BATCH)
        x, labels = torch.from_numpy(x_all[rows]).float() / 255, torch.from_numpy(labels_all[rows])
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(x), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return peak_above_loaded(lambda: [step(number) for number in range(STEPS)])


def heron_peak(norm: str, head: str, micro_batch: int) -> int:
    client = HeronClient(run_spec(norm, head, micro_batch, 1, STEPS))
    client.warm_up()
    return peak_above_loaded(client.round)


def peak_above_loaded(work: Any) -> int:
    gc.collect()
    reset_peak()
    loaded = status_bytes("VmRSS")
    work()
    return status_bytes("VmHWM") - loaded


# -- the two benchmarks ------------------------------------------------------------------------------------------


def times(runs: int, directions: int, head: str, device: str) -> None:
    print(f"\nLocal step, batch {BATCH}, GroupNorm, {head}, q = {directions}, 1 thread, {runs} runs: median seconds")
    rows, ratios = [], []
    for micro_batch in (0, 32, 16):
        client = HeronClient(run_spec("group", head, micro_batch, directions, 1), device)
        pieces = client.bare_inputs()
        cpu: tuple[list[float], list[float]] = ([], [])
        bare, ours = interleaved(
            runs, clocked(lambda c=client, p=pieces: c.bare(p), device, cpu[0]), clocked(client.round, device, cpu[1])
        )
        ratios.append((micro_batch or BATCH, median_ratio(ours, bare)))
        cpu_ratio = median_ratio(cpu[1][1:], cpu[0][1:])
        rows.append([f"micro-batch {micro_batch or BATCH}", *map(median, (bare, ours, *cpu)), cpu_ratio])
    table(["", "bare forwards", "Heron", "bare, CPU", "Heron, CPU", "CPU ratio"], rows)
    for micro_batch, ratio in ratios:
        verdict(f"micro-batch {micro_batch}: Heron / bare, wall clock", ratio, 1.10)


def clocked(work: Any, device: str, cpu_seconds: list[float]) -> Any:
    """Wall-clock seconds; the CPU's, which busy neighbours disturb less, go to `cpu_seconds`."""

    def run() -> float:
        started, cpu_started = time.perf_counter(), time.process_time()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        cpu_seconds.append(time.process_time() - cpu_started)
        return time.perf_counter() - started

    return run


CASES = [
    # norm, head, micro-batch, target
    ("group", "gap_linear", 16, 0.08),
    ("group", "flatten_linear", 16, None),
    ("group", "gap_linear", 0, None),
    ("batch", "gap_linear", 0, 0.55),
    ("batch", "flatten_linear", 0, 0.55),
]  # fmt: skip


def memory(runs: int) -> None:
    print(f"\nPeak above the loaded process, {STEPS} steps of batch {BATCH}, median of {runs} processes: MiB")
    rivals: dict[tuple[str, str], float] = {}
    rows, verdicts = [], []
    for norm, head, micro_batch, target in CASES:
        if (norm, head) not in rivals:
            rivals[norm, head] = measured(runs, "first_order", norm, head, 0)
        ours, rival = measured(runs, "heron", norm, head, micro_batch), rivals[norm, head]
        name = f"{norm} {head}, micro-batch {micro_batch or BATCH}"
        rows.append([name, rival, ours, ours / rival])
        if target:
            verdicts.append((name, ours / rival, target))
    table(["", "first order, 256", "Heron", "ratio"], rows)
    for name, ratio, target in verdicts:
        verdict(name, ratio, target)


def measured(runs: int, side: str, norm: str, head: str, micro_batch: int) -> float:
    command = [sys.executable, str(Path(__file__)), "--measure", side, norm, head, str(micro_batch)]
    peaks = [int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(runs)]
    return median(peaks) / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--directions", type=int, default=1, help="q")
    parser.add_argument("--device", default="cpu", help="for the times; memory is the CPU's")
    parser.add_argument("--only", choices=["time", "memory"])
    parser.add_argument("--quick", action="store_true", help="3 runs for times, 1 for memory")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        side, norm, head, micro_batch = args.measure
        peak = first_order_peak(norm, head) if side == "first_order" else heron_peak(norm, head, int(micro_batch))
        print(peak)
        return
    if args.only != "memory":
        for head in ("gap_linear",) if args.quick else ("gap_linear", "flatten_linear"):
            times(3 if args.quick else args.runs, args.directions, head, args.device)
    if args.only != "time":
        memory(1 if args.quick else 3)


if __name__ == "__main__":
    main()
