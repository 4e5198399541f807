"""A client's passes with a graph: of its whole parts, of its head alone, or of the front up to the cut.

Shape suffixes: B micro-batch rows, D parameters that the client's optimiser moves, H the head's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from heron_client.compute.backend import Forward, MicroBatch, Vector
from heron_client.compute.backends.torch_modules import TorchModules, row_major, vector
from heron_core.arrays import Array


@torch.enable_grad()
def loss_gradient(
    modules: TorchModules, batch: MicroBatch, share_of: int, *, keep_activations: bool
) -> tuple[Forward, Vector]:
    """Losses [B] of a training forward, its activations, and the gradient [D] of the losses' sum / `share_of`."""
    with modules.stream(batch.masks):
        activations = modules.activations(batch.inputs)
        outputs = modules.head(*activations)
    losses_B = modules.losses(outputs, batch.labels)
    del outputs
    sent = [a.detach() for a in activations] if keep_activations else []
    del activations
    gradient_D = _gradient([losses_B.sum() / share_of], modules.moved_parameters())
    kept = [row_major(a) for a in sent]  # where that copies, not next to the whole graph
    return Forward(vector(losses_B), kept), gradient_D


@torch.no_grad()
def head_gradient(
    modules: TorchModules, batch: MicroBatch, share_of: int, *, keep_activations: bool
) -> tuple[Forward, Vector]:
    """The same with the gradient [H] of the head, after that of the front's last stages where the run wants it exact.

    The graph begins at the input of the first of these, which is detached.
    """
    with modules.stream(batch.masks):
        activations = modules.activations_with_graph(batch.inputs)
        with torch.enable_grad():
            losses_B = modules.losses(modules.head(*activations), batch.labels)
            share = losses_B.sum() / share_of
    gradient_H = _gradient([share], modules.exact_parameters())
    kept = [row_major(a) for a in activations] if keep_activations else []
    return Forward(vector(losses_B), kept), gradient_H


class TorchCutPass:
    """The front's training forward, its graph kept until the gradient at the cut comes."""

    @torch.enable_grad()
    def __init__(self, modules: TorchModules, batch: MicroBatch) -> None:
        self._modules = modules
        with modules.stream(batch.masks):
            self._activations = modules.activations(batch.inputs)

    def activations(self) -> list[Array]:
        """What is sent, [B, ...] each."""
        return [row_major(a) for a in self._activations]

    def backward(self, gradients: list[Array]) -> Vector:
        """The gradient [D] from that at the cut's floating-point tensors [B, ...], whose list is emptied.

        Once: the graph is gone then.
        """
        activations, self._activations = self._activations, ()
        self._modules.use_threads()
        floating = [a for a in activations if a.is_floating_point()]
        pairs = [
            (a, self._modules.own(g).to(a.dtype)) for a, g in zip(floating, gradients, strict=True) if a.requires_grad
        ]
        del activations, floating
        gradients.clear()
        return _gradient([a for a, _ in pairs], self._modules.moved_parameters(), [g for _, g in pairs])


def _gradient(
    outputs: Sequence[Tensor], parameters: Sequence[nn.Parameter], output_gradients: Sequence[Tensor] | None = None
) -> Vector:
    """One flat vector; zero for parameters that `outputs` do not depend on. Frees the graph."""
    gradients = torch.autograd.grad(outputs, parameters, output_gradients, allow_unused=True, materialize_grads=True)
    return vector(torch.cat([g.reshape(-1) for g in gradients]))
