"""One direction for each stage of the front in turn: its probe begins at the stage's input at the base point.

Shape suffix: P perturbed parameters of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby, product

from heron_client.compute.backend import Backend, StagedBackend, StageInputs, Vector, lacks
from heron_client.compute.steps.probing import Probing, Yields
from heron_client.compute.zo import add_slopes, sum_of
from heron_core.arrays import Array


@dataclass(frozen=True)
class Block:
    """The trainable parameters of one stage, theta[start:stop]. The head is the stage after the last."""

    stage: int
    start: int
    stop: int


def each_block(probing: Probing) -> Yields:
    """q times one direction for each block, in theta's order; the stages before it are not run again."""
    zo, backend = probing.zo, _staged(probing.backend)
    stages = backend.num_stages() + 1  # with the head
    blocks = _blocks(probing, backend)
    inputs = backend.stage_inputs({block.stage for block in blocks})
    for number in range(len(probing.batch.micro_batches)):
        with inputs.recording():
            yield from probing.base(number)
    saved = probing.backend.buffers()
    losses_at = [
        _loss_at(probing, block, inputs, saved, (stages - block.stage) / stages) for block in blocks
    ]
    for j, (number, block) in product(range(zo.num_directions), enumerate(blocks)):
        size, theta_P = block.stop - block.start, probing.theta_P[block.start : block.stop]
        probing.slopes += add_slopes(
            probing.gradient_P[block.start : block.stop], theta_P, losses_at[number], probing.loss(),
            [probing.direction(j, "block", number, size=size)], zo.num_directions, zo.mu, probing.scale(size),
            zo.difference,
        )  # fmt: skip
        probing.backend.set_theta(theta_P, block.start)
        if j == zo.num_directions - 1:
            inputs.forget(block.stage)


def _staged(backend: Backend) -> StagedBackend:
    if not isinstance(backend, StagedBackend):
        raise lacks(backend, "begin a forward pass inside the front", "method.zo.block_wise = true")
    return backend


def _blocks(probing: Probing, backend: StagedBackend) -> list[Block]:
    """In theta's order; only of stages with trainable parameters, and the head where it is perturbed too."""
    blocks, start = [], 0
    for stage, members in groupby(probing.backend.moved, key=lambda moved: backend.stage_of(moved[0])):
        stop = start + sum(size for _, size in members)
        if stop <= probing.theta_P.size:
            blocks.append(Block(stage, start, stop))
        start = stop
    return blocks


def _loss_at(
    probing: Probing, block: Block, inputs: StageInputs, buffers: Mapping[str, Array], share: float
) -> Callable[[Vector], float]:
    """The batch's mean loss as a function of the block's parameters [P]; each call leaves `buffers`.

    `share`: of the stages, how many the pass runs through.
    """
    backend, batch = probing.backend, probing.batch

    def loss_at(probe_P: Vector) -> float:
        with probing.probe(buffers):
            backend.set_theta(probe_P, block.start)
            total = 0.0
            for number, micro_batch in enumerate(batch.micro_batches):
                total += sum_of(inputs.losses(block.stage, number, micro_batch))
            probing.forward_rows += share * batch.rows
            return batch.finite(total / batch.rows)

    return loss_at
