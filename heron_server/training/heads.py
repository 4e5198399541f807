"""The server's other half beside the back: an auxiliary head that it trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heron_core.errors import ModelError
from heron_core.models.split_model import SplitModel, movable
from heron_core.spec.optimizer import OptimizerSpec
from heron_server.training.guards import Batch, Trainee, finite_loss
from heron_server.training.optimizers import make_optimizer


class TrainedHead:
    """The auxiliary head where the server trains it, on what it receives; between uploads it is in evaluation mode."""

    def __init__(self, model: SplitModel, head: nn.Module, optimizer: OptimizerSpec) -> None:
        """`head`: as `model.build` gave it."""
        self._model, self.module, self._moved = model, head, list(movable(head).values())
        self.trainee = Trainee(head, make_optimizer(optimizer, self._moved))

    def backward(self, batch: Batch) -> None:
        """The gradient of the mean of the per-sample losses; raises as `finite_loss` does."""
        self.module.train()
        for parameter in self._moved:
            parameter.requires_grad_()
        try:
            loss: Tensor = finite_loss(self._model, self.module, batch)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        finally:
            self.module.requires_grad_(False).eval()

    def check(self) -> None:
        """Raises ModelError once the head is not finite: the back's loss need not show it."""
        check_head(self.module, "the auxiliary head", "server_optimizer.lr")


def check_head(head: nn.Module, whose: str, rate: str) -> None:
    """ModelError before a head that is not finite goes down to a client, or into a checkpoint."""
    spoiled = [n for n, t in head.state_dict().items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if spoiled:
        raise ModelError(
            f"{whose} must be finite, got NaN or Inf in {', '.join(spoiled)}; lower {rate} or look at what the clients "
            "upload, and resume"
        )
