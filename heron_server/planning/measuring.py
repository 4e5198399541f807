"""Measures a model: the only place of planning that builds modules.

Each part is built once and serves both the check that the parts fit and the figures. With the front that the registry
may look at, and the trainer's own modules, a whole start of a server calls each of the model's factories three times at
most, and `validate` twice at most (`tests/server/planning/test_measuring.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.flop_counter import FlopCounterMode

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError
from heron_core.models.adapt.per_sample import per_sample_obstacle
from heron_core.models.families.stages import Trunk
from heron_core.models.lint.lint import lint
from heron_core.models.split_model import SplitModel, check_parts, movable
from heron_core.models.tasks.task import TakesPrior
from heron_core.own_code import naming_users_code
from heron_core.spec.methods import Part
from heron_server.metrics.counts import evaluation_rows
from heron_server.planning.facts import Layer, ModelFacts, PartFacts, TensorFacts


@naming_users_code("the model", ModelError)
def measure_model(model: SplitModel, seed: int, *, own: bool = True) -> ModelFacts:
    """Builds, checks and measures the three parts; raises ModelError where they do not fit.

    `own`: it is a user's, and looked at for what users get wrong.
    """
    built = check_parts(model, seed)
    found = lint(model, built, seed, own=own)
    return ModelFacts(
        inputs=model.inputs,
        activations=model.activations,
        task=model.task.name,
        labels=model.task.labels,
        metric=model.task.metrics[0],
        parts={part: _measured(model, part, module.eval()) for part, module in built.items()},
        across_batch=found.across_batch,
        warnings=found.warnings,
        per_sample_obstacle=per_sample_obstacle(model, built["front"], seed),
        evaluation_rows=evaluation_rows(model.task.output_shape),
        drawing=_drawing(built["front"]),
        takes_prior=isinstance(model.task, TakesPrior) and model.task.labels.classes > 0,
        own_names=model.whole is not None,
    )


def _drawing(front: nn.Module) -> str:
    """Its first dropout."""
    named = ((f"front.{name}", layer) for name, layer in front.named_modules())
    return next((name for name, layer in named if isinstance(layer, _DropoutNd) and layer.p > 0), "")


def _measured(model: SplitModel, part: Part, module: nn.Module) -> PartFacts:
    parameters = {f"{part}.{name}": p for name, p in module.named_parameters()}
    buffers = {f"{part}.{name}": b for name, b in module.named_buffers()}
    learned = model.learned_buffers(nn.ModuleDict({part: module}))
    trainable = {f"{part}.{name}" for name in movable(module)}
    passed = _forward(module, model.inputs if part == "front" else model.activations)
    return PartFacts(
        kind=type(module).__name__,
        parameters=tuple(_tensor(name, p, name in trainable) for name, p in parameters.items()),
        buffers=tuple(_tensor(name, b, name in learned) for name, b in buffers.items()),
        macs=passed.macs,
        layers=_layers(part, passed, trainable),
        map_bytes=passed.map_bytes,
        widest_bytes=passed.widest_bytes,
        saved_bytes=sum(map(_bytes, module.state_dict().values())),
        stages=module.stages if isinstance(module, Trunk) else (),
    )


def _tensor(name: str, tensor: Tensor, learned: bool) -> TensorFacts:
    return TensorFacts(name, tensor.numel(), _bytes(tensor), str(tensor.dtype).removeprefix("torch."), learned)


@dataclass
class _Pass:
    """What one forward pass over one sample came to."""

    macs: int = 0
    map_bytes: int = 0
    widest_bytes: int = 0
    calls: list[tuple[str, int]] = field(default_factory=list)
    """(name, MACs) of each call of a layer, in order."""
    own: dict[str, list[str]] = field(default_factory=dict)
    """Each layer's parameters, by their names in the part."""


def _forward(module: nn.Module, inputs: Sequence[TensorSpec]) -> _Pass:
    """One sample of zeros through the part; layers are the modules without modules of their own."""
    passed = _Pass()
    names = {layer: name for name, layer in module.named_modules() if not any(True for _ in layer.children())}
    passed.own = {name: [f"{name}.{n}".lstrip(".") for n, _ in layer.named_parameters()]
                  for layer, name in names.items()}  # fmt: skip
    counter = FlopCounterMode(display=False)
    before = 0

    def enter(_layer: nn.Module, _given: tuple[object, ...]) -> None:
        nonlocal before
        before = int(counter.get_total_flops())

    def leave(layer: nn.Module, given: tuple[object, ...], output: object) -> None:
        passed.calls.append((names[layer], (int(counter.get_total_flops()) - before) // 2))
        size = _bytes(output)
        passed.map_bytes += size
        passed.widest_bytes = max(passed.widest_bytes, sum(map(_bytes, given)) + size)

    hooks = [h for layer in names for h in (layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave))]
    sample = [torch.zeros(1, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs]
    with torch.no_grad(), counter:  # in inference mode the counter breaks parametrized weights, such as weight_norm's
        module(*sample)
    for hook in hooks:
        hook.remove()
    passed.macs = int(counter.get_total_flops()) // 2
    return passed


def _layers(part: Part, passed: _Pass, trainable: set[str]) -> tuple[Layer, ...]:
    """The calls that multiply. A layer passes a gradient on where a parameter moves in any call before it."""
    layers, moved_before = [], False
    for name, macs in passed.calls:
        moved = [own for own in passed.own[name] if f"{part}.{own}" in trainable]
        if macs:
            learns = any(own.endswith("weight") for own in moved)
            layers.append(Layer(f"{part}.{name}".rstrip("."), macs, learns, moved_before))
        moved_before = moved_before or bool(moved)
    return tuple(layers)


def _bytes(value: object) -> int:
    """Of a tensor, or of those in a tuple, as a recurrent layer gives."""
    if isinstance(value, tuple | list):
        return sum(map(_bytes, value))
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0
