"""Forward passes that keep only the maps they still need.

On the CPU, without a graph, a layer runs in pieces of a few samples: its result replaces its input where the
shape allows, and a convolution's scratch memory is one piece's, not the batch's. On the paper's front and head
at batch 256 that leaves 2 maps live instead of 4 (1 with GroupNorm), and is no slower. With a graph, on an
accelerator, or inside `whole_batches()`, every function here is the plain call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

PIECE_BYTES = 1 << 20
"""Of a layer's widest map, per piece: it and its neighbours stay in a core's cache."""

Layer = Callable[[Tensor], Tensor]
_whole: ContextVar[bool] = ContextVar("whole_batches", default=False)


@contextmanager
def whole_batches() -> Iterator[None]:
    """Inside, each layer is called once for all rows: a hook on it sees the whole batch. For this thread only."""
    token = _whole.set(True)
    try:
        yield
    finally:
        _whole.reset(token)


def keeps_no_graph(x: Tensor) -> bool:
    """May maps be overwritten and cut in pieces? Only on the CPU: an accelerator pays for each launch."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not _whole.get()


def rows_per_piece(bytes_per_sample: int) -> int:
    """Samples in one piece; a function of shapes only, so that the same run gives the same bits."""
    return max(1, PIECE_BYTES // max(1, bytes_per_sample))


def in_pieces(layer: Layer, x: Tensor, rows: int) -> Tensor:
    """`layer(x)` for a layer that treats each sample by itself, `rows` at a time; x [B, ...] is kept."""
    if not keeps_no_graph(x) or x.shape[0] <= rows:
        return layer(x)
    result: Tensor | None = None
    for start in range(0, x.shape[0], rows):
        piece = layer(x[start : start + rows])
        if result is None:
            result = _batch_like(piece, x.shape[0])
        result[start : start + rows] = piece
    assert result is not None
    return result


def overwrite(layer: Layer, x: Tensor) -> Tensor:
    """`layer(x)` for a per-sample layer that keeps the shape; without a graph the result takes x's place."""
    rows = rows_per_piece(_bytes_per_sample(x))
    if not keeps_no_graph(x) or x.shape[0] <= rows:
        return layer(x)
    for start in range(0, x.shape[0], rows):
        piece = x[start : start + rows]
        piece.copy_(layer(piece))
    return x


def convolve(convolution: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """`convolution(x)` in pieces sized by the larger of its two maps; x [B, C, H, W] or [B, C, L] is kept."""
    places = prod(size // stride for size, stride in zip(x.shape[2:], convolution.stride, strict=True))
    outgoing = convolution.out_channels * places * x.element_size()
    return in_pieces(convolution, x, rows_per_piece(max(outgoing, _bytes_per_sample(x))))


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(x)` for BatchNorm1d or 2d, or a per-sample norm; without a graph the result takes x's place."""
    if not keeps_no_graph(x):
        normalised: Tensor = norm(x)
        return normalised
    if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and x.numel() > x.shape[1]:
        return _batch_norm_(norm, x)
    return overwrite(norm, x)


def relu(x: Tensor) -> Tensor:
    """max(x, 0) in x's place: every caller owns x, and no gradient here needs the value before."""
    return F.relu(x, inplace=True)


def _batch_norm_(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """`norm(x)` written over x by its own kernel: the same bits and running statistics.

    Like it, `track_running_stats = False` in train mode leaves the buffers alone.
    """
    tracks = norm.track_running_stats
    trains = norm.training or norm.running_mean is None
    if norm.training and tracks and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        assert norm.num_batches_tracked is not None
        momentum = 1.0 / float(norm.num_batches_tracked) if norm.training and tracks else 0.0
    kept = tracks or not norm.training
    torch.ops.aten.native_batch_norm.out(
        x, norm.weight, norm.bias,
        norm.running_mean if kept else None, norm.running_var if kept else None,
        trains, momentum, norm.eps,
        out=x, save_mean=x.new_empty(x.shape[1]), save_invstd=x.new_empty(x.shape[1]),
    )  # fmt: skip
    return x


def _bytes_per_sample(x: Tensor) -> int:
    return x.numel() // x.shape[0] * x.element_size() if x.shape[0] else 0


def _batch_like(piece: Tensor, size: int) -> Tensor:
    """An empty [size, ...] of piece's kind and memory format."""
    last = piece.dim() == 4 and piece.is_contiguous(memory_format=torch.channels_last) and not piece.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty((size, *piece.shape[1:]), dtype=piece.dtype, device=piece.device, memory_format=layout)
