"""Torch's backend keeps the contract; each way to break it is refused in one line that says what came."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from client.compute.made import CPU, same

from heron_client.compute.backend import Forward, MicroBatch
from heron_client.compute.backends.torch_backend import TorchBackend
from heron_client.testing import check_backend
from heron_core.arrays import Array
from heron_core.errors import ModelError
from heron_core.models import build_split_model
from heron_core.models.split_model import SplitModel
from heron_core.spec.role import role_of
from heron_core.spec.run_spec import ModelSpec

MODELS: dict[str, SplitModel] = {
    "dropout": tiny.mlp(dropout=0.5),
    "group norm": tiny.conv("group"),
    "batch norm": tiny.conv("batch"),
    "nothing trains": tiny.mlp(trainable=lambda name: False),
    "adapters": build_split_model(ModelSpec(name="mlp", input_shape=(6,), trainable="lora")),
    "labels of several values": build_split_model(ModelSpec(name="mlp", input_shape=(6,), task="multi_label")),
}
METHODS = ["heron", "cse_fsl", "fsl_sage", "frozen"]


def backend(kind: type[TorchBackend] = TorchBackend, model: SplitModel | None = None, name: str = "heron") -> Any:
    return kind(model or tiny.conv("batch"), role_of(tiny.spec(method={"name": name})), CPU)


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("method", METHODS)
def test_torch_s_backend_keeps_the_contract_and_ends_as_it_began(model: str, method: str) -> None:
    subject = backend(model=MODELS[model], name=method)
    before = subject.state()
    report = check_backend(subject)
    assert report.subject == "TorchBackend" and len(report.passed) == 10
    assert same(subject.state(), before)


class ForgetsAWeight(TorchBackend):
    def load_state(self, arrays: Any) -> None:
        super().load_state({name: arrays[name] * (name != "front.0.bias") for name in arrays})


class SetsTheWholeForABlock(TorchBackend):
    def set_theta(self, theta_D: Array, start: int = 0) -> None:
        whole = self.theta()
        whole[start : start + len(theta_D)] = theta_D
        super().set_theta(whole * np.float32(1 + 1e-3 * (start > 0)))


class LeavesBuffersMoved(TorchBackend):
    def restore_buffers(self, saved: Any) -> None:
        pass


class GivesOneLoss(TorchBackend):
    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        losses_B, activations = super().forward(batch, keep_activations=keep_activations)
        return Forward(losses_B.mean(keepdims=True), activations)


class LosesALoss(TorchBackend):
    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        losses_B, activations = super().forward(batch, keep_activations=keep_activations)
        losses_B[1] = np.nan
        return Forward(losses_B, activations)


class ReusesItsMaps(TorchBackend):
    maps: Array | None = None

    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        losses_B, activations = super().forward(batch, keep_activations=True)
        self.maps = activations[0].copy() if self.maps is None else self.maps
        self.maps[:] = activations[0]
        return Forward(losses_B, [self.maps] if keep_activations else [])


class SendsChannelsLast(TorchBackend):
    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        losses_B, activations = super().forward(batch, keep_activations=keep_activations)
        return Forward(losses_B, [np.asfortranarray(a) for a in activations])


class DrawsItsMasksAnew(TorchBackend):
    passes = 0

    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        self.passes += 1
        return super().forward(replace(batch, masks=("pass", self.passes)), keep_activations=keep_activations)


class DriftsAfterAProbe(TorchBackend):
    probed = False

    def set_theta(self, theta_D: Array, start: int = 0) -> None:
        super().set_theta(theta_D * np.float32(1.5 if self.probed else 1), start)

    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        self.probed = not keep_activations
        return super().forward(batch, keep_activations=keep_activations)


class StaysInEvaluationMode(TorchBackend):
    def evaluation_activations(self, inputs: tuple[Array, ...]) -> list[Array]:
        found = super().evaluation_activations(inputs)
        self.modules.net.eval()
        return found


class KeepsItsGraph(TorchBackend):
    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        found = super().forward(batch, keep_activations=keep_activations)
        self.modules.net.requires_grad_(True)
        with torch.enable_grad():
            self.kept = self.modules.activations(batch.inputs)
        self.modules.net.requires_grad_(False)
        return found


class RunsItsFrontAsInEvaluation(TorchBackend):
    def cut_activations(self, batch: MicroBatch) -> list[Array]:
        return self.evaluation_activations(batch.inputs)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ForgetsAWeight, r"the state that was loaded must have the same bits, front\.0\.bias differs at \[0\]"),
        (SetsTheWholeForABlock, r"the vector with front\.0\.bias set alone must have the same bits, theta differs at"),
        (LeavesBuffersMoved, r"the buffers that were put back must have the same bits, front\.1\.running_mean differs"),
        (GivesOneLoss, r"losses must be float32 \[4\], got float32 \[1\]"),
        (LosesALoss, r"losses must be finite, got \[.*nan"),
        (ReusesItsMaps, r"the activations after a later pass must have the same bits, activations differs at"),
        (SendsChannelsLast, "activations must be row-major"),
        (DriftsAfterAProbe, r"a probe at the base point must have the same bits, losses differs at \[0\]"),
        (StaysInEvaluationMode, "a forward pass after an evaluation must have the same bits, losses differs"),
        (RunsItsFrontAsInEvaluation, "what cut_activations gives must have the same bits, activations differs at"),
        (KeepsItsGraph, r"a forward pass must keep no autograd graph, \d tensors have one"),
    ],
)
def test_a_backend_that_breaks_the_contract_is_refused_in_one_line(kind: type[TorchBackend], message: str) -> None:
    with pytest.raises(ModelError, match=rf"^{kind.__name__}: {message}") as refused:
        check_backend(backend(kind))
    assert "\n" not in str(refused.value)


def test_masks_that_are_drawn_anew_are_found() -> None:
    with pytest.raises(ModelError, match=r"^DrawsItsMasksAnew: the same pass again must have the same bits, losses"):
        check_backend(backend(DrawsItsMasksAnew, tiny.mlp(dropout=0.5)))
