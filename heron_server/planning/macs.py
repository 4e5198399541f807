"""Multiply-accumulates of a client's local step, in closed form.

Legend: F and H are one forward pass over a batch of the front and of the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from heron_core.models.families.stages import stage_of
from heron_core.spec.methods import Part, method_of
from heron_core.spec.run_spec import MethodSpec, ZoSpec
from heron_server.planning.client_state import first_exact_stage, perturbed
from heron_server.planning.facts import Layer, ModelFacts


@dataclass(frozen=True)
class StepMacs:
    """One local step of one client."""

    exact: int
    """With the gradients that the step needs: none for the network's input, nor for weights that do not move."""
    paper: int
    """By the paper's convention: a backward pass is two forward passes. heron (q + 1)(F + H), on the cut
    gradient (q + 1) F; cse_fsl and fsl_sage 3(F + H); sflv1 and sflv2 3F + H, though their clients have no head;
    fedavg 3 forward passes of the whole model."""


def step_macs(method: MethodSpec, facts: ModelFacts) -> StepMacs:
    """Of one batch."""
    row, rows = method_of(method), method.batch_size
    macs = forward_macs(method, facts)
    forward = sum(macs.values())
    match row.front:
        case "none":
            return StepMacs(forward, forward)
        case "zeroth_order":
            probed = forward + _probe_macs(method, facts)
            if row.head != "detached":
                return StepMacs(probed, probed)
            tail = _exact_tail(method, facts)
            exact, doubled = _total_backward(tail), 2 * sum(layer.macs for layer in tail)
            return StepMacs(probed + rows * exact, probed + rows * doubled)
        case "cut_gradients":
            head = rows * facts.parts["auxiliary"].macs
            return StepMacs(forward + rows * _backward(facts, "front"), 3 * forward + head)
        case "auxiliary_loss" | "whole_model":
            learnt = [layer for part in macs for layer in facts.parts[part].layers]
            chained = _chained(learnt, frozen_head=row.head == "aligned")
            return StepMacs(forward + rows * _total_backward(chained), 3 * forward)


def forward_macs(method: MethodSpec, facts: ModelFacts) -> dict[Part, int]:
    """Of one forward pass over one batch of each part that the client runs."""
    return {part: method.batch_size * facts.parts[part].macs for part in method_of(method).client_parts}


def base_macs(method: MethodSpec, facts: ModelFacts) -> int:
    """Over one batch, of what a client computes before its activations leave: the front, and the head with its own
    gradient where it has one."""
    own_gradient = _total_backward(_exact_tail(method, facts)) if method_of(method).head == "detached" else 0
    return sum(forward_macs(method, facts).values()) + method.batch_size * own_gradient


def forward_passes(method: MethodSpec, facts: ModelFacts) -> float:
    """Forward passes of one local step, as the client counts: q + 1, or 2q + 1 with central differences; 1 for all but
    heron. With block_wise each block's probes count as the share of the stages that they run, the head being the last.
    """
    if method.name != "heron":
        return 1
    if not method.zo.block_wise:
        return 1 + values_per_step(method.zo)
    stages = client_stages(facts)
    shares = sum((stages - stage) / stages for stage in probed_stages(method, facts))
    return 1 + values_per_step(method.zo) * shares


def values_per_step(zo: ZoSpec) -> int:
    """Probes of one block: q, or 2q with central differences."""
    return zo.num_directions * (2 if zo.difference == "central" else 1)


def client_stages(facts: ModelFacts) -> int:
    """How many stages a client has, its head being the last."""
    return len(facts.parts["front"].stages) + 1


def probed_stages(method: MethodSpec, facts: ModelFacts) -> list[int]:
    """With block_wise: the client's stages that have perturbed parameters, in order."""
    stages = facts.parts["front"].stages
    return sorted({stage_of(parameter.name, stages) for parameter in perturbed(method, facts)})


def _probe_macs(method: MethodSpec, facts: ModelFacts) -> int:
    """All probes of one step; with block_wise, one for each stage that moves, from its input on, and for the head."""
    values, rows = values_per_step(method.zo), method.batch_size
    front, head = facts.parts["front"], facts.parts["auxiliary"]
    if not method.zo.block_wise:
        return values * sum(forward_macs(method, facts).values())
    return values * rows * sum(
        head.macs + sum(layer.macs for layer in front.layers if stage_of(layer.name, front.stages) >= stage)
        for stage in probed_stages(method, facts)
    )  # fmt: skip


def _exact_tail(method: MethodSpec, facts: ModelFacts) -> list[Layer]:
    """Layers whose gradient is exact: the front's last stages that have one, and the head. Their input needs none."""
    front, head, first = facts.parts["front"], list(facts.parts["auxiliary"].layers), first_exact_stage(method, facts)
    exact = [layer for layer in front.layers if stage_of(layer.name, front.stages) >= first]
    if not exact:
        return head
    return _chained([replace(exact[0], passes_on=False), *exact[1:], *head], frozen_head=False)


def _backward(facts: ModelFacts, part: Part) -> int:
    """Of one sample through the part by itself."""
    return _total_backward(facts.parts[part].layers)


def _total_backward(layers: Iterable[Layer]) -> int:
    return sum(layer.backward_macs for layer in layers)


def _chained(layers: Sequence[Layer], *, frozen_head: bool) -> list[Layer]:
    """Front and what follows it as one network: the gradient goes on through the second part."""
    return [
        layer if layer.name.startswith("front.")
        else replace(layer, learns=layer.learns and not frozen_head, passes_on=True)
        for layer in layers
    ]  # fmt: skip
