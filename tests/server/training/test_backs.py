from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from heron_core.spec.optimizer import OptimizerSpec
from heron_server.training.backs import BackPerClient, SharedBack, make_backs
from heron_server.training.optimizers import to_arrays

ADAM, SGD = OptimizerSpec(lr=0.1), OptimizerSpec(name="sgd", lr=0.1, momentum=0.9)


def back() -> nn.Module:
    return tiny.conv("batch").build("back", 0).train()


def learn(backs: Any, rank: int, number: int = 0) -> None:
    """One step of that rank's back on made-up activations."""
    trainee = backs.trainee(rank)
    z = torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(10 * rank + number))
    trainee.module(z).square().mean().backward()
    trainee.optimizer.step()
    trainee.optimizer.zero_grad()


def state(module: nn.Module) -> dict[str, Any]:
    return to_arrays(module.state_dict())


def checkpoint(backs: Any) -> dict[str, Any]:
    named = {f"back.{n}": t for n, t in backs.common.state_dict().items()}
    return to_arrays({**named, **backs.optimizer_tensors()})


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def test_a_shared_back_is_the_same_for_every_client() -> None:
    backs = make_backs("shared", back(), ADAM)
    assert isinstance(backs, SharedBack) and backs.trainee(0) is backs.trainee(1)
    before = state(backs.common)
    learn(backs, 0)
    after = state(backs.common)
    assert not same(before, after)
    backs.end_round([0, 1], [0.5, 0.5])
    assert same(state(backs.common), after)


def test_backs_of_clients_start_from_the_common_one_and_are_averaged_with_the_weights() -> None:
    backs = make_backs("per_client", back(), ADAM)
    before = state(backs.common)
    for rank in (0, 1, 2):
        learn(backs, rank)
    assert same(state(backs.common), before), "the common back is untouched while clients train theirs"
    first, third = state(backs.trainee(0).module), state(backs.trainee(2).module)
    backs.end_round([0, 2], [0.25, 0.75])
    after = state(backs.common)
    for name, value in after.items():
        if value.dtype.kind == "f":
            expected = (first[name].astype(float) * 0.25 + third[name].astype(float) * 0.75).astype(value.dtype)
            np.testing.assert_array_equal(value, expected)
        else:
            assert value == max(first[name], third[name])
    assert same(state(backs.trainee(1).module), after), "the next round's copies all start from the average"


@pytest.mark.parametrize("spec", [ADAM, SGD])
def test_moments_stay_with_their_client_across_rounds(spec: OptimizerSpec) -> None:
    backs = BackPerClient(back(), spec)
    plain = back()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.1, foreach=False)
    if spec is SGD:
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, foreach=False)  # type: ignore[assignment]
    for number in range(3):
        learn(backs, 0, number)
        backs.end_round([0], [1.0])
        z = torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(number))
        optimizer.zero_grad()
        plain(z).square().mean().backward()
        optimizer.step()
    assert same(state(backs.common), state(plain)), "one client alone is plain training, moments and all"


def test_between_rounds_only_the_common_back_and_the_moments_are_held() -> None:
    backs = BackPerClient(back(), ADAM)
    for rank in range(3):
        learn(backs, rank)
    backs.end_round([0, 1], [0.5, 0.5])
    assert not backs._training
    assert {n.split(".")[1] for n in backs.optimizer_tensors()} == {"0", "1", "2"}, "also of one that did not count"


@pytest.mark.parametrize("kind", ["shared", "per_client"])
@pytest.mark.parametrize("spec", [ADAM, SGD])
def test_a_checkpoint_restores_backs_and_moments_bit_for_bit(kind: str, spec: OptimizerSpec) -> None:
    first, second = make_backs(kind, back(), spec), make_backs(kind, back(), spec)
    for rank in (0, 1):
        learn(first, rank)
    first.end_round([0, 1], [0.5, 0.5])
    saved = checkpoint(first)
    learn(second, 2)
    second.load(saved)
    assert same(checkpoint(second), saved)
    for backs in (first, second):
        for rank in (0, 1):
            learn(backs, rank, 5)
        backs.end_round([0, 1], [0.5, 0.5])
    assert same(checkpoint(first), checkpoint(second))
