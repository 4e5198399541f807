"""A user's own model, as a run file names it: `own_parts:fitting`, and one whose parts do not fit."""

from __future__ import annotations

from torch import nn

from heron_core.arrays import TensorSpec
from heron_core.models.split_model import SplitModel
from heron_core.models.tasks.classification import Classification

CLASSES = 3


def fitting(back_width: int = 6) -> SplitModel:
    """Input [5], cut [6]."""
    return SplitModel(
        front=lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh()),
        auxiliary=lambda: nn.Linear(6, CLASSES),
        back=lambda: nn.Linear(back_width, CLASSES),
        inputs=(TensorSpec("input", (5,)),),
        activations=(TensorSpec("activations", (6,)),),
        task=Classification(CLASSES),
    )


def unfitting() -> SplitModel:
    """The back wants [7] where the front gives [6]."""
    return fitting(back_width=7)
