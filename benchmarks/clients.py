"""Clients to measure: the product's, of every method, and stock torch's. ResNet-18 (small stem), cut layer1.0.

The product's side runs whole local rounds, see local_rounds.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from local_rounds import BATCH, LocalRounds, images
from torch import Tensor, nn


class ProductClient(LocalRounds):
    """The compute side with its local rounds, for any method."""

    def __init__(self, spec: Any, device: str = "cpu") -> None:
        from heron_client.compute.backends.torch_backend import TorchBackend
        from heron_core.models import build_split_model
        from heron_core.spec.role import role_of

        self.device = torch.device(device)
        self.model = build_split_model(spec.model)
        super().__init__(spec, TorchBackend(self.model, role_of(spec), self.device))

    def bare_inputs(self) -> list[Tensor]:
        """A batch in torch's memory, in the spec's micro-batches."""
        from heron_core.device import to_inputs

        rows = self.spec.method.micro_batch_rows
        (x,), _ = self.source.batch(np.arange(self.spec.method.batch_size))
        whole = range(0, len(x), rows)
        return [to_inputs([x[i : i + rows]], self.device, self.model.channels_last)[0] for i in whole]

    @torch.inference_mode()
    def bare(self, micro_batches: list[Tensor], passes: int) -> None:
        """Bare forward passes of the same modules."""
        modules = self.backend.modules
        for _ in range(passes):
            for x in micro_batches:
                modules.head(modules.front(x))


# -- stock torch, first order ------------------------------------------------------------------------------------


def stock_norm(norm: str) -> nn.Module:
    return nn.GroupNorm(32, 64) if norm == "group" else nn.BatchNorm2d(64)


class StockBlock(nn.Module):
    """ResNet's basic block, as torchvision writes it."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(64, 64, 3, padding=1, bias=False), stock_norm(norm)
        self.conv2, self.norm2 = nn.Conv2d(64, 64, 3, padding=1, bias=False), stock_norm(norm)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += x
        return self.relu(out)


class StockClient:
    """CSE-FSL's step as plain torch: nn modules, autograd, torch.optim.Adam; nothing is uploaded."""

    def __init__(self, norm: str, head: str, steps: int = 1, device: str = "cpu") -> None:
        torch.set_num_threads(1)
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
        flat = [nn.Flatten(), nn.Linear(65536, 10)]
        stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), stock_norm(norm), nn.ReLU(inplace=True)]
        self._net = nn.Sequential(*stem, StockBlock(norm), *(pooled if head == "gap_linear" else flat)).to(device)
        self._steps, self._device = steps, device
        self._x, self._labels = images(2 * BATCH)
        self._optimizer: Any = None

    def warm_up(self) -> None:
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=1e-4)
        self._step(np.arange(2))
        self._net.zero_grad(set_to_none=True)
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=1e-4)

    def round(self) -> None:
        for number in range(self._steps):
            self._step(np.arange(BATCH) + number % 2 * BATCH)

    def _step(self, rows: np.ndarray) -> None:
        x = torch.from_numpy(self._x[rows]).to(self._device).float() / 255
        labels = torch.from_numpy(self._labels[rows]).to(self._device)
        self._optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(self._net(x), labels).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
