"""Backpropagation through the cut: the server answers each upload with its gradient there (sflv1, sflv2)."""

from __future__ import annotations

from heron_client.compute.backend import FirstOrderBackend
from heron_client.compute.batch import Batch
from heron_client.compute.steps.moving import Moving
from heron_client.compute.steps.stepper import Steps
from heron_core.arrays import Array


class CutGradientStepper:
    """Holds the front's graph from the upload to the answer, and nothing of it afterwards."""

    def __init__(self, backend: FirstOrderBackend, moving: Moving) -> None:
        self._backend, self._moving = backend, moving
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        """One update by the gradient that the server's answer makes of the front."""
        (micro_batch,) = batch.micro_batches
        assert batch.sends, "upload_period is 1 where the cut gradients come back"
        cut = self._backend.cut_pass(micro_batch)
        self.forward_passes += 1
        yield cut.activations()
        answer = yield []
        assert answer is not None, "whoever drives a step answers it with its cut gradients"
        loss, gradients = answer
        gradient_D = cut.backward(gradients)
        del cut, answer, gradients
        self._moving.step(gradient_D, batch.lr)
        return loss

    def moments(self) -> dict[str, Array]:
        """The optimiser's."""
        return self._moving.moments()
