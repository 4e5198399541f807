"""SplitModel: three lazily built modules, and what the method must not guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError, TensorError
from heron_core.streams import seeded_torch

Part = Literal["front", "auxiliary", "back"]
Activations = Tensor | tuple[Tensor, ...]


def cross_entropy_per_sample(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Softmax cross-entropy of each sample, float32 [B]."""
    return F.cross_entropy(logits_BK, labels_B, reduction="none")


def count_correct(logits_BK: Tensor, labels_B: Tensor) -> int:
    """Samples whose largest logit is the label's."""
    return int((logits_BK.argmax(dim=1) == labels_B).sum())


@dataclass(frozen=True)
class SplitModel:
    """A network cut in two, with an auxiliary head on the cut.

    `front`, `auxiliary` and `back` are factories: a client builds only the first two. front maps a float32
    input [B, *input.shape] to the activations (one tensor, or a tuple in the order of `activations`);
    auxiliary and back map activations to outputs that `loss(outputs, labels)` turns into per-sample losses [B].
    """

    front: Callable[[], nn.Module]
    auxiliary: Callable[[], nn.Module]
    back: Callable[[], nn.Module]
    input: TensorSpec
    activations: tuple[TensorSpec, ...]
    classes: int
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy_per_sample
    correct: Callable[[Tensor, Tensor], int] = count_correct
    channels_last: bool = False
    """Lay images out channels last on the way in. With BatchNorm on a CPU that is a third faster; without, activations
    leave in wire order and need no copy. It decides the last bits, so it is the model's, not a machine's choice."""
    trainable: Callable[[str], bool] = field(default=lambda name: True)
    """Of a client state name such as `front.conv1.weight`: is it perturbed?"""

    def build(self, part: Part, seed: int) -> nn.Module:
        """The named part, initialised from the stream (seed, "init", part) whatever was built before."""
        with seeded_torch(seed, "init", part):
            factory: Callable[[], nn.Module] = getattr(self, part)
            return factory()

    def check_labels(self, labels_B: Tensor) -> None:
        """Raises TensorError unless every label lies in [0, classes)."""
        if labels_B.numel() and not (int(labels_B.min()) >= 0 and int(labels_B.max()) < self.classes):
            raise TensorError(
                f"labels must lie in 0..{self.classes - 1}, "
                f"got {int(labels_B.min())}..{int(labels_B.max())}; check the data or model.classes"
            )


class ClientModel(nn.Module):
    """front and auxiliary together: the client state's names are `front.*` and `auxiliary.*`."""

    def __init__(self, front: nn.Module, auxiliary: nn.Module) -> None:
        super().__init__()
        self.front = front
        self.auxiliary = auxiliary


class AssembledModel(nn.Module):
    """front then back: the whole network, for evaluation and for use after training."""

    def __init__(self, front: nn.Module, back: nn.Module) -> None:
        super().__init__()
        self.front = front
        self.back = back

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.back(self.front(x))
        return outputs


def as_tuple(activations: Activations) -> tuple[Tensor, ...]:
    return activations if isinstance(activations, tuple) else (activations,)


def probe_shapes(module: nn.Module, inputs: Sequence[TensorSpec], what: str) -> tuple[TensorSpec, ...]:
    """The specs of what `module` returns for two zero samples; ModelError names both shapes on a misfit."""
    batch = tuple(torch.zeros(2, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    outputs = _outputs(module, batch, inputs, what)
    if not all(isinstance(out, Tensor) for out in outputs):
        kinds = ", ".join(type(out).__name__ for out in outputs)
        raise ModelError(f"{what} must return a tensor or a tuple of tensors, it returned {kinds}")
    return tuple(
        TensorSpec(
            f"activations{i}" if i else "activations",
            tuple(out.shape[1:]),
            str(out.dtype).removeprefix("torch."),
        )
        for i, out in enumerate(outputs)
    )


def _outputs(
    module: nn.Module, batch: tuple[Tensor, ...], inputs: Sequence[TensorSpec], what: str
) -> tuple[Tensor, ...]:
    try:
        with torch.inference_mode():
            return as_tuple(module(batch[0] if len(batch) == 1 else batch))
    except Exception as error:
        came = ", ".join(f"{s.name} {list(s.shape)} {s.dtype}" for s in inputs)
        raise ModelError(f"{what} does not accept {came} per sample: {error}") from None


def check_keeps_input(module: nn.Module, inputs: Sequence[TensorSpec], what: str) -> None:
    """ModelError where one call, as in training, changes the activations: they are sent, or used again, after it."""
    batch = tuple(_either_sign(spec) for spec in inputs)
    before = [tensor.clone() for tensor in batch]
    with seeded_torch(0, "check", what):
        _outputs(module.train(), batch, inputs, what)
    for spec, tensor, was in zip(inputs, batch, before, strict=True):
        if not torch.equal(tensor, was):
            raise ModelError(
                f"{what} overwrites its input {spec.name}, which is sent or used again afterwards; "
                f"set inplace=False in the layers of {what} that come first"
            )


def _either_sign(spec: TensorSpec) -> Tensor:
    """Two samples, floats from -8 to 8, so that any activation function would change some; zeros of other dtypes."""
    zeros = torch.zeros(2, *spec.shape, dtype=getattr(torch, spec.dtype))
    return torch.linspace(-8, 8, zeros.numel()).view_as(zeros).to(zeros.dtype) if zeros.is_floating_point() else zeros


def check_parts(model: SplitModel, seed: int = 0) -> None:
    """Builds all three parts and checks that they fit and keep what they are given; raises ModelError.

    For the server and `validate`: a client has no use for the back.
    """
    front = model.build("front", seed).eval()
    found = probe_shapes(front, (model.input,), "front")
    if [(s.shape, s.dtype) for s in found] != [(s.shape, s.dtype) for s in model.activations]:
        raise ModelError(
            f"the model promises activations {[(s.name, s.shape, s.dtype) for s in model.activations]}, "
            f"its front gives {[(s.shape, s.dtype) for s in found]}; mend the factory"
        )
    parts: tuple[Part, ...] = ("auxiliary", "back")
    for part in parts:
        module = model.build(part, seed)
        outputs = probe_shapes(module.eval(), model.activations, part)
        if len(outputs) != 1 or outputs[0].shape[-1:] != (model.classes,):
            raise ModelError(
                f"{part} must give [B, {model.classes}] for model.classes = {model.classes}, "
                f"it gives {[['B', *s.shape] for s in outputs]}"
            )
        check_keeps_input(module, model.activations, part)
