"""The family of methods as small compositions: how the client steps, what comes back, who owns which tensors.

arXiv 2601.09076, Table I and its baselines. Both sides read this table; neither has a training loop per method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from heron_core.spec.optimizer import OptimizerSpec
from heron_core.spec.run_spec import MethodSpec, RunSpec

Part = Literal["front", "auxiliary", "back"]
"""Of the split network: what comes before the cut, the head on the cut, and what comes after it."""
PARTS: tuple[Part, ...] = get_args(Part)
Front = Literal["zeroth_order", "auxiliary_loss", "cut_gradients", "whole_model", "none"]
Head = Literal["joint", "detached", "server", "aligned", "none"]
Place = Literal["averaged", "kept", "shared", "own"]


@dataclass(frozen=True)
class Method:
    """One row of the family."""

    front: Front
    """How the client steps its front: by forward passes alone, or by backpropagation of its auxiliary loss, of the
    returned cut gradients, or of the whole model's loss; none: it never does."""
    head: Head
    """Who moves the auxiliary head: the client jointly with the front, or by its own gradient on detached activations;
    the server on what it receives, or by aligning one head per client; none: nobody, or there is no head. Zeroth order
    without a head takes its slopes on the returned cut gradients."""
    backs: Literal["shared", "per_client", "none"]
    """The server's models: one for all, one for each client and averaged each round, or none."""

    @property
    def returns_cut_gradients(self) -> bool:
        """Does the server answer each upload with the gradient at the cut?"""
        return self.front == "cut_gradients" or (self.front, self.head) == ("zeroth_order", "none")

    @property
    def uploads(self) -> bool:
        """Do clients send activations?"""
        return self.backs != "none"

    @property
    def client_parts(self) -> tuple[Part, ...]:
        """What a client builds and runs."""
        if self.front == "whole_model":
            return ("front", "back")
        return ("front",) if self.returns_cut_gradients else ("front", "auxiliary")

    @property
    def has_local_loss(self) -> bool:
        """Do clients learn by a loss of their own? An aligned head's stands for the server's."""
        return self.client_learns and not self.returns_cut_gradients and self.head != "aligned"

    @property
    def client_learns(self) -> bool:
        """Do clients ever move a parameter?"""
        return self.front != "none"


HEADS: Mapping[str, Head] = {"zo": "joint", "first_order": "detached", "server": "server", "aligned": "aligned"}


def method_of(spec: MethodSpec) -> Method:
    """The composition that the settings name."""
    match spec.name:
        case "heron":
            head = "none" if spec.objective == "cut_gradient" else HEADS[spec.auxiliary_update]
            return Method("zeroth_order", head, "shared")
        case "cse_fsl":
            return Method("auxiliary_loss", "joint", "shared")
        case "fsl_sage":
            return Method("auxiliary_loss", "aligned", "shared")
        case "sflv1":
            return Method("cut_gradients", "none", "per_client")
        case "sflv2":
            return Method("cut_gradients", "none", "shared")
        case "fedavg":
            return Method("whole_model", "none", "none")
        case "frozen":
            return Method("none", "none", "shared")


# -- who owns which tensor -----------------------------------------------------------------------------------------


def place_of(spec: MethodSpec, name: str, *, buffer: bool = False) -> Place:
    """Where a client tensor such as `front.conv1.weight` or `moments.first` belongs.

    averaged: goes up, and comes down as the Fed-Server's mean. kept: goes up, and comes down to the same client.
    shared: only comes down, the same for all. own: only comes down, another for each client.
    """
    method, part = method_of(spec), name.partition(".")[0]
    if part == "moments":
        return "kept" if spec.moments == "kept" else "averaged"
    if method.front == "none":
        updates = buffer and part == "front" and spec.running_statistics == "update"
        return "averaged" if updates else "shared"
    if part == "auxiliary":
        places: Mapping[Head, Place] = {"server": "shared", "aligned": "own", "none": "shared"}
        return places.get(method.head, "averaged")
    return "averaged"


def goes_up(place: Place) -> bool:
    """Is it part of a client's update?"""
    return place in ("averaged", "kept")


def moves(spec: MethodSpec, name: str) -> bool:
    """Is this trainable parameter in the vector that the client's optimiser moves? A head of the server's is not."""
    method, part = method_of(spec), name.partition(".")[0]
    return method.client_learns and (part != "auxiliary" or method.head in ("joint", "detached"))


def moment_tensors(spec: MethodSpec, weights: Iterable[tuple[str, int]]) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name, dtype, shape) of the client optimiser's moments that travel, in order; none where they are reset.

    `weights`: (name, elements) of the trainable parameters.
    """
    if spec.moments == "reset" or not method_of(spec).client_learns:
        return []
    size, rule = sum(count for name, count in weights if moves(spec, name)), spec.optimizer
    if rule.name == "sgd":
        return [("moments.velocity", "float32", (size,))] if rule.momentum else []
    return [
        ("moments.first", "float32", (size,)), ("moments.second", "float32", (size,)), ("moments.steps", "int64", ()),
    ]  # fmt: skip


def tolerates(spec: RunSpec) -> bool:
    """Does the server go on with activations that have moved a little since they were sent?"""
    return spec.codec.reuse and method_of(spec.method).client_learns


def schedules(spec: RunSpec) -> dict[str, tuple[OptimizerSpec, int]]:
    """Table of each optimiser that the run uses -> its settings, and how many steps its schedule is over."""
    method, uploads = spec.method, uploads_per_round(spec.method)
    client = {"method.optimizer": (method.optimizer, spec.rounds * method.local_steps)}
    server = {"server_optimizer": (spec.server_optimizer, spec.rounds * uploads)}
    return {**(client if method_of(method).client_learns else {}), **(server if uploads else {})}


def uploads_per_round(spec: MethodSpec) -> int:
    """Of one client: every k-th local step; the steps after the last k-th upload nothing. None in fedavg."""
    return spec.local_steps // spec.upload_period if method_of(spec).uploads else 0
