"""The server's other half beside the back: an auxiliary head that it trains, and what keeps both from being spoiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from heron_core.errors import ModelError, TensorError
from heron_core.models.split_model import SplitModel, Tensors
from heron_core.spec.run_spec import OptimizerSpec
from heron_server.training.optimizers import make_optimizer


class TrainedHead:
    """The auxiliary head where the server trains it, on what it receives; between uploads it is in evaluation mode."""

    def __init__(self, model: SplitModel, head: nn.Module, optimizer: OptimizerSpec) -> None:
        self._model, self.module = model, head
        self._moved = [p for n, p in head.named_parameters() if model.trainable(f"auxiliary.{n}")]
        self.optimizer = make_optimizer(optimizer, self._moved)

    def loss(self, activations: Tensors, labels_B: Tensor, whose: str) -> Tensor:
        """Mean of the per-sample losses, with its graph; raises as `finite_loss` does."""
        self.module.train()
        for parameter in self._moved:
            parameter.requires_grad_()
        try:
            return finite_loss(self._model, self.module, activations, labels_B, whose)
        finally:
            self.module.requires_grad_(False).eval()

    def step(self, loss: Tensor) -> None:
        """One first-order step."""
        for parameter in self._moved:
            parameter.requires_grad_()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.module.requires_grad_(False)

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


@contextmanager
def buffers_restored_on_error(*modules: nn.Module) -> Iterator[None]:
    """A forward pass that fails leaves no running statistics behind."""
    before = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
        raise


def finite_loss(model: SplitModel, module: nn.Module, activations: Tensors, labels_B: Tensor, whose: str) -> Tensor:
    """Mean of the per-sample losses [], with its graph. TensorError where these activations make it infinite or NaN.

    ModelError where activations of one do too: then the client is not to blame.
    """
    loss = model.task.losses(module(*activations), labels_B).mean()
    if torch.isfinite(loss):
        return loss
    ones = tuple(torch.ones_like(t) if t.is_floating_point() else t for t in activations)
    with torch.no_grad():
        spoiled = not torch.isfinite(model.task.losses(module(*ones), labels_B).mean())
    if spoiled:
        raise ModelError(
            f"the server's loss must be finite, got {float(loss.detach())}; lower server_optimizer.lr and resume"
        )
    raise TensorError(
        f"{whose}: the server's loss must be finite, got {float(loss.detach())} from these activations; "
        "lower method.optimizer.lr or check that client's data"
    )
