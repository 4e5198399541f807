"""A client's local step: what Heron adds to the bare forward passes, and heron beside first-order clients, in time and
in memory. ResNet-18 (small stem), cut layer1.0, batch 256, Adam, one thread.

Overhead: the product's LocalRound (batch, perturbation, forwards, losses, Adam, codec, uploader, serialised frames)
over the bare q + 1 forward passes of the same modules in the same micro-batches, inputs ready in torch's memory.

Methods: whole local steps at the paper's setting (BatchNorm, flattened head, whole batch), in turn, each with its own
uploads. CSE-FSL stands twice: the product's stepper, which frees its graph as it goes, and stock torch (nn modules with
in-place ReLU, autograd, torch.optim.Adam, no uploads).

Memory: see memory.py. Uploads are acknowledged as late as they may be, on all sides that upload.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import torch
from clients import ProductClient, StockClient
from common import MIB, interleaved, median_ratio, table, verdict
from local_rounds import BATCH, run_spec
from memory import RATIO, Case, Peak, case, measure

# -- time --------------------------------------------------------------------------------------------------------


def overhead(runs: int, directions: int, head: str, device: str, codec: str) -> None:
    print(f"\nOverhead: GroupNorm, {head}, q = {directions}, uploads {codec}, {runs} runs: median seconds")
    rows, ratios = [], []
    for micro_batch in (0, 32, 16):
        method = {"name": "heron", "micro_batch": micro_batch, "zo": {"num_directions": directions}}
        client = ProductClient(run_spec(method, "group", head, codec=codec), device)
        inputs = client.bare_inputs()
        cpu: tuple[list[float], list[float]] = ([], [])
        bare, ours = interleaved(
            runs, clocked(lambda c=client, x=inputs: c.bare(x, directions + 1), device, cpu[0]),
            clocked(client.round, device, cpu[1]),
        )  # fmt: skip
        ratios.append((micro_batch or BATCH, median_ratio(ours, bare)))
        cpu_ratio = median_ratio(cpu[1][1:], cpu[0][1:])
        rows.append([f"micro-batch {micro_batch or BATCH}", *map(median, (bare, ours, *cpu)), cpu_ratio])
    table(["", "bare forwards", "Heron", "bare, CPU", "Heron, CPU", "CPU ratio"], rows)
    for micro_batch, ratio in ratios:
        verdict(f"micro-batch {micro_batch}: Heron / bare, wall clock", ratio, 1.10)


def methods(runs: int, device: str) -> None:
    print(f"\nMethods: BatchNorm, flatten_linear, whole batch, {runs} runs: median seconds of one local step")
    clients: dict[str, Any] = {
        name: ProductClient(run_spec({"name": name}), device) for name in ("cse_fsl", "heron", "sflv2", "frozen")
    }
    clients["cse_fsl, stock torch"] = StockClient("batch", "flatten_linear", device=device)
    for client in clients.values():
        client.warm_up()
    cpu: list[list[float]] = [[] for _ in clients]
    found = interleaved(runs, *(clocked(c.round, device, cpu[i]) for i, c in enumerate(clients.values())))
    rival = found[0]
    table(
        ["", "seconds", "CPU seconds", "over cse_fsl", "CPU, over cse_fsl"],
        [[name, median(s), median(c[1:]), median_ratio(s, rival), median_ratio(c[1:], cpu[0][1:])]
         for name, s, c in zip(clients, found, cpu, strict=True)],
    )  # fmt: skip
    verdict("heron / cse_fsl, wall clock", median_ratio(found[1], rival), 0.72)
    print("in multiply-accumulates: 0.672, or 0.667 as the paper counts (table2.py)")


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


# -- memory ------------------------------------------------------------------------------------------------------

GHOST = {"micro_batch": 8, "ghost_batch_norm": True}
EXACT = {"auxiliary_update": "first_order"}
CASES = (
    case("cse_fsl", method="cse_fsl"),
    Case("cse_fsl, stock torch"),
    case("fsl_sage", method="fsl_sage"),
    case("sflv2", method="sflv2"),
    case("frozen", method="frozen"),
    case("heron", method="heron"),
    case("heron, pooled head", head="gap_linear", method="heron"),
    case("heron, exact head gradient", method="heron", **EXACT),
    case("heron, ghost BN, micro-batches of 8", method="heron", **GHOST),
    case("heron, ghost BN, micro-batches of 8, pooled", head="gap_linear", method="heron", **GHOST),
    case("heron, GroupNorm, micro-batches of 16, pooled", "group", "gap_linear", method="heron", micro_batch=16),
    case("heron, GroupNorm, micro-batches of 8, pooled", "group", "gap_linear", method="heron", micro_batch=8),
)
TARGETS = {"heron": 0.42, "heron, GroupNorm, micro-batches of 8, pooled": 0.06}


def memory(runs: int) -> None:
    print(f"\nPeak of two local steps of {BATCH} above the loaded process, MiB; VmHWM: median of {runs} processes")
    found: dict[str, Peak] = {}
    for each in CASES:
        found[each.name] = measure(each, runs)
    rival, stock = found["cse_fsl"], found["cse_fsl, stock torch"]
    table(
        ["", "VmHWM", "allocator", "moments", "vectors", "maps", "other", "outside", "/ cse_fsl", "/ stock"],
        [[name, *(v / MIB for v in (p.process, p.allocator, p.moments, p.vectors, p.maps, p.other, p.outside)),
          p.over(rival), p.over(stock)] for name, p in found.items()],
    )  # fmt: skip
    for name, target in TARGETS.items():
        verdict(f"{name} / cse_fsl", found[name].over(rival), target)
        verdict(f"{name} / cse_fsl in stock torch", found[name].over(stock), target)
    print(RATIO)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--directions", type=int, default=1, help="q, for the overhead")
    parser.add_argument("--codec", default="raw", help="of the uploads, for the overhead")
    parser.add_argument("--device", default="cpu", help="for the times; memory is the CPU's")
    parser.add_argument("--only", choices=["overhead", "methods", "memory"])
    parser.add_argument("--quick", action="store_true", help="3 runs for times, 1 for memory")
    args = parser.parse_args()
    runs = 3 if args.quick else args.runs
    if args.only in (None, "overhead"):
        for head in ("gap_linear",) if args.quick else ("gap_linear", "flatten_linear"):
            overhead(runs, args.directions, head, args.device, args.codec)
    if args.only in (None, "methods"):
        methods(runs, args.device)
    if args.only in (None, "memory"):
        memory(1 if args.quick else 3)


if __name__ == "__main__":
    main()
