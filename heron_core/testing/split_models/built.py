"""A split model's parts, built once, and a made-up batch that runs through them."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from heron_core.arrays import Array
from heron_core.device import to_inputs
from heron_core.models.lint.batches import example_inputs, example_labels
from heron_core.models.split_model import SplitModel, Tensors, activations_of
from heron_core.spec.methods import PARTS, Part
from heron_core.streams import seeded_torch

HEADS: tuple[Part, ...] = PARTS[1:]
"""Those that give the task's outputs."""
ROWS = 4
"""Samples in the batch."""
CPU = torch.device("cpu")


class Built:
    """What server and clients would build from one seed."""

    def __init__(self, model: SplitModel, seed: int) -> None:
        self.model, self.seed = model, seed
        self.parts = {part: model.build(part, seed) for part in PARTS}
        self.state = {part: described(module) for part, module in self.parts.items()}
        """Name -> dtype and shape, before anything has run."""

    @cached_property
    def inputs(self) -> tuple[Array, ...]:
        """A few samples of the model's inputs."""
        return example_inputs(self.model.inputs, ROWS)

    @cached_property
    def labels(self) -> Tensor:
        """A label of the task for each of them."""
        return torch.from_numpy(example_labels(self.model.task.labels, ROWS))

    @cached_property
    def activations(self) -> Tensors:
        """What the front gives in evaluation mode."""
        return self.run_front(self.inputs, train=False)

    @cached_property
    def outputs(self) -> dict[Part, Tensor]:
        """What each head gives in evaluation mode."""
        return {part: self.run_head(part, self.activations, train=False) for part in HEADS}

    def run_front(self, inputs: tuple[Array, ...], *, train: bool, draw: int = 0) -> Tensors:
        """The activations, without a graph; `draw` names the stream that dropout masks come from."""
        with torch.no_grad(), seeded_torch(draw, "check"):
            return activations_of(self.parts["front"].train(train), to_inputs(inputs, CPU, self.model.channels_last))

    def run_head(self, part: Part, activations: Tensors, *, train: bool) -> Tensor:
        """The task's outputs; `activations` stay as they are."""
        with torch.no_grad(), seeded_torch(0, "check"):
            outputs: Tensor = self.parts[part].train(train)(*(a.clone() for a in activations))
        return outputs

    def train_pass(self, part: Part) -> None:
        """One forward pass as in training."""
        if part == "front":
            self.run_front(self.inputs, train=True)
        else:
            self.run_head(part, self.activations, train=True)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, those that are not saved too."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def described(module: nn.Module) -> dict[str, str]:
    """Name -> dtype and shape of what is saved."""
    tensors = module.state_dict(keep_vars=True).items()
    return {name: "without a size" if is_lazy(tensor) else _kind(tensor) for name, tensor in tensors}


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def as_array(tensor: Tensor) -> Array:
    """On the CPU; bfloat16, which NumPy lacks, as float32."""
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()
    return array
