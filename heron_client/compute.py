"""The torch side of a client: the parts that it runs, forward and backward passes, the flat parameter vector.

Shape suffixes: B batch (or micro-batch) rows, D parameters that the client's optimiser moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heron_client.optimizers import UpdateRule, make_update_rule, moment_tensors
from heron_core.device import to_input, use_threads
from heron_core.methods import goes_up, method_of, place_of
from heron_core.models.split_model import Activations, SplitModel, as_tuple
from heron_core.run_spec import RunSpec
from heron_core.streams import Part, seeded_torch

Array = NDArray[Any]


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
        self._buffers = dict(self._net.named_buffers())
        self._moved = {n: p for n, p in self._trainable.items() if self._moves(n)}
        for name, parameter in self._moved.items():
            parameter.requires_grad_(self._backpropagates(name))
        self._moments: dict[str, Array] = {}

    def _moves(self, name: str) -> bool:
        """Is it in the vector that the client's optimiser moves? A head that the server moves is not."""
        part = name.partition(".")[0]
        return self._method.client_learns and (part != "auxiliary" or self._method.head in ("joint", "detached"))

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
        if self._spec.moments == "reset" or not self._method.client_learns:
            return []
        return moment_tensors(self._spec.optimizer, sum(p.numel() for p in self._moved.values()))

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
        """A fresh rule for theta: with the fetched moments, or zero where none were."""
        rule = make_update_rule(self._spec.optimizer)
        if self._moments:
            rule.load(self._moments, self._device)
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

    @property
    def front(self) -> nn.Module:
        return self._front

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
        self, x: Array, labels: Array, path: tuple[Part, ...], *, keep_activations: bool
    ) -> tuple[float, list[Array]]:
        """Sum of the per-sample losses (float64) of one piece, and its activations [B, ...] if they are kept."""
        losses_B, kept = self.losses(x, labels, path, keep_activations=keep_activations)
        return float(losses_B.double().sum()), kept

    @torch.inference_mode()
    def losses(
        self, x: Array, labels: Array, path: tuple[Part, ...], *, keep_activations: bool
    ) -> tuple[Tensor, list[Array]]:
        """Per-sample losses [B] of one piece, and its activations [B, ...] if they are kept.

        Runs in train mode: batch statistics, dropout masks from the stream `path`, the same for every probe.
        """
        losses_B, activations = self._losses(lambda: self._front(self._input(x)), labels, path)
        return losses_B, [_row_major(a) for a in as_tuple(activations)] if keep_activations else []

    @torch.inference_mode()
    def losses_from(self, front: Callable[[], Activations], labels: Array, path: tuple[Part, ...]) -> Tensor:
        """Per-sample losses [B] of one piece, its activations computed by `front`, e.g. from some stage on."""
        return self._losses(front, labels, path)[0]

    def _losses(
        self, front: Callable[[], Activations], labels: Array, path: tuple[Part, ...]
    ) -> tuple[Tensor, Activations]:
        use_threads(self._threads)
        with seeded_torch(self._seed, *path):
            activations = front()
            outputs = self._head(activations)
        return self._model.loss(outputs, self._labels(labels)), activations

    @torch.inference_mode()
    def evaluation_activations(self, x: Array) -> list[Array]:
        """Activations [B, ...] in evaluation mode, under the loaded state."""
        use_threads(self._threads)
        self._net.eval()
        try:
            return [_row_major(a) for a in as_tuple(self._front(self._input(x)))]
        finally:
            self._to_train_mode()

    def _to_train_mode(self) -> None:
        """The front of a frozen client that keeps its running statistics normalises by them, as in evaluation."""
        self._net.train()
        if not self._method.client_learns and self._spec.running_statistics == "keep":
            self._front.eval()

    # -- passes with a graph -------------------------------------------------------------------------------------

    @torch.enable_grad()
    def loss_gradient(
        self, x: Array, labels: Array, path: tuple[Part, ...], rows: int, *, keep_activations: bool
    ) -> tuple[float, list[Array], Tensor]:
        """As `forward`, and the gradient [D] of this piece's share of the mean loss over `rows` samples."""
        use_threads(self._threads)
        with seeded_torch(self._seed, *path):
            activations = self._front(self._input(x))
            outputs = self._head(activations)
        losses_B = self._model.loss(outputs, self._labels(labels))
        del outputs
        kept = [_row_major(a) for a in as_tuple(activations)] if keep_activations else []
        del activations
        gradient_D = self._gradient([losses_B.sum() / rows], None)
        return float(losses_B.detach().double().sum()), kept, gradient_D

    @torch.no_grad()
    def head_gradient(
        self, x: Array, labels: Array, path: tuple[Part, ...], rows: int, *, keep_activations: bool
    ) -> tuple[Tensor, list[Array], Tensor]:
        """As `losses`, and the head's gradient of this piece's share of the mean loss over `rows` samples.

        The graph is the head's alone: it begins at the detached activations.
        """
        use_threads(self._threads)
        with seeded_torch(self._seed, *path):
            activations = self._front(self._input(x))
            with torch.enable_grad():
                losses_B = self._model.loss(self._head(activations), self._labels(labels))
                share = losses_B.sum() / rows
        heads = [p for name, p in self._moved.items() if name.startswith("auxiliary.")]
        gradients = torch.autograd.grad(share, heads, allow_unused=True, materialize_grads=True)
        kept = [_row_major(a) for a in as_tuple(activations)] if keep_activations else []
        return losses_B.detach(), kept, torch.cat([g.reshape(-1) for g in gradients]).float()

    @torch.enable_grad()
    def cut_forward(self, x: Array, path: tuple[Part, ...]) -> Cut:
        """The front's forward in train mode, its graph kept for `Cut.backward`."""
        use_threads(self._threads)
        with seeded_torch(self._seed, *path):
            return Cut(self, as_tuple(self._front(self._input(x))))

    def _gradient(self, outputs: Sequence[Tensor], output_gradients: Sequence[Tensor] | None) -> Tensor:
        """[D]; zero for parameters that `outputs` do not depend on. Frees the graph."""
        gradients = torch.autograd.grad(
            outputs, list(self._moved.values()), output_gradients, allow_unused=True, materialize_grads=True
        )
        return torch.cat([g.reshape(-1) for g in gradients]).float()

    def cut_gradient(self, activations: Sequence[Tensor], gradients: list[Array]) -> Tensor:
        """The gradient [D] from that at the cut's floating-point tensors [B, ...], whose list is emptied."""
        use_threads(self._threads)
        floating = [a for a in activations if a.is_floating_point()]
        pairs = [(a, _like(a, g)) for a, g in zip(floating, gradients, strict=True) if a.requires_grad]
        gradients.clear()
        return self._gradient([a for a, _ in pairs], [g for _, g in pairs])

    def _input(self, x: Array) -> Tensor:
        return to_input(x, self._device, self._model.channels_last)

    def _labels(self, labels: Array) -> Tensor:
        return torch.from_numpy(labels).to(self._device)


class Cut:
    """A forward pass that waits at the cut for its gradient."""

    def __init__(self, compute: ClientCompute, activations: tuple[Tensor, ...]) -> None:
        self._compute, self._activations = compute, activations

    def arrays(self) -> list[Array]:
        """What is sent, [B, ...] each."""
        return [_row_major(a) for a in self._activations]

    def backward(self, gradients: list[Array]) -> Tensor:
        """The gradient [D]; empties its list. Once: the graph is gone then."""
        activations, self._activations = self._activations, ()
        return self._compute.cut_gradient(activations, gradients)


def _row_major(tensor: Tensor) -> Array:
    array: Array = tensor.detach().to("cpu").contiguous().numpy()
    return array


def _like(tensor: Tensor, array: Array) -> Tensor:
    """The array in torch's own aligned memory, row-major, on the tensor's device."""
    return torch.empty(array.shape, dtype=tensor.dtype, device=tensor.device).copy_(torch.from_numpy(array))
