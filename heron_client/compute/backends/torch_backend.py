"""The client's backend in torch: all of `backend.py`'s interfaces over the modules of a SplitModel.

Shape suffixes: B micro-batch rows, D parameters that the client's optimiser moves, P those that are perturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from heron_client.compute.backend import CutPass, Forward, Matrix, MicroBatch, StageInputs, StateTensor, Vector
from heron_client.compute.backends.torch_backprop import TorchCutPass, head_gradient, loss_gradient
from heron_client.compute.backends.torch_layers import layer_outputs
from heron_client.compute.backends.torch_modules import TorchModules, row_major, vector
from heron_client.compute.backends.torch_per_sample import PerSample
from heron_client.compute.backends.torch_stages import TorchStageInputs
from heron_client.config import ClientSettings
from heron_core.arrays import Array, TensorSpec
from heron_core.device import resolve_device
from heron_core.errors import ModelError
from heron_core.labels import LabelSpec
from heron_core.models import build_split_model
from heron_core.models.families.stages import stage_of
from heron_core.models.lint.lint import lint
from heron_core.models.split_model import SplitModel
from heron_core.own_code import find_code_in
from heron_core.spec.role import Role, role_of
from heron_core.spec.run_spec import RunSpec


class TorchBackend:
    """Builds a role's parts once and runs passes over them; a graph only where a gradient is exact."""

    def __init__(self, model: SplitModel, role: Role, device: torch.device) -> None:
        self.modules, self._role = TorchModules(model, role, device), role

    @property
    def task_name(self) -> str:
        """Such as classification."""
        return self.modules.model.task.name

    def lint(self) -> tuple[str, ...]:
        """What is probably not meant in the client's parts of a user's own model, looked at anew.

        ModelError: what cannot be right.
        """
        model = self.modules.model
        parts = {part: model.build(part, self._role.seed) for part in self._role.parts}
        return lint(model, parts, self._role.seed).warnings

    # -- what goes in and out ----------------------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs."""
        return self.modules.model.inputs

    @property
    def labels(self) -> LabelSpec:
        """The task's labels."""
        return self.modules.model.task.labels

    @property
    def activations(self) -> tuple[TensorSpec, ...]:
        """The cut's tensors."""
        return self.modules.model.activations

    # -- parameters and buffers --------------------------------------------------------------------------------------

    @property
    def state_tensors(self) -> list[StateTensor]:
        """Trainable parameters, then learned buffers."""
        named = {**self.modules.trainable, **self.modules.buffers}
        return [
            StateTensor(name, str(t.dtype).removeprefix("torch."), tuple(t.shape), name in self.modules.buffers)
            for name, t in named.items()
        ]

    @torch.inference_mode()
    def load_state(self, arrays: Mapping[str, Array]) -> None:
        """Copies `state_tensors` into the modules; buffers that do not travel are as built again."""
        self.modules.reset_local_buffers()
        for name, tensor in {**self.modules.trainable, **self.modules.buffers}.items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name]).reshape(tensor.shape)))

    def state(self) -> dict[str, Array]:
        """A copy of `state_tensors`."""
        named = {**self.modules.trainable, **self.modules.buffers}
        return {name: tensor.detach().to("cpu", copy=True).numpy() for name, tensor in named.items()}

    @property
    def moved(self) -> list[tuple[str, int]]:
        """(name, elements) of the parameters that the optimiser moves, in theta's order."""
        return [(name, parameter.numel()) for name, parameter in self.modules.moved.items()]

    def theta(self) -> Vector:
        """A copy of the parameters that move, float32 [D]."""
        flat = [vector(p.reshape(-1)) for p in self.modules.moved.values()]
        return np.concatenate(flat) if flat else np.empty(0, dtype=np.float32)

    @torch.no_grad()
    def set_theta(self, theta_D: Vector, start: int = 0) -> None:
        """Copies a vector, or what of it begins at `start`, into the modules' own aligned memory."""
        given_D, at = self.modules.on_device(theta_D), -start
        for parameter in self.modules.moved.values():
            if 0 <= at < given_D.numel():
                parameter.copy_(given_D[at : at + parameter.numel()].view_as(parameter))
            at += parameter.numel()

    def buffers(self) -> dict[str, Array]:
        """A copy of all buffers."""
        return {name: buffer.to("cpu", copy=True).numpy() for name, buffer in self.modules.all_buffers.items()}

    @torch.no_grad()
    def restore_buffers(self, saved: Mapping[str, Array]) -> None:
        """Puts back what `buffers` gave."""
        for name, buffer in self.modules.all_buffers.items():
            buffer.copy_(torch.from_numpy(saved[name]))

    # -- forward passes ----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def forward(self, batch: MicroBatch, *, keep_activations: bool) -> Forward:
        """Losses [B] of a training forward, and its activations [B, ...] if they are kept. No graph."""
        modules = self.modules
        with modules.stream(batch.masks):
            activations = modules.activations(batch.inputs)
            outputs = modules.head(*activations)
        losses_B = vector(modules.losses(outputs, batch.labels))
        return Forward(losses_B, [row_major(a) for a in activations] if keep_activations else [])

    @torch.inference_mode()
    def cut_activations(self, batch: MicroBatch) -> list[Array]:
        """The activations [B, ...] of a training forward of the front alone. No graph."""
        with self.modules.stream(batch.masks):
            activations = self.modules.activations(batch.inputs)
        return [row_major(a) for a in activations]

    def head_gradient(self, batch: MicroBatch, share_of: int, *, keep_activations: bool) -> tuple[Forward, Vector]:
        """As `forward`, and the exact gradient [H] of the losses' sum / `share_of`; the graph begins where H does."""
        return head_gradient(self.modules, batch, share_of, keep_activations=keep_activations)

    @torch.inference_mode()
    def evaluation_activations(self, inputs: tuple[Array, ...]) -> list[Array]:
        """The cut's tensors [B, ...] in evaluation mode, under the loaded state."""
        self.modules.use_threads()
        self.modules.net.eval()
        try:
            return [row_major(a) for a in self.modules.activations(inputs)]
        finally:
            self.modules.train()

    # -- further capabilities ----------------------------------------------------------------------------------------

    def loss_gradient(self, batch: MicroBatch, share_of: int, *, keep_activations: bool) -> tuple[Forward, Vector]:
        """As `forward`, and the gradient [D] of the losses' sum / `share_of`."""
        return loss_gradient(self.modules, batch, share_of, keep_activations=keep_activations)

    def set_log_prior(self, log_prior_K: Vector) -> None:
        """Every loss from here on is of the logits + `log_prior_K`. ModelError: the task cannot."""
        self.modules.set_log_prior(log_prior_K)

    def cut_pass(self, batch: MicroBatch) -> CutPass:
        """The front's training forward, its graph kept until the gradient at the cut comes."""
        return TorchCutPass(self.modules, batch)

    @torch.inference_mode()
    def layer_outputs(self, batch: MicroBatch) -> dict[str, Array]:
        """By name, in the order of calls, what each layer of the front gives in a training forward."""
        with self.modules.stream(batch.masks):
            return layer_outputs(self.modules.front, lambda: self.modules.activations(batch.inputs), len(batch.labels))

    def num_stages(self) -> int:
        """Of the front, without the head. ModelError: the front is not made of stages."""
        return len(self.modules.trunk.stages)

    def stage_of(self, name: str) -> int:
        """Which stage a parameter belongs to; the head is the one after the last."""
        return stage_of(name, self.modules.trunk.stages)

    def stage_inputs(self, stages: Collection[int]) -> StageInputs:
        """An empty store for what these stages are given."""
        return TorchStageInputs(self.modules, stages)

    def per_sample_losses(self) -> Callable[[MicroBatch, Matrix], Vector]:
        """Losses [B] at each sample's own values [B, P] of the front's parameters that move.

        ModelError: one of them cannot differ from sample to sample.
        """
        modules = self.modules
        perturbed = [n for n, p in modules.moved.items() if n.startswith("front.") and not p.requires_grad]
        own = PerSample(modules.front, perturbed)

        def losses(batch: MicroBatch, theta_BP: Matrix) -> Vector:
            with own.parameters(modules.own(theta_BP)):
                return self.forward(batch, keep_activations=False).losses_B

        return losses


def device_kind(settings: ClientSettings) -> str:
    """cpu or cuda: where the model will run, whether or not that is there."""
    return resolve_device("auto").type if settings.device == "auto" else settings.device.partition(":")[0]


def build_torch_backend(settings: ClientSettings, spec: RunSpec, weights_folder: Path | None = None) -> TorchBackend:
    """The client's parts of the run's model, on the device that its settings name.

    `weights_folder`: where model.weights lies; None: in the data folder, if it is needed. ModelError, DataError,
    ConfigError: a model, weights or device that cannot be had here.
    """
    find_code_in(settings.python_path)
    try:
        model = build_split_model(
            spec.model, allowed=settings.allow_model_code, data_folder=settings.data.folder,
            weights_folder=weights_folder, fetches=True,
        )  # fmt: skip
        return TorchBackend(model, role_of(spec), resolve_device(settings.device))
    except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError where there is no memory for a tensor
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"the run's model {spec.model.name} cannot be built here: {reason}; see whether {settings.device} has "
            "memory for it"
        ) from error
