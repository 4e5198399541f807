"""Where and with how many threads torch computes; the same rule on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heron_core.arrays import Array
from heron_core.errors import ConfigError


def use_threads(count: int) -> None:
    """Makes torch compute with `count` threads from here on, in this process; cheap when it already does.

    Compute threads are part of the run spec: one and two threads give different bits.
    """
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def resolve_device(wanted: str) -> torch.device:
    """`auto` is cuda where there is one, else cpu; raises ConfigError for a GPU that is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f'device = "{wanted}": this machine has {torch.cuda.device_count()} such devices; use "auto"')
    return device


def to_inputs(arrays: Sequence[Array], device: torch.device, channels_last: bool = False) -> tuple[Tensor, ...]:
    """A batch's arrays [B, ...] in torch's own aligned memory: kernels may differ by alignment and by layout."""
    return tuple(_to_input(array, device, channels_last) for array in arrays)


def _to_input(array: Array, device: torch.device, channels_last: bool) -> Tensor:
    source = torch.from_numpy(array)
    layout = torch.channels_last if channels_last and array.ndim == 4 else torch.contiguous_format
    return torch.empty(array.shape, dtype=source.dtype, device=device, memory_format=layout).copy_(source)
