"""Which of the front's parameters move, travel and are averaged.

One mechanism: `requires_grad`, as each part's factory leaves it. What is chosen here sets it, also where a user's
module has frozen a parameter; of the other parts, whatever their module has not frozen moves.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from torch import nn

from heron_core.errors import ModelError
from heron_core.models.split_model import SplitModel

_NORMALISATION = re.compile(r"Norm(?!al)")
"""In the class name: BatchNorm2d, GroupNorm, LayerNorm, RMSNorm, and a user's own by the same habit."""


def only(model: SplitModel, names: Collection[str]) -> SplitModel:
    """`model` that trains these parameters of the front, as its own modules name them, and every other part."""
    kept = frozenset(f"front.{name}" for name in names)

    def front() -> nn.Module:
        made = model.make("front")
        for name, parameter in made.named_parameters():
            if f"front.{name}" in kept and parameter.is_floating_point():
                parameter.requires_grad_()
        return made

    return replace(model, front=front, trainable=lambda name: not name.startswith("front.") or name in kept)


def whole_front(model: SplitModel, front: nn.Module) -> SplitModel:
    """Trains all of the front, also what its own module has frozen. `front`: one of the model's fronts."""
    return only(model, [name for name, _ in front.named_parameters()])


def normalisation_parameters(front: nn.Module) -> frozenset[str]:
    """Names of the parameters that belong directly to a normalisation module."""
    return frozenset(
        name for path, layer in _layers(front) if _NORMALISATION.search(type(layer).__name__)
        for name in _own(path, layer)
    )  # fmt: skip


def only_normalisation(model: SplitModel, front: nn.Module) -> SplitModel:
    """Trains the front's normalisation scale and shift. `front`: one of the model's fronts.

    ModelError if it has no normalisation: it would silently stay as it began.
    """
    names = normalisation_parameters(front)
    if not names:
        raise ModelError(
            'model.trainable = "norm" needs a front with normalisation parameters, this one has none; '
            'use trainable = "all", or another model or cut'
        )
    return only(model, names)


def only_last_layers(model: SplitModel, front: nn.Module, count: int) -> SplitModel:
    """Trains the last `count` layers of `front`, one of the model's fronts. ModelError if it has fewer."""
    layers = _layers(front)
    if count > len(layers):
        raise ModelError(
            f"model.last_layers = {count}, but the front has {len(layers)} layers with parameters "
            f'({", ".join(path for path, _ in layers) or "none"}); lower it, or use trainable = "all"'
        )
    return only(model, {name for path, layer in layers[-count:] for name in _own(path, layer)})


def _layers(front: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules with parameters of their own, in the order of the front."""
    return [(path, m) for path, m in front.named_modules() if any(True for _ in m.parameters(recurse=False))]


def _own(path: str, layer: nn.Module) -> list[str]:
    return [f"{path}.{name}" if path else name for name, _ in layer.named_parameters(recurse=False)]
