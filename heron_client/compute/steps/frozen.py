"""The control: forwards and uploads as of a client that learns, and no parameter ever moves."""

from __future__ import annotations

from heron_client.compute.steps.batch import Batch, Steps
from heron_client.compute.torch_backend import ClientCompute
from heron_core.arrays import Array


class FrozenStepper:
    """One forward a step; whether running statistics move is `compute`'s business."""

    def __init__(self, compute: ClientCompute) -> None:
        self._compute = compute
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        loss_sum = 0.0
        for piece, (x, labels) in enumerate(batch.pieces):
            piece_sum, activations = self._compute.forward(
                x, labels, batch.mask_path(piece), keep_activations=batch.sends
            )
            loss_sum += piece_sum
            if batch.sends:
                yield activations
        self.forward_passes += 1
        return batch.finite(loss_sum / batch.rows)

    def moments(self) -> dict[str, Array]:
        return {}
