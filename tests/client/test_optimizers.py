from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from heron_client.optimizers import Adam, Sgd, UpdateRule, make_update_rule
from heron_core.run_spec import OptimizerSpec

SIZES = [1, 7, 8, 33, 1000, 4099]


def gradients(size: int, steps: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(size)
    scales = torch.logspace(-9, 3, steps)
    made = [torch.randn(size, generator=rng) * s for s in scales]
    made[1] = torch.zeros(size)
    return made


def assert_same_bits(
    rule: UpdateRule, kind: type[torch.optim.Optimizer], options: dict[str, Any], size: int, steps: int
) -> None:
    start = torch.randn(size, generator=torch.Generator().manual_seed(99))
    ours, theirs = start.clone(), torch.nn.Parameter(start.clone())
    reference = kind([theirs], foreach=False, **options)
    for step, gradient in enumerate(gradients(size, steps)):
        theirs.grad = gradient.clone()
        reference.step()
        rule.step(ours, gradient.clone())
        assert torch.equal(ours, theirs.detach()), f"step {step}"


@pytest.mark.parametrize("size", SIZES)
def test_adam_gives_torch_optim_s_bits(size: int) -> None:
    options = {"lr": 1e-2, "betas": (0.8, 0.99), "eps": 1e-8}
    assert_same_bits(Adam(1e-2, 0.8, 0.99, 1e-8), torch.optim.Adam, options, size, 12)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9), (0.0, 0.95)])
def test_adam_keeps_torch_optim_s_bits_over_many_steps(betas: tuple[float, float]) -> None:
    options = {"lr": 1e-3, "betas": betas, "eps": 1e-6}
    assert_same_bits(Adam(1e-3, *betas, 1e-6), torch.optim.Adam, options, 5, 1500)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_gives_torch_optim_s_bits(size: int, momentum: float) -> None:
    options = {"lr": 0.03, "momentum": momentum}
    assert_same_bits(Sgd(0.03, momentum), torch.optim.SGD, options, size, 12)


@pytest.mark.parametrize("spec", [OptimizerSpec(), OptimizerSpec(name="sgd", momentum=0.5), OptimizerSpec(name="sgd")])
def test_a_rule_is_fresh_and_moves_theta_in_place(spec: OptimizerSpec) -> None:
    results = []
    for _ in range(2):
        rule, theta_D = make_update_rule(spec), torch.ones(3)
        address = theta_D.data_ptr()
        for _ in range(2):
            rule.step(theta_D, torch.full((3,), 2.0))
        assert theta_D.data_ptr() == address
        results.append(theta_D)
    assert torch.equal(*results)
    assert bool((results[0] < 1).all())
