"""Which parameters act on each sample by itself, so that one forward pass can give every sample its own.

Legend: B samples, C channels or features. A normalisation's scale and shift [C] and the bias [C] of a convolution or
a linear layer are applied to the layer's output, sample by sample: `out * scale_BC + shift_BC` costs no more than
with one vector for all. So does a low-rank adapter's small matrix: a batch of them, one for each sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from heron_core.arrays import TensorSpec
from heron_core.models import lean
from heron_core.models.split_model import SplitModel, outputs_of
from heron_core.streams import seeded_torch

SCALES_AND_SHIFTS = (nn.GroupNorm, nn.LayerNorm, _BatchNorm)
SHIFTS = (nn.Linear, _ConvNd)
_FEATURES_LAST = (nn.LayerNorm, nn.Linear)
_PROBE_ROWS = 3


class AdapterMatrix(nn.Linear):
    """A linear layer that is a low-rank adapter's A or B: few enough numbers that each sample may have its own."""

    def inner(self, x: Tensor) -> Tensor:
        """What its weight is applied to."""
        return x


def acts_per_sample(layer: nn.Module, parameter: str) -> bool:
    """May `layer.<parameter>` differ from sample to sample?

    But for an adapter's matrix only with torch's own forward: a subclass may use its parameters in another way.
    """
    if isinstance(layer, AdapterMatrix) and parameter == "weight":
        return True
    if not type(layer).forward.__module__.startswith("torch.nn.modules."):
        return False
    if isinstance(layer, SCALES_AND_SHIFTS):
        return parameter in ("weight", "bias")
    return isinstance(layer, SHIFTS) and parameter == "bias"


def over_places(layer: nn.Module, values_BC: Tensor, out: Tensor) -> Tensor:
    """Per-sample (or, with B = 1, common) values [B, *shape of the parameter] as a view that broadcasts over `out`."""
    places = out.dim() - values_BC.dim()
    at = 1 if isinstance(layer, _FEATURES_LAST) else values_BC.dim()
    return values_BC.reshape(*values_BC.shape[:at], *(1,) * places, *values_BC.shape[at:])


def per_sample_obstacle(model: SplitModel, front: nn.Module, seed: int) -> str | None:
    """The first trainable parameter of the front that cannot act per sample, e.g. `front.conv1.weight`; else None.

    Runs three zero samples through `front`, one of the model's, in training mode: a layer whose parameters are used
    without calling it, or whose output is not one row a sample, is an obstacle too. ModelError: it refuses them.
    """
    front.train()
    layers = dict(front.named_modules())
    seen = _rows_seen(front, model.inputs, seed)
    names = [name for name, p in front.named_parameters(remove_duplicate=False) if p.requires_grad]
    shared = _shared(front)
    for name in names:
        layer, _, parameter = name.rpartition(".")
        one_row_a_sample = seen.get(layer) == {_PROBE_ROWS}
        if name in shared or not one_row_a_sample or not acts_per_sample(layers[layer], parameter):
            return f"front.{name}"
    return None


def _rows_seen(front: nn.Module, inputs: Sequence[TensorSpec], seed: int) -> dict[str, set[int]]:
    """First dimensions of each called layer's outputs, for a batch of three; 0 where an output has none."""
    rows: dict[str, set[int]] = {}

    def note(name: str, _layer: nn.Module, _inputs: tuple[object, ...], out: object) -> None:
        rows.setdefault(name, set()).add(len(out) if isinstance(out, Tensor) and out.dim() else 0)

    for name, layer in front.named_modules():
        if isinstance(layer, SCALES_AND_SHIFTS + SHIFTS):
            layer.register_forward_hook(partial(note, name))
    batch = tuple(torch.zeros(_PROBE_ROWS, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    with lean.whole_batches(), seeded_torch(seed, "per_sample"):
        outputs_of(front, batch, inputs, "front")
    return rows


def _shared(front: nn.Module) -> set[str]:
    """Names of parameters that more than one layer uses."""
    by_tensor: dict[Tensor, list[str]] = {}
    for name, parameter in front.named_parameters(remove_duplicate=False):
        by_tensor.setdefault(parameter, []).append(name)
    groups: Iterable[list[str]] = (names for names in by_tensor.values() if len(names) > 1)
    return set(chain.from_iterable(groups))
