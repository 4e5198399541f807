"""One direction for each stage of the front in turn: its probe begins at the stage's cached input.

Shape suffix: P perturbed parameters of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product

import torch
from torch import Tensor, nn

from heron_client.compute.steps.probing import Probing, Yields
from heron_client.compute.torch_backend import ClientCompute
from heron_client.compute.zo import add_slopes
from heron_core.errors import ModelError
from heron_core.models.families.stages import Trunk, stage_of


@dataclass(frozen=True)
class Block:
    """The trainable parameters of one stage, theta[start:stop]. The head is the stage after the last."""

    stage: int
    start: int
    stop: int


def each_block(probing: Probing) -> Yields:
    """q times one direction for each block, in theta's order; the stages before it are not run again."""
    zo, trunk = probing.zo, _trunk(probing.compute)
    blocks = _blocks(probing, trunk)
    with _recording(trunk, {block.stage for block in blocks}) as recorded:
        inputs: list[dict[int, Tensor]] = []
        for piece in range(len(probing.batch.pieces)):
            yield from probing.base(piece)
            inputs.append({stage: _joined(found) for stage, found in recorded.items()})
    saved = probing.compute.buffers()
    losses_at = [_loss_at(probing, trunk, block, inputs, saved) for block in blocks]
    for j, (number, block) in product(range(zo.num_directions), enumerate(blocks)):
        size, theta_P = block.stop - block.start, probing.theta_P[block.start : block.stop]
        probing.slopes += add_slopes(
            probing.gradient_P[block.start : block.stop], theta_P, losses_at[number], probing.loss(),
            [probing.direction(j, "block", number, size=size)], zo.num_directions, zo.mu, probing.scale(size),
            zo.difference,
        )  # fmt: skip
        probing.compute.set_theta(theta_P, block.start)
        if j == zo.num_directions - 1:
            for given in inputs:
                del given[block.stage]


def _trunk(compute: ClientCompute) -> Trunk:
    if not isinstance(compute.front, Trunk):
        raise ModelError(
            f"method.zo.block_wise needs a front made of stages, as the built-in families have, this one is a "
            f"{type(compute.front).__name__}; set it to false"
        )
    return compute.front


def _blocks(probing: Probing, trunk: Trunk) -> list[Block]:
    """In theta's order; only of stages with trainable parameters, and the head where it is perturbed too."""
    blocks, start = [], 0
    for stage, members in groupby(probing.compute.moved, key=lambda moved: stage_of(moved[0], trunk.stages)):
        stop = start + sum(size for _, size in members)
        if stop <= probing.theta_P.numel():
            blocks.append(Block(stage, start, stop))
        start = stop
    return blocks


@contextmanager
def _recording(trunk: Trunk, stages: set[int]) -> Iterator[dict[int, list[Tensor]]]:
    """What those stages are given in each forward pass inside, in pieces; the head's number stands for the output."""
    found: dict[int, list[Tensor]] = {stage: [] for stage in stages}
    with ExitStack() as stack:
        for stage in stages:
            if stage < len(trunk.stages):
                layer = trunk.get_submodule(trunk.stages[stage])
                hook = layer.register_forward_pre_hook(partial(_note_input, found[stage]))
            else:
                hook = trunk.register_forward_hook(partial(_note_output, found[stage]))
            stack.callback(hook.remove)
        yield found


def _suffix(trunk: Trunk, stage: int, given: Tensor) -> tuple[Tensor]:
    return (trunk.run_from(stage, given),)


def _note_input(found: list[Tensor], _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    found.append(inputs[0])


def _note_output(found: list[Tensor], _layer: nn.Module, _inputs: tuple[Tensor, ...], out: Tensor) -> None:
    found.append(out)


def _joined(pieces: list[Tensor]) -> Tensor:
    """The pieces as one batch; empties the list."""
    whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    pieces.clear()
    return whole


def _loss_at(
    probing: Probing, trunk: Trunk, block: Block, inputs: list[dict[int, Tensor]], buffers: Mapping[str, Tensor]
) -> Callable[[Tensor], float]:
    """The batch's mean loss as a function of the block's parameters [P]; each call leaves `buffers`."""
    compute, batch = probing.compute, probing.batch
    stages = len(trunk.stages) + 1
    share = (stages - block.stage) / stages

    def loss_at(probe_P: Tensor) -> float:
        with probing.probe(buffers):
            compute.set_theta(probe_P, block.start)
            total = 0.0
            for piece, (_, labels) in enumerate(batch.pieces):
                suffix = partial(_suffix, trunk, block.stage, inputs[piece][block.stage])
                total += float(compute.losses_from(suffix, labels, batch.mask_path(piece)).double().sum())
            probing.forward_rows += share * batch.rows
            return batch.finite(total / batch.rows)

    return loss_at
