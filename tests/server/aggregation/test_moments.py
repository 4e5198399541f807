"""Which of Adam's moments go together, and what becomes of those that do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from integration import reference_aggregation

from heron_core.arrays import Array
from heron_core.replay.update_rules import Adam
from heron_core.spec.optimizer import OptimizerSpec
from heron_core.spec.run_spec import FederationSpec, RunSpec
from heron_server.aggregation.aggregator import Updates
from heron_server.aggregation.client_states import ClientStates
from heron_server.aggregation.moments import ROUNDING, reach_of, within_reach
from heron_server.aggregation.rules import RULES
from heron_server.run.phases.aggregation import aggregate

USUAL = OptimizerSpec()
SPEC = FederationSpec(clients=7, aggregation="geometric_median", hostile=2)


def moments_of(gradients: list[Array], optimizer: OptimizerSpec = USUAL) -> dict[str, Array]:
    """As a client comes to them."""
    adam, theta = Adam(1e-3, optimizer.beta1, optimizer.beta2), np.zeros_like(gradients[0])
    for gradient in gradients:
        adam.step(theta, gradient.copy())
    return adam.state()


def far(state: dict[str, Array], reach: float) -> Any:
    """Where the first moment is out of reach."""
    return np.abs(state["moments.first"]) > reach * np.sqrt(state["moments.second"].astype(np.float64))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-30, 8), min_size=1, max_size=30), st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.9, 0.99])
)
def test_no_gradients_bring_adam_out_of_reach(scales: list[float], seed: int, beta1: float) -> None:
    random, optimizer = np.random.Generator(np.random.Philox(seed)), OptimizerSpec(beta1=beta1, beta2=0.999)
    gradients = [(random.standard_normal(50) * 10.0 ** (scale / 2)).astype(np.float32) for scale in scales]
    state = moments_of(gradients, optimizer)
    assert not far(state, reach_of(optimizer)).any()
    assert np.array_equal(within_reach(state, reach_of(optimizer))["moments.first"], state["moments.first"])


def test_the_reach_is_the_least_that_lets_every_client_pass() -> None:
    worst = [np.array([(0.999 / 0.9) ** k * 1e-6], np.float32) for k in range(150)]
    state = moments_of(worst)
    assert far(state, reach_of(USUAL) / ROUNDING * 0.999).all()


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.0, 0.9), (0.5, 0.5), (0.9, 0.9), (0.9, 0.5), (0.5, 0.0)])
def test_the_reach_is_the_sum_over_all_steps(beta1: float, beta2: float) -> None:
    optimizer = OptimizerSpec(beta1=beta1, beta2=beta2)
    assert reach_of(optimizer) == pytest.approx(reference_aggregation.reach_of(optimizer))


def lies() -> dict[int, dict[str, Array]]:
    """Five whose last two numbers have never had a gradient, and two who make moments up there and elsewhere."""
    random = np.random.Generator(np.random.Philox(3))
    given: dict[int, dict[str, Array]] = {}
    for rank in range(7):
        gradients = [np.append(random.standard_normal(4), [0, 0]).astype(np.float32) for _ in range(3)]
        given[rank] = {"w": random.standard_normal(3).astype(np.float32), **moments_of(gradients)}
    for rank in (2, 5):
        noise = random.standard_normal(6).astype(np.float32)
        given[rank]["moments.first"] += noise
        given[rank]["moments.second"] = np.maximum(given[rank]["moments.second"] - abs(noise), 0)
    return given


def updates(reach: float) -> Updates:
    given = lies()
    return Updates(given, dict.fromkeys(given, 1), {n: np.zeros_like(t) for n, t in given[0].items()}, reach=reach)


def test_the_geometric_median_s_moments_are_those_of_some_gradients_whatever_hostile_clients_make_up() -> None:
    reach, rule = reach_of(USUAL), RULES["geometric_median"].make(SPEC)
    without, made = rule.aggregate(updates(np.inf)), rule.aggregate(updates(reach))
    assert far(without.state, reach)[-2:].all(), "the lie is one that would count"
    assert not far(made.state, reach * (1 + 1e-6)).any() and not made.state["moments.first"][-2:].any()
    assert made.weights == without.weights
    assert all(np.array_equal(made.state[n], without.state[n]) for n in made.state if n != "moments.first")


def test_the_geometric_median_cuts_moments_as_defined_bit_for_bit() -> None:
    given, reach = updates(reach_of(USUAL)), reach_of(USUAL)
    made = RULES["geometric_median"].make(SPEC).aggregate(given)
    wanted, _ = reference_aggregation.aggregate(SPEC, given.in_order, given.before, [1] * 7, (), reach)
    assert all(np.array_equal(made.state[n], wanted[n]) for n in given.before)


def test_a_round_s_rule_is_told_the_reach_of_the_run_s_optimiser() -> None:
    spec = RunSpec.model_validate(tiny.spec(method={"moments": "averaged", "optimizer": {"beta1": 0.5}}))
    told: list[float] = []

    class Listening:
        def aggregate(self, updates: Updates) -> Any:
            told.append(updates.reach)
            return SimpleNamespace(state=dict(updates.states[0]), weights={0: 1.0})

    start = {"front.weight": np.zeros(4, np.float32)}
    states = ClientStates(spec.method, 10, start, frozenset())
    trainer: Any = SimpleNamespace(end_round=lambda *_: SimpleNamespace(client_state={}, heads_due=()))
    update: Any = SimpleNamespace(state=states.of(0, 0), num_samples=1)
    aggregate(1, {0: update}, Listening(), states, trainer)
    assert told == [reach_of(spec.method.optimizer)]
