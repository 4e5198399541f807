"""The Main-Server's torch side: owns theta_s and its optimiser. Runs on one thread, never on the event loop.

Shape suffixes: B batch rows, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heron_core.data.source import Source
from heron_core.device import to_input, use_threads
from heron_core.errors import ModelError, TensorError
from heron_core.models.split_model import Activations, AssembledModel, ClientModel, SplitModel
from heron_core.run_spec import OptimizerSpec, RunSpec
from heron_core.streams import seeded_torch
from heron_server.staging import Step

Array = NDArray[Any]


@dataclass
class Counts:
    """An evaluation in progress."""

    samples: int = 0
    correct: int = 0
    auxiliary_correct: int = 0
    loss_sum: float = 0.0
    class_counts: list[int] | None = None


def make_optimizer(spec: OptimizerSpec, back: nn.Module) -> torch.optim.Optimizer:
    """Eq. 7's update rule on the back; its state persists across rounds."""
    parameters = list(back.parameters()) or [nn.Parameter(torch.zeros(1))]
    if spec.name == "sgd":
        return torch.optim.SGD(parameters, lr=spec.lr, momentum=spec.momentum, foreach=False)
    return torch.optim.Adam(
        parameters, lr=spec.lr, betas=(spec.beta1, spec.beta2), eps=spec.eps, foreach=False
    )


class Engine:
    """First-order steps on the back, evaluation of the assembled model, and everything a checkpoint holds of both."""

    def __init__(self, spec: RunSpec, model: SplitModel, device: torch.device) -> None:
        use_threads(spec.threads.server)
        self._spec, self.model, self._device = spec, model, device
        self.back = model.build("back", spec.seed).to(self._device).train()
        self.optimizer = make_optimizer(spec.server_optimizer, self.back)
        self.client = ClientModel(model.build("front", spec.seed), model.build("auxiliary", spec.seed)).to(self._device)
        self.client.requires_grad_(False).eval()
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self._steps = 0

    # -- the client state ----------------------------------------------------------------------------------------

    def client_state(self) -> dict[str, Array]:
        """A copy of the tensors that the Fed-Server averages: trainable client parameters, then buffers."""
        return {name: t.to("cpu", copy=True).numpy() for name, t in self._client_tensors().items()}

    def load_client_state(self, state: Mapping[str, Array]) -> None:
        for name, tensor in self._client_tensors().items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(state[name]).reshape(tensor.shape)))

    def _client_tensors(self) -> dict[str, Tensor]:
        trainable = {n: p for n, p in self.client.named_parameters() if self.model.trainable(n)}
        return {**trainable, **dict(self.client.named_buffers())}

    # -- training ------------------------------------------------------------------------------------------------

    def check(self, client: str, step: Step) -> None:
        """Raises TensorError for NaN, Inf or labels out of range; the back is untouched."""
        self.model.check_labels(step.labels_B)
        for spec, tensor in zip(self.model.activations, step.activations, strict=True):
            # One cheap pass: a NaN or Inf anywhere makes the sum NaN or Inf. Only then look closely.
            if tensor.is_floating_point() and not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
                bad = int((~torch.isfinite(tensor)).sum())
                raise TensorError(
                    f"client {client!r}, step {step.step}: {spec.name} must be finite, got {bad} NaN or Inf of "
                    f"{tensor.numel()}; lower method.optimizer.lr or check that client's data"
                )

    def train(self, client: str, rank: int, round_number: int, step: Step) -> None:
        """One first-order step on the back from one upload.  Eq. 7."""
        use_threads(self._spec.threads.server)
        self.check(client, step)
        activations, labels_B = self._move(step)
        self.optimizer.zero_grad(set_to_none=True)
        path = ("server", "round", round_number, "client", rank, "step", step.step)
        with torch.enable_grad(), seeded_torch(self._spec.seed, *path):
            losses_B = self.model.loss(self.back(activations), labels_B)
            loss = losses_B.mean()
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self._loss_sum += loss.detach().double()
        self._steps += 1

    def take_mean_loss(self) -> float:
        """Mean server loss of the steps since the last call; raises ModelError once it is not finite."""
        mean = float(self._loss_sum) / max(1, self._steps)
        self._loss_sum.zero_()
        self._steps = 0
        if not np.isfinite(mean):
            raise ModelError(
                f"the server's loss must be finite, got {mean}; lower server_optimizer.lr and resume"
            )
        return mean

    # -- evaluation ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def count(self, step: Step, counts: Counts) -> None:
        """Adds one batch of activations and labels to the counts; never touches the back."""
        use_threads(self._spec.threads.server)
        self.model.check_labels(step.labels_B)
        activations, labels_B = self._move(step)
        self.back.eval()
        outputs = self.back(activations)
        self.back.train()
        counts.samples += len(labels_B)
        counts.correct += self.model.correct(outputs, labels_B)
        counts.auxiliary_correct += self.model.correct(self.client.auxiliary(activations), labels_B)
        counts.loss_sum += float(self.model.loss(outputs, labels_B).double().sum())
        classes = self.model.classes
        histogram = torch.bincount(step.labels_B.reshape(-1), minlength=classes)[:classes].tolist()
        before = counts.class_counts or [0] * len(histogram)
        counts.class_counts = [a + b for a, b in zip(before, histogram, strict=True)]

    @torch.inference_mode()
    def evaluate(self, test: Source, batch_rows: int = 256) -> Counts:
        """The assembled model under the present client state on the server's own test set."""
        counts = Counts()
        for number, start in enumerate(range(0, len(test), batch_rows)):
            x, labels = test.batch(np.arange(start, min(start + batch_rows, len(test))))
            activations = self.client.front(to_input(x, self._device, self.model.channels_last))
            parts = activations if isinstance(activations, tuple) else (activations,)
            self.count(Step(number, parts, torch.from_numpy(labels)), counts)
        return counts

    def _move(self, step: Step) -> tuple[Activations, Tensor]:
        moved = tuple(a.to(self._device, non_blocking=True) for a in step.activations)
        return moved[0] if len(moved) == 1 else moved, step.labels_B.to(self._device, non_blocking=True)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def assembled(self) -> AssembledModel:
        return AssembledModel(self.client.front, self.back)

    def tensors(self) -> dict[str, Array]:
        """Everything of theta_s and its optimiser, by name, on the CPU."""
        named = {f"back.{n}": t for n, t in self.back.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            named |= {f"optimizer.{index}.{slot}": v for slot, v in slots.items() if isinstance(v, Tensor)}
        return {name: t.detach().to("cpu", copy=True).contiguous().numpy() for name, t in named.items()}

    def load_tensors(self, tensors: Mapping[str, Array]) -> None:
        """The inverse of `tensors`."""
        prefix = "back."
        back = {n[len(prefix) :]: torch.from_numpy(t.copy()) for n, t in tensors.items() if n.startswith(prefix)}
        self.back.load_state_dict(back)
        state: dict[int, dict[str, Tensor]] = {}
        for name, array in tensors.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".", 2)
                state.setdefault(int(index), {})[slot] = torch.from_numpy(array.copy())
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self._loss_sum.zero_()
        self._steps = 0
