"""The Main-Server's models: one back for all clients, and perhaps its average over the steps, or one for each,
averaged after each round.

A back and its optimiser are a `Trainee`. Both kinds answer the same calls, so the trainer has one way to train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor, nn

from heron_core.arrays import Array
from heron_core.models.split_model import SplitModel
from heron_core.spec.optimizer import OptimizerSpec
from heron_server.aggregation.mean import average
from heron_server.training.guards import Trainee
from heron_server.training.optimizers import load_state_tensors, make_optimizer, state_tensors

AVERAGED_PREFIX = "averaged."
"""Of its tensors' names: `averaged.back.<name>`, and `averaged.steps`."""
Slots = dict[str, Tensor | float | None]
"""What an optimiser remembers of one parameter."""


class Backs(Protocol):
    """The Main-Server's models, whoever trains which."""

    common: nn.Module
    """What is saved, and evaluated but where an average of it is."""

    def trainee(self, rank: int) -> Trainee:
        """The back that this client's uploads train."""
        ...

    def end_round(self, ranks: Sequence[int], weights: Sequence[float]) -> None:
        """The counted participants' part in the common back, with the weights of their client states."""
        ...

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """What the optimisers remember, by name."""
        ...

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Back to a checkpoint: `back.*` and what `optimizer_tensors` gave."""
        ...


class SharedBack:
    """One for all, trained by one upload after the other (as SFLV2). Untouched where nobody uploads."""

    def __init__(self, back: nn.Module, spec: OptimizerSpec) -> None:
        self.common = back
        self._trainee = Trainee(back, make_optimizer(spec, list(back.parameters())))

    def trainee(self, rank: int) -> Trainee:
        """The same for every rank."""
        return self._trainee

    def end_round(self, ranks: Sequence[int], weights: Sequence[float]) -> None:
        """It has learned from everyone already."""

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """`optimizer.<parameter index>.<slot>`."""
        return state_tensors(self._trainee.optimizer, "optimizer.")

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Back to a checkpoint."""
        load_back(self.common, tensors)
        load_state_tensors(self._trainee.optimizer, tensors, "optimizer.")


class AveragedBack:
    """A moving average of the shared back over the server's steps, for evaluation and for use.

    It begins as the trained one begins, and follows it step by step.

    Client after client pulls the trained back towards its own data, so its last state depends on who came last. It
    trains on all the same; nothing learns from the average.
    """

    def __init__(self, model: SplitModel, seed: int, back: nn.Module, decay: float) -> None:
        """`back`: the one that trains, as built from this model and seed, on its device."""
        device = next((t.device for t in back.state_dict().values()), torch.device("cpu"))
        self.module = model.build("back", seed).to(device).requires_grad_(False).eval()
        self._decay, self._steps = decay, 0
        both = zip(self.module.parameters(), back.parameters(), strict=True)
        self._parameters: list[tuple[Tensor, Tensor]] = [pair for pair in both if pair[1].requires_grad]
        self._buffers = list(zip(self.module.buffers(), back.buffers(), strict=True))

    @torch.no_grad()
    def follow(self) -> None:
        """One step: e += (1 - min(decay, (1 + n) / (10 + n))) (theta_s - e), n the steps so far with this one.

        Running statistics are averaged like parameters: those of the trained back are of its last few uploads, one
        client's perhaps, and the averaged parameters were never used with them. Counters are taken over.
        """
        self._steps += 1
        share = 1 - min(self._decay, (1 + self._steps) / (10 + self._steps))
        for mine, trained in self._parameters:
            mine.add_((trained - mine).mul_(share))
        for mine, trained in self._buffers:
            if mine.is_floating_point():  # where nothing has moved it stays, also where it is infinite, as in a mask
                mine.copy_(torch.where(mine == trained, mine, mine + (trained - mine).mul_(share)))
            else:
                mine.copy_(trained)

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint and the run's digest."""
        state = {f"{AVERAGED_PREFIX}back.{name}": tensor for name, tensor in self.module.state_dict().items()}
        return {**state, f"{AVERAGED_PREFIX}steps": torch.tensor(self._steps)}

    def load(self, tensors: Mapping[str, Array]) -> None:
        """The inverse of `tensors`."""
        named = {name: t for name, t in tensors.items() if name.startswith(AVERAGED_PREFIX)}
        mine = {name.removeprefix(AVERAGED_PREFIX): t for name, t in named.items()}
        load_back(self.module, mine)
        self._steps = int(mine["steps"])


class BackPerClient:
    """SFLV1: each round a copy of the common back for each participant; moments stay with the client.

    Between rounds only the common back and the moments are held.
    """

    def __init__(self, back: nn.Module, spec: OptimizerSpec) -> None:
        self.common, self._spec = back, spec
        self._training: dict[int, Trainee] = {}
        self._moments: dict[int, list[Slots]] = {}
        """Of each rank that has trained: the update rule's state, parameter by parameter."""

    def trainee(self, rank: int) -> Trainee:
        """The rank's own, made where it has none in this round."""
        if rank not in self._training:
            self._training[rank] = self._begin(rank)
        return self._training[rank]

    def _begin(self, rank: int) -> Trainee:
        copy = deepcopy(self.common)
        optimizer = make_optimizer(self._spec, list(copy.parameters()))
        trainee = Trainee(copy, optimizer)
        for parameter, slots in zip(trainee.parameters, self._moments.pop(rank, []), strict=False):
            optimizer.state[parameter] = slots
        return trainee

    def end_round(self, ranks: Sequence[int], weights: Sequence[float]) -> None:
        """The common back becomes the average of the counted copies, as client states are averaged; moments stay."""
        states = [self._training[rank].module.state_dict() for rank in ranks]
        with torch.no_grad():
            for name, tensor in self.common.state_dict().items():
                copies = [{name: state[name].detach().cpu().numpy()} for state in states]
                tensor.copy_(torch.from_numpy(average(copies, weights)[name]))
        for rank, trainee in self._training.items():
            self._moments[rank] = _slots(trainee)
        self._training.clear()

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """`optimizers.<rank>.<parameter index>.<slot>` of each rank that has trained."""
        held = {**self._moments, **{rank: _slots(t) for rank, t in self._training.items()}}
        return {
            f"optimizers.{rank}.{index}.{slot}": value
            for rank in sorted(held)
            for index, slots in enumerate(held[rank])
            for slot, value in slots.items()
            if isinstance(value, Tensor)
        }

    def load(self, tensors: Mapping[str, Array]) -> None:
        """Back to a checkpoint, between rounds."""
        load_back(self.common, tensors)
        self._training.clear()
        self._moments.clear()
        for rank in sorted({int(n.split(".")[1]) for n in tensors if n.startswith("optimizers.")}):
            trainee = Trainee(self.common, make_optimizer(self._spec, list(self.common.parameters())))
            load_state_tensors(trainee.optimizer, tensors, f"optimizers.{rank}.")
            self._moments[rank] = _slots(trainee)


def make_backs(kind: str, back: nn.Module, spec: OptimizerSpec) -> Backs:
    """By Method.backs: per_client, or one for all (which nobody trains where it is none)."""
    return BackPerClient(back, spec) if kind == "per_client" else SharedBack(back, spec)


def load_back(back: nn.Module, tensors: Mapping[str, Array]) -> None:
    """Takes `back.<name>` of a checkpoint's tensors."""
    prefix = "back."
    back.load_state_dict(
        {n.removeprefix(prefix): torch.from_numpy(t.copy()) for n, t in tensors.items() if n.startswith(prefix)}
    )


def _slots(trainee: Trainee) -> list[Slots]:
    return [trainee.optimizer.state[parameter] for parameter in trainee.parameters]
