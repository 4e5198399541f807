from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from integration.reference_rules import Rule

from heron_client.compute.backend import Vector
from heron_core.replay import update_rules
from heron_core.replay.update_rules import make_update_rule
from heron_core.spec.methods import moment_tensors
from heron_core.spec.optimizer import OptimizerSpec
from heron_core.spec.run_spec import MethodSpec

ULP = float(np.finfo(np.float32).eps)
SIZES = [1, 7, 8, 33, 1000, 4099]


def gradients(size: int, steps: int) -> list[Vector]:
    rng = np.random.default_rng(size)
    made = [rng.standard_normal(size, dtype=np.float32) * np.float32(s) for s in np.logspace(-9, 3, steps)]
    made[1] = np.zeros(size, np.float32)
    return made


def follow(spec: OptimizerSpec, size: int, steps: list[Vector]) -> Iterator[tuple[Vector, Vector, Vector]]:
    """theta after each step: the product's, the definition's, torch.optim's."""
    ours = np.random.default_rng(99).standard_normal(size, dtype=np.float32)
    plain, theirs = torch.from_numpy(ours.copy()), torch.nn.Parameter(torch.from_numpy(ours.copy()))
    rule, definition, torch_s = make_update_rule(spec), Rule(spec, size), torch_rule(spec, theirs)
    for gradient in steps:
        theirs.grad = torch.from_numpy(gradient.copy())
        torch_s.step()
        plain = definition.step(plain, torch.from_numpy(gradient))
        rule.step(ours, gradient.copy())
        yield ours, plain.numpy(), theirs.detach().numpy()


def torch_rule(spec: OptimizerSpec, theta: torch.nn.Parameter) -> torch.optim.Optimizer:
    if spec.name == "sgd":
        return torch.optim.SGD([theta], lr=spec.lr, momentum=spec.momentum, foreach=False)
    return torch.optim.Adam([theta], lr=spec.lr, betas=(spec.beta1, spec.beta2), eps=spec.eps, foreach=False)


RULES = [
    OptimizerSpec(lr=0.01), OptimizerSpec(lr=1e-2, beta1=0.8, beta2=0.99), OptimizerSpec(lr=1e-2, beta1=0.0, beta2=0.9),
    OptimizerSpec(name="sgd", lr=0.03, momentum=0.9), OptimizerSpec(name="sgd", lr=0.03),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spec", RULES)
def test_a_rule_gives_the_bits_of_its_definition_and_torch_optim_s_to_a_few_ulps(
    spec: OptimizerSpec, size: int
) -> None:
    largest_D = np.full(size, spec.lr, np.float32)
    for step, (ours, defined, theirs) in enumerate(follow(spec, size, gradients(size, 12))):
        assert np.array_equal(ours, defined), f"step {step}"
        largest_D = np.maximum(largest_D, np.abs(theirs))
        assert (np.abs(ours - theirs) <= 8 * ULP * largest_D).all(), f"step {step}"


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9), (0.0, 0.95)])
def test_adam_keeps_its_definition_s_bits_over_many_steps(betas: tuple[float, float]) -> None:
    spec = OptimizerSpec(lr=1e-3, beta1=betas[0], beta2=betas[1], eps=1e-6)
    for ours, defined, _ in follow(spec, 5, gradients(5, 1500)):
        assert np.array_equal(ours, defined)


def test_a_vector_of_several_blocks_steps_like_one_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for block in (7, 1 << 15):
        monkeypatch.setattr(update_rules, "BLOCK", block)
        *_, (ours, _, _) = follow(OptimizerSpec(), 33, gradients(33, 4))
        results.append(ours)
    assert np.array_equal(*results)


@pytest.mark.parametrize("spec", RULES)
def test_a_step_makes_no_vector_of_theta_s_length_besides_the_moments(spec: OptimizerSpec) -> None:
    size = 1 << 20
    rule, theta_D, gradient_D = make_update_rule(spec), np.ones(size, np.float32), np.ones(size, np.float32)
    rule.step(theta_D, gradient_D)
    tracemalloc.start()
    try:
        rule.step(theta_D, gradient_D)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < theta_D.nbytes / 4


@pytest.mark.parametrize("spec", RULES)
def test_a_gradient_that_is_not_finite_warns_of_nothing(spec: OptimizerSpec) -> None:
    rule, theta_D = make_update_rule(spec), np.ones(3, np.float32)
    for value in (3e38, np.inf, np.nan):
        rule.step(theta_D, np.full(3, value, np.float32))
    assert not np.isfinite(theta_D).any()


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
