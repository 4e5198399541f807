"""A convolution whose gradient is written as convolutions, which ONNX has; it has none for torch's own backward pass.

Shape letters: B samples, C and O channels in and out, K places of the kernel, S places of the input, P of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

FORWARD = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}
Sizes = int | Sequence[int]


def convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: str | Sizes = 0,
    dilation: Sizes = 1, groups: int = 1,
) -> Tensor | None:  # fmt: skip
    """Where its kernel has a gradient, with the backward pass below; None: torch's own will do, or ONNX lacks it."""
    if not torch.is_grad_enabled() or not weight.requires_grad or groups != 1 or isinstance(padding, str):
        return None
    many = weight.dim() - 2
    how = (_each(sizes, many) for sizes in (stride, padding, dilation))
    found: Tensor = _Convolution.apply(input, weight, *how)  # type: ignore[no-untyped-call]
    return found if bias is None else found + bias.view(-1, *(1,) * many)


def _each(sizes: Sizes, many: int) -> tuple[int, ...]:
    return (sizes,) * many if isinstance(sizes, int) else tuple(sizes) * (many if len(sizes) == 1 else 1)


class _Convolution(torch.autograd.Function):
    """Without a bias."""

    @staticmethod
    def forward(
        ctx: Any, input_BCS: Tensor, weight_OCK: Tensor, stride: tuple[int, ...], padding: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Tensor:  # fmt: skip
        """As torch's."""
        ctx.save_for_backward(input_BCS, weight_OCK)
        ctx.how = stride, padding, dilation
        output: Tensor = FORWARD[input_BCS.dim()](input_BCS, weight_OCK, None, stride, padding, dilation)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """The kernel's: the input convolved with the gradient, whose places lie `stride` apart, at each `dilation`. The
        input's: the gradient convolved back."""
        (gradient_BOP,), (input_BCS, weight_OCK), (stride, padding, dilation) = gradients, ctx.saved_tensors, ctx.how
        forward, transposed = FORWARD[input_BCS.dim()], TRANSPOSED[input_BCS.dim()]
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            reached = [
                (p - 1) * s - 2 * a + d * (k - 1) + 1
                for p, k, s, a, d in zip(gradient_BOP.shape[2:], weight_OCK.shape[2:], *ctx.how, strict=True)
            ]
            beyond = [size - there for size, there in zip(input_BCS.shape[2:], reached, strict=True)]
            of_input = transposed(gradient_BOP, weight_OCK, None, stride, padding, beyond, 1, dilation)
        if ctx.needs_input_grad[1]:
            flipped_CBS, gradient_OBP = input_BCS.transpose(0, 1), gradient_BOP.transpose(0, 1)
            over_COK = forward(flipped_CBS, gradient_OBP, None, dilation, padding, stride)
            for at, size in enumerate(weight_OCK.shape[2:], start=2):
                over_COK = over_COK.narrow(at, 0, size)
            of_weight = over_COK.transpose(0, 1)
        return of_input, of_weight, None, None, None
