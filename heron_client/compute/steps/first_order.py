"""Backpropagation on the client: of its auxiliary loss (cse_fsl, fsl_sage), or of the whole model's (fedavg)."""

from __future__ import annotations

from torch import Tensor

from heron_client.compute.backprop import loss_gradient
from heron_client.compute.steps.batch import Batch, Steps
from heron_client.compute.steps.moving import Moving
from heron_client.compute.torch_backend import ClientCompute
from heron_core.arrays import Array


class FirstOrderStepper:
    """Exact gradients, piece by piece: each piece's graph is gone before its activations leave."""

    def __init__(self, compute: ClientCompute) -> None:
        self._compute = compute
        self._moving = Moving(compute)
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        loss_sum, gradient_D = 0.0, None
        for piece, (x, labels) in enumerate(batch.pieces):
            piece_sum, activations, piece_D = loss_gradient(
                self._compute, x, labels, batch.mask_path(piece), batch.rows, keep_activations=batch.sends
            )
            loss_sum += piece_sum
            gradient_D = _added(gradient_D, piece_D)
            del piece_D
            if batch.sends:
                yield activations
        self.forward_passes += 1
        loss = batch.finite(loss_sum / batch.rows)
        assert gradient_D is not None, "a batch has a piece"
        self._moving.step(gradient_D)
        return loss

    def moments(self) -> dict[str, Array]:
        return self._moving.moments()


def _added(total_D: Tensor | None, piece_D: Tensor) -> Tensor:
    return piece_D if total_D is None else total_D.add_(piece_D)
