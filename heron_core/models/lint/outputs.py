"""Are a head's outputs probabilities already? The losses of the tasks take logits, and make probabilities of them.

Shape suffixes: B samples, K classes (or labels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError
from heron_core.models.split_model import Tensors, outputs_of
from heron_core.models.tasks.classification import Classification
from heron_core.models.tasks.multi_label import MultiLabel
from heron_core.models.tasks.next_token import NextToken
from heron_core.models.tasks.per_pixel import PerPixel
from heron_core.models.tasks.task import Task
from heron_core.streams import seeded_torch

TOLERANCE = 1e-3
LARGE = 30.0
"""Standard deviation of the last layer's weights in the trial that tells a sigmoid from small logits."""
CLASS_DIMENSION = {Classification: 1, PerPixel: 1, NextToken: 2}
"""Of the outputs, by exact kind: a task of a user's own may want what it says."""


def probability(module: nn.Module, batch: Tensors, specs: Sequence[TensorSpec], what: str, task: Task) -> str:
    """A warning, or nothing. ModelError: `module`, a head in evaluation mode, ends in a softmax or a sigmoid."""
    (outputs,) = outputs_of(module, batch, specs, what)
    dimension = CLASS_DIMENSION.get(type(task))
    if dimension is not None and _sums_to_one(outputs, dimension):
        raise _refused(what, "softmax", task)
    if dimension is not None and _sums_to_one(outputs.exp(), dimension) and bool((outputs <= TOLERANCE).all()):
        return f"{what} ends in a log_softmax, which its loss takes anyway: it changes nothing, and may go"
    if (dimension is not None or type(task) is MultiLabel) and _within_one(outputs):
        with _large_last_layer(module):
            (loud,) = outputs_of(module, batch, specs, what)
        if _within_one(loud):
            raise _refused(what, "sigmoid", task)
    return ""


def _refused(what: str, end: str, task: Task) -> ModelError:
    return ModelError(
        f"{what} ends in a {end}: its outputs are probabilities, and the loss of the task {task.name} takes logits and "
        f"makes probabilities of them itself, so that the model would hardly learn; leave the {end} out of the "
        "forward, and take it of the trained model's outputs"
    )


def _within_one(outputs: Tensor) -> bool:
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def _sums_to_one(outputs: Tensor, dimension: int) -> bool:
    sums = outputs.sum(dim=dimension)
    return _within_one(outputs) and torch.allclose(sums, torch.ones_like(sums), 0, TOLERANCE)


@contextmanager
def _large_last_layer(module: nn.Module) -> Iterator[None]:
    """Inside, the last weight and bias are large random numbers: only a sigmoid, or the like, keeps outputs in 0..1."""
    last = [p for p in module.parameters() if p.is_floating_point()][-2:]
    before = [p.detach().clone() for p in last]
    with torch.no_grad(), seeded_torch(0, "lint", "large"):
        for parameter in last:
            parameter.normal_(0, LARGE)
        yield
        for parameter, value in zip(last, before, strict=True):
            parameter.copy_(value)
