"""The client state, tensor by tensor: what a client fetches, what it sends up, and what of it its probes perturb."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from heron_core.models.families.stages import stage_of
from heron_core.spec.methods import Place, goes_up, method_of, moment_tensors, place_of
from heron_core.spec.run_spec import MethodSpec
from heron_server.planning.facts import ModelFacts, TensorFacts

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
        """Of the model; `moments` for those of the client's optimiser."""
        return self.name.partition(".")[0]


def client_state(method: MethodSpec, facts: ModelFacts) -> list[StateTensor]:
    """What FetchModel gives one client: trainable parameters, then buffers, then the client optimiser's moments."""

    def entry(tensor: TensorFacts, content: Content) -> StateTensor:
        place = place_of(method, tensor.name, buffer=content == "buffer")
        return StateTensor(tensor.name, tensor.size, tensor.size_bytes, content, place)

    parts = [facts.parts[part] for part in method_of(method).client_parts]
    weights = [entry(p, "weights") for part in parts for p in part.trainable]
    buffers = [entry(b, "buffer") for part in parts for b in part.buffers if b.learned]
    return [*weights, *buffers, *_moments(method, weights)]


def _moments(method: MethodSpec, weights: list[StateTensor]) -> list[StateTensor]:
    travelling = moment_tensors(method, [(t.name, t.size) for t in weights])
    place = place_of(method, "moments")
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


def state_bytes(state: Iterable[StateTensor]) -> StateBytes:
    """Bytes of one FetchModel and one SubmitUpdate."""
    state = list(state)
    up = [t for t in state if goes_up(t.place)]

    def total(tensors: list[StateTensor]) -> int:
        return sum(t.size_bytes for t in tensors)

    def charged(tensors: list[StateTensor]) -> int:
        return total([t for t in tensors if t.content == "weights" and t.part in ("front", "back")])

    return StateBytes(total(state), total(up), charged(state), charged(up))


def perturbed(method: MethodSpec, facts: ModelFacts) -> tuple[TensorFacts, ...]:
    """The parameters that a zeroth-order client's probes perturb: the front's, but for its last stages with an exact
    gradient, and the head's where probes move it."""
    joint, front = method_of(method).head == "joint", facts.parts["front"]
    below = [p for p in front.trainable if stage_of(p.name, front.stages) < first_exact_stage(method, facts)]
    return (*below, *(facts.parts["auxiliary"].trainable if joint else ()))


def first_exact_stage(method: MethodSpec, facts: ModelFacts) -> int:
    """Number of the front's first stage with an exact gradient; above all stages' numbers, where none has."""
    stages, exact = facts.parts["front"].stages, method.zo.exact_stages
    return len(stages) + 1 if not exact else max(0, len(stages) - exact)
