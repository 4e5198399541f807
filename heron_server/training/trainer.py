"""The Main-Server's torch side: owns theta_s and what trains it. Runs on one thread, never on the event loop.

Shape suffixes: B batch rows, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from heron_core.arrays import Array
from heron_core.data.source import Source
from heron_core.device import to_inputs, use_threads
from heron_core.errors import TensorError
from heron_core.measures import added
from heron_core.models.split_model import AssembledModel, SplitModel, Tensors, activations_of
from heron_core.spec.methods import method_of
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import seeded_torch
from heron_core.wire.codec import expected_of
from heron_server.metrics.counts import Counts
from heron_server.storage.checkpoint import misfits
from heron_server.training.alignment import AlignedHeads
from heron_server.training.backs import make_backs
from heron_server.training.heads import TrainedHead, buffers_restored_on_error, finite_loss
from heron_server.training.optimizers import load_state_tensors, state_tensors, to_arrays
from heron_server.uploads.assembly import Step
from heron_server.uploads.cut_gradients import CutGradients

HEAD_PREFIX = "auxiliary_optimizer."


class Engine:
    """First-order steps on the back, evaluation of the assembled model, and everything a checkpoint holds of both."""

    def __init__(self, spec: RunSpec, model: SplitModel, device: torch.device) -> None:
        use_threads(spec.threads.server)
        self._spec, self.model, self._device, self._method = spec, model, device, method_of(spec.method)
        back = model.build("back", spec.seed).to(device).train()
        self._backs = make_backs(self._method.backs, back, spec.server_optimizer)
        self.client = nn.ModuleDict(
            {p: back if p == "back" else model.build(p, spec.seed).to(device) for p in self._method.client_parts}
        )
        """The modules of a client, which the client state fills; in evaluation mode, but for fedavg's back."""
        self.client.requires_grad_(False).eval()
        back.train()
        self.alignment = AlignedHeads(spec, model, device) if self._method.head == "aligned" else None
        served = self._method.head == "server"
        self._trained_head = TrainedHead(spec, model, self.client["auxiliary"]) if served else None
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self._steps = 0

    @property
    def back(self) -> nn.Module:
        """What is evaluated and saved."""
        return self._backs.common

    @property
    def head(self) -> nn.Module | None:
        """The auxiliary head, where there is one for all."""
        return self.client["auxiliary"] if "auxiliary" in self.client and self.alignment is None else None

    # -- the client state ----------------------------------------------------------------------------------------

    def client_state(self) -> dict[str, Array]:
        """A copy of a client's tensors: trainable parameters in the order of its parts, then buffers."""
        return {name: t.detach().to("cpu", copy=True).numpy() for name, t in self._client_tensors().items()}

    @property
    def client_buffers(self) -> frozenset[str]:
        return frozenset(self.model.learned_buffers(self.client))

    @torch.no_grad()
    def load_client_state(self, state: Mapping[str, Array]) -> None:
        """Those of the tensors that `state` holds; it may hold others, such as moments."""
        for name, tensor in self._client_tensors().items():
            if name in state:
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(state[name]).reshape(tensor.shape)))

    def _client_tensors(self) -> dict[str, Tensor]:
        parameters = self.client.named_parameters()
        trainable = {n: p for n, p in parameters if n.startswith("back.") or self.model.trainable(n)}
        return {**trainable, **self.model.learned_buffers(self.client)}

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

    def train(self, client: str, rank: int, round_number: int, step: Step) -> CutGradients | None:
        """One first-order step on the back from one upload, and what the method returns for it.  Eq. 7.

        Raises TensorError, back and head untouched, if the upload cannot be used.
        """
        use_threads(self._spec.threads.server)
        self.check(client, step)
        activations, labels_B = self._move(step)
        trainee, head = self._backs.trainee(rank), self._trained_head
        cut, whose = self._leaves(activations), f"client {client!r}, step {step.step}"
        path = ("server", "round", round_number, "client", rank, "step", step.step)
        with torch.enable_grad(), buffers_restored_on_error(trainee.module, *([head.module] if head else [])):
            if head is not None:
                with seeded_torch(self._spec.seed, *path, "auxiliary"):
                    head_loss = head.loss(activations, labels_B, whose)
            with seeded_torch(self._spec.seed, *path):
                loss = finite_loss(self.model, trainee.module, cut, labels_B, whose)
                if loss.requires_grad:
                    loss.backward()  # type: ignore[no-untyped-call]
        trainee.optimizer.step()
        trainee.optimizer.zero_grad(set_to_none=True)
        self._loss_sum += loss.detach().double()
        self._steps += 1
        if head is not None:
            head.step(head_loss)
        if self.alignment is not None:
            self.alignment.buffers.keep(rank, step)
        return self._returned(step.step, loss, cut) if self._method.returns_cut_gradients else None

    def _leaves(self, cut: Tensors) -> Tensors:
        """The cut, whose gradients are wanted where the method returns them."""
        if not self._method.returns_cut_gradients:
            return cut
        return tuple(t.detach().requires_grad_() if t.is_floating_point() else t for t in cut)

    def _returned(self, number: int, loss: Tensor, cut: tuple[Tensor, ...]) -> CutGradients:
        gradients = {
            spec.name: torch.zeros_like(t) if t.grad is None else t.grad
            for spec, t in zip(self.model.activations, cut, strict=True)
            if t.requires_grad
        }
        return CutGradients(number, float(loss.detach()), to_arrays(gradients))

    def end_round(self, ranks: Sequence[int], weights: Sequence[float]) -> None:
        """The counted participants' share in the back, with the weights of their client states."""
        self._backs.end_round(ranks, weights)

    def take_mean_loss(self) -> float | None:
        """Mean server loss of the steps since the last call, if any.

        Raises ModelError once the head that the server trains is not finite.
        """
        if not self._steps:
            return None
        if self._trained_head is not None:
            self._trained_head.check()
        mean = float(self._loss_sum) / self._steps
        self._loss_sum.zero_()
        self._steps = 0
        return mean

    # -- evaluation ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def count(self, step: Step, counts: Counts) -> None:
        """Adds one batch of activations and labels to the counts; never touches the back."""
        use_threads(self._spec.threads.server)
        self.model.check_labels(step.labels_B)
        activations, labels_B = self._move(step)
        self.back.eval()
        outputs = self.back(*activations)
        self.back.train()
        task = self.model.task
        counts.samples += len(labels_B)
        counts.measured = added(counts.measured, task.measure(outputs, labels_B))
        if self.head is not None:
            counts.auxiliary = added(counts.auxiliary, task.measure(self.head(*activations), labels_B))
        counts.loss_sum += float(task.losses(outputs, labels_B).double().sum())
        if classes := self.model.classes:
            histogram = torch.bincount(step.labels_B, minlength=classes).tolist()
            before = counts.class_counts or [0] * len(histogram)
            counts.class_counts = [a + b for a, b in zip(before, histogram, strict=True)]

    @torch.inference_mode()
    def evaluate(self, test: Source, batch_rows: int = 256) -> Counts:
        """The assembled model under the present client state on the server's own test set."""
        counts = Counts()
        for number, start in enumerate(range(0, len(test), batch_rows)):
            x, labels = test.batch(np.arange(start, min(start + batch_rows, len(test))))
            activations = activations_of(self.client["front"], to_inputs(x, self._device, self.model.channels_last))
            self.count(Step(number, activations, torch.from_numpy(labels)), counts)
        return counts

    def _move(self, step: Step) -> tuple[Tensors, Tensor]:
        moved = tuple(a.to(self._device, non_blocking=True) for a in step.activations)
        return moved, step.labels_B.to(self._device, non_blocking=True)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def assembled(self) -> AssembledModel:
        return AssembledModel(self.client["front"], self.back)

    def back_tensors(self) -> dict[str, Array]:
        """Parameters and buffers of the back, by name, on the CPU."""
        return to_arrays({f"back.{n}": t for n, t in self.back.state_dict().items()})

    def tensors(self) -> dict[str, Array]:
        """Everything that the server trains with and no client state holds, by name, on the CPU."""
        named = self._backs.optimizer_tensors()
        if self._trained_head is not None:
            named |= state_tensors(self._trained_head.optimizer, HEAD_PREFIX)
        if self.alignment is not None:
            named |= self.alignment.buffers.tensors()
        return {**self.back_tensors(), **to_arrays(named)}

    def misfits(self, tensors: Mapping[str, Array]) -> list[str]:
        """Names of a boundary's tensors that do not fit the model, or are missing."""
        back = [e for e in expected_of(tensors) if e[0].startswith("back.")]
        buffered = [] if self.alignment is None else self.alignment.buffers.misfits(tensors)
        return misfits(back, expected_of(self.back_tensors())) + buffered

    def load_tensors(self, tensors: Mapping[str, Array]) -> None:
        """The inverse of `tensors`."""
        self._backs.load(tensors)
        if self._trained_head is not None:
            load_state_tensors(self._trained_head.optimizer, tensors, HEAD_PREFIX)
        if self.alignment is not None:
            self.alignment.buffers.load(tensors)
        self._loss_sum.zero_()
        self._steps = 0
