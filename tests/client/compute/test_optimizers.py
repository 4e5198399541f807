from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from heron_client.compute.backend import Vector
from heron_client.compute.optimizers import Adam, Sgd, UpdateRule, make_update_rule
from heron_core.spec.methods import moment_tensors
from heron_core.spec.run_spec import MethodSpec, OptimizerSpec

SIZES = [1, 7, 8, 33, 1000, 4099]


def gradients(size: int, steps: int) -> list[Vector]:
    rng = np.random.default_rng(size)
    made = [rng.standard_normal(size, dtype=np.float32) * np.float32(s) for s in np.logspace(-9, 3, steps)]
    made[1] = np.zeros(size, np.float32)
    return made


def assert_same_bits(
    rule: UpdateRule, kind: type[torch.optim.Optimizer], options: dict[str, Any], size: int, steps: int
) -> None:
    ours = np.random.default_rng(99).standard_normal(size, dtype=np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(ours.copy()))
    reference = kind([theirs], foreach=False, **options)
    for step, gradient in enumerate(gradients(size, steps)):
        theirs.grad = torch.from_numpy(gradient.copy())
        reference.step()
        rule.step(ours, gradient.copy())
        assert np.array_equal(ours, theirs.detach().numpy()), f"step {step}"


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
        rule, theta_D = make_update_rule(spec), np.ones(3, np.float32)
        for _ in range(2):
            rule.step(theta_D, np.full(3, 2, np.float32))
        results.append(theta_D)
    assert np.array_equal(*results)
    assert (results[0] < 1).all()


RULES = [OptimizerSpec(lr=0.01), OptimizerSpec(name="sgd", momentum=0.9), OptimizerSpec(name="sgd")]


@pytest.mark.parametrize("spec", RULES)
def test_a_rule_that_takes_up_another_s_moments_goes_on_with_its_bits(spec: OptimizerSpec) -> None:
    whole, first, second = (make_update_rule(spec) for _ in range(3))
    ours, theirs = np.ones(33, np.float32), np.ones(33, np.float32)
    for step, gradient in enumerate(gradients(33, 6)):
        whole.step(theirs, gradient.copy())
        if step == 3:
            second.load({name: array.copy() for name, array in first.state().items()})
        (first if step < 3 else second).step(ours, gradient.copy())
    assert np.array_equal(ours, theirs)


def moments(spec: OptimizerSpec, size: int) -> list[tuple[str, str, tuple[int, ...]]]:
    return moment_tensors(MethodSpec(moments="kept", optimizer=spec), [("front.weight", size)])


@pytest.mark.parametrize("spec", RULES)
def test_zero_moments_are_a_fresh_rule_s(spec: OptimizerSpec) -> None:
    fresh, loaded = make_update_rule(spec), make_update_rule(spec)
    loaded.load({n: np.zeros(shape, dtype) for n, dtype, shape in moments(spec, 33)})
    ours, theirs = np.ones(33, np.float32), np.ones(33, np.float32)
    for gradient in gradients(33, 3):
        fresh.step(theirs, gradient.copy())
        loaded.step(ours, gradient.copy())
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("spec", RULES)
def test_state_is_a_copy_with_the_names_that_travel(spec: OptimizerSpec) -> None:
    rule = make_update_rule(spec)
    assert rule.state() == {}
    rule.step(np.ones(5, np.float32), np.ones(5, np.float32))
    state = rule.state()
    assert [(n, a.dtype.name, a.shape) for n, a in state.items()] == moments(spec, 5)
    kept = {name: array.copy() for name, array in state.items()}
    rule.step(np.ones(5, np.float32), np.ones(5, np.float32))
    assert all(np.array_equal(state[name], kept[name]) for name in kept)
