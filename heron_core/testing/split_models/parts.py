"""Claims about a split model's three parts; each function raises ModelError where its claim does not hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from heron_core.errors import ModelError
from heron_core.models.lint.batches import example_inputs
from heron_core.models.split_model import SplitModel, Tensors
from heron_core.spec.methods import PARTS
from heron_core.testing.report import difference
from heron_core.testing.split_models.built import HEADS, Built, as_array, described, tensors_of
from heron_core.testing.split_models.random_state import other_random_state, random_states


def check_second_build(built: Built, make: Callable[[], SplitModel]) -> None:
    """Another process comes to the same weights, from the seed alone and in memory of their own.

    `built`: nothing has run in it yet.
    """
    with other_random_state():
        before = random_states()
        model = make()
        second, third = Built(model, built.seed), Built(model, built.seed)
        after = random_states()
    touched = [name for name in before if before[name] != after[name]]
    if touched:
        raise ModelError(
            f"making the model must leave the global random state as it was, it moves that of {touched[0]}; draw "
            "weights inside the parts' own factories, from torch, and seed nothing: Heron has seeded it"
        )
    _check_same_bits(built, second)
    _check_own_memory(second, third)


def _check_same_bits(first: Built, second: Built) -> None:
    for part in PARTS:
        one, two = tensors_of(first.parts[part]), tensors_of(second.parts[part])
        if list(one) != list(two):
            odd = [name for name in [*one, *two] if name not in one or name not in two] or list(one)
            raise ModelError(
                f"{part} must have the same names whenever it is built, got another {odd[0]} the second time; mend its "
                "factory"
            )
        for name, tensor in one.items():
            if place := difference(as_array(tensor), as_array(two[name])):
                raise ModelError(
                    f"{part}.{name} must have the same bits in each build from seed {first.seed}, got {place}; draw it "
                    "from torch's default generator while the part is built, not from random, numpy.random or before"
                )


def _check_own_memory(first: Built, second: Built) -> None:
    for part in PARTS:
        used = {tensor.data_ptr() for tensor in first.parts[part].parameters()}
        ours = second.parts[part].named_parameters()
        shared = [name for name, tensor in ours if tensor.numel() and tensor.data_ptr() in used]
        if shared:
            raise ModelError(
                f"{part}.{shared[0]} must be new in each build, two builds share its memory; make the modules inside "
                "the part's factory, as in lambda: nn.Linear(5, 3)"
            )


def check_one_sample(built: Built) -> None:
    """The last batch of an evaluation may hold one sample."""
    model = built.model
    activations = built.run_front(example_inputs(model.inputs, 1), train=False)
    found = [(s.name, a, (1, *s.shape)) for s, a in zip(model.activations, activations, strict=True)]
    wanted = (1, *model.task.output_shape)
    found += [(part, built.run_head(part, activations, train=False), wanted) for part in HEADS]
    for name, tensor, shape in found:
        if tuple(tensor.shape) != shape:
            raise ModelError(
                f"{name} of one sample must be {list(shape)}, got {list(tensor.shape)}; name the dimension in "
                "squeeze() and view()"
            )


def check_repeats(built: Built) -> None:
    """A zeroth-order step compares two passes over one batch: nothing but the parameters may tell them apart."""
    front = built.parts["front"]
    kept = {name: buffer.clone() for name, buffer in front.named_buffers()}
    first = built.run_front(built.inputs, train=True)
    for name, buffer in front.named_buffers():
        buffer.copy_(kept.get(name, buffer))
    again = built.run_front(built.inputs, train=True)
    advice = "draw from torch's default generator alone, and keep nothing from call to call"
    _check_same(built.model, (first, again), "in training, with the same dropout masks", advice)
    calm, later = (built.run_front(built.inputs, train=False, draw=draw) for draw in (0, 1))
    _check_same(built.model, (calm, later), "in evaluation", "draw nothing where self.training is False")


def _check_same(model: SplitModel, passes: tuple[Tensors, Tensors], mode: str, advice: str) -> None:
    for spec, one, two in zip(model.activations, *passes, strict=True):
        array = as_array(one)
        if not np.isfinite(array).all():
            raise ModelError(f"{spec.name} must be finite for inputs around 0, got NaN or Inf {mode}; mend the front")
        if place := difference(array, as_array(two)):
            raise ModelError(f"{spec.name} must have the same bits for the same batch {mode}, got {place}; {advice}")


def check_names(built: Built) -> None:
    """The state is sent and saved by its names: a forward pass changes neither them nor a tensor's size or dtype."""
    for part in PARTS:
        built.train_pass(part)
        before, after = built.state[part], described(built.parts[part])
        for name in dict.fromkeys([*before, *after]):
            was, now = before.get(name, "absent"), after.get(name, "absent")
            if was != now:
                raise ModelError(
                    f"{part}.{name} must stay what it is when the part is built, {was}, got {now} after a forward "
                    "pass; make it in the part's __init__"
                )


def check_buffers(built: Built) -> None:
    """What training changes is learned: it must travel to the server and into checkpoints."""
    for part in PARTS:
        module = built.parts[part]
        before = {name: buffer.clone() for name, buffer in module.named_buffers()}
        built.train_pass(part)
        persistent = module.state_dict(keep_vars=True)
        for name, buffer in module.named_buffers():
            if name not in persistent and not torch.equal(before[name], buffer):
                raise ModelError(
                    f"{part}.{name} must be persistent, because training changes it, and it would neither travel nor "
                    "be saved; drop persistent=False in register_buffer"
                )
