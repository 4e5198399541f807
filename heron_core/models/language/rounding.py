"""Frozen weights of a front in 8 or 4 bits, with float32 scales: rounded once, when the part is built.

Every pass makes float32 of them again, layer by layer, and computes in float32: activations are never rounded, else
the difference of two losses would be the rounding's. All of it is plain torch, which a graph for clients without torch
repeats operation by operation. IEEE 754 fixes what a division and a rounding give, so every side has the same integers.

Legend: I width of what a layer is given, O of what it gives, G groups of 32 weights along I, V tokens there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models.language.parts import Front

GROUP = 32
"""Weights along a layer's input that share a scale in 4 bits."""
MOST_8, MOST_4 = 127, 7
"""Integers are from minus this to this, so that 0 stays 0."""


class Linear8(nn.Module):
    """W x + b, W [O, I] as integers of 8 bits and a scale for each output."""

    def __init__(self, weight_OI: Tensor, bias_O: nn.Parameter | None) -> None:
        super().__init__()
        self.rounded, scale_O1 = _rounded(weight_OI, MOST_8)
        self.scale = _frozen(scale_O1[:, 0])
        self.bias = bias_O

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O], in the dtype of x."""
        out: Tensor = F.linear(x, self.rounded.to(x.dtype)) * self.scale
        return out if self.bias is None else out + self.bias


class Linear4(nn.Module):
    """W x + b, W [O, I] as integers of 4 bits and a scale for each group of 32 along I, the last filled up with zeros.

    A byte is 16 h + l, where h and l are weights that lie 16 apart. Outputs stand last, so that a scale is read for
    many weights in a row.
    """

    def __init__(self, weight_OI: Tensor, bias_O: nn.Parameter | None) -> None:
        super().__init__()
        outputs, self.width = weight_OI.shape
        filled_IO = F.pad(weight_OI, (0, -self.width % GROUP)).T.contiguous()
        integers_GIO, self.scale = _rounded(filled_IO.view(-1, GROUP, outputs), MOST_4, along=1)
        low, high = integers_GIO.chunk(2, dim=1)
        self.rounded = _frozen(16 * high + low)
        self.bias = bias_O

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O], in the dtype of x."""
        both = self.rounded.to(x.dtype)
        high = torch.round(both * (1 / 16))  # l is at most 7/16 of a step away
        weight_IO = (torch.cat([both - 16 * high, high], 1) * self.scale).flatten(0, 1)[: self.width]
        out: Tensor = x @ weight_IO
        return out if self.bias is None else out + self.bias


class Embedding8(nn.Module):
    """Rows of a table [V, I] of integers of 8 bits, with a scale for each row."""

    def __init__(self, weight_VI: Tensor) -> None:
        super().__init__()
        self.embedding_dim = weight_VI.shape[1]
        self.rounded, self.scale = _rounded(weight_VI, MOST_8)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [...] to [..., I]."""
        return F.embedding(ids, self.rounded).to(self.scale.dtype) * F.embedding(ids, self.scale)


Weights = Literal["int8", "int4"]
_LINEAR: dict[Weights, Callable[[Tensor, nn.Parameter | None], nn.Module]] = {"int8": Linear8, "int4": Linear4}


def round_embedding(front: Front) -> None:
    """The table of token embeddings to 8 bits, in place; before anything listens to it. A model that ties its
    unembedding to it keeps that as it is. ModelError: its embedding is more than a table."""
    table = front.lm.get_input_embeddings()
    if type(table) is not nn.Embedding:
        raise ModelError(
            f"the embedding of {type(front.lm).__name__} is a {type(table).__name__}, which cannot be rounded; set "
            'model.language.front_weights = "float32"'
        )
    front.lm.set_input_embeddings(Embedding8(table.weight))


def round_layers(front: Front, weights: Weights) -> None:
    """All linear layers of the front's blocks, in place; adapters beside them, norms and biases stay as they are."""
    from transformers.pytorch_utils import Conv1D

    for name, layer in list(front.lm.named_modules()):
        if name.startswith(f"{front.path}.") and type(layer) in (nn.Linear, Conv1D):
            weight_OI = layer.weight.T if type(layer) is Conv1D else layer.weight
            front.lm.set_submodule(name, _LINEAR[weights](weight_OI, layer.bias))


def _rounded(weight: Tensor, most: int, along: int = -1) -> tuple[nn.Parameter, nn.Parameter]:
    """Integers from -`most` to `most`, int8, and scales with size 1 along `along`: the largest becomes `most`."""
    weight = weight.detach().float()
    scale = weight.abs().amax(along, keepdim=True) / most
    integers = torch.round(weight / torch.where(scale > 0, scale, 1.0))
    return _frozen(integers.to(torch.int8)), _frozen(scale)


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.contiguous(), requires_grad=False)
