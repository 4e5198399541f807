"""The server's update rules, and their state by name for a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from heron_core.arrays import Array
from heron_core.spec.methods import uploads_per_round
from heron_core.spec.optimizer import OptimizerSpec, learning_rate
from heron_core.spec.run_spec import RunSpec


def make_optimizer(spec: OptimizerSpec, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Eq. 7's update rule; its state persists across rounds."""
    moved = list(parameters) or [nn.Parameter(torch.zeros(1))]
    if spec.name == "sgd":
        return torch.optim.SGD(moved, lr=spec.lr, momentum=spec.momentum, foreach=False)
    return torch.optim.Adam(moved, lr=spec.lr, betas=(spec.beta1, spec.beta2), eps=spec.eps, foreach=False)


class Rates:
    """The learning rate of each step: of all clients' n-th uploads of a round it is the same, whoever comes when."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec, self._uploads, self._rounds = spec.server_optimizer, uploads_per_round(spec.method), spec.rounds

    def set(self, optimizers: Iterable[torch.optim.Optimizer], round_number: int, upload: int) -> None:
        """For the step of a client's upload `upload`, from 0, of this round."""
        step, steps = (round_number - 1) * self._uploads + upload, self._rounds * self._uploads
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self._spec, step, steps)


def state_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """`<prefix><parameter index>.<slot>` for each tensor that the update rule remembers; none before its first step."""
    state = optimizer.state_dict()["state"].items()
    return {f"{prefix}{i}.{slot}": v for i, slots in state for slot, v in slots.items() if isinstance(v, Tensor)}


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Array], prefix: str) -> None:
    """The inverse of `state_tensors`, on the CPU or where the parameters are."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, array in tensors.items():
        if name.startswith(prefix):
            index, slot = name.removeprefix(prefix).split(".", 1)
            state.setdefault(int(index), {})[slot] = torch.from_numpy(array.copy())
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """Copies on the CPU, row-major."""
    return {name: t.detach().to("cpu", copy=True).contiguous().numpy() for name, t in tensors.items()}
