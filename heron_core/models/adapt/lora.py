"""Low-rank adapters beside the weights of the front's convolutions and linear layers (Hu et al. 2021).

A layer computes with W + B A, its weight W viewed as [out, in * kernel], A [rank, in * kernel], B [out, rank]. Every
parameter keeps its name; the layer's adapters are `<layer>.lora_a` and `<layer>.lora_b` beside its `weight`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models.adapt.trainable import only
from heron_core.models.split_model import SplitModel


def adapted(weight: Tensor, lora_b: Tensor, lora_a: Tensor) -> Tensor:
    """W + B A in W's shape."""
    return weight + (lora_b @ lora_a).view_as(weight)


class AdaptedLinear(nn.Linear):
    """nn.Linear with adapters; made of one by `add_adapters`."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, adapted(self.weight, self.lora_b, self.lora_a), self.bias)


class AdaptedConv2d(nn.Conv2d):
    """nn.Conv2d with adapters."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, adapted(self.weight, self.lora_b, self.lora_a), self.bias)
        return out


KINDS: dict[type[nn.Module], type[AdaptedLinear | AdaptedConv2d]] = {
    nn.Linear: AdaptedLinear,
    nn.Conv2d: AdaptedConv2d,
}
"""Layers that get adapters. A user's own subclass may use its weight in another way, so it gets none."""


def add_adapters(module: nn.Module, rank: int) -> list[str]:
    """Gives every layer of a known kind its adapters, A drawn by He's rule and B zero; returns their names."""
    found = [(path, layer) for path, layer in module.named_modules() if type(layer) in KINDS]
    for _, layer in found:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        layer.__class__ = KINDS[type(layer)]
        layer.lora_a = nn.Parameter(torch.empty(rank, weight[0].numel(), dtype=weight.dtype))
        layer.lora_b = nn.Parameter(torch.zeros(weight.shape[0], rank, dtype=weight.dtype))
        nn.init.kaiming_uniform_(layer.lora_a, a=math.sqrt(5))
    return [f"{path}.{name}".lstrip(".") for path, _ in found for name in ("lora_a", "lora_b")]


def with_adapters(model: SplitModel, rank: int) -> SplitModel:
    """`model` whose front trains adapters of this rank alone. Builds the front once.

    ModelError if it has no layer that takes them.
    """

    def front() -> nn.Module:
        made = model.front()
        add_adapters(made, rank)
        return made

    names = add_adapters(model.build("front", 0), rank)
    if not names:
        raise ModelError(
            'model.trainable = "lora" needs a front with nn.Conv2d or nn.Linear layers, this one has none; '
            'use trainable = "all", or another model or cut'
        )
    return only(replace(model, front=front), names)
