"""Where and with how many threads torch computes; the same rule on both sides."""

from __future__ import annotations

import torch

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
