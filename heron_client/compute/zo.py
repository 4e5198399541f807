"""The zeroth-order kernel: gradients from forward passes alone, in NumPy, the same for every backend.

What decides its bits: vectors are float32, and a product is rounded before it is added; losses, slopes and coefficients
are float64, and a coefficient is rounded to float32 where it meets a vector.

Shape suffixes: B samples, D trainable parameters that are perturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from heron_client.compute.backend import Matrix, Vector
from heron_core.arrays import Array
from heron_core.replay.estimate import add_multiple

Difference = Literal["forward", "central"]
Losses = TypeVar("Losses", float, NDArray[np.float64])
"""One mean loss, or the samples' [B] in float64."""


def sum_of(losses_B: Vector) -> float:
    """Sum of a micro-batch's losses in float64. A batch's mean: these sums, added in order, over the batch's rows."""
    return float(losses_B.astype(np.float64).sum())


def directional_derivative(loss_perturbed: Losses, loss_base: Losses, mu: float) -> Losses:
    """Forward difference (l(theta + mu u) - l(theta)) / mu: the slope along u.  Eq. 2 without u."""
    return (loss_perturbed - loss_base) / mu


def central_derivative(loss_plus: Losses, loss_minus: Losses, mu: float) -> Losses:
    """Central difference (l(theta + mu u) - l(theta - mu u)) / (2 mu): the slope along u to second order."""
    return (loss_plus - loss_minus) / (2.0 * mu)


def cut_difference(perturbed: Sequence[Array], base: Sequence[Array]) -> list[Array]:
    """z(theta + mu u) - z(theta), float32 [B, ...] for each floating-point tensor at the cut."""
    with np.errstate(over="ignore", invalid="ignore"):
        pairs = zip(perturbed, base, strict=True)
        return [(z - z_base).astype(np.float32, copy=False) for z, z_base in pairs]


def along_cut(gradients: Sequence[Array], difference: Sequence[Array]) -> float:
    """<g_z, z(theta + mu u) - z(theta)>, summed in float64, the tensors in order: how the server's loss changes.

    Where a probe overflowed it is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        pairs = zip(gradients, difference, strict=True)
        return sum(float(np.multiply(g, change, dtype=np.float64).sum()) for g, change in pairs)


def add_slopes(
    gradient_D: Vector,
    theta_D: Vector,
    loss_at: Callable[[Vector], float],
    loss_base: float,
    directions: Iterable[Vector],
    num_directions: int,
    mu: float,
    scale: float,
    difference: Difference = "forward",
) -> list[float]:
    """Adds scale * slope_j * u_j / num_directions of each direction to `gradient_D`: Eq. 2. Returns the slopes.

    `theta_D` is never written: each probe is evaluated at a fresh theta + mu u, so nothing drifts. `directions` are
    consumed one at a time, none alive while the next is drawn; `loss_at` is called once a direction, twice with
    central differences. For directions of one micro-batch among several, or of one block of the parameters:
    `theta_D`, `gradient_D` are then that block's, and `num_directions` is how many the whole mean has.
    """
    slopes = []
    probe_D = np.empty_like(theta_D)
    for u_D in directions:
        slope = _slope(loss_at, theta_D, u_D, loss_base, mu, difference, probe_D)
        add_multiple(gradient_D, u_D, scale * slope / num_directions, probe_D)
        slopes.append(slope)
        del u_D
    return slopes


def add_slopes_per_sample(
    gradient_D: Vector,
    theta_D: Vector,
    losses_at: Callable[[Matrix], Vector],
    losses_base_B: Vector,
    directions: Iterable[Matrix],
    num_directions: int,
    mu: float,
    scale: float,
    difference: Difference = "forward",
) -> list[float]:
    """Adds scale * sum_b slope_b * u_b / num_directions: one direction [D] for each of the samples; returns the slopes.

    `directions` are float32 [B, D]; `losses_at` takes the samples' own parameters [B, D] and gives their losses [B].
    `num_directions` is how many the whole mean has: q for each sample of the batch. The samples' shares are added in
    order.
    """
    slopes: list[float] = []
    base_B = losses_base_B.astype(np.float64)
    probe_BD: Matrix | None = None
    for u_BD in directions:
        probe_BD = np.empty_like(u_BD) if probe_BD is None else probe_BD
        slope_B = _slope(
            lambda own_BD: losses_at(own_BD).astype(np.float64), theta_D, u_BD, base_B, mu, difference, probe_BD
        )
        found = slope_B.tolist()
        for u_D, slope in zip(u_BD, found, strict=True):
            add_multiple(gradient_D, u_D, scale * slope / num_directions, probe_BD[0])
        slopes += found
        del u_BD, u_D
    return slopes


def _slope(
    loss_at: Callable[[Vector], Losses], theta_D: Vector, u_D: Vector, loss_base: Losses, mu: float,
    difference: Difference, probe_D: Vector,
) -> Losses:  # fmt: skip
    """The slope along u, by one probe or by two. `probe_D`: memory for them."""
    loss_plus = loss_at(shifted(theta_D, u_D, mu, probe_D))
    if difference == "central":
        return central_derivative(loss_plus, loss_at(shifted(theta_D, u_D, -mu, probe_D)), mu)
    return directional_derivative(loss_plus, loss_base, mu)


def shifted(theta_D: Vector, u_D: Vector, length: float, probe_D: Vector) -> Vector:
    """theta + length * u, in `probe_D`. One that overflows gives a loss that is not finite, which is an error there."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(u_D, length, out=probe_D)
        return np.add(theta_D, probe_D, out=probe_D)
