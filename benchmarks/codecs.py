"""Activation codecs on one core: a 64 MiB batch of float32 encoded into a block and decoded into memory that is there.

Numbers are standard normal, as a normalisation gives them. Each codec encodes and decodes in turn with the others;
seconds are of this thread's CPU time, medians, with the best run beside them. Both sides run at once on two machines:
a GiB/s of both together is the bytes over the sum of their seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from common import table, verdict

from heron_core.arrays import Array
from heron_core.streams import generator
from heron_core.wire.activation_codec import CODECS, BlockCodec

GIB = 2**30
TARGETS = {"int8": 1.5, "int4": 0.8}
"""GiB/s of encoding and decoding together."""


def seconds(function: Callable[[], object]) -> float:
    """CPU time of this thread."""
    start = time.thread_time()
    function()
    return time.thread_time() - start


def measured(codec: BlockCodec, values: Array, out: Array) -> tuple[float, float, int]:
    """Seconds to encode and to decode, and bytes of the block."""
    blocks: list[Array] = []
    up = seconds(lambda: blocks.append(codec.encode(values, generator(0, "rounding"))))
    return up, seconds(lambda: codec.decode(blocks[0], out)), blocks[0].nbytes


def main() -> None:
    """Prints a line for each codec."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    values = generator(0, "values").standard_normal(arguments.mib * 2**18, np.float32)
    out = np.zeros_like(values)
    blocks = {name: codec.block for name, codec in CODECS.items() if codec.block is not None}
    runs = [{name: measured(block, values, out) for name, block in blocks.items()} for _ in range(arguments.runs)]

    def rate(spent: float) -> float:
        return values.nbytes / GIB / spent

    rows, both = [], {}
    for name in blocks:
        ups, downs, sizes = zip(*(run[name] for run in runs), strict=True)
        both[name] = rate(median(map(sum, zip(ups, downs, strict=True))))
        best = rate(min(map(sum, zip(ups, downs, strict=True))))
        rows.append([name, rate(median(ups)), rate(median(downs)), both[name], best, sizes[0] / values.nbytes])
    table(["codec", "encode GiB/s", "decode GiB/s", "both", "best run", "bytes over raw"], rows)
    for name, target in TARGETS.items():
        verdict(f"{name}: encode and decode, GiB/s of float32 on one core", both[name], target, at_least=True)


if __name__ == "__main__":
    main()
