"""Activation codecs on one core: a 64 MiB batch of float32 encoded into a block and decoded into memory that is there.

Numbers are standard normal, as they are (a normalisation's) or those below zero set to it (a ReLU's, as at the cut of
Heron's convolutional models). The codecs take turns. Seconds are of this thread's CPU time: GiB/s of the medians, with
the best run's beside them; "both" is the batch over the seconds to encode it and to decode it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from common import table, verdict

from heron_core.arrays import Array
from heron_core.streams import generator
from heron_core.wire.activation_codec import CODECS, BlockCodec

GIB = 2**30
BLOCKS = {name: codec.block for name, codec in CODECS.items() if codec.block is not None}
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
    signed = generator(0, "values").standard_normal(arguments.mib * 2**18, np.float32)
    out, rows, both = np.zeros_like(signed), [], {}
    for kind, values in (("after a ReLU", np.maximum(signed, 0)), ("of both signs", signed)):
        runs = [{name: measured(block, values, out) for name, block in BLOCKS.items()} for _ in range(arguments.runs)]
        for name in BLOCKS:
            ups, downs, sizes = (np.array(column) for column in zip(*(run[name] for run in runs), strict=True))
            gib = values.nbytes / GIB
            both[name, kind] = gib / float(np.median(ups + downs))
            rates = [float(gib / np.median(ups)), float(gib / np.median(downs)), both[name, kind]]
            rows.append([f"{name}, {kind}", *rates, float(gib / min(ups + downs)), float(sizes[0] / values.nbytes)])
    table(["codec", "encode GiB/s", "decode GiB/s", "both", "best run", "bytes over raw"], rows)
    for (name, kind), rate in both.items():
        if name in TARGETS:
            verdict(f"{name}, {kind}: GiB/s encoded and decoded on one core", rate, TARGETS[name], at_least=True)


if __name__ == "__main__":
    main()
