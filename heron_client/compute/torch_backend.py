"""The torch side of a client: the parts that it runs, forward passes, the flat parameter vector. (Graphs: backprop.py.)

Shape suffixes: B batch (or micro-batch) rows, D parameters that the client's optimiser moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from heron_client.compute.optimizers import UpdateRule, make_update_rule
from heron_core.arrays import Array
from heron_core.device import to_inputs, use_threads
from heron_core.models.split_model import SplitModel, Tensors, activations_of
from heron_core.spec.methods import goes_up, method_of, moment_tensors, moves, place_of
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import Part, seeded_torch

Arrays = tuple[Array, ...]
"""A batch of the model's inputs, in its order."""


class ClientCompute:
    """Builds the method's client parts once and runs passes over them; a graph only where the method backpropagates."""

    def __init__(self, model: SplitModel, spec: RunSpec, device: torch.device) -> None:
        self._model, self._seed, self._threads = model, spec.seed, spec.threads.client
        use_threads(self._threads)
        self._device, self._spec, self._method = device, spec.method, method_of(spec.method)
        parts = self._method.client_parts
        self._net = nn.ModuleDict({part: model.build(part, spec.seed) for part in parts}).to(device)
        self._front = self._net["front"]
        self._head = self._net[parts[1]] if len(parts) > 1 else nn.Identity()
        self._to_train_mode()
        self._net.requires_grad_(False)
        self._trainable = {n: p for n, p in self._net.named_parameters() if model.trainable(n)}
        self._buffers = model.learned_buffers(self._net)
        self._moved = {n: p for n, p in self._trainable.items() if moves(self._spec, n)}
        for name, parameter in self._moved.items():
            parameter.requires_grad_(self._backpropagates(name))
        self._moments: dict[str, Array] = {}

    def _backpropagates(self, name: str) -> bool:
        """Is its gradient exact? A zeroth-order client builds a graph at most of its head."""
        if self._method.front == "zeroth_order":
            return self._method.head == "detached" and name.startswith("auxiliary.")
        return self._method.front in ("auxiliary_loss", "cut_gradients", "whole_model")

    # -- the client state ----------------------------------------------------------------------------------------

    @property
    def expected_state(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """(name, dtype, shape) of the client state: trainable parameters, then buffers, then moments that persist."""
        tensors = {**self._trainable, **self._buffers}
        described = [(n, str(t.dtype).removeprefix("torch."), tuple(t.shape)) for n, t in tensors.items()]
        return described + self._expected_moments()

    def _expected_moments(self) -> list[tuple[str, str, tuple[int, ...]]]:
        return moment_tensors(self._spec, self.moved)

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        """Copies the fetched client state into the modules, and its moments for the next update rule."""
        with torch.inference_mode():
            for name, tensor in {**self._trainable, **self._buffers}.items():
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name]).reshape(tensor.shape)))
        self._moments = {name: arrays[name] for name, _, _ in self._expected_moments() if name in arrays}

    def state(self) -> dict[str, Array]:
        """A copy of the client state without moments."""
        tensors = {**self._trainable, **self._buffers}
        return {name: tensor.detach().to("cpu", copy=True).numpy() for name, tensor in tensors.items()}

    def update(self, moments: Mapping[str, Array]) -> dict[str, Array]:
        """A copy of what goes up, in the client state's order; `moments` are the update rule's at the round's end."""
        keeps = {name: moments[name] for name, _, _ in self._expected_moments()}
        return {
            name: array
            for name, array in {**self.state(), **keeps}.items()
            if goes_up(place_of(self._spec, name, buffer=name in self._buffers))
        }

    def update_rule(self) -> UpdateRule:
        """A fresh rule for theta: with the moments fetched since the last one, or zero where none were."""
        rule, fetched = make_update_rule(self._spec.optimizer), self._moments
        if fetched:
            rule.load(fetched, self._device)
        self._moments = {}  # the rule has its copy
        return rule

    # -- the vector ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def theta(self) -> Tensor:
        """A copy of the parameters that the optimiser moves as one float32 vector [D], the front's first."""
        return torch.cat([p.reshape(-1) for p in self._moved.values()]).float()

    @torch.no_grad()
    def set_theta(self, theta_D: Tensor, start: int = 0) -> None:
        """Copies a flat vector, or what of it begins at `start`, into the modules' own aligned memory.

        The part begins and ends with whole parameters; the others stay.
        """
        at = -start
        for parameter in self._moved.values():
            if 0 <= at < theta_D.numel():
                parameter.copy_(theta_D[at : at + parameter.numel()].view_as(parameter))
            at += parameter.numel()

    def moved_parameters(self, prefix: str = "") -> list[nn.Parameter]:
        """Of those that the optimiser moves, in theta's order, the ones so named."""
        return [parameter for name, parameter in self._moved.items() if name.startswith(prefix)]

    @property
    def moved(self) -> list[tuple[str, int]]:
        """(name, elements) of the parameters that the optimiser moves, in theta's order."""
        return [(name, parameter.numel()) for name, parameter in self._moved.items()]

    @property
    def front_size(self) -> int:
        """Elements of theta that are the front's; they come first."""
        return sum(size for name, size in self.moved if name.startswith("front."))

    def to_device(self, vector: Array) -> Tensor:
        """A direction drawn on the CPU, on the compute device."""
        return torch.from_numpy(vector).to(self._device)

    def buffers(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self._buffers.items()}

    def restore_buffers(self, saved: Mapping[str, Tensor]) -> None:
        for name, buffer in self._buffers.items():
            buffer.copy_(saved[name])

    # -- passes without a graph ----------------------------------------------------------------------------------

    def forward(
        self, x: Arrays, labels: Array, path: tuple[Part, ...], *, keep_activations: bool
    ) -> tuple[float, list[Array]]:
        """Sum of the per-sample losses (float64) of one piece, and its activations [B, ...] if they are kept."""
        losses_B, kept = self.losses(x, labels, path, keep_activations=keep_activations)
        return float(losses_B.double().sum()), kept

    @torch.inference_mode()
    def losses(
        self, x: Arrays, labels: Array, path: tuple[Part, ...], *, keep_activations: bool
    ) -> tuple[Tensor, list[Array]]:
        """Per-sample losses [B] of one piece, and its activations [B, ...] if they are kept.

        Runs in train mode: batch statistics, dropout masks from the stream `path`, the same for every probe.
        """
        losses_B, activations = self._losses(lambda: self.activations(x), labels, path)
        return losses_B, [row_major(a) for a in activations] if keep_activations else []

    @torch.inference_mode()
    def losses_from(self, front: Callable[[], Tensors], labels: Array, path: tuple[Part, ...]) -> Tensor:
        """Per-sample losses [B] of one piece, its activations computed by `front`, e.g. from some stage on."""
        return self._losses(front, labels, path)[0]

    def _losses(self, front: Callable[[], Tensors], labels: Array, path: tuple[Part, ...]) -> tuple[Tensor, Tensors]:
        with self.stream(path):
            activations = front()
            outputs = self._head(*activations)
        return self.loss(outputs, labels), activations

    @torch.inference_mode()
    def evaluation_activations(self, x: Arrays) -> list[Array]:
        """Activations [B, ...] in evaluation mode, under the loaded state."""
        self.use_threads()
        self._net.eval()
        try:
            return [row_major(a) for a in self.activations(x)]
        finally:
            self._to_train_mode()

    def _to_train_mode(self) -> None:
        """The front of a frozen client that keeps its running statistics normalises by them, as in evaluation."""
        self._net.train()
        if not self._method.client_learns and self._spec.running_statistics == "keep":
            self._front.eval()

    # -- what every pass is made of ------------------------------------------------------------------------------

    @property
    def front(self) -> nn.Module:
        return self._front

    @property
    def head(self) -> nn.Module:
        """The auxiliary head, in fedavg the back; the identity where the client has the front alone."""
        return self._head

    def activations(self, x: Arrays) -> Tensors:
        """What the front gives for the model's inputs [B, ...]."""
        return activations_of(self._front, to_inputs(x, self._device, self._model.channels_last))

    def loss(self, outputs: Tensor, labels: Array) -> Tensor:
        """Per-sample losses [B]."""
        return self._model.task.losses(outputs, torch.from_numpy(labels).to(self._device))

    @contextmanager
    def stream(self, path: tuple[Part, ...]) -> Iterator[None]:
        """Inside, dropout masks come from the stream `path`, and torch has the client's threads."""
        self.use_threads()
        with seeded_torch(self._seed, *path):
            yield

    def use_threads(self) -> None:
        use_threads(self._threads)


def row_major(tensor: Tensor) -> Array:
    """On the CPU, as it is sent."""
    array: Array = tensor.detach().to("cpu").contiguous().numpy()
    return array
