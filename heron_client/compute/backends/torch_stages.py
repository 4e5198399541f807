"""Forward passes that begin at a stage of the front, from what the stage was given at the base point."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from heron_client.compute.backend import MicroBatch, Vector
from heron_client.compute.backends.torch_modules import TorchModules, vector


class TorchStageInputs:
    """What `stages` were given, for each micro-batch so far. The head's number, the last, stands for the output."""

    def __init__(self, modules: TorchModules, stages: Collection[int]) -> None:
        self._modules, self._trunk, self._stages = modules, modules.trunk, stages
        self._given: list[dict[int, Tensor]] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Around one base forward: keeps what the stages are given in it, as the next micro-batch's."""
        found: dict[int, list[Tensor]] = {stage: [] for stage in self._stages}
        with ExitStack() as stack:
            for stage in self._stages:
                if stage < len(self._trunk.stages):
                    layer = self._trunk.get_submodule(self._trunk.stages[stage])
                    hook = layer.register_forward_pre_hook(partial(_note_input, found[stage]))
                else:
                    hook = self._trunk.register_forward_hook(partial(_note_output, found[stage]))
                stack.callback(hook.remove)
            yield
        self._given.append({stage: _joined(pieces) for stage, pieces in found.items()})

    @torch.inference_mode()
    def losses(self, stage: int, number: int, batch: MicroBatch) -> Vector:
        """Losses [B] of micro-batch `number` from what `stage` was given, at the present parameters."""
        with self._modules.stream(batch.masks):
            outputs = self._modules.head(self._trunk.run_from(stage, self._given[number][stage]))
        return vector(self._modules.losses(outputs, batch.labels))

    def forget(self, stage: int) -> None:
        """Lets go what this stage was given."""
        for given in self._given:
            del given[stage]


def _note_input(found: list[Tensor], _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    found.append(inputs[0])


def _note_output(found: list[Tensor], _layer: nn.Module, _inputs: tuple[Tensor, ...], out: Tensor) -> None:
    found.append(out)


def _joined(pieces: list[Tensor]) -> Tensor:
    """The pieces as one batch; empties the list."""
    whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    pieces.clear()
    return whole
