"""Low-rank adapters beside the weights of the front's convolutions and linear layers (Hu et al. 2021).

A layer computes with W + B A, its weight W viewed as [out, in * kernel], A [rank, in * kernel], B [out, rank]. Every
parameter keeps its name; the layer's adapters are `<layer>.lora_a` and `<layer>.lora_b` beside its `weight`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models.adapt.trainable import only
from heron_core.models.split_model import SplitModel
from heron_core.streams import seeded_torch


def adapted(weight: Tensor, lora_b: Tensor, lora_a: Tensor) -> Tensor:
    """W + B A in W's shape."""
    return weight + (lora_b @ lora_a).view_as(weight)


def is_adapter(name: str) -> bool:
    """Is this the name of an adapter's parameter?"""
    return name.rpartition(".")[2] in ("lora_a", "lora_b")


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A module's state without adapters: each layer's weight has taken in its own."""
    found = {name: tensor for name, tensor in state.items() if not is_adapter(name)}
    for name in filter(is_adapter, state):
        layer, _, which = name.rpartition("lora_")
        if which == "a":
            found[f"{layer}weight"] = adapted(state[f"{layer}weight"], state[f"{layer}lora_b"], state[name])
    return found


class AdaptedLinear(nn.Linear):
    """nn.Linear with adapters; made of one by `_adapted_linear`."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., in] to [B, ..., out]."""
        return F.linear(x, adapted(self.weight, self.lora_b, self.lora_a), self.bias)


class AdaptedConv2d(nn.Conv2d):
    """nn.Conv2d with adapters."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, out, H', W']."""
        out: Tensor = self._conv_forward(x, adapted(self.weight, self.lora_b, self.lora_a), self.bias)
        return out


def _adapted_linear(layer: nn.Linear) -> AdaptedLinear:
    return AdaptedLinear(layer.in_features, layer.out_features, bias=False, device="meta")


def _adapted_conv2d(layer: nn.Conv2d) -> AdaptedConv2d:
    padding = layer.padding if isinstance(layer.padding, str) else _two(layer.padding)
    return AdaptedConv2d(
        layer.in_channels, layer.out_channels, _two(layer.kernel_size), _two(layer.stride), padding,
        _two(layer.dilation), layer.groups, bias=False, padding_mode=layer.padding_mode, device="meta",
    )  # fmt: skip


def _two(sizes: tuple[int, ...]) -> tuple[int, int]:
    height, width = sizes
    return height, width


def add_adapters(module: nn.Module, rank: int) -> tuple[nn.Module, list[str]]:
    """`module` whose nn.Linear and nn.Conv2d layers have adapters, A drawn by He's rule and B zero, and their names.

    A user's own subclass of these may use its weight in another way, so it gets none.
    """
    names = []
    for path, layer in list(module.named_modules()):
        if type(layer) is nn.Linear:
            made: AdaptedLinear | AdaptedConv2d = _adapted_linear(layer)
        elif type(layer) is nn.Conv2d:
            made = _adapted_conv2d(layer)
        else:
            continue
        _take_over(made, layer, rank)
        names += [f"{path}.{name}".lstrip(".") for name in ("lora_a", "lora_b")]
        if not path:
            return made, names
        parent, _, child = path.rpartition(".")
        module.get_submodule(parent).add_module(child, made)
    return module, names


def _take_over(made: AdaptedLinear | AdaptedConv2d, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
    """The layer's own parameters under their own names, and new adapters beside them.

    `made` came without memory (device meta), so making it drew nothing from the random stream.
    """
    weight = made.weight = layer.weight
    made.register_parameter("bias", nn.Parameter(layer.bias) if layer.bias is not None else None)
    made.lora_a = nn.Parameter(torch.empty(rank, weight[0].numel(), dtype=weight.dtype))
    made.lora_b = nn.Parameter(torch.zeros(weight.shape[0], rank, dtype=weight.dtype))
    nn.init.kaiming_uniform_(made.lora_a, a=math.sqrt(5))
    made.train(layer.training)


def with_adapters(model: SplitModel, built: nn.Module, rank: int) -> SplitModel:
    """`model` whose front trains adapters of this rank alone. `built`: one of its fronts, which gets adapters too.

    ModelError if it has no layer that takes them.
    """

    def front() -> nn.Module:
        return add_adapters(model.make("front"), rank)[0]

    with seeded_torch(0, "init", "probe"):  # these adapters are thrown away, but drawn
        _, names = add_adapters(built, rank)
    if not names:
        raise ModelError(
            'model.trainable = "lora" needs a front with nn.Conv2d or nn.Linear layers, this one has none; '
            'use trainable = "all", or another model or cut'
        )
    return only(replace(model, front=front), names)
