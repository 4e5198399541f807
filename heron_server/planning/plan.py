"""What a run spec will cost: counted, not run. For `heron-server validate`, the uploads' room, and the summary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod, sqrt
from typing import Literal

import numpy as np
from torch import Tensor, nn

from heron_core.models.split_model import SplitModel
from heron_core.spec import methods
from heron_core.spec.methods import Place, goes_up, method_of, moment_tensors, place_of
from heron_core.spec.run_spec import RunSpec

FLOAT32_STEP = 2.0**-24
"""Relative rounding error of one float32 operation."""


# -- parameters --------------------------------------------------------------------------------------------------


Content = Literal["weights", "buffer", "moments"]


@dataclass(frozen=True)
class StateTensor:
    """One tensor of the client state."""

    name: str
    size: int
    """Elements."""
    size_bytes: int
    content: Content
    place: Place

    @property
    def part(self) -> str:
        return self.name.partition(".")[0]


def client_state(spec: RunSpec, model: SplitModel) -> list[StateTensor]:
    """What FetchModel gives one client: trainable parameters, then buffers, then the client optimiser's moments."""

    def entry(name: str, tensor: Tensor, content: Content) -> StateTensor:
        place = place_of(spec.method, name, buffer=content == "buffer")
        return StateTensor(name, tensor.numel(), tensor.numel() * tensor.element_size(), content, place)

    weights, buffers = [], []
    for part in method_of(spec.method).client_parts:
        module = model.build(part, spec.seed)
        named = ((f"{part}.{n}", p) for n, p in module.named_parameters())
        weights += [entry(name, p, "weights") for name, p in named if model.trainable(name)]
        learned = model.learned_buffers(nn.ModuleDict({part: module}))
        buffers += [entry(name, b, "buffer") for name, b in learned.items()]
    return [*weights, *buffers, *_moments(spec, weights)]


def _moments(spec: RunSpec, weights: list[StateTensor]) -> list[StateTensor]:
    travelling = moment_tensors(spec.method, [(t.name, t.size) for t in weights])
    place = place_of(spec.method, "moments")
    return [
        StateTensor(name, prod(shape), prod(shape) * np.dtype(dtype).itemsize, "moments", place)
        for name, dtype, shape in travelling
    ]


@dataclass(frozen=True)
class StateBytes:
    """One client's state on its way: all of it, and what the paper charges of it."""

    down: int
    up: int
    paper_down: int
    """Trainable weights of the front (of the whole model in fedavg)."""
    paper_up: int


def state_bytes(spec: RunSpec, state: Iterable[StateTensor]) -> StateBytes:
    """Bytes of one FetchModel and one SubmitUpdate."""
    state = list(state)
    up = [t for t in state if goes_up(t.place)]

    def total(tensors: list[StateTensor]) -> int:
        return sum(t.size_bytes for t in tensors)

    def charged(tensors: list[StateTensor]) -> int:
        return total([t for t in tensors if t.content == "weights" and t.part in ("front", "back")])

    return StateBytes(total(state), total(up), charged(state), charged(up))


def client_parameters(spec: RunSpec, model: SplitModel) -> dict[str, int]:
    """Parameters of each part, and how many the client's probes perturb."""
    parts: tuple[Literal["front", "auxiliary", "back"], ...] = ("front", "auxiliary", "back")
    counted: dict[str, int] = {p: sum(t.numel() for t in model.build(p, spec.seed).parameters()) for p in parts}
    weights = [t for t in client_state(spec, model) if t.content == "weights"]
    joint = method_of(spec.method).head == "joint"
    return counted | {"perturbed": sum(t.size for t in weights if joint or t.part == "front")}


@dataclass(frozen=True)
class Perturbation:
    """What mu * u means for a client of d perturbed parameters."""

    size: int
    """d: perturbed parameters."""
    rms: float
    """Change per weight, root mean square."""
    length: float
    """Of the whole change mu * u (its root mean square where u is not on the sphere)."""
    rounding: float
    """Share of the loss difference that float32 rounding makes up, for a gradient of norm 1."""


def perturbation(spec: RunSpec, perturbed: int, classes: int) -> Perturbation:
    """On the sphere |mu u| = mu, so mu / sqrt(d) a weight; with unit variance mu a weight, so mu sqrt(d) in all.

    Along a random direction the loss changes by about rms * |gradient|. Each of the batch's losses, about ln(classes),
    is rounded to float32; the mean over B of them averages that by sqrt(B).
    """
    zo, root = spec.method.zo, sqrt(max(1, perturbed))
    rms = zo.mu / root if zo.distribution == "sphere" else zo.mu
    rounding = FLOAT32_STEP * float(np.log(max(2, classes))) / sqrt(spec.method.batch_size)
    return Perturbation(perturbed, rms, rms * root, rounding / rms)


# -- bytes -------------------------------------------------------------------------------------------------------


def activation_bytes(spec: RunSpec, model: SplitModel) -> int:
    """Bytes of one upload's activations, without labels."""
    return spec.method.batch_size * sum(s.bytes_per_sample for s in model.activations)


def label_bytes(spec: RunSpec, model: SplitModel) -> int:
    """Bytes of one upload's labels."""
    return spec.method.batch_size * model.task.labels.tensor.bytes_per_sample


def upload_bytes(spec: RunSpec, model: SplitModel) -> int:
    """Bytes of one whole upload: B samples at the cut, and their labels."""
    return activation_bytes(spec, model) + label_bytes(spec, model)


def uploads_per_round(spec: RunSpec) -> int:
    """Of one client."""
    return methods.uploads_per_round(spec.method)


def clients_evaluate(spec: RunSpec, server_has_test_set: bool) -> bool:
    """Do clients send what they hold out, because the server brings no test set of its own?"""
    return spec.data.source == "client" and spec.data.holdout > 0 and not server_has_test_set


@dataclass(frozen=True)
class Traffic:
    """Payload bytes of one round with all its participants."""

    activations_up: int
    labels_up: int
    cut_gradients_down: int
    client_state_up: int
    client_state_down: int

    @property
    def total(self) -> int:
        return sum(
            (self.activations_up, self.labels_up, self.cut_gradients_down, self.client_state_up, self.client_state_down)
        )


def participants(spec: RunSpec) -> int:
    """Clients in one round."""
    return spec.federation.clients_per_round or spec.federation.clients


def round_traffic(spec: RunSpec, model: SplitModel) -> Traffic:
    """What Heron charges: all payload that crosses the wire."""
    clients, state = participants(spec), state_bytes(spec, client_state(spec, model))
    activations = clients * uploads_per_round(spec) * activation_bytes(spec, model)
    return Traffic(
        activations_up=activations,
        labels_up=clients * uploads_per_round(spec) * label_bytes(spec, model),
        cut_gradients_down=activations if method_of(spec.method).returns_cut_gradients else 0,
        client_state_up=clients * state.up,
        client_state_down=clients * state.down,
    )
