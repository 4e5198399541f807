"""Backpropagation through the cut: the server answers each upload with its gradient there (sflv1, sflv2)."""

from __future__ import annotations

from heron_client.compute.backprop import Cut
from heron_client.compute.steps.batch import Batch, Steps
from heron_client.compute.steps.moving import Moving
from heron_client.compute.torch_backend import ClientCompute
from heron_core.arrays import Array


class CutGradientStepper:
    """Holds the front's graph from the upload to the answer, and nothing of it afterwards."""

    def __init__(self, compute: ClientCompute) -> None:
        self._compute = compute
        self._moving = Moving(compute)
        self.forward_passes = 0.0

    def step(self, batch: Batch) -> Steps:
        ((x, _),) = batch.pieces
        assert batch.sends, "upload_period is 1 where the cut gradients come back"
        cut = Cut(self._compute, x, batch.mask_path(0))
        self.forward_passes += 1
        answer = yield cut.arrays()
        assert answer is not None, "whoever drives a step answers it with its cut gradients"
        loss, gradients = answer
        batch.finite(loss, "server's")
        gradient_D = cut.backward(gradients)
        del cut, answer, gradients
        self._moving.step(gradient_D)
        return loss

    def moments(self) -> dict[str, Array]:
        return self._moving.moments()
