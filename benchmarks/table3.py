"""The paper's language table: its figures, our closed form, and what was measured, at GPT-2's shapes.

arXiv 2601.09076: GPT-2 Small (cut 3, one auxiliary block) and Medium (cut 6, three), adapters of rank 8; the head is
copies of the next blocks, the final norm and the unembedding. The paper prints GB and T multiply-accumulates of a local
step for Medium, and says neither batch nor length, so only its ratios can be compared. Weights are drawn, not trained:
no figure here depends on them.

F is a forward pass of a client's part over one sequence of T tokens, n blocks of width d, adapters of rank r on the
layer of queries, keys and values, a vocabulary of V:

    a block      12 d^2 T + 2 d T^2 + 4 d r T
    unembedding  V d T
    backward     as many again for what passes on a gradient and has frozen weights; twice as many for the scores of
                 attention (both sides have gradients) and for adapters

so with frozen weights zeroth order (two forward passes) costs what first order costs (one forward, one backward of
about as much), where with all weights moving it costs two thirds. A rival that is lean computes some of it again: the
logits of a sliced loss, and with checkpoints each block but its last product.

    python benchmarks/table3.py [--only compute|memory] [--sizes small,medium] [--batch 8] [--length 128] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import language_memory
import torch
from common import table, verdict
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

RANK, VOCABULARY, GIGA = 8, 50_257, 1e9


@dataclass(frozen=True)
class Shape:
    """A GPT-2 and its cut."""

    layers: int
    width: int
    heads: int
    cut: int
    auxiliary: int


SHAPES = {"small": Shape(12, 768, 12, 3, 1), "medium": Shape(24, 1024, 16, 6, 3)}
PAPER = {"SplitLoRA": (4.59, 5.68), "CSE-FSL": (9.09, 9.48), "HERON-SFL": (4.03, 5.26)}
"""Medium: GB at a client, T multiply-accumulates of a local step."""


def folder_of(size: str, home: Path) -> Path:
    """A model folder of this shape, as transformers saves it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from heron_core.models.language.loading import quiet_library

    shape = SHAPES[size]
    config = GPT2Config(n_layer=shape.layers, n_embd=shape.width, n_head=shape.heads, vocab_size=VOCABULARY)
    torch.manual_seed(0)
    with quiet_library():
        GPT2LMHeadModel(config).save_pretrained(home / size)
    return home / size


# -- compute -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forward:
    """Multiply-accumulates of one forward pass of a batch, by what its backward pass costs."""

    frozen: int
    """Products with frozen weights: as many again, for the gradient that passes on."""
    doubled: int
    """Attention's two products and adapters: both factors have a gradient."""

    @property
    def all(self) -> int:
        return self.frozen + self.doubled


def blocks(shape: Shape, count: int, batch: int, length: int) -> Forward:
    """Of so many blocks."""
    d, tokens = shape.width, batch * length
    return Forward(count * 12 * d * d * tokens, count * (2 * d * length + 4 * d * RANK) * tokens)


def closed(shape: Shape, batch: int, length: int) -> dict[str, int]:
    """Each row of the table. Of the first block's own input nobody needs a gradient, so its frozen product with the
    weights of queries, keys and values has no backward pass, nor has its A one for its input."""
    front, copies = blocks(shape, shape.cut, batch, length), blocks(shape, shape.auxiliary, batch, length)
    unembedding, tokens = VOCABULARY * shape.width * batch * length, batch * length
    spared = (3 * shape.width + RANK) * shape.width * tokens
    forward = front.all + copies.all + unembedding
    back_front = front.frozen + 2 * front.doubled - spared
    back_head = copies.frozen + 2 * copies.doubled + unembedding
    cse = forward + back_front + back_head
    again = front.all + copies.all - (shape.cut + shape.auxiliary) * 4 * shape.width**2 * tokens
    return {
        "HERON-SFL": 2 * forward,
        "SplitLoRA": front.all + back_front,
        "CSE-FSL": cse,
        "CSE-FSL, sliced loss": cse + unembedding,
        "CSE-FSL, sliced and checkpointed": cse + unembedding + again,
        "CSE-FSL, all weights move": 3 * forward,
        "HERON-SFL on the cut gradient": 2 * front.all,
        "frozen": front.all,
    }


def measured(size: str, base: Path, batch: int, length: int) -> dict[str, int]:
    """By torch's counter, over a local step of the same modules."""
    from heron_core.models import build_split_model

    shape = SHAPES[size]
    sizes = language_memory.Sizes(base.name, shape.cut, shape.auxiliary, batch, length)
    model = build_split_model(sizes.spec({"name": "cse_fsl"}).model, data_folder=base.parent, fetches=True)
    front, head = model.build("front", 0), model.build("auxiliary", 0)
    tokens = torch.arange(batch * length).view(batch, length) % VOCABULARY

    def local_loss(sliced: bool) -> Any:
        outputs = head(front(tokens))
        if sliced:
            return model.task.losses(outputs, tokens).mean()
        return torch.nn.functional.cross_entropy(outputs.whole().view(-1, VOCABULARY), tokens.view(-1))

    def forward_only(passes: int, run: Callable[[], Any]) -> None:
        with torch.inference_mode():
            for _ in range(passes):
                run()

    def through_the_cut() -> None:
        hidden = front(tokens)
        hidden.backward(torch.ones_like(hidden))

    found = {
        "HERON-SFL": partial(forward_only, 2, partial(local_loss, True)),
        "SplitLoRA": through_the_cut,
        "CSE-FSL": lambda: local_loss(False).backward(),
        "CSE-FSL, sliced loss": lambda: local_loss(True).backward(),
        "HERON-SFL on the cut gradient": partial(forward_only, 2, lambda: front(tokens)),
        "frozen": partial(forward_only, 1, lambda: front(tokens)),
    }
    counted = {name: _count(run) for name, run in found.items()}
    lean = _checkpointed(front, head, found["CSE-FSL, sliced loss"])
    later = {"CSE-FSL, sliced and checkpointed": _count(lean)}
    for parameter in (*front.parameters(), *head.parameters()):
        parameter.requires_grad_(True)
    return {**counted, **later, "CSE-FSL, all weights move": _count(lambda: local_loss(False).backward())}


def _checkpointed(front: Any, head: Any, run: Callable[[], Any]) -> Callable[[], Any]:
    """`run`, during which every block keeps its input alone."""

    def inside() -> None:
        own = [block for part in (front, head) for block in part.blocks if any(True for _ in block.parameters())]
        forwards = [block.forward for block in own]
        for block in own:
            language_memory.checkpointed(block)
        run()
        for block, forward in zip(own, forwards, strict=True):
            block.forward = forward

    return inside


def _count(run: Callable[[], Any]) -> int:
    """With attention as two products: torch's counter knows no other kind of it on a CPU."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def print_compute(size: str, base: Path, batch: int, length: int) -> dict[str, Any]:
    shape, few = SHAPES[size], (2, 64)
    ours, at_few, seen = closed(shape, batch, length), closed(shape, *few), measured(size, base, *few)
    print(f"\nGPT-2 {size}, G multiply-accumulates of a local step of {batch} x {length} tokens; measured: 2 x 64")
    heron = ours["HERON-SFL"]
    table(
        ["", "closed form", "HERON over it", "the paper's ratio", "2 x 64: closed", "measured", "measured / closed"],
        [[name, ours[name] / GIGA, heron / ours[name], _paper_ratio(size, name, 1), at_few[name] / GIGA,
          seen[name] / GIGA, seen[name] / at_few[name]] for name in ours],
    )  # fmt: skip
    for name in ours:
        verdict(f"{name}: measured off the closed form", abs(seen[name] / at_few[name] - 1), 0.01)
    return {"closed": ours, "closed at 2 x 64": at_few, "measured at 2 x 64": seen}


def _paper_ratio(size: str, name: str, column: int) -> Any:
    if size != "medium" or name not in PAPER:
        return "-"
    return PAPER["HERON-SFL"][column] / PAPER[name][column]


# -- memory ------------------------------------------------------------------------------------------------------------


def print_memory(size: str, base: Path, batch: int, length: int, runs: int) -> dict[str, Any]:
    shape = SHAPES[size]
    print(f"\nGPT-2 {size}: the paper's ratios, HERON over SplitLoRA 0.878 and over CSE-FSL 0.443, are of Medium")
    sizes = language_memory.Sizes(base.name, shape.cut, shape.auxiliary, batch, length)
    return language_memory.show(sizes, runs, base.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["compute", "memory"])
    parser.add_argument("--sizes", default="small,medium")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--runs", type=int, default=1, help="processes for each memory figure")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        for size in args.sizes.split(","):
            base = folder_of(size, Path(home))
            if args.only in (None, "compute"):
                found[f"{size}, compute"] = print_compute(size, base, args.batch, args.length)
            if args.only in (None, "memory"):
                found[f"{size}, memory"] = print_memory(size, base, args.batch, args.length, args.runs)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
