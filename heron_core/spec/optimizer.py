"""An optimiser's settings, and the learning rate of each of its steps: a pure function, the same on both sides."""

from __future__ import annotations

from math import cos, pi
from typing import Literal

from heron_core.spec.kinds import Count, Fraction, PositiveFloat, Settings


class OptimizerSpec(Settings):
    name: Literal["adam", "sgd"] = "adam"
    """Update rule."""
    lr: PositiveFloat = 1e-3
    """Learning rate."""
    momentum: Fraction = 0.0
    """SGD momentum."""
    beta1: Fraction = 0.9
    """Adam: decay of the first moment."""
    beta2: Fraction = 0.999
    """Adam: decay of the second moment."""
    eps: PositiveFloat = 1e-8
    """Adam: added to the root of the second moment."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """The learning rate over the whole run, step by step: constant, or from `lr` down to `final` times `lr` along a
    line or half a cosine. A client's steps are its local steps, the server's are the uploads of one client."""
    final: Fraction = 0.1
    """Share of `lr` at the end of the schedule."""
    warm_up: Count = 0
    """So many steps at the start of the run rise to `lr` along a line; the schedule comes down over the others."""


def learning_rate(spec: OptimizerSpec, step: int, steps: int) -> float:
    """Of step t = `step`, from 0, of the T = `steps` of a run with w steps of warm-up.

    constant   lr
    t < w      lr * (t + 1) / (w + 1)
    linear     lr * (1 - (1 - final) * p)                          p = (t - w) / (T - w)
    cosine     lr * (final + (1 - final) * (1 + cos(pi * p)) / 2)
    """
    if spec.schedule == "constant":
        return spec.lr
    warm_up = spec.warm_up
    if step < warm_up:
        return spec.lr * (step + 1) / (warm_up + 1)
    gone = (step - warm_up) / (steps - warm_up)
    if spec.schedule == "linear":
        return spec.lr * (1 - (1 - spec.final) * gone)
    return spec.lr * (spec.final + (1 - spec.final) * (1 + cos(pi * gone)) / 2)


def schedule_text(spec: OptimizerSpec, steps: str) -> str:
    """`0.001`, or `linear from 0.001 to 0.0001, after a warm-up of 10 local steps`; `steps` says of what."""
    if spec.schedule == "constant":
        return f"{spec.lr:g}"
    warm_up = f", after a warm-up of {spec.warm_up} {steps}" if spec.warm_up else ""
    return f"{spec.schedule} from {spec.lr:g} to {spec.lr * spec.final:g}{warm_up}"
