"""SplitModel: three lazily built modules, and what the method must not guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from heron_core.arrays import TensorSpec
from heron_core.errors import ModelError, TensorError
from heron_core.models.tasks.task import Task
from heron_core.models.tasks.token_logits import whole
from heron_core.own_code import naming_users_code, said_by
from heron_core.spec.methods import Part
from heron_core.streams import seeded_torch

Tensors = tuple[Tensor, ...]
"""A batch of the inputs, or of the activations, in the order of their specs."""


def everything(name: str) -> bool:
    """Any parameter, any buffer."""
    return True


@dataclass(frozen=True)
class SplitModel:
    """A network cut in two, with an auxiliary head on the cut.

    `front`, `auxiliary` and `back` are factories of modules: a client builds only the first two. front is called with
    the inputs, one argument each, and gives the activations: a tensor, or a tuple in the order of `activations`.
    auxiliary and back are called with the activations, one argument each, and give the task's outputs
    [B, *task.output_shape].
    """

    front: Callable[[], nn.Module]
    auxiliary: Callable[[], nn.Module]
    back: Callable[[], nn.Module]
    inputs: tuple[TensorSpec, ...]
    activations: tuple[TensorSpec, ...]
    task: Task
    channels_last: bool = False
    """Lay images out channels last on the way in. With BatchNorm on a CPU that is a third faster; without, activations
    leave in wire order and need no copy. It decides the last bits, so it is the model's, not a machine's choice."""
    trainable: Callable[[str], bool] = everything
    """Of a parameter of front or head, such as `front.conv1.weight`: may it move? One that its own module has frozen
    (requires_grad = False) does not, whatever this says, in the back as well."""
    learned: Callable[[str], bool] = everything
    """Of a persistent buffer such as `front.norm.running_mean`: is it learned, so that it travels and is averaged?"""
    whole: Callable[[], nn.Module] | None = None
    """Builds the user's own network where front and back were cut from one: they keep its names."""

    def build(self, part: Part, seed: int) -> nn.Module:
        """The named part, initialised from the stream (seed, "init", part) whatever was built before.

        `requires_grad` of its parameters says which of them move. Raises ModelError for what its factory does wrong.
        """
        with seeded_torch(seed, "init", part):
            module = self.make(part)
        if part != "back":
            for name, parameter in module.named_parameters():
                if not self.trainable(f"{part}.{name}"):
                    parameter.requires_grad_(False)
        return module

    def make(self, part: Part) -> nn.Module:
        """What the part's factory gives, from torch's random state as it is; lazy layers have their sizes."""
        factory: Callable[[], nn.Module] = getattr(self, part)
        with naming_users_code(f"the factory of {part}", ModelError):
            module = factory()
        if not isinstance(module, nn.Module):
            raise ModelError(f"the factory of {part} must return an nn.Module, it returned {type(module).__name__}")
        return materialised(module, self.inputs if part == "front" else self.activations, part)

    @property
    def classes(self) -> int:
        """How many classes, where a sample's label is one class; else 0."""
        return self.task.labels.classes

    @property
    def uploaded(self) -> tuple[TensorSpec, ...]:
        """What a client sends for each sample: the activations, then the labels."""
        return (*self.activations, self.task.labels.tensor)

    def learned_buffers(self, module: nn.Module) -> dict[str, Tensor]:
        """Those of a module with the parts' names that travel: persistent, and learned."""
        persistent = module.state_dict(keep_vars=True)
        return {name: b for name, b in module.named_buffers() if name in persistent and self.learned(name)}

    def check_labels(self, labels: Tensor) -> None:
        """Raises TensorError unless these labels [B, ...], on the CPU, are the task's."""
        problem = self.task.labels.problem(labels.numpy())
        if problem:
            raise TensorError(f"{problem}; check the data or model.classes")


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

    def forward(self, *inputs: Tensor) -> Tensor:
        """The task's outputs [B, *task.output_shape] for the model's inputs [B, ...], one argument each."""
        outputs: Tensor = whole(self.back(*activations_of(self.front, inputs)))
        return outputs


def activations_of(front: nn.Module, inputs: Tensors) -> Tensors:
    """What the front gives, always as a tuple."""
    given = front(*inputs)
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def movable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that move, by name; of parts as `SplitModel.build` gave them, before anybody changed that."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def materialised(module: nn.Module, inputs: Sequence[TensorSpec], what: str) -> nn.Module:
    """`module`, whose lazy layers have learned their sizes from two zero samples. ModelError: one has not."""

    def lazy() -> list[str]:
        tensors = (*module.named_parameters(), *module.named_buffers())
        return [name for name, tensor in tensors if is_lazy(tensor)]

    if not lazy():
        return module
    training = module.training
    with torch.no_grad():  # in inference mode they could never be trained
        _called(module.eval(), _zeros(inputs), inputs, what)
    if left := lazy():
        raise ModelError(
            f"{what}.{left[0]} waits for its first call to learn its size, and the forward never calls it; take it "
            "out, or a layer that is told its sizes"
        )
    return module.train(training)


def probe_shapes(module: nn.Module, inputs: Sequence[TensorSpec], what: str) -> tuple[TensorSpec, ...]:
    """The specs of what `module` returns for two zero samples; ModelError names both shapes where it refuses them."""
    outputs = outputs_of(module, _zeros(inputs), inputs, what)
    if not all(isinstance(out, Tensor) for out in outputs):
        raise ModelError(f"{what} must return a tensor or a tuple of tensors, it returned {_kind(outputs)}")
    if any(out.dtype == torch.bfloat16 for out in outputs):
        raise ModelError(f"{what} gives bfloat16, which does not travel; end it with .float()")
    return tuple(
        TensorSpec(
            f"activations{i}" if i else "activations",
            tuple(out.shape[1:]),
            str(out.dtype).removeprefix("torch."),
        )
        for i, out in enumerate(outputs)
    )


def _kind(outputs: Sequence[object]) -> str:
    """What came for tensors, and how to make a tensor of it."""
    if len(outputs) > 1:
        cure = "wrap it in a module that returns the one meant, as out[0]"
        return f"{', '.join(type(out).__name__ for out in outputs)}; {cure}"
    (out,) = outputs
    if isinstance(out, Mapping):
        keys = ", ".join(map(repr, out))
        first = next(iter(out), 0)
        return f"{type(out).__name__} with {keys}; wrap it in a module that returns the one meant, as out[{first!r}]"
    return f"{type(out).__name__}; wrap it in a module that returns the tensor alone"


def _zeros(inputs: Sequence[TensorSpec]) -> Tensors:
    return tuple(torch.zeros(2, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)


def outputs_of(module: nn.Module, batch: Tensors, inputs: Sequence[TensorSpec], what: str) -> Tensors:
    """What `module` gives for these inputs, without a graph; ModelError where it refuses them."""
    with torch.inference_mode():
        return _called(module, batch, inputs, what)


def _called(module: nn.Module, batch: Tensors, inputs: Sequence[TensorSpec], what: str) -> Tensors:
    try:
        return tuple(map(whole, activations_of(module, batch)))
    except (Exception, SystemExit) as error:
        came = ", ".join(f"{s.name} {list(s.shape)} {s.dtype}" for s in inputs)
        raise ModelError(f"{what} does not accept {came} per sample: {said_by(error)}") from None


def check_keeps_input(module: nn.Module, inputs: Sequence[TensorSpec], what: str) -> None:
    """ModelError where one call, as in training, changes the activations: they are sent, or used again, after it."""
    batch = tuple(_either_sign(spec) for spec in inputs)
    before = [tensor.clone() for tensor in batch]
    with seeded_torch(0, "check", what):
        outputs_of(module.train(), batch, inputs, what)
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


def check_parts(model: SplitModel, seed: int = 0) -> dict[Part, nn.Module]:
    """Builds all three parts, once each, and checks that they fit and keep what they are given; raises ModelError.

    For the server and `validate`: a client has no use for the back. Gives the parts, to be measured; they are spent, as
    running statistics have moved.
    """
    front = model.build("front", seed).eval()
    built: dict[Part, nn.Module] = {"front": front}
    found = probe_shapes(front, model.inputs, "front")
    if [(s.shape, s.dtype) for s in found] != [(s.shape, s.dtype) for s in model.activations]:
        raise ModelError(
            f"the model promises activations {[(s.name, s.shape, s.dtype) for s in model.activations]}, "
            f"its front gives {[(s.shape, s.dtype) for s in found]}; mend the factory"
        )
    parts: tuple[Part, ...] = ("auxiliary", "back")
    for part in parts:
        module = built[part] = model.build(part, seed)
        outputs = probe_shapes(module.eval(), model.activations, part)
        if [s.shape for s in outputs] != [model.task.output_shape]:
            raise ModelError(
                f"{part} must give {_batch(model.task.output_shape)} for the task {model.task.name}, "
                f"it gives {' and '.join(_batch(s.shape) for s in outputs)}; {_cure(outputs, model.task)}"
            )
        check_keeps_input(module, model.activations, part)
    return built


def _cure(outputs: Sequence[TensorSpec], task: Task) -> str:
    if len(outputs) > 1:
        return "wrap it in a module that returns the one meant, as out[0]"
    if not outputs[0].is_floating:
        return "leave the argmax out: the loss wants a number for each class"
    return "mend the factory, or its task"


def _batch(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(['B', *map(str, shape)])}]"
