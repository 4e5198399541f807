"""Backpropagation on the client: of its auxiliary loss (cse_fsl, fsl_sage), or of the whole model's (fedavg)."""

from __future__ import annotations

from heron_client.compute.backend import FirstOrderBackend
from heron_client.compute.batch import Batch
from heron_client.compute.steps.moving import Moving, added
from heron_client.compute.steps.stepper import Steps
from heron_client.compute.zo import sum_of
from heron_core.arrays import Array


class FirstOrderStepper:
    """Exact gradients: each micro-batch's graph is gone before its activations leave."""

    def __init__(self, backend: FirstOrderBackend, moving: Moving) -> None:
        self._backend, self._moving = backend, moving
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        """One update by the gradient of the batch's mean loss, added up over its micro-batches in order."""
        loss_sum, gradient_D = 0.0, None
        for micro_batch in batch.micro_batches:
            (losses_B, activations), share_D = self._backend.loss_gradient(
                micro_batch, batch.rows, keep_activations=batch.sends
            )
            loss_sum += sum_of(losses_B)
            gradient_D = added(gradient_D, share_D)
            del share_D
            if batch.sends:
                yield activations
        self.forward_passes += 1
        loss = batch.finite(loss_sum / batch.rows)
        assert gradient_D is not None, "a batch has a micro-batch"
        self._moving.step(gradient_D, batch.lr)
        return loss

    def moments(self) -> dict[str, Array]:
        """The optimiser's."""
        return self._moving.moments()
