"""The torch side of a client: front and auxiliary head, forward passes, the flat parameter vector.

Shape suffixes: B batch (or micro-batch) rows, D trainable parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heron_core.device import to_input, use_threads
from heron_core.models.split_model import ClientModel, SplitModel, as_tuple
from heron_core.streams import Part, seeded_torch

Array = NDArray[Any]


class ClientCompute:
    """Builds the client part once and runs forward passes over it; never an autograd graph."""

    def __init__(self, model: SplitModel, seed: int, device: torch.device, threads: int = 1) -> None:
        use_threads(threads)
        self._model, self._seed, self._threads = model, seed, threads
        self._device = device
        self._net = ClientModel(model.build("front", seed), model.build("auxiliary", seed)).to(self._device).train()
        self._net.requires_grad_(False)
        parameters = dict(self._net.named_parameters())
        self._trainable = {name: p for name, p in parameters.items() if model.trainable(name)}
        self._buffers = dict(self._net.named_buffers())

    @property
    def expected_state(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """(name, dtype, shape) of the client state: trainable parameters, then buffers."""
        tensors = {**self._trainable, **self._buffers}
        return [(n, str(t.dtype).removeprefix("torch."), tuple(t.shape)) for n, t in tensors.items()]

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        """Copies the fetched client state into the modules."""
        with torch.inference_mode():
            for name, tensor in {**self._trainable, **self._buffers}.items():
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name]).reshape(tensor.shape)))

    def state(self) -> dict[str, Array]:
        """A copy of the client state."""
        tensors = {**self._trainable, **self._buffers}
        return {name: tensor.to("cpu", copy=True).numpy() for name, tensor in tensors.items()}

    def theta(self) -> Tensor:
        """A copy of the trainable parameters as one float32 vector [D]."""
        return torch.cat([p.reshape(-1) for p in self._trainable.values()]).float()

    def set_theta(self, theta_D: Tensor) -> None:
        """Copies a flat vector into the modules' own aligned memory."""
        start = 0
        for parameter in self._trainable.values():
            parameter.copy_(theta_D[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()

    def to_device(self, vector: Array) -> Tensor:
        """A direction drawn on the CPU, on the compute device."""
        return torch.from_numpy(vector).to(self._device)

    def buffers(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self._buffers.items()}

    def restore_buffers(self, saved: Mapping[str, Tensor]) -> None:
        for name, buffer in self._buffers.items():
            buffer.copy_(saved[name])

    @torch.inference_mode()
    def forward(
        self, x: Array, labels: Array, path: tuple[Part, ...], *, keep_activations: bool
    ) -> tuple[float, list[Array]]:
        """Sum of the per-sample losses (float64) of one piece, and its activations [B, ...] if they are kept.

        Runs in train mode: batch statistics, dropout masks from the stream `path`, the same for every probe.
        """
        use_threads(self._threads)
        with seeded_torch(self._seed, *path):
            activations = self._net.front(self._input(x))
            outputs = self._net.auxiliary(activations)
        losses_B = self._model.loss(outputs, torch.from_numpy(labels).to(self._device))
        kept = [_row_major(a) for a in as_tuple(activations)] if keep_activations else []
        return float(losses_B.double().sum()), kept

    @torch.inference_mode()
    def evaluation_activations(self, x: Array) -> list[Array]:
        """Activations [B, ...] in evaluation mode, under the loaded state."""
        use_threads(self._threads)
        self._net.eval()
        try:
            return [_row_major(a) for a in as_tuple(self._net.front(self._input(x)))]
        finally:
            self._net.train()

    def _input(self, x: Array) -> Tensor:
        return to_input(x, self._device, self._model.channels_last)


def _row_major(tensor: Tensor) -> Array:
    array: Array = tensor.detach().to("cpu").contiguous().numpy()
    return array
