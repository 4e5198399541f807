"""Multiply-accumulates of a client's local step, in closed form.

Legend: F and H are one forward pass over a batch of the front and of the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from heron_core.arrays import TensorSpec
from heron_core.models.families.stages import Trunk
from heron_core.models.split_model import SplitModel, Tensors
from heron_core.spec.methods import Part, method_of
from heron_core.spec.run_spec import RunSpec


@dataclass(frozen=True)
class Layer:
    """One layer with weights, in the order of calls."""

    name: str
    """As in the client state, e.g. `front.stem.conv`."""
    macs: int
    """Of one forward pass over the batch."""
    learns: bool
    """Do its own weights need a gradient? Costs as much as its forward pass."""
    passes_on: bool
    """Does a parameter before it need one, so that its input does? Costs as much again."""

    @property
    def backward_macs(self) -> int:
        return self.macs * (self.learns + self.passes_on)


@dataclass(frozen=True)
class StepMacs:
    """One local step of one client."""

    exact: int
    """With the gradients that the step needs: none for the network's input, nor for weights that do not move."""
    paper: int
    """By the paper's convention: a backward pass is two forward passes. heron (q + 1)(F + H); cse_fsl and fsl_sage
    3(F + H); sflv1 and sflv2 3F + H, though their clients have no head; fedavg 3 forward passes of the whole model."""


def step_macs(spec: RunSpec, model: SplitModel) -> StepMacs:
    """Of the spec's method."""
    method, macs = method_of(spec.method), client_forward_macs(spec, model)
    forward = sum(macs.values())
    layers = {part: part_layers(spec, model, part) for part in macs}
    match method.front:
        case "none":
            return StepMacs(forward, forward)
        case "zeroth_order":
            probed = forward + _probe_macs(spec, model, macs, layers["front"])
            if method.head != "detached":
                return StepMacs(probed, probed)
            return StepMacs(probed + _backward(layers["auxiliary"]), probed + 2 * macs["auxiliary"])
        case "cut_gradients":
            head = _forward_macs(model.build("auxiliary", spec.seed), model.activations) * spec.method.batch_size
            return StepMacs(forward + _backward(layers["front"]), 3 * forward + head)
        case "auxiliary_loss" | "whole_model":
            learnt = [layer for part in layers.values() for layer in part]
            return StepMacs(forward + _backward(_chained(learnt, frozen_head=method.head == "aligned")), 3 * forward)


def client_step_macs(spec: RunSpec, model: SplitModel) -> int:
    """MACs of one local step of one client, as Heron counts: with the gradients that the step needs."""
    return step_macs(spec, model).exact


def client_forward_macs(spec: RunSpec, model: SplitModel) -> dict[Part, int]:
    """MACs of one forward pass over one batch of each part that the client runs."""
    return {
        part: _forward_macs(model.build(part, spec.seed), _inputs(model, part)) * spec.method.batch_size
        for part in method_of(spec.method).client_parts
    }


def base_macs(spec: RunSpec, model: SplitModel) -> int:
    """MACs over one batch of what a client computes before its activations leave: the front, and the head with its own
    gradient where it has one."""
    method, macs = method_of(spec.method), client_forward_macs(spec, model)
    detached = method.head == "detached"
    return sum(macs.values()) + (_backward(part_layers(spec, model, "auxiliary")) if detached else 0)


def forward_passes(spec: RunSpec, model: SplitModel) -> float:
    """Forward passes of one local step, as the client counts: q + 1, or 2q + 1 with central differences; 1 for all but
    heron. With block_wise each block's probes count as the share of the stages that they run, the head being the last.
    """
    if spec.method.name != "heron":
        return 1
    if not spec.method.zo.block_wise:
        return 1 + values_per_step(spec)
    stages, probed = probed_blocks(spec, model)
    return 1 + values_per_step(spec) * sum((stages - stage) / stages for stage in probed)


def values_per_step(spec: RunSpec) -> int:
    """Losses at probes of one block: q, or 2q with central differences."""
    return spec.method.zo.num_directions * _values_per_direction(spec)


def probed_blocks(spec: RunSpec, model: SplitModel) -> tuple[int, list[int]]:
    """With block_wise: how many stages the client has, its head being the last, and those that are probed."""
    stages, moving = _stages(spec, model)
    head = [len(stages)] if method_of(spec.method).head == "joint" else []
    return len(stages) + 1, moving + head


def part_layers(spec: RunSpec, model: SplitModel, part: Part) -> list[Layer]:
    """The part's layers by itself: its input needs no gradient."""
    module = model.build(part, spec.seed).eval()
    trainable = {n for n, _ in module.named_parameters() if model.trainable(f"{part}.{n}")}
    names = {child: name for name, child in module.named_modules() if not any(child.children())}
    layers: list[Layer] = []
    before = {"flops": 0, "learns": 0}

    def enter(child: nn.Module, _: Any) -> None:
        before["flops"] = int(counter.get_total_flops())

    def leave(child: nn.Module, *_: Any) -> None:
        macs = (int(counter.get_total_flops()) - before["flops"]) // 2 * spec.method.batch_size
        own = [f"{names[child]}.{n}".lstrip(".") for n, _ in child.named_parameters()]
        moves = sum(name in trainable for name in own)
        if macs:
            weights = any(name in trainable for name in own if name.endswith("weight"))
            layers.append(Layer(f"{part}.{names[child]}".rstrip("."), macs, weights, before["learns"] > 0))
        before["learns"] += moves

    hooks = [h for child in names for h in (child.register_forward_pre_hook(enter), child.register_forward_hook(leave))]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(*_sample(_inputs(model, part)))
    for hook in hooks:
        hook.remove()
    return layers


def _probe_macs(spec: RunSpec, model: SplitModel, macs: dict[Part, int], front: Sequence[Layer]) -> int:
    """All probes of one step; with block_wise, one for each stage that moves, from its input on, and for the head."""
    values = values_per_step(spec)
    if not spec.method.zo.block_wise:
        return values * sum(macs.values())
    stages, moving = _stages(spec, model)
    place = {layer.name: next(i for i, s in enumerate(stages) if layer.name.startswith(s)) for layer in front}
    suffixes = sum(layer.macs for stage in moving for layer in front if place[layer.name] >= stage)
    joint = method_of(spec.method).head == "joint"
    return values * (suffixes + (len(moving) + joint) * macs["auxiliary"])


def _stages(spec: RunSpec, model: SplitModel) -> tuple[list[str], list[int]]:
    """The prefixes of the front's stages, and which of them have trainable parameters."""
    front = model.build("front", spec.seed)
    assert isinstance(front, Trunk), "block_wise is refused for other fronts"
    stages = [f"front.{name}." for name in front.stages]
    names = [f"front.{name}" for name, _ in front.named_parameters()]
    moving = [i for i, s in enumerate(stages) if any(n.startswith(s) and model.trainable(n) for n in names)]
    return stages, moving


def _values_per_direction(spec: RunSpec) -> int:
    return 2 if spec.method.zo.difference == "central" else 1


def _backward(layers: Iterable[Layer]) -> int:
    return sum(layer.backward_macs for layer in layers)


def _chained(layers: Sequence[Layer], *, frozen_head: bool) -> list[Layer]:
    """Front and what follows it as one network: the gradient goes on through the second part."""
    return [
        layer if layer.name.startswith("front.")
        else Layer(layer.name, layer.macs, layer.learns and not frozen_head, True)
        for layer in layers
    ]  # fmt: skip


def _forward_macs(module: nn.Module, inputs: Sequence[TensorSpec]) -> int:
    """Multiply-accumulates of one sample's forward pass, by torch's own counter."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module.eval()(*_sample(inputs))
    return int(counter.get_total_flops()) // 2


def _inputs(model: SplitModel, part: Part) -> tuple[TensorSpec, ...]:
    return model.inputs if part == "front" else model.activations


def _sample(inputs: Sequence[TensorSpec]) -> Tensors:
    return tuple(torch.zeros(1, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
