"""Auxiliary heads: from the activations at the cut straight to logits.

Legend: B batch, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from torch import Tensor, nn

from heron_core.errors import ModelError
from heron_core.models.lean import convolve, in_pieces, relu
from heron_core.models.names import nearest

Shape = tuple[int, ...]
FLATTEN_ROWS = 16


class GapLinear(nn.Module):
    """Mean over the places of [B, C, ...], then linear. A vector [B, C] is its own mean."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[0], classes)

    def forward(self, z_BC: Tensor) -> Tensor:
        """[B, C, ...] or [B, C] to [B, K]."""
        pooled_BC = z_BC.flatten(2).mean(dim=2) if z_BC.dim() > 2 else z_BC
        logits_BK: Tensor = self.linear(pooled_BC)
        return logits_BK


class FlattenLinear(nn.Module):
    """The paper's head: every activation has a weight for every class. [B, ...] to [B, K]."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(prod(shape), classes)

    def forward(self, z: Tensor) -> Tensor:
        """[B, ...] to [B, K]."""
        if z.is_contiguous():
            return self._logits(z)
        return in_pieces(self._logits, z, FLATTEN_ROWS)  # flattening copies any other layout

    def _logits(self, z: Tensor) -> Tensor:
        logits_BK: Tensor = self.linear(z.flatten(1))
        return logits_BK


class ConvGapLinear(nn.Module):
    """A 3x3 convolution that keeps the channels, ReLU, mean over H and W, linear. [B, C, H, W] to [B, K]."""

    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shape[0], shape[0], 3, padding=1)
        self.head = GapLinear(shape, classes)

    def forward(self, z_BCHW: Tensor) -> Tensor:
        """[B, C, H, W] to [B, K]."""
        return in_pieces(self._logits, z_BCHW, FLATTEN_ROWS)

    def _logits(self, z_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.head(relu(convolve(self.conv, z_BCHW)))
        return logits_BK


HEADS: Mapping[str, Callable[[Shape, int], nn.Module]] = {
    "gap_linear": GapLinear,
    "flatten_linear": FlattenLinear,
    "conv_gap_linear": ConvGapLinear,
}


def auxiliary_factory(name: str, shape: Shape, output_shape: Shape) -> Callable[[], nn.Module]:
    """A factory of the named head: [B, *shape] to [B, *output_shape]. ModelError: unknown, or unfit for it."""
    if name not in HEADS:
        raise ModelError(f"unknown auxiliary head {name!r}{nearest(name, HEADS)}; take one of {', '.join(HEADS)}")
    if name == "conv_gap_linear" and len(shape) != 3:
        raise ModelError(
            f"auxiliary conv_gap_linear needs activations [C, H, W], this cut gives {list(shape)}; "
            'take auxiliary = "gap_linear" or "flatten_linear"'
        )
    if len(output_shape) != 1:
        raise ModelError(
            f"auxiliary {name} gives one vector for each sample, the task wants {list(output_shape)}; "
            "let your factory return a SplitModel with a head of its own"
        )
    return lambda: HEADS[name](shape, output_shape[0])
