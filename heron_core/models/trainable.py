"""Which client parameters are perturbed, travel and are averaged."""

from __future__ import annotations

import re
from dataclasses import replace

from torch import nn

from heron_core.errors import ModelError
from heron_core.models.split_model import SplitModel

_NORMALISATION = re.compile(r"Norm(?!al)")
"""In the class name: BatchNorm2d, GroupNorm, LayerNorm, RMSNorm, and a user's own by the same habit."""


def normalisation_parameters(front: nn.Module) -> frozenset[str]:
    """Names of the parameters that belong directly to a normalisation module."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, module in front.named_modules()
        if _NORMALISATION.search(type(module).__name__)
        for name, _ in module.named_parameters(recurse=False)
    )


def only_normalisation(model: SplitModel) -> SplitModel:
    """`model` that trains the front's normalisation scale and shift, and the whole auxiliary head.

    Builds the front once. ModelError if it has no normalisation: it would silently stay as it began.
    """
    names = {f"front.{name}" for name in normalisation_parameters(model.build("front", 0))}
    if not names:
        raise ModelError(
            'model.trainable = "norm" needs a front with normalisation parameters, this one has none; '
            'use trainable = "all", or another model or cut'
        )
    return replace(model, trainable=lambda name: name.startswith("auxiliary.") or name in names)
