"""The Fed-Server's own step: what a few numbers come to by hand, and what it leaves to the mean."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

from heron_core.spec.server_average import ServerAverageSpec
from heron_server.aggregation.server_average import ServerAverage

BEFORE = {"w": 1.0, "running_mean": 2.0, "moments.first": 3.0}
AVERAGED = {"w": 1.5, "running_mean": 4.0, "moments.first": 5.0}


def tensors(values: dict[str, float]) -> dict[str, Any]:
    counter = {"num_batches_tracked": np.array(7)}
    return {**{n: np.array([v], np.float32) for n, v in values.items()}, **counter}


def two_rounds(**settings: Any) -> list[float]:
    """The weight's value after each of two rounds whose averaged change is 0.5."""
    rule = ServerAverage(ServerAverageSpec(**settings), frozenset({"running_mean", "num_batches_tracked"}))
    before, found = tensors(BEFORE), []
    moments = rule.start(before)
    for _ in range(2):
        averaged = {**tensors(AVERAGED), "w": before["w"] + np.float32(0.5)}
        given = {name: tensor.copy() for name, tensor in moments.items()}
        state, after = rule.step(before, averaged, moments)
        assert all(np.array_equal(given[n], t) for n, t in moments.items()), "an abandoned round leaves no trace"
        for name in averaged.keys() - {"w"}:
            assert state[name] is averaged[name]
        assert {t.dtype for t in after.values()} <= {np.dtype("float32")} and state["w"].dtype == np.float32
        before, moments = {**before, "w": state["w"]}, after
        found.append(float(state["w"][0]))
    return found


def test_plain_is_the_rules_result() -> None:
    assert two_rounds() == [1.5, 2.0]


def test_momentum_adds_a_share_of_the_last_change() -> None:
    assert two_rounds(name="fedavgm", momentum=0.5) == pytest.approx([1.5, 1.5 + 0.75])
    assert two_rounds(name="fedavgm", momentum=0.0, lr=0.5) == pytest.approx([1.25, 1.5])


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_adaptive_rules_divide_by_the_root_of_the_changes_second_moment(name: str) -> None:
    first, second, weight, expected = 0.0, 0.1**2, 1.0, []
    for _ in range(2):
        first = 0.8 * first + 0.2 * 0.5
        if name == "fedadam":
            second = 0.9 * second + 0.1 * 0.25
        else:
            second -= 0.1 * 0.25 * (1 if second > 0.25 else -1)
        weight += 0.2 * first / (sqrt(second) + 0.1)
        expected.append(weight)
    assert two_rounds(name=name, beta1=0.8, beta2=0.9, tau=0.1, lr=0.2) == pytest.approx(expected, rel=1e-6)


def test_a_learning_rate_that_is_not_given_is_the_rules_own() -> None:
    assert [ServerAverageSpec(name=name).rate for name in ("fedavgm", "fedadam", "fedyogi")] == [1.0, 0.01, 0.01]
