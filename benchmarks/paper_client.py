"""The paper's client with a back of one linear layer: what crosses the cut is the same, and the server is quick."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from local_rounds import images


def small_back(norm: str, auxiliary: str) -> Any:
    """A SplitModel: front and head of the paper's ResNet-18."""
    from heron_core.models import build_split_model
    from heron_core.models.heads.auxiliary import GapLinear
    from heron_core.spec.run_spec import ModelSpec

    chosen = {"name": "resnet18", "cut": "layer1.0", "norm": norm, "auxiliary": auxiliary}
    model = build_split_model(ModelSpec.model_validate(chosen))
    return replace(model, back=lambda: GapLinear(model.activations[0].shape, model.classes))


def noise(count: int) -> Any:
    """Samples to count bytes with."""
    from heron_core.data.source import ArraySource

    return ArraySource(*images(count))
