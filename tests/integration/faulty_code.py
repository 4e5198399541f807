"""User code that fails in the middle of a run: a model, a task and a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import tiny
from torch import Tensor, nn

from heron_core.models import SplitModel
from heron_core.models.tasks.classification import Classification

ROWS = 4
"""Of a batch; Heron looks at a model with fewer, or more."""


class Fails(nn.Linear):
    """Not at the batches that it is tried with."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == ROWS and self.training:
            raise KeyError("a bug of the user's\nin two lines")
        return super().forward(x)


class Loss(Classification):
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        raise ZeroDivisionError


def front() -> SplitModel:
    return replace(tiny.mlp(), front=lambda: Fails(5, 6))


def head() -> SplitModel:
    return replace(tiny.mlp(), auxiliary=lambda: Fails(6, tiny.CLASSES))


def back() -> SplitModel:
    return replace(tiny.mlp(), back=lambda: Fails(6, tiny.CLASSES))


def loss() -> SplitModel:
    return replace(tiny.mlp(), task=Loss(tiny.CLASSES))


def leaves() -> SplitModel:
    raise SystemExit(1)


def part() -> SplitModel:
    return replace(tiny.mlp(), back=lambda: nn.Linear({}["width"], 3))


class Samples:
    """Twelve of them, of which the seventh cannot be read."""

    def __init__(self, read: Callable[[int], Any]) -> None:
        self._read = read

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> Any:
        return self._read(i)


def fine() -> Samples:
    return Samples(lambda i: (np.full(5, i / 12, np.float32), i % tiny.CLASSES))


def unreadable() -> Samples:
    def read(i: int) -> Any:
        if i == 7:
            raise OSError("the disk\nis gone")
        return fine()[i]

    return Samples(read)


class Source:
    """A source of a user's own."""

    labels = np.arange(12) % tiny.CLASSES

    def __len__(self) -> int:
        return 12

    def batch(self, indices: Any) -> Any:
        return {}["batch"]


def source() -> Source:
    return Source()
