"""What is computed otherwise while a pass is traced: dropout by given masks, and the formulas that export exactly.

Torch's exporter forgets BatchNorm's training mode and gives a wrong gradient for nll_loss, without a word. Batch
statistics written as mean and variance, and a loss written with logsumexp and comparisons, export as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from heron_server.graphs.convolutions import convolution

Draw = Callable[[tuple[int, ...], float], Tensor]
"""(shape, probability) -> the mask of one place that drops out, bool; asked in the order of the places."""
_DROPOUTS: dict[object, Callable[[Tensor], tuple[int, ...]]] = {
    F.dropout: lambda x: tuple(x.shape),
    torch.dropout: lambda x: tuple(x.shape),
    F.dropout1d: lambda x: (*x.shape[:2], *(1,) * (x.dim() - 2)),
    F.dropout2d: lambda x: (*x.shape[:2], *(1,) * (x.dim() - 2)),
    F.dropout3d: lambda x: (*x.shape[:2], *(1,) * (x.dim() - 2)),
}


class GivenMasks(TorchFunctionMode):
    """Inside, each dropout of a training pass takes its mask from `draw`."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self._draw = draw

    def __torch_function__(
        self, function: Callable[..., object], types: object, args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:  # fmt: skip
        """Dropout by the given mask, that of attention too; everything else as it is."""
        if function is F.scaled_dot_product_attention and (p := (kwargs or {}).get("dropout_p")):
            drop = partial(self._dropped, _DROPOUTS[F.dropout], p=p)  # type: ignore[arg-type]
            return _attention(*args, **{**(kwargs or {}), "drop": drop})  # type: ignore[arg-type]
        shape_of = _DROPOUTS.get(function)
        if shape_of is None:
            return function(*args, **(kwargs or {}))
        return self._dropped(shape_of, *args, **(kwargs or {}))  # type: ignore[arg-type]

    def _dropped(
        self, shape_of: Callable[[Tensor], tuple[int, ...]], input: Tensor, p: float = 0.5, training: bool = True,
        inplace: bool = False, train: bool = True,
    ) -> Tensor:  # fmt: skip
        if not training or not train or p == 0:
            return input
        kept = self._draw(shape_of(input), p)
        dropped = torch.where(kept, input / (1 - p) if p < 1 else input, torch.zeros_like(input))
        return input.copy_(dropped) if inplace else dropped


class Formulas(TorchFunctionMode):
    """Inside, normalisation by batch statistics and the cross-entropies are computed by their formulas."""

    def __torch_function__(
        self, function: Callable[..., object], types: object, args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:  # fmt: skip
        """The formula where there is one, which gives None where it is not for these arguments."""
        formula = _FORMULAS.get(function)
        given = formula(*args, **(kwargs or {})) if formula else None
        return function(*args, **(kwargs or {})) if given is None else given


def _batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    """By the batch's mean and variance over all dimensions but the second; the running ones follow."""
    if not training:
        return None
    over = [0, *range(2, input.dim())]
    along = [1, -1, *(1,) * (input.dim() - 2)]
    mean = input.mean(over)
    centred = input - mean.view(along)
    var = centred.square().mean(over)
    if running_mean is not None and running_var is not None:
        count = prod(input.shape[d] for d in over)
        _follow(running_mean, mean.detach(), momentum)
        _follow(running_var, var.detach() * (count / (count - 1)), momentum)
    output = centred * torch.rsqrt(var + eps).view(along)
    if weight is not None:
        output = output * weight.view(along)
    return output if bias is None else output + bias.view(along)


def _follow(running: Tensor, now: Tensor, momentum: float) -> None:
    running.copy_(running * (1 - momentum) + now * momentum)


def _cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean", label_smoothing: float = 0.0,
) -> Tensor | None:  # fmt: skip
    """logsumexp of the logits less the label's: [B, K, ...] and [B, ...] to [B, ...]."""
    if weight is not None or label_smoothing or target.is_floating_point() or input.dim() < 2:
        return None
    losses = torch.logsumexp(input, 1) - _picked(input, target)
    return _reduced(losses, target, ignore_index, reduction)


def _nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, size_average: bool | None = None,
    ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
) -> Tensor | None:  # fmt: skip
    """The label's log-probability, negative: [B, K, ...] and [B, ...] to [B, ...]."""
    if weight is not None or input.dim() < 2:
        return None
    return _reduced(-_picked(input, target), target, ignore_index, reduction)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> Tensor | None:  # fmt: skip
    """drop(softmax(scale Q K^T + mask)) V: [..., T, E], [..., S, E] and [..., S, E] to [..., T, E]."""
    if dropout_p and drop is None:
        return None
    if enable_gqa:
        shared = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(shared, -3), value.repeat_interleave(shared, -3)
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        rows, columns = (torch.arange(size, device=query.device) for size in scores.shape[-2:])
        attn_mask = columns <= rows.unsqueeze(1)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    shares = scores.softmax(-1)
    return (shares if drop is None else drop(shares)) @ value


def _picked(values: Tensor, labels: Tensor) -> Tensor:
    """Of each place, the value at its label; 0 where the label is no class."""
    classes = torch.arange(values.shape[1], device=values.device).view(-1, *(1,) * (values.dim() - 2))
    return torch.where(labels.unsqueeze(1) == classes, values, torch.zeros_like(values)).sum(1)


def _reduced(losses: Tensor, labels: Tensor, ignored: int, reduction: str) -> Tensor:
    counts = labels != ignored
    losses = torch.where(counts, losses, torch.zeros_like(losses))
    if reduction == "none":
        return losses
    return losses.sum() / counts.sum() if reduction == "mean" else losses.sum()


_FORMULAS: dict[object, Callable[..., Tensor | None]] = {
    F.batch_norm: _batch_norm,
    F.cross_entropy: _cross_entropy,
    F.nll_loss: _nll_loss,
    F.scaled_dot_product_attention: _attention,
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), convolution),
}
