"""Does a sample depend on the others in its batch, and does the same batch give the same again?

Each pass has the same batch of three samples, but for the second where that is the question: the outputs of the first
and the third then say whether they depend on it. Dropout masks are the same, for the random stream and the sizes are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError
from heron_core.models.lint.batches import example_inputs
from heron_core.models.split_model import Tensors, outputs_of
from heron_core.streams import seeded_torch

ROWS = 3
OTHERS = [0, 2]
"""All but the second."""
ALL = [0, 1, 2]
RELATIVE, ABSOLUTE = 1e-4, 1e-5
BATCH_FIRST = "give nn.LSTM, nn.GRU and nn.MultiheadAttention batch_first=True, and take no mean over dimension 0"


def example(specs: Sequence[TensorSpec]) -> Tensors:
    """Three samples [3, ...] of each spec."""
    return tuple(torch.from_numpy(array) for array in example_inputs(specs, ROWS))


def check_evaluation(module: nn.Module, batch: Tensors, specs: Sequence[TensorSpec], what: str) -> Tensors:
    """The outputs [3, ...] in evaluation mode. ModelError: a sample's depend on another's, or are drawn."""
    module.eval()
    outputs = _pass(module, batch, specs, what)
    if not _same(outputs, _pass(module, batch, specs, what, draw=1), ALL):
        raise ModelError(
            f"{what} must give the same for the same batch in evaluation, a second pass gave something else; draw "
            "nothing where self.training is False, and keep nothing from call to call"
        )
    if _same(outputs, _pass(module, _other_second(batch), specs, what), OTHERS):
        return outputs
    layers = _batch_norms(module, lambda layer: layer.running_mean is None)
    cure = f"take track_running_stats=False from {layers[0]}" if layers else BATCH_FIRST
    raise ModelError(f"{what} mixes the samples of a batch: in evaluation, one's outputs change with another; {cure}")


def across_batch(module: nn.Module, what: str) -> str:
    """The first layer, such as `front.1`, that normalises across the batch in training; empty where there is none."""
    layers = _batch_norms(module, lambda layer: True)
    return f"{what}.{layers[0]}".rstrip(".") if layers else ""


def check_training(module: nn.Module, batch: Tensors, specs: Sequence[TensorSpec], what: str) -> bool:
    """Do a sample's outputs depend on another's in training? ModelError: the same batch gives something else again.

    Buffers are as they were before each pass; after the last one they have moved.
    """
    module.train()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}

    def again(inputs: Tensors) -> Tensors:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(before.get(name, buffer))
        return _pass(module, inputs, specs, what)

    outputs = again(batch)
    if not _same(outputs, again(batch), ALL):
        raise ModelError(
            f"{what} must give the same for the same batch and dropout masks in training, a second pass gave something "
            "else; draw from torch's default generator alone, and keep nothing from call to call but in buffers"
        )
    return not _same(outputs, again(_other_second(batch)), OTHERS)


def _batch_norms(module: nn.Module, which: Callable[[_BatchNorm], bool]) -> list[str]:
    return [name for name, layer in module.named_modules() if isinstance(layer, _BatchNorm) and which(layer)]


def _pass(module: nn.Module, batch: Tensors, specs: Sequence[TensorSpec], what: str, draw: int = 0) -> Tensors:
    with seeded_torch(0, "lint", draw):
        return outputs_of(module, tuple(tensor.clone() for tensor in batch), specs, what)


def _other_second(batch: Tensors) -> Tensors:
    """The same but for the second sample: other numbers, and other ids that are in range too."""
    others = []
    for tensor in batch:
        other = tensor.clone()
        if tensor.is_floating_point():
            other[1] = 2 - 3 * tensor[1]
        else:
            other[1] = tensor[0].flip(-1) if tensor.dim() > 1 else tensor[0]
        others.append(other)
    return tuple(others)


def _same(one: Tensors, two: Tensors, rows: list[int]) -> bool:
    return all(
        a.shape == b.shape and torch.allclose(a[rows].double(), b[rows].double(), RELATIVE, ABSOLUTE, equal_nan=True)
        for a, b in zip(one, two, strict=True)
    )
