from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heron_client.compute.zo import (
    add_slopes,
    add_slopes_per_sample,
    central_derivative,
    directional_derivative,
    sum_of,
)
from heron_core.arrays import Array
from heron_core.replay.estimate import divide_by_spread, gradient_scale
from heron_core.streams import direction, generator

D = 7
DISTRIBUTIONS = ["sphere", "gaussian", "rademacher"]
Loss = Callable[[Tensor], Tensor]


def directions(distribution: str, count: int, size: int = D) -> Iterator[Array]:
    for j in range(count):
        u = direction(distribution, size, generator(3, "test", distribution, j))
        yield u.astype(np.float64)


def bumpy(theta_D: Tensor) -> Tensor:
    """Smooth, not quadratic."""
    return (theta_D.sin() * torch.arange(1, theta_D.numel() + 1)).sum() + (theta_D**2).sum().exp().log1p()


def quadratic(theta_D: Tensor) -> Tensor:
    matrix = torch.arange(float(D * D), dtype=torch.float64).reshape(D, D) / 10
    return theta_D @ matrix @ theta_D + theta_D.sum()


def value(loss: Loss, theta_D: Array) -> float:
    return float(loss(torch.from_numpy(theta_D)))


def autograd(loss: Loss, theta_D: Array) -> Array:
    point = torch.from_numpy(theta_D).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(point), point)
    return gradient.numpy()


def mean_of(theta_D: Array, loss_at: Callable[[Array], float], *settings: Any) -> Array:
    """What one call adds to a gradient of zeros."""
    gradient_D = np.zeros_like(theta_D)
    add_slopes(gradient_D, theta_D, loss_at, *settings)
    return gradient_D


def estimate(loss: Loss, theta_D: Array, distribution: str, q: int, mu: float, difference: str) -> Array:
    return mean_of(
        theta_D, lambda p: value(loss, p), value(loss, theta_D), directions(distribution, q), q, mu,
        gradient_scale(distribution, theta_D.size), difference,
    )  # fmt: skip


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("difference", ["forward", "central"])
def test_mean_over_many_directions_is_the_gradient(distribution: str, difference: str) -> None:
    theta_D = np.linspace(-0.5, 0.6, D)
    q = 6000
    true_D = autograd(bumpy, theta_D)
    error_D = estimate(bumpy, theta_D, distribution, q, 1e-5, difference) - true_D
    # One direction's relative error is about sqrt(d + 1) at most; four standard errors.
    assert np.linalg.norm(error_D) / np.linalg.norm(true_D) < 4 * ((D + 1) / q) ** 0.5


def test_the_sphere_needs_the_factor_d() -> None:
    assert gradient_scale("sphere", D) == D
    assert gradient_scale("gaussian", D) == gradient_scale("rademacher", D) == 1.0
    theta_D, q = np.linspace(-0.5, 0.6, D), 6000
    loss_at = lambda p: value(bumpy, p)
    bare_D = mean_of(theta_D, loss_at, loss_at(theta_D), directions("sphere", q), q, 1e-5, 1.0)
    true_D = autograd(bumpy, theta_D)
    assert float(bare_D @ true_D / (true_D @ true_D)) == pytest.approx(1 / D, rel=0.15)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_central_difference_is_exact_on_quadratics(distribution: str) -> None:
    theta_D = np.linspace(-1, 1, D)
    (u_D,) = directions(distribution, 1)
    slope = float(autograd(quadratic, theta_D) @ u_D)
    scale = gradient_scale(distribution, D)
    got_D = estimate(quadratic, theta_D, distribution, 1, 0.5, "central")
    np.testing.assert_allclose(got_D, scale * slope * u_D, rtol=1e-10, atol=1e-10)
    assert not np.allclose(estimate(quadratic, theta_D, distribution, 1, 0.5, "forward"), got_D, rtol=1e-3)


def test_derivatives_are_the_paper_s_differences() -> None:
    assert directional_derivative(1.5, 1.0, 0.25) == 2.0
    assert central_derivative(1.5, 1.0, 0.25) == 1.0


@pytest.mark.parametrize(("difference", "calls_each"), [("forward", 1), ("central", 2)])
@pytest.mark.parametrize("q", [1, 3])
def test_theta_is_never_written_and_the_loss_is_called_once_or_twice_a_direction(
    difference: str, calls_each: int, q: int
) -> None:
    theta_D = np.linspace(-1, 1, D)
    before = theta_D.copy()
    probes: list[Array] = []

    def loss_at(probe_D: Array) -> float:
        assert not np.shares_memory(probe_D, theta_D)
        assert np.array_equal(theta_D, before)
        probes.append(probe_D.copy())
        return value(bumpy, probe_D)

    drawn = list(directions("gaussian", q))
    kept = [u.copy() for u in drawn]
    mean_of(theta_D, loss_at, value(bumpy, theta_D), iter(drawn), q, 1e-2, 1.0, difference)
    assert np.array_equal(theta_D, before)
    assert len(probes) == q * calls_each
    signs = [1.0] if difference == "forward" else [1.0, -1.0]
    assert np.array_equal(probes, [theta_D + sign * 1e-2 * u for u in kept for sign in signs])


@pytest.mark.parametrize("shape", [(D,), (4, D)], ids=["batch", "sample"])
def test_a_direction_is_let_go_before_the_next_is_drawn(shape: tuple[int, ...]) -> None:
    drawn: list[weakref.ref[Array]] = []

    def draw() -> Array:
        assert all(ref() is None for ref in drawn)
        drawn.append(weakref.ref(u := np.ones(shape, np.float32)))
        return u

    gradient_D, theta_D, each = np.zeros(D, np.float32), np.zeros(D, np.float32), (draw() for _ in range(3))
    if len(shape) == 1:
        add_slopes(gradient_D, theta_D, lambda p: float(p.sum()), 0.0, each, 3, 0.1, 1.0)
    else:
        base_B = np.zeros(4, np.float32)
        add_slopes_per_sample(gradient_D, theta_D, lambda p: p.sum(1), base_B, each, 12, 0.1, 1.0)
    assert len(drawn) == 3


def test_a_linear_loss_gives_q_exact_slopes_averaged() -> None:
    weights_D, theta_D = np.arange(1.0, D + 1), np.zeros(D)
    got_D = mean_of(theta_D, lambda p: float(p @ weights_D), 0.0, directions("rademacher", 5), 5, 1.0, 1.0)
    want_D = sum((float(u @ weights_D) * u for u in directions("rademacher", 5)), np.zeros(D)) / 5
    np.testing.assert_allclose(got_D, want_D, rtol=1e-12)


def test_shares_of_several_micro_batches_add_up_to_the_mean_over_all_their_directions() -> None:
    theta_D = np.linspace(-1, 1, D)
    weights = [np.arange(1.0, D + 1), np.ones(D)]
    gradient_D, slopes = np.zeros(D), []
    for weights_D in weights:
        base = float(theta_D @ weights_D)
        slopes += add_slopes(
            gradient_D, theta_D, lambda p, w=weights_D: float(p @ w), base, directions("gaussian", 3), 6, 0.1, 1.0
        )
    wanted = [(float(u @ w), u) for w in weights for u in directions("gaussian", 3)]
    assert slopes == pytest.approx([slope for slope, _ in wanted])
    np.testing.assert_allclose(gradient_D, sum((s * u for s, u in wanted), np.zeros(D)) / 6, rtol=1e-9)


@pytest.mark.parametrize(("difference", "calls_each"), [("forward", 1), ("central", 2)])
def test_one_direction_a_sample_gives_each_sample_s_own_slope_from_common_passes(
    difference: str, calls_each: int
) -> None:
    samples, q, mu = 4, 3, 0.5
    theta_D = np.linspace(-1, 1, D, dtype=np.float32)
    before, weights_BD = theta_D.copy(), np.arange(samples * D, dtype=np.float32).reshape(samples, D)
    calls = []

    def losses_at(theta_BD: Array) -> Array:
        calls.append(theta_BD.shape)
        return (theta_BD * weights_BD).sum(1)

    drawn = [np.stack(list(directions("rademacher", (j + 1) * samples)))[-samples:] for j in range(q)]
    drawn = [u_BD.astype(np.float32) for u_BD in drawn]
    gradient_D = np.zeros(D, np.float32)
    slopes = add_slopes_per_sample(
        gradient_D, theta_D, losses_at, losses_at(np.broadcast_to(theta_D, (samples, D))), iter(drawn), q * samples,
        mu, 2.0, difference,
    )  # fmt: skip
    assert np.array_equal(theta_D, before)
    assert calls == [(samples, D)] * (1 + q * calls_each)
    wanted = np.concatenate([(u_BD * weights_BD).sum(1) for u_BD in drawn])
    assert slopes == pytest.approx(wanted.tolist(), rel=1e-4)
    want_D = 2.0 * sum(w * u for w, u in zip(wanted, np.concatenate(drawn), strict=True)) / (q * samples)
    np.testing.assert_allclose(gradient_D, want_D, rtol=1e-4, atol=1e-3)


def test_the_spread_divides_and_none_leaves_the_gradient_as_it_is() -> None:
    slopes = [1.0, -2.0, 4.0]
    gradient_D = np.arange(3, dtype=np.float32)
    divide_by_spread(gradient_D, slopes)
    np.testing.assert_allclose(gradient_D, np.arange(3) / np.std(slopes), rtol=1e-6)
    for flat in ([0.5, 0.5], [1.0, 1.0 + 1e-13], [3.0]):
        divide_by_spread(untouched := np.arange(3, dtype=np.float32), flat)
        assert np.array_equal(untouched, np.arange(3))


def test_float32_vectors_get_the_written_operations_bits() -> None:
    """A product is rounded before it is added, and a coefficient where it meets a vector."""
    size, q, mu = 999, 3, 1e-3
    theta_D = np.linspace(-1, 1, size, dtype=np.float32)
    drawn = [u.astype(np.float32) for u in directions("gaussian", q, size)]
    loss_at = lambda p: float(np.sin(p.astype(np.float64)).sum())
    gradient_D = np.zeros(size, np.float32)
    slopes = add_slopes(gradient_D, theta_D, loss_at, loss_at(theta_D), iter(drawn), q, mu, 7.0)
    want_D = np.zeros(size, np.float32)
    for u_D, slope in zip(drawn, slopes, strict=True):
        probe_D = theta_D + np.float32(mu) * u_D
        assert slope == (loss_at(probe_D) - loss_at(theta_D)) / mu
        want_D = want_D + np.float32(7.0 * slope / q) * u_D
    assert np.array_equal(gradient_D, want_D)


def test_losses_are_summed_in_float64() -> None:
    losses_B = np.full(4097, 0.1, np.float32)
    assert sum_of(losses_B) == float(np.float32(0.1)) * 4097
