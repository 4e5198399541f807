"""What runs the model must know of the settings: the client's part in the method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from heron_core.spec.methods import Method, Part, method_of, moves
from heron_core.spec.run_spec import RunSpec


@dataclass(frozen=True)
class Role:
    """Which parts of the model a client runs, and what becomes of their parameters."""

    parts: tuple[Part, ...]
    """The front, then what its outputs go through, if anything: the auxiliary head, in fedavg the back."""
    moves: Callable[[str], bool]
    """Of a trainable parameter such as `front.conv1.weight`: does the client's optimiser move it?"""
    exact: Callable[[str], bool]
    """Of a parameter that moves: is its gradient exact, so that a graph is built for it?"""
    exact_stages: int
    """How many of the front's last stages have an exact gradient, whatever `exact` says of their parameters."""
    keeps_statistics: bool
    """Does the front normalise by its running statistics in training too, and never move them?"""
    seed: int
    threads: int


def role_of(spec: RunSpec) -> Role:
    """The one that the settings give to every client."""
    method = method_of(spec.method)
    keeps = not method.client_learns and spec.method.running_statistics == "keep"
    stages = spec.method.zo.exact_stages if method.front == "zeroth_order" else 0
    return Role(
        method.client_parts, partial(moves, spec.method), partial(_exact, method), stages, keeps, spec.seed,
        spec.threads.client,
    )  # fmt: skip


def _exact(method: Method, name: str) -> bool:
    if method.front == "zeroth_order":
        return method.head == "detached" and name.startswith("auxiliary.")
    return method.front in ("auxiliary_loss", "cut_gradients", "whole_model")
