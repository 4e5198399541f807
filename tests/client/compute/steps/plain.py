"""What the first-order steppers should do, as a few lines of plain torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tiny
import torch
from client.compute.made import CPU, backend_of, round_of
from integration.reference_rules import Rule
from torch import Tensor, nn

from heron_client.compute.backends.torch_backend import TorchBackend
from heron_client.compute.local_round import LocalRound
from heron_client.uploads.upload import CutGradients, Upload
from heron_core.arrays import Array
from heron_core.data.batches import BatchOrder
from heron_core.device import to_inputs
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import seeded_torch


def local_round(
    spec: RunSpec, model: SplitModel, state: dict[str, Array] | None = None, round_number: int = 1
) -> tuple[TorchBackend, LocalRound]:
    """The product's backend, and a round over it."""
    backend = backend_of(spec, model)
    return backend, round_of(spec, backend, state=state, round_number=round_number)


class Back:
    """A Main-Server that answers an upload with its gradient, and never moves."""

    def __init__(self, spec: RunSpec, model: SplitModel) -> None:
        self.back, self.loss = model.build("back", spec.seed).eval(), model.task.losses

    def answer(self, activations: Array, labels: Array) -> CutGradients:
        z = torch.from_numpy(activations.copy()).requires_grad_()
        loss = self.loss(self.back(z), torch.from_numpy(labels)).mean()
        (gradient,) = torch.autograd.grad(loss, z)
        return float(loss.detach().double()), [gradient.numpy()]


def drive(local: LocalRound, back: Back | None = None) -> list[Upload]:
    """Runs a round to its end; `back` answers the uploads that want gradients."""
    uploads, answer, seen = local.uploads(), None, []
    whole: list[Upload] = []
    while True:
        try:
            upload = uploads.send(answer)
        except StopIteration:
            return seen
        answer = None
        if upload is not None:
            seen.append(upload)
            whole = [each for each in whole if each.step == upload.step] + [upload]
        elif whole and whole[-1].wants_gradients:
            assert back is not None
            answer = back.answer(*(np.concatenate([u.tensors[n] for u in whole]) for n in whole[-1].tensors))


class PlainClient:
    """nn.Modules and autograd over one flat vector, and the reference's update rule."""

    def __init__(self, spec: RunSpec, model: SplitModel, parts: Iterable[Any], moved: Iterable[str]) -> None:
        self.spec, self.model = spec, model
        self.net = nn.ModuleDict({part: model.build(part, spec.seed) for part in parts}).train()
        self.parameters = [p for n, p in self.net.named_parameters() if n.startswith(tuple(moved))]
        self.theta = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self.rule = Rule(spec.method.optimizer, len(self.theta))
        self.losses: list[float] = []
        self.sent: list[Array] = []

    def run(self, back: Back | None = None) -> None:
        method, source = self.spec.method, tiny.source(self.model)
        order = BatchOrder(self.spec.seed, 0, len(source), method.batch_size)
        for step in range(method.local_steps):
            (x,), labels = source.batch(order.at(step))
            rows, total, gradient_D = method.micro_batch_rows, 0.0, None
            for piece, start in enumerate(range(0, len(labels), rows)):
                y = torch.from_numpy(labels[start : start + rows])
                with seeded_torch(self.spec.seed, "round", 1, "client", 0, "step", step, "masks", piece):
                    z = self.net["front"](*to_inputs([x[start : start + rows]], CPU, self.model.channels_last))
                    outputs = [net for name, net in self.net.items() if name != "front"]
                    losses_B = None if back else self.model.task.losses(outputs[0](z), y)
                self.sent.append(z.detach().clone().contiguous().numpy())
                if back is None:
                    assert losses_B is not None
                    total += float(losses_B.detach().numpy().astype(np.float64).sum())
                    gradients = torch.autograd.grad(losses_B.sum() / len(labels), self.parameters)
                else:
                    loss, (g,) = back.answer(self.sent[-1], labels)
                    total = loss * len(labels)
                    gradients = torch.autograd.grad(z, self.parameters, torch.from_numpy(g))
                flat = torch.cat([g.reshape(-1) for g in gradients])
                gradient_D = flat if gradient_D is None else gradient_D + flat
            self.losses.append(total / len(labels))
            self._move(gradient_D)

    def _move(self, gradient_D: Tensor | None) -> None:
        self.theta = self.rule.step(self.theta, gradient_D)
        start = 0
        for parameter in self.parameters:
            with torch.no_grad():
                parameter.copy_(self.theta[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()

    def state(self) -> dict[str, Array]:
        named = dict(self.net.named_parameters()) | dict(self.net.named_buffers())
        return {n: t.detach().numpy() for n, t in named.items()}
