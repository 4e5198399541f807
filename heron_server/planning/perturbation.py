"""What mu * u means for a client: its length, the change of each weight, and what float32 leaves of the slope."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

from heron_core.spec.run_spec import ZoSpec

FLOAT32_STEP = 2.0**-24
"""Relative rounding error of one float32 operation."""


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


def perturbation(zo: ZoSpec, perturbed: int, rows: int, classes: int) -> Perturbation:
    """On the sphere |mu u| = mu, so mu / sqrt(d) a weight; with unit variance mu a weight, so mu sqrt(d) in all.

    Along a random direction the loss changes by about rms * |gradient|. Each of the batch's losses, about ln(classes),
    is rounded to float32; the mean over the B `rows` averages that by sqrt(B). `classes`: those that a label is one of,
    0 where it is none.
    """
    root = sqrt(max(1, perturbed))
    rms = zo.mu / root if zo.distribution == "sphere" else zo.mu
    rounding = FLOAT32_STEP * log(max(2, classes)) / sqrt(rows)
    return Perturbation(perturbed, rms, rms * root, rounding / rms)
