from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from heron_client.compute.optimizers import Adam, Sgd, UpdateRule, make_update_rule
from heron_core.spec.methods import moment_tensors
from heron_core.spec.run_spec import MethodSpec, OptimizerSpec

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


RULES = [OptimizerSpec(lr=0.01), OptimizerSpec(name="sgd", momentum=0.9), OptimizerSpec(name="sgd")]


@pytest.mark.parametrize("spec", RULES)
def test_a_rule_that_takes_up_another_s_moments_goes_on_with_its_bits(spec: OptimizerSpec) -> None:
    whole, first, second = (make_update_rule(spec) for _ in range(3))
    ours, theirs = torch.ones(33), torch.ones(33)
    for step, gradient in enumerate(gradients(33, 6)):
        whole.step(theirs, gradient.clone())
        if step == 3:
            second.load({name: array.copy() for name, array in first.state().items()}, torch.device("cpu"))
        (first if step < 3 else second).step(ours, gradient.clone())
    assert torch.equal(ours, theirs)


def moments(spec: OptimizerSpec, size: int) -> list[tuple[str, str, tuple[int, ...]]]:
    return moment_tensors(MethodSpec(moments="kept", optimizer=spec), [("front.weight", size)])


@pytest.mark.parametrize("spec", RULES)
def test_zero_moments_are_a_fresh_rule_s(spec: OptimizerSpec) -> None:
    fresh, loaded = make_update_rule(spec), make_update_rule(spec)
    loaded.load({n: np.zeros(shape, dtype) for n, dtype, shape in moments(spec, 33)}, torch.device("cpu"))
    ours, theirs = torch.ones(33), torch.ones(33)
    for gradient in gradients(33, 3):
        fresh.step(theirs, gradient.clone())
        loaded.step(ours, gradient.clone())
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("spec", RULES)
def test_state_is_a_copy_with_the_names_that_travel(spec: OptimizerSpec) -> None:
    rule = make_update_rule(spec)
    assert rule.state() == {}
    rule.step(torch.ones(5), torch.ones(5))
    state = rule.state()
    assert [(n, a.dtype.name, a.shape) for n, a in state.items()] == moments(spec, 5)
    kept = {name: array.copy() for name, array in state.items()}
    rule.step(torch.ones(5), torch.ones(5))
    assert all(np.array_equal(state[name], kept[name]) for name in kept)
