"""What a local step holds at a client of a language model above the loaded process: zeroth order beside first order.

A folder's pretrained decoder (default smollm2, SmolLM2-135M), cut after 6 blocks; the head is a copy of the next block,
the final norm and the unembedding; adapters of rank 8 on front and head, Adam; batches of 8 x 64 tokens. Each figure is
of a fresh process, all under the same meter and the same malloc thresholds (M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of
64 KiB, so that what is freed goes back at once). It has loaded the model, has run all code and touched all weights in a
step of one sequence, and sets its VmHWM back: `above` is the most that was resident at once in the steps after, less
what was resident before them.

full logits, whole batch   the usual first-order step: the logits [8, 64, V] and one graph of the batch
sliced, whole batch        the loss computed over slices of tokens, each slice's logits again on the way back
.. micro-batch 1           one sequence after the other, gradients added up
.. checkpointed            with only the inputs of blocks kept (torch.utils.checkpoint): the leanest
heron, ...                 whole local rounds of the product, micro-batches of one sequence where nothing else is said;
                           codec, uploader and frames too

    python benchmarks/language_memory.py [--base smollm2] [--cut 6] [--runs 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import MIB, table, verdict
from local_rounds import LocalRounds

RANK, STEPS, WHOLE = 8, 2, 1 << 20
USUAL, LEANEST = "first order, full logits, whole batch", ".. checkpointed"
FIRST_ORDER = {
    USUAL: {"sliced": False, "rows": WHOLE},
    "first order, sliced, whole batch": {"sliced": True, "rows": WHOLE},
    ".. micro-batch 1": {"sliced": True, "rows": 1},
    LEANEST: {"sliced": True, "rows": 1, "checkpointed": True},
}
JOINT = "heron, front and head perturbed"
HERON: dict[str, dict[str, Any]] = {
    JOINT: {"auxiliary_update": "zo"},
    "heron, front alone, exact head": {"auxiliary_update": "first_order"},
    "heron, front alone, the server's head": {"auxiliary_update": "server"},
    "heron on the cut gradient": {"objective": "cut_gradient"},
    "heron, the server's head, one direction a sequence, whole batch": {
        "auxiliary_update": "server", "moments": "averaged", "micro_batch": 0, "zo": {"scope": "sample"},
    },
}
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Sizes:
    """What is cut where, and what a step takes."""

    base: str = "smollm2"
    cut: int = 6
    auxiliary: int = 1
    """Copied blocks in the head."""
    batch: int = 8
    length: int = 64

    def spec(self, method: dict[str, Any]) -> Any:
        """The run in which this client takes part."""
        from heron_core.spec.run_spec import RunSpec

        language = {"length": self.length, "auxiliary_blocks": self.auxiliary, "auxiliary_rank": 0}
        model = {"name": "causal_lm", "base": self.base, "cut": str(self.cut), "trainable": "lora", "lora_rank": RANK}
        return RunSpec.model_validate({
            "model": {**model, "language": language},
            "method": {"batch_size": self.batch, "micro_batch": 1, "local_steps": STEPS, **method},
            "data": {"source": "client"},
        })  # fmt: skip

    def tokens(self, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and labels of two batches, int64 [2 B, T]: every position counts."""
        both = np.random.default_rng(0).integers(0, vocabulary, (2 * self.batch, self.length + 1))
        return both[:, :-1].copy(), both[:, 1:].copy()


# -- the parent --------------------------------------------------------------------------------------------------------


def measure(cell: str, sizes: Sizes, data: Path | None = None) -> dict[str, float]:
    """Of a fresh process. `data`: where the base folder lies; None: $HERON_DATA."""
    command = [sys.executable, __file__, "--cell", cell, *map(str, astuple(sizes))]
    there = {"HERON_DATA": str(data)} if data else {}
    env = {**os.environ, **MALLOC, **there}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(sizes: Sizes, runs: int, data: Path | None = None) -> dict[str, dict[str, float]]:
    """Prints the table; gives its lines."""
    cells = [*FIRST_ORDER, *HERON]
    found: dict[str, list[dict[str, float]]] = {cell: [] for cell in cells}
    for number in range(runs):
        for cell in reversed(cells) if number % 2 else cells:
            found[cell].append(measure(cell, sizes, data))
    lines = {c: {key: median(each[key] for each in found[c]) for key in found[c][0]} for c in cells}
    usual, leanest = lines[USUAL]["above"], lines[LEANEST]["above"]
    print(f"{sizes.base}, cut {sizes.cut}, {sizes.batch} x {sizes.length} tokens, rank {RANK}; medians of {runs}, MiB")
    table(
        ["", "loaded", "above", "/ usual", "/ leanest", "a step, CPU s"],
        [[c, n["loaded"] / MIB, n["above"] / MIB, n["above"] / usual, n["above"] / leanest, n["step_s"]]
         for c, n in lines.items()],
    )  # fmt: skip
    verdict("MiB above the loaded process, front and head perturbed", lines[JOINT]["above"] / MIB, 17)
    verdict("over the usual first-order step", lines[JOINT]["above"] / usual, 0.06)
    verdict("over the leanest one", lines[JOINT]["above"] / leanest, 0.65)
    return lines


# -- in the fresh process ----------------------------------------------------------------------------------------------


def cell_main(cell: str, sizes: Sizes) -> None:
    """Prints one line with its figures."""
    import torch

    from heron_client.compute.meter import peak_bytes, reset_peak, resident_bytes

    torch.set_num_threads(1)
    steps, parts = _heron(cell, sizes) if cell in HERON else _first_order(cell, sizes)
    for parameter in (p for part in parts for p in part.parameters()):
        parameter.detach().sum()  # its pages of the file are resident from now on
    loaded = resident_bytes()
    assert reset_peak(), "this kernel sets no VmHWM back"
    started = time.process_time()
    steps()
    step_s = (time.process_time() - started) / STEPS
    print(json.dumps({"loaded": loaded, "above": peak_bytes() - loaded, "step_s": step_s}))


def _heron(cell: str, sizes: Sizes) -> tuple[Callable[[], Any], list[Any]]:
    import torch

    from heron_client.compute.backends.torch_backend import TorchBackend
    from heron_core.data.source import ArraySource
    from heron_core.models import build_split_model
    from heron_core.spec.role import role_of

    spec = sizes.spec({"name": "heron", **HERON[cell]})
    model = build_split_model(spec.model, fetches=True)
    client = LocalRounds(spec, TorchBackend(model, role_of(spec), torch.device("cpu")))
    client.source = ArraySource(*sizes.tokens(model.task.labels.count))
    client.round(1)
    return client.round, [client.backend.modules.front, client.backend.modules.head]


def _first_order(cell: str, sizes: Sizes) -> tuple[Callable[[], Any], list[Any]]:
    """What a good engineer would write around the same modules: autograd and torch.optim.Adam, no uploads."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    from heron_core.models import build_split_model

    how = FIRST_ORDER[cell]
    model = build_split_model(sizes.spec({"name": "cse_fsl"}).model, fetches=True)
    front, head = model.build("front", 0), model.build("auxiliary", 0)
    if how.get("checkpointed"):
        for block in (*front.blocks, *head.blocks[sizes.cut :]):
            checkpointed(block)
    optimizer = torch.optim.Adam([p for m in (front, head) for p in m.parameters() if p.requires_grad], lr=1e-4)
    tokens, labels = map(torch.from_numpy, sizes.tokens(model.task.labels.count))

    def loss_of(x: Any, y: Any) -> Any:
        outputs = head(front(x))
        if how["sliced"]:
            return model.task.losses(outputs, y).mean()
        logits = outputs.whole()
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.view(-1))

    def step(first: int, batch: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        rows = min(batch, how["rows"])
        for i in range(first, first + batch, rows):
            (loss_of(tokens[i : i + rows], labels[i : i + rows]) * (rows / batch)).backward()
        optimizer.step()

    step(0, 1)
    return lambda: [step(number * sizes.batch, sizes.batch) for number in range(STEPS)], [front, head]


def checkpointed(block: Any) -> None:
    """From now on the block keeps its input alone, and computes the rest again when its gradient is wanted."""
    from torch.utils.checkpoint import checkpoint

    whole = block.forward
    block.forward = lambda *args, **named: checkpoint(whole, *args, use_reentrant=False, **named)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2", help="a folder in $HERON_DATA")
    parser.add_argument("--cut", type=int, default=6)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cell", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        name, base, *numbers = args.cell
        cell_main(name, Sizes(base, *map(int, numbers)))
        return
    found = show(Sizes(args.base, args.cut), args.runs)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
