"""Layers that the built-in image families share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from heron_core.models.lean import convolve, normalise, relu

Norm = Literal["group", "batch"]
MOST_GROUPS = 32


def group_count(channels: int) -> int:
    """Groups of a GroupNorm: the most up to 32 that divide the channels into two or more each."""
    most = min(MOST_GROUPS, max(1, channels // 2))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """Normalisation over [B, channels, H, W] with a learned scale and shift."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(group_count(channels), channels)


def make_conv(incoming: int, outgoing: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias (a normalisation follows), padded to H / stride, He-initialised."""
    conv = nn.Conv2d(incoming, outgoing, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU if `active`: [B, incoming, H, W] to [B, outgoing, H/stride, W/stride]."""

    def __init__(
        self, incoming: int, outgoing: int, kernel: int, norm: Norm, stride: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = make_conv(incoming, outgoing, kernel, stride)
        self.norm = make_norm(norm, outgoing)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, outgoing, H', W'], with H' and W' divided by the stride."""
        x = normalise(self.norm, convolve(self.conv, x))
        return relu(x) if self.active else x
