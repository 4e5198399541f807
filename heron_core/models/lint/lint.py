"""All of the lint, over parts that are built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from heron_core.errors import ModelError
from heron_core.models.lint.fresh import NewEachTime
from heron_core.models.lint.outputs import probability
from heron_core.models.lint.samples import across_batch, check_evaluation, check_training, example
from heron_core.models.split_model import SplitModel, movable
from heron_core.spec.methods import Part


@dataclass(frozen=True)
class Findings:
    """What a model that may run has been found to be."""

    across_batch: Mapping[Part, str]
    """Of each part that normalises across the batch in training, or mixes its samples otherwise: where."""
    warnings: tuple[str, ...]


def lint(model: SplitModel, parts: Mapping[Part, nn.Module], seed: int, *, own: bool = True) -> Findings:
    """`parts`: the front and others, as `model.build` gave them from `seed`; their running statistics move.

    `own`: a user's model, of which nothing is known yet. Else only the layers are looked at. ModelError: a mistake.
    """
    if model.task.labels.classes == 1:
        raise ModelError(
            "a classification into one class has nothing to learn; for one real number as target take the task "
            'regression: model.task = "regression", or task=Regression() in a model of your own'
        )
    mixing = {part: found for part, module in parts.items() if (found := across_batch(module, part))}
    if not own:
        return Findings(mixing, ())
    warnings = []
    for part, module in parts.items():
        _check_dtypes(model, part, module)
        if isinstance(model.auxiliary, NewEachTime):
            model.build(part, seed)
    inputs = example(model.inputs)
    activations = check_evaluation(parts["front"], inputs, model.inputs, "front")
    for part, module in parts.items():
        if part != "front":
            check_evaluation(module, activations, model.activations, part)
            warnings.append(probability(module, activations, model.activations, part, model.task))
    if check_training(parts["front"], inputs, model.inputs, "front"):
        mixing.setdefault("front", "its forward")
    return Findings(mixing, tuple(filter(None, warnings)))


def _check_dtypes(model: SplitModel, part: Part, module: nn.Module) -> None:
    """What moves is added up in float32, on both sides."""
    for name, parameter in movable(module).items():
        if str(parameter.dtype) != "torch.float32":
            raise ModelError(
                f"{part}.{name} is {str(parameter.dtype).removeprefix('torch.')}, and what moves must be float32; "
                "build the module in float32, or freeze it with requires_grad_(False)"
            )
    if part == "back":
        return
    for name, buffer in model.learned_buffers(nn.ModuleDict({part: module})).items():
        if str(buffer.dtype) == "torch.bfloat16":
            raise ModelError(f"{name} is bfloat16, which does not travel; build the module in float32")
