"""Models, data and run specs small enough for unit tests, built without the registry."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from heron_core.arrays import TensorSpec
from heron_core.data.source import ArraySource
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.classification import Classification
from heron_core.spec.run_spec import RunSpec

CLASSES = 3


def mlp(dropout: float = 0.0, **options: Any) -> SplitModel:
    """Input [5], cut [6]; d = 36 + 21 parameters."""
    return SplitModel(
        front=lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(dropout)),
        auxiliary=lambda: nn.Linear(6, CLASSES),
        back=lambda: nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, CLASSES)),
        inputs=(TensorSpec("input", (5,)),),
        activations=(TensorSpec("activations", (6,)),),
        task=Classification(CLASSES),
        **options,
    )


def conv(norm: str) -> SplitModel:
    """Input [1, 6, 6], cut [4, 6, 6], with group or batch normalisation on both sides of it."""

    def layer(channels_in: int) -> nn.Module:
        made: nn.Module = nn.GroupNorm(2, 4) if norm == "group" else nn.BatchNorm2d(4)
        return nn.Sequential(nn.Conv2d(channels_in, 4, 3, padding=1), made, nn.ReLU())

    def head() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))

    return SplitModel(
        front=lambda: layer(1), auxiliary=head, back=lambda: nn.Sequential(layer(4), head()),
        inputs=(TensorSpec("input", (1, 6, 6)),), activations=(TensorSpec("activations", (4, 6, 6)),),
        task=Classification(CLASSES),
    )  # fmt: skip


def source(model: SplitModel, samples: int = 24, seed: int = 0) -> ArraySource:
    """Labels follow the sign pattern of the first inputs, so that something can be learned."""
    rng = np.random.Generator(np.random.Philox(seed))
    x = rng.standard_normal((samples, *model.inputs[0].shape), dtype=np.float32)
    flat = x.reshape(samples, -1)
    labels = (flat[:, 0] > 0).astype(np.int64) + (flat[:, 1] > 0)
    return ArraySource(x, labels)


def spec(**tables: Any) -> RunSpec:
    """A run spec of 2 clients, 2 rounds of 4 local steps on batches of 4, with `tables` on top."""
    base: dict[str, Any] = {
        "rounds": 2,
        "method": {"local_steps": 4, "batch_size": 4},
        "federation": {"clients": 2},
        "data": {"source": "digits"},
    }
    return RunSpec.model_validate(_merged(base, tables))


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
