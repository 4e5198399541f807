"""Slopes to a gradient: what a step adds up, by who probes and by who replays it.

What decides its bits: vectors are float32, and a product is rounded before it is added; slopes and coefficients are
float64, and a coefficient is rounded to float32 where it meets a vector. Each operation is element by element and one
that IEEE 754 rounds correctly, so that neither vector width nor thread count matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""Parameters, a gradient or a direction, float32 [D]."""
SMALLEST_SPREAD = 1e-12


def gradient_scale(distribution: str, size: int) -> float:
    """E[u u^T] = I / scale: d for u on the unit sphere (Eq. 2), 1 for u of unit variance per coordinate."""
    return float(size) if distribution == "sphere" else 1.0


def add_multiple(gradient_D: Vector, u_D: Vector, coefficient: float, scratch_D: Vector) -> None:
    """gradient <- gradient + coefficient * u. One that overflows is found by the next loss."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(u_D, coefficient, out=scratch_D)
        gradient_D += scratch_D


def divide_by_spread(gradient_D: Vector, slopes: Sequence[float]) -> None:
    """gradient / std(slopes), in place: a step's length no longer follows the loss's steepness.  FZOO.

    The population's standard deviation, float64; below 1e-12 the gradient stays as it is.
    """
    spread = float(np.std(np.asarray(slopes, dtype=np.float64)))
    if spread >= SMALLEST_SPREAD:
        with np.errstate(over="ignore"):
            gradient_D /= spread


def add_pull(gradient_D: Vector, theta_D: Vector, start_D: Vector, proximal: float) -> None:
    """gradient <- gradient + proximal * (theta - start): FedProx's term."""
    pull_D = theta_D - start_D
    pull_D *= proximal
    gradient_D += pull_D
