"""Claims about a split model's task; each function raises ModelError or TensorError where its claim does not hold."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from heron_core.arrays import Array
from heron_core.errors import ModelError
from heron_core.measures import Measured, Sums, added
from heron_core.models.lint.batches import example_inputs, example_labels
from heron_core.models.tasks.task import Task
from heron_core.streams import seeded_torch
from heron_core.testing.split_models.built import HEADS, ROWS, Built, as_array

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Kernels may add up a batch of four in another order than a single sample."""


def check_labels(built: Built) -> None:
    """Labels as the task describes them pass its check, and its metrics are sums that can be added."""
    task, labels = built.model.task, built.labels
    built.model.check_labels(labels)
    for outputs in built.outputs.values():
        whole = _measured(task, outputs, labels)
        halves = added(_measured(task, outputs[:2], labels[:2]), _measured(task, outputs[2:], labels[2:]))
        for name, pair in whole.items():
            if not all(np.allclose(a, b, RELATIVE, ABSOLUTE) for a, b in zip(pair, halves[name], strict=True)):
                raise ModelError(
                    f"both sums of {name} must add up over batches, got {_shown(pair)} for {ROWS} samples and "
                    f"{_shown(halves[name])} for the same in two halves; let measure return sums, not means"
                )


def _shown(pair: tuple[Sums, Sums]) -> str:
    return " / ".join(str(side.tolist()) for side in pair)


def _measured(task: Task, outputs: Tensor, labels: Tensor) -> Measured:
    measured, names = task.measure(outputs, labels), [metric.name for metric in task.metrics]
    if not names or set(measured) != set(names):
        raise ModelError(
            f"measure must return the sums of the task's metrics, {names}, at least one, got {sorted(measured)}; "
            "name them alike"
        )
    for name, pair in measured.items():
        for array in pair:
            numbers = isinstance(array, np.ndarray | np.generic) and array.dtype == np.float64
            if not numbers or not np.isfinite(array).all():
                raise ModelError(
                    f"both sums of {name} must be finite float64 arrays, got {array!r}; make them by "
                    "heron_core.measures.pair"
                )
    return measured


def check_losses(built: Built) -> None:
    """float32 [B], finite, and of each sample by itself: micro-batches must give what the whole batch gives."""
    task, labels = built.model.task, built.labels
    for part, outputs in built.outputs.items():
        losses = _losses(task, outputs, labels, f"of the {part}'s outputs")
        for row in range(ROWS):
            one = slice(row, row + 1)
            alone = _losses(task, outputs[one], labels[one], f"of the {part}'s outputs")
            if not np.allclose(alone, losses[one], RELATIVE, ABSOLUTE):
                raise ModelError(
                    f"the loss of a sample must not depend on the others in its batch, got {losses[row]:g} among "
                    f"{ROWS} and {alone[0]:g} alone; take means over one sample's places, never over the batch"
                )


def _losses(task: Task, outputs: Tensor, labels: Tensor, whose: str) -> Array:
    losses = task.losses(outputs, labels)
    if losses.dtype != torch.float32 or tuple(losses.shape) != (len(labels),):
        raise ModelError(
            f"the losses {whose} must be float32 [{len(labels)}], one for each sample, got "
            f"{str(losses.dtype).removeprefix('torch.')} {list(losses.shape)}; use reduction='none' and the mean over "
            "all but the first dimension"
        )
    array = as_array(losses)
    if not np.isfinite(array).all():
        raise ModelError(f"the losses {whose} must be finite, got {array.tolist()}; mend the task's losses")
    return array


def check_short(built: Built) -> None:
    """A batch of sequences is as long as its longest, which may be shorter than the longest that may come."""
    model = built.model
    length = max(1, min(spec.shape[0] for spec in model.inputs if spec.variable) // 2)
    labels = torch.from_numpy(example_labels(model.task.labels, ROWS, length))
    activations = built.run_front(example_inputs(model.inputs, ROWS, length), train=False)
    for part in HEADS:
        outputs = built.run_head(part, activations, train=False)
        _losses(model.task, outputs, labels, f"of the {part}'s outputs for sequences of {length}")


def check_gradients(built: Built) -> None:
    """The server trains the back, and some methods the head, by gradients of the mean loss."""
    for part in HEADS:
        module = built.parts[part].train()
        with torch.enable_grad(), seeded_torch(built.seed, "check"):
            outputs = module(*(a.clone() for a in built.activations))
            loss = built.model.task.losses(outputs, built.labels).mean()
        if not loss.requires_grad:
            raise ModelError(
                f"the loss of the {part}'s outputs must have a gradient, it has none; keep argmax, detach and "
                "no_grad out of the forward and the losses"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        bad = [n for n, p in module.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
        if bad:
            raise ModelError(f"the gradient of {part}.{bad[0]} must be finite, got NaN or Inf; mend the forward")
