"""The averaged back: a moving average of the trained one over the server's steps, for evaluation and for use.

Client after client pulls the trained back towards its own data, so its last state depends on who came last. It trains
on all the same; nothing learns from the average.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from heron_core.arrays import Array
from heron_core.models.split_model import SplitModel
from heron_server.training.backs import load_back

PREFIX = "averaged."
"""Of its tensors' names: `averaged.back.<name>`, and `averaged.steps`."""


class AveragedBack:
    """Begins as the trained back begins, and follows it step by step."""

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
        state = {f"{PREFIX}back.{name}": tensor for name, tensor in self.module.state_dict().items()}
        return {**state, f"{PREFIX}steps": torch.tensor(self._steps)}

    def load(self, tensors: Mapping[str, Array]) -> None:
        """The inverse of `tensors`."""
        mine = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
        load_back(self.module, mine)
        self._steps = int(mine["steps"])
