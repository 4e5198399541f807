"""The zeroth-order kernel: gradients from losses alone.

Shape suffix: D, the number of trainable client parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

Difference = Literal["forward", "central"]


def directional_derivative(loss_perturbed: float, loss_base: float, mu: float) -> float:
    """Forward difference (l(theta + mu u) - l(theta)) / mu: the slope along u.  Eq. 2 without u."""
    return (loss_perturbed - loss_base) / mu


def central_derivative(loss_plus: float, loss_minus: float, mu: float) -> float:
    """Central difference (l(theta + mu u) - l(theta - mu u)) / (2 mu): the slope along u to second order."""
    return (loss_plus - loss_minus) / (2.0 * mu)


def gradient_scale(distribution: str, size: int) -> float:
    """E[u u^T] = I / scale: d for u on the unit sphere (Eq. 2), 1 for u of unit variance per coordinate."""
    return float(size) if distribution == "sphere" else 1.0


def zeroth_order_gradient(
    theta_D: Tensor,
    loss_at: Callable[[Tensor], float],
    loss_base: float,
    directions: Iterable[Tensor],
    num_directions: int,
    mu: float,
    scale: float,
    difference: Difference = "forward",
) -> Tensor:
    """(1/q) sum_j scale * slope_j * u_j, float32 [D]: the mean over q directions of Eq. 2.

    `theta_D` is never written: each probe is evaluated at a fresh theta + mu u, so nothing drifts. `directions` are
    consumed one at a time and overwritten; `loss_at` is called once a direction, twice with central differences.
    """
    gradient_D = torch.zeros_like(theta_D)
    probe_D = torch.empty_like(theta_D)
    for u_D in directions:
        loss_plus = loss_at(torch.add(theta_D, u_D, alpha=mu, out=probe_D))
        if difference == "central":
            loss_minus = loss_at(torch.add(theta_D, u_D, alpha=-mu, out=probe_D))
            slope = central_derivative(loss_plus, loss_minus, mu)
        else:
            slope = directional_derivative(loss_plus, loss_base, mu)
        gradient_D.add_(u_D, alpha=scale * slope / num_directions)
    return gradient_D
