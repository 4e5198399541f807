"""The control: forwards and uploads as of a client that learns, and no parameter ever moves."""

from __future__ import annotations

from heron_client.compute.backend import Backend
from heron_client.compute.batch import Batch
from heron_client.compute.steps.stepper import Steps
from heron_client.compute.zo import sum_of
from heron_core.arrays import Array


class FrozenStepper:
    """One forward a step; whether running statistics move is the backend's business."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        """A forward pass and nothing else."""
        loss_sum = 0.0
        for micro_batch in batch.micro_batches:
            losses_B, activations = self._backend.forward(micro_batch, keep_activations=batch.sends)
            loss_sum += sum_of(losses_B)
            if batch.sends:
                yield activations
        self.forward_passes += 1
        return batch.finite(loss_sum / batch.rows)

    def moments(self) -> dict[str, Array]:
        """None."""
        return {}
