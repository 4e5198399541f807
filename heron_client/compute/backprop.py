"""A client's passes with a graph: of its whole parts, of its head alone, or of the front up to the cut.

Shape suffixes: B batch (or micro-batch) rows, D parameters that the client's optimiser moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from heron_client.compute.torch_backend import Arrays, ClientCompute, row_major
from heron_core.arrays import Array
from heron_core.streams import Part


@torch.enable_grad()
def loss_gradient(
    compute: ClientCompute, x: Arrays, labels: Array, path: tuple[Part, ...], rows: int, *, keep_activations: bool
) -> tuple[float, list[Array], Tensor]:
    """As `compute.forward`, and the gradient [D] of this piece's share of the mean loss over `rows` samples."""
    with compute.stream(path):
        activations = compute.activations(x)
        outputs = compute.head(*activations)
    losses_B = compute.loss(outputs, labels)
    del outputs
    sent = [a.detach() for a in activations] if keep_activations else []
    del activations
    gradient_D = _gradient([losses_B.sum() / rows], compute.moved_parameters())
    kept = [row_major(a) for a in sent]  # where that copies, not next to the whole graph
    return float(losses_B.detach().double().sum()), kept, gradient_D


@torch.no_grad()
def head_gradient(
    compute: ClientCompute, x: Arrays, labels: Array, path: tuple[Part, ...], rows: int, *, keep_activations: bool
) -> tuple[Tensor, list[Array], Tensor]:
    """As `compute.losses`, and the head's gradient of this piece's share of the mean loss over `rows` samples.

    The graph is the head's alone: it begins at the detached activations.
    """
    with compute.stream(path):
        activations = compute.activations(x)
        with torch.enable_grad():
            losses_B = compute.loss(compute.head(*activations), labels)
            share = losses_B.sum() / rows
    gradient_H = _gradient([share], compute.moved_parameters("auxiliary."))
    kept = [row_major(a) for a in activations] if keep_activations else []
    return losses_B.detach(), kept, gradient_H


class Cut:
    """The front's forward in train mode, its graph kept until the gradient at the cut comes."""

    @torch.enable_grad()
    def __init__(self, compute: ClientCompute, x: Arrays, path: tuple[Part, ...]) -> None:
        self._compute = compute
        with compute.stream(path):
            self._activations = compute.activations(x)

    def arrays(self) -> list[Array]:
        """What is sent, [B, ...] each."""
        return [row_major(a) for a in self._activations]

    def backward(self, gradients: list[Array]) -> Tensor:
        """The gradient [D] from that at the cut's floating-point tensors [B, ...], whose list is emptied.

        Once: the graph is gone then.
        """
        activations, self._activations = self._activations, ()
        self._compute.use_threads()
        floating = [a for a in activations if a.is_floating_point()]
        pairs = [(a, _like(a, g)) for a, g in zip(floating, gradients, strict=True) if a.requires_grad]
        del activations, floating
        gradients.clear()
        return _gradient([a for a, _ in pairs], self._compute.moved_parameters(), [g for _, g in pairs])


def _gradient(
    outputs: Sequence[Tensor], parameters: Sequence[nn.Parameter], output_gradients: Sequence[Tensor] | None = None
) -> Tensor:
    """One flat vector; zero for parameters that `outputs` do not depend on. Frees the graph."""
    gradients = torch.autograd.grad(outputs, parameters, output_gradients, allow_unused=True, materialize_grads=True)
    return torch.cat([g.reshape(-1) for g in gradients]).float()


def _like(tensor: Tensor, array: Array) -> Tensor:
    """The array in torch's own aligned memory, row-major, on the tensor's device."""
    return torch.empty(array.shape, dtype=tensor.dtype, device=tensor.device).copy_(torch.from_numpy(array))
