"""Tensors to trace a pass with, and to compare its graph on: random inputs, labels, masks, and parameters off their
beginnings.

Shape letters: B samples, T the length of their sequences.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from heron_core.arrays import TensorSpec
from heron_core.graphs.manifest import Mask
from heron_core.labels import IGNORED
from heron_core.models.lint.batches import example_inputs, example_labels
from heron_core.models.split_model import SplitModel
from heron_core.streams import generator
from heron_server.graphs.tracing import Open

TRACED_ROWS = (7, 11, 13)
"""No sizes that a layer is likely to have: one stands for B in a mask's shape."""


def traced_rows(model: SplitModel, compared: int = 0) -> int:
    """B of a trace: neither a sequence's length, for equal sizes would be taken for the same, nor the B that the graph
    is `compared` at, where a graph of this B alone would not show."""
    other = {compared, *(spec.shape[0] for spec in model.inputs if spec.variable)}
    return next(rows for rows in TRACED_ROWS if rows not in other)


def lengths_of(model: SplitModel) -> list[int]:
    """T of the batches that graphs are compared on, the longest first; 0 alone where nothing varies."""
    longest = max((spec.shape[0] for spec in model.inputs if spec.variable), default=0)
    return sorted({longest, (longest + 1) // 2}, reverse=True)


def inputs_of(model: SplitModel, rows: int, length: int = 0) -> dict[str, Tensor]:
    """[rows, ...]; `length` 0: sequences at their longest."""
    inputs = zip(model.inputs, example_inputs(model.inputs, rows, length), strict=True)
    return {f"inputs.{spec.name}": torch.from_numpy(array) for spec, array in inputs}


def labels_of(model: SplitModel, rows: int, length: int = 0) -> dict[str, Tensor]:
    """[rows, ...]; where positions may be ignored, all of the first sample's are, of a single sample the first."""
    spec, alone = model.task.labels, rows == 1
    labels = example_labels(spec, rows + alone, length)[int(alone) :]
    if alone and spec.maskable:
        labels[0, :1] = IGNORED
    return {"labels": torch.from_numpy(labels)}


def opened_of(model: SplitModel) -> dict[str, Open]:
    """Which dimensions of a batch are left open."""
    specs = {f"inputs.{spec.name}": spec for spec in model.inputs} | {"labels": model.task.labels.tensor}
    return {name: _open(spec) for name, spec in specs.items()}


def opened_masks(masks: Sequence[Mask]) -> dict[str, Open]:
    """The same of masks."""
    return {f"masks.{i}": ("B", *("" if size else "T" for size in mask.shape)) for i, mask in enumerate(masks)}


def _open(spec: TensorSpec) -> Open:
    return ("B", "T") if spec.variable else ("B",)


def masks_of(masks: Sequence[Mask], rows: int, length: int = 0) -> dict[str, Tensor]:
    """One draw of each; `length` as that of the sequences beside them."""
    shapes = [mask.sized(rows, length) for mask in masks]
    return {
        f"masks.{i}": torch.from_numpy(generator(0, "example", "mask", i).random(shape) >= mask.drops)
        for i, (mask, shape) in enumerate(zip(masks, shapes, strict=True))
    }


def moved_away(held: Mapping[str, Tensor], frozen: Collection[str]) -> dict[str, Tensor]:
    """Each floating-point tensor a little above what it is: a scale of 1 or a shift of 0 would hide a fault, and a
    variance stays positive. Those that are `frozen` as they are."""
    return {name: tensor.detach() if name in frozen else _moved(name, tensor) for name, tensor in held.items()}


def _moved(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().clone()
    rng = generator(0, "example", "moved", name)
    return tensor.detach() + torch.from_numpy(rng.random(tuple(tensor.shape))).to(tensor.dtype) * 0.1


def prior_of(classes: int) -> dict[str, Tensor]:
    """A log prior [K] where the graph takes one."""
    rng = generator(0, "example", "prior")
    return {"log_prior": torch.from_numpy(rng.standard_normal(classes).astype("float32"))} if classes else {}
