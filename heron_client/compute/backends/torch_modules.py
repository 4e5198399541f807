"""The client's parts as torch modules: built once, with their parameters by name, and what every pass is made of.

Shape suffixes: B batch (or micro-batch) rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from heron_client.compute.backend import Vector
from heron_core.arrays import Array
from heron_core.device import to_inputs, use_threads
from heron_core.errors import ModelError
from heron_core.models.families.stages import Trunk, stage_of
from heron_core.models.split_model import SplitModel, Tensors, activations_of, movable
from heron_core.models.tasks.task import TakesPrior
from heron_core.own_code import naming_users_code
from heron_core.spec.role import Role
from heron_core.streams import Part, seeded_torch


class TorchModules:
    """`net` has the parts under their names. Only parameters whose gradient is exact ever get a graph."""

    def __init__(self, model: SplitModel, role: Role, device: torch.device) -> None:
        self.model, self._role, self._device = model, role, device
        self._adjusted: Callable[[Tensor, Tensor], Tensor] | None = None
        self.use_threads()
        self.net = nn.ModuleDict({part: model.build(part, role.seed) for part in role.parts}).to(device)
        self.front = self.net["front"]
        self.head = self.net[role.parts[1]] if len(role.parts) > 1 else nn.Identity()
        """The auxiliary head, in fedavg the back; the identity where the client has the front alone."""
        self.train()
        self.trainable = movable(self.net)
        self.net.requires_grad_(False)
        self.buffers = model.learned_buffers(self.net)
        """Those that travel."""
        self.all_buffers = dict(self.net.named_buffers())
        self._as_built = {n: b.clone() for n, b in self.all_buffers.items() if n not in self.buffers}
        self.moved = {n: p for n, p in self.trainable.items() if role.moves(n)}
        for name, parameter in self.moved.items():
            parameter.requires_grad_(role.exact(name) or self._in_exact_stage(name))

    def reset_local_buffers(self) -> None:
        """Buffers that do not travel are as built again: a local round depends on nothing that came before it."""
        for name, buffer in self._as_built.items():
            self.all_buffers[name].copy_(buffer)

    def train(self) -> None:
        """Training mode; a front that keeps its running statistics normalises by them, as in evaluation."""
        self.net.train()
        if self._role.keeps_statistics:
            self.front.eval()

    def moved_parameters(self, prefix: str = "") -> list[nn.Parameter]:
        """Of those that the optimiser moves, in theta's order, the ones so named."""
        return [parameter for name, parameter in self.moved.items() if name.startswith(prefix)]

    def exact_parameters(self) -> list[nn.Parameter]:
        """Of those that the optimiser moves, in theta's order, the ones whose gradient is exact."""
        return [parameter for parameter in self.moved.values() if parameter.requires_grad]

    @property
    def trunk(self) -> Trunk:
        """The front as one made of stages. ModelError: it is not."""
        if not isinstance(self.front, Trunk):
            raise ModelError(
                "method.zo.block_wise and exact_stages need a front made of stages, as the built-in families have, "
                f"this one is a {type(self.front).__name__}; set them to false and 0"
            )
        return self.front

    @property
    def first_exact(self) -> int:
        """The number of the front's first stage whose gradient is exact, where the run has such stages."""
        return max(0, len(self.trunk.stages) - self._role.exact_stages)

    def _in_exact_stage(self, name: str) -> bool:
        if not self._role.exact_stages or not isinstance(self.front, Trunk) or not name.startswith("front."):
            return False
        return stage_of(name, self.front.stages) >= self.first_exact

    @torch.no_grad()
    def activations_with_graph(self, inputs: tuple[Array, ...]) -> Tensors:
        """As `activations`, with the graph of the stages whose gradient is exact; without one where there are none."""
        if not self._role.exact_stages:
            return self.activations(inputs)
        with users_model():
            (x,) = to_inputs(inputs, self._device, self.model.channels_last)
            given = self.trunk.run_from(0, x, self.first_exact)
            with torch.enable_grad():
                return (self.trunk.run_from(self.first_exact, given),)

    def activations(self, inputs: tuple[Array, ...]) -> Tensors:
        """What the front gives for the model's inputs [B, ...]."""
        with users_model():
            return activations_of(self.front, to_inputs(inputs, self._device, self.model.channels_last))

    def set_log_prior(self, log_prior_K: Vector) -> None:
        """`losses` adjusts the logits by it from here on. ModelError: the task cannot."""
        task = self.model.task
        if not isinstance(task, TakesPrior):
            raise ModelError(f"the task {task.name} cannot adjust logits; set method.logit_adjustment to 0")
        self._adjusted = partial(task.losses_with_prior, log_prior_K=self.own(log_prior_K))

    def losses(self, outputs: Tensor, labels: Array) -> Tensor:
        """Per-sample losses [B]."""
        with users_model():
            return (self._adjusted or self.model.task.losses)(outputs, self.on_device(labels))

    @contextmanager
    def stream(self, path: tuple[Part, ...]) -> Iterator[None]:
        """Inside, dropout masks come from the stream `path`, torch has the client's threads, and what a user's module
        raises is a ModelError."""
        self.use_threads()
        with seeded_torch(self._role.seed, *path), users_model():
            yield

    def use_threads(self) -> None:
        """Torch computes with the client's threads from here on."""
        use_threads(self._role.threads)

    def on_device(self, array: Array) -> Tensor:
        """The array on the compute device; on the CPU it is the array's own memory, whose alignment is NumPy's."""
        return torch.from_numpy(array).to(self._device)

    def own(self, array: Array) -> Tensor:
        """A copy in torch's own aligned memory, row-major, on the compute device."""
        source = torch.from_numpy(array)
        return torch.empty(source.shape, dtype=source.dtype, device=self._device).copy_(source)


def users_model() -> AbstractContextManager[None]:
    """What a user's module or task raises inside is a ModelError."""
    return naming_users_code("the model", ModelError)


def row_major(tensor: Tensor) -> Array:
    """On the CPU, as it is sent."""
    array: Array = tensor.detach().to("cpu").contiguous().numpy()
    return array


def vector(tensor: Tensor) -> Vector:
    """Losses or a gradient on the CPU, in float32."""
    found: Vector = tensor.detach().to("cpu", torch.float32).numpy()
    return found
