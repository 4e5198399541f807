"""How much memory a run needs on the server: counted from the run spec, not measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from heron_core.arrays import TensorSpec
from heron_core.errors import ConfigError
from heron_core.models.split_model import AssembledModel, SplitModel
from heron_core.spec.methods import Part, method_of
from heron_core.spec.run_spec import OptimizerSpec, RunSpec
from heron_server.config import ServerSettings
from heron_server.metrics.counts import EVALUATION_ROWS
from heron_server.planning import plan
from heron_server.text.units import bytes_text
from heron_server.uploads.scheduler import upload_slots

VERSIONS = 2
"""Of the client states: the boundary's, and the one that is being evaluated."""
CHECKPOINT = "a checkpoint being written"
CHECKPOINT_COPIES = 2
"""Of everything that it holds: the tensors, and the file's bytes."""


@dataclass(frozen=True)
class Item:
    """One thing that the server holds."""

    name: str
    size_bytes: int
    formula: str
    """Where the figure comes from, in words."""
    remedy: str = ""
    """What to lower."""
    saved_bytes: int = 0
    """Of it in a checkpoint."""


def server_memory(spec: RunSpec, settings: ServerSettings, model: SplitModel) -> list[Item]:
    """Everything that grows with the run's settings, the largest first; without Python, torch and the test set."""
    items = [*_backs(spec, model), *_client_states(spec, model), *_uploads(spec, settings, model)]
    items += [*_work(spec, model), _checkpoint(items)]
    return sorted((item for item in items if item.size_bytes), key=lambda item: -item.size_bytes)


def check_memory_limit(items: list[Item], settings: ServerSettings) -> None:
    """ConfigError with the figure and what to lower, where the run needs more than server.memory_limit."""
    needed, limit = sum(item.size_bytes for item in items), settings.memory_limit or machine_memory()
    if needed > limit:
        largest = max((item for item in items if item.name != CHECKPOINT), key=lambda item: item.size_bytes)
        whose = "server.memory_limit" if settings.memory_limit else "this machine's memory"
        raise ConfigError(
            f"the run needs {bytes_text(needed)} ({needed:,} bytes) on the server, {whose} is {bytes_text(limit)}; "
            f"most of it is {largest.name}: {bytes_text(largest.size_bytes)}, {largest.formula}; "
            f"lower {largest.remedy or 'the model'}"
            f"{', or raise server.memory_limit' if settings.memory_limit else ''}"
        )


def machine_memory() -> int:
    """Bytes of this machine's physical memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# -- what it holds -----------------------------------------------------------------------------------------------


def _backs(spec: RunSpec, model: SplitModel) -> list[Item]:
    method, clients, drawn = method_of(spec.method), spec.federation.clients, plan.participants(spec)
    weights, buffers = _sizes(model, "back", spec.seed)
    size, slots = weights + buffers, _moments(spec.server_optimizer)
    moments = f"{slots} x {bytes_text(weights)} of {spec.server_optimizer.name}'s moments"
    if method.backs == "none":
        return [Item("the back", size, "filled from the client states, never trained", saved_bytes=size)]
    if method.backs == "shared":
        whole = size + slots * weights
        return [Item("the back", whole, f"{bytes_text(size)}, {moments}", "the model", whole)]
    return [
        Item(
            "a back for each client", (drawn + 1) * size + clients * slots * weights,
            f"{drawn} copies and their average of {bytes_text(size)}, and for each of {clients} clients {moments}",
            'federation.clients, or take method.name = "sflv2", which has one back for all',
            size + clients * slots * weights,
        )
    ]  # fmt: skip


def _client_states(spec: RunSpec, model: SplitModel) -> list[Item]:
    tensors, clients, drawn = plan.client_state(spec, model), spec.federation.clients, plan.participants(spec)
    parts = method_of(spec.method).client_parts
    modules = sum(sum(_sizes(model, part, spec.seed)) for part in parts)
    common = sum(t.size_bytes for t in tensors if t.place in ("averaged", "shared"))
    kept = sum(t.size_bytes for t in tensors if t.place == "kept")
    heads = sum(t.size_bytes for t in tensors if t.place == "own")
    up = plan.state_bytes(spec, tensors).up
    few = "federation.clients or the model"
    return [
        Item("the client's model", modules, " and ".join(parts), "the model"),
        Item("client state", VERSIONS * common, f"{VERSIONS} versions of {bytes_text(common)}", "the model", common),
        Item("updates", drawn * up, f"{drawn} clients x {bytes_text(up)}, until they are averaged", few),
        Item("kept moments", VERSIONS * clients * kept, f"{VERSIONS} x {clients} clients x {bytes_text(kept)}",
             'federation.clients, or set method.moments = "averaged" or "reset"', clients * kept),
        *_head_moments(spec, model),
        Item("aligned heads", VERSIONS * clients * heads, f"{VERSIONS} x {clients} clients x {bytes_text(heads)}",
             "federation.clients or the head", clients * heads),
    ]  # fmt: skip


def _head_moments(spec: RunSpec, model: SplitModel) -> list[Item]:
    """Of the head that the server trains; its weights are the client's model's."""
    if method_of(spec.method).head != "server":
        return []
    head = model.build("auxiliary", spec.seed)
    weights = _bytes(p for n, p in head.named_parameters() if model.trainable(f"auxiliary.{n}"))
    slots, rule = _moments(spec.server_optimizer), spec.server_optimizer.name
    whole = slots * weights
    formula = f"{slots} x {bytes_text(weights)} of {rule}'s moments"
    return [Item("the head's moments", whole, formula, "the head", whole)]


def _uploads(spec: RunSpec, settings: ServerSettings, model: SplitModel) -> list[Item]:
    method, clients, drawn = method_of(spec.method), spec.federation.clients, plan.participants(spec)
    if not method.uploads and not plan.clients_evaluate(spec, settings.names_test_set):
        return []
    step, activations = plan.upload_bytes(spec, model), plan.activation_bytes(spec, model)
    slots = upload_slots(settings.byte_budget, step, drawn)
    purpose = "" if method.uploads else ", for evaluation by the clients"
    whose = f"{slots} of {bytes_text(step)}, by server.byte_budget and the clients{purpose}"
    items = [Item("uploads", slots * step, whose,
                  "server.byte_budget or method.batch_size")]  # fmt: skip
    if method.returns_cut_gradients:
        items.append(Item("cut gradients", drawn * activations, f"{drawn} clients x {bytes_text(activations)}, until "
                          "their next upload", "federation.clients or method.batch_size"))  # fmt: skip
    if method.head == "aligned":
        held = max(1, spec.method.alignment.buffer_samples // spec.method.batch_size)
        formula = f"{clients} clients x {held} uploads of {bytes_text(step)}"
        whole = clients * held * step
        items.append(Item("alignment buffers", whole, formula, "method.alignment.buffer_samples", whole))
    return items


def _work(spec: RunSpec, model: SplitModel) -> list[Item]:
    """The larger of a training step's graph and gradients, and an evaluation batch's maps."""
    rows, weights = spec.method.batch_size, _sizes(model, "back", spec.seed)[0]
    back = _maps(model.build("back", spec.seed), model.activations)
    whole = _maps(AssembledModel(model.build("front", spec.seed), model.build("back", spec.seed)), model.inputs)
    evaluation = Item(
        "one evaluation batch", EVALUATION_ROWS * (whole.widest + sum(s.bytes_per_sample for s in model.inputs)),
        f"{EVALUATION_ROWS} samples, input and widest layer", "the model",
    )  # fmt: skip
    if not method_of(spec.method).uploads:
        return [evaluation]
    step = Item(
        "one step on the back", rows * back.total + weights,
        f"{rows} samples x {bytes_text(back.total)} of maps, and the gradient", "method.batch_size",
    )  # fmt: skip
    return [max(step, evaluation, key=lambda item: item.size_bytes)]


def _checkpoint(items: list[Item]) -> Item:
    """A boundary on its way to the disk."""
    size, largest = sum(item.saved_bytes for item in items), max(items, key=lambda item: item.saved_bytes)
    formula = f"{CHECKPOINT_COPIES} x {bytes_text(size)}, most of it {largest.name}"
    return Item(CHECKPOINT, CHECKPOINT_COPIES * size, formula)


# -- sizes -------------------------------------------------------------------------------------------------------


def _moments(optimizer: OptimizerSpec) -> int:
    """Vectors as large as the weights that the optimiser keeps."""
    return 2 if optimizer.name == "adam" else int(optimizer.momentum > 0)


def _sizes(model: SplitModel, part: Part, seed: int) -> tuple[int, int]:
    """Bytes of a part's parameters, and of its buffers."""
    module = model.build(part, seed)
    return _bytes(module.parameters()), _bytes(module.buffers())


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


@dataclass
class Maps:
    """Bytes of layers' outputs for one sample."""

    total: int = 0
    widest: int = 0
    """Input and output of one layer together."""


def _maps(module: nn.Module, inputs: tuple[TensorSpec, ...]) -> Maps:
    """Of every layer, by one forward pass over a zero sample in evaluation mode."""
    maps = Maps()
    for layer in module.modules():
        if not any(True for _ in layer.children()):
            layer.register_forward_hook(partial(_measure, maps))
    sample = tuple(torch.zeros(1, *spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    with torch.inference_mode():
        module.eval()(*sample)
    return maps


def _measure(maps: Maps, layer: nn.Module, inputs: Any, output: Any) -> None:
    out = output.numel() * output.element_size() if isinstance(output, Tensor) else 0
    given = sum(t.numel() * t.element_size() for t in inputs if isinstance(t, Tensor))
    maps.total += out
    maps.widest = max(maps.widest, given + out)
